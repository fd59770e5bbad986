// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor

import (
	"fmt"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Count is records and the items in them.
type Count struct{ Records, Items uint64 }

// Add counts more.
func (c *Count) Add(more Count) {
	c.Records += more.Records
	c.Items += more.Items
}

// Reason says why records were given up: a code below 16, in slots of every version.
type Reason uint8

// The reasons.
const (
	Overflow   Reason = 1 + iota // room for newer data, queue_size or a byte limit
	Age                          // not used yet
	Corrupt                      // damage of durable data
	Missing                      // a file, or the end of the journal, is gone
	Unsynced                     // acknowledged before it was synced, lost in a power cut
	Operator                     // dropped by hand
	Parked                       // waited for a destination that is gone, for longer than parked_hold
	DropOldest                   // overflow: drop_oldest

	reasons = 16 // that a slot counts
)

var reasonWords = [reasons]string{
	Overflow: "overflow", Age: "age", Corrupt: "corrupt", Missing: "missing", Unsynced: "unsynced",
	Operator: "operator", Parked: "parked", DropOldest: "drop_oldest",
}

// String is the word of section 7.
func (r Reason) String() string {
	if r < reasons && reasonWords[r] != "" {
		return reasonWords[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// ParseReason reads a word of section 7.
func ParseReason(word string) (Reason, bool) {
	r := slices.Index(reasonWords[1:], word)
	return Reason(r + 1), r >= 0 && word != ""
}

// Drop is the record of what was given up at once: numbers within First..Last, how many of them and their items, when
// (Unix ns) and why. Records may be fewer than the numbers: some were resolved before.
type Drop struct {
	First, Last queue.Seq
	Count
	At     int64
	Reason Reason
}

// with is one record of both, d the older one.
func (d Drop) with(o Drop) Drop {
	d.First, d.Last, d.At = min(d.First, o.First), max(d.Last, o.Last), max(d.At, o.At)
	d.Add(o.Count)
	return d
}

// Book counts a drop and adds it to the list. When the list is full, the two oldest neighbours of one reason become one
// entry first: the counts stay exact, where and when get coarser with age. It does not resolve the numbers.
func (s *Slot) Book(d Drop) {
	d.First, d.Last, d.Reason = min(d.First, MaxSeq), min(d.Last, MaxSeq), d.Reason%reasons // it can be written, always
	s.Dropped[d.Reason].Add(d.Count)
	if len(s.Drops) >= MaxDrops {
		i, j := oldestNeighbours(s.Drops)
		s.Drops[i] = s.Drops[i].with(s.Drops[j])
		s.Drops = slices.Delete(s.Drops, j, j+1)
	}
	s.Drops = append(s.Drops, d)
}

// AllDropped is what was given up, for whatever reason.
func (s *Slot) AllDropped() (sum Count) {
	for _, n := range s.Dropped {
		sum.Add(n)
	}
	return sum
}

// LastDrop is when something was given up last, in Unix ns; 0 = nothing is listed.
func (s *Slot) LastDrop() (at int64) {
	for i := range s.Drops {
		at = max(at, s.Drops[i].At)
	}
	return at
}

// oldestNeighbours are the first two entries of one reason; others may be between them. There are more entries than
// reasons, so they are among the first few, and the newest stay as they were booked.
func oldestNeighbours(drops []Drop) (i, j int) {
	var seen [reasons]int // place + 1
	for j = range drops {
		at := &seen[drops[j].Reason%reasons]
		if *at > 0 {
			return *at - 1, j
		}
		*at = j + 1
	}
	return 0, 1
}
