// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Tally counts records and their items.
type Tally struct{ Records, Items uint64 }

// tally counts how a destination's own records were resolved since start.
type tally struct {
	ackedRecords, ackedItems       atomic.Uint64
	rejectedRecords, rejectedItems atomic.Uint64
	again                          atomic.Uint64 // records that went back to the queue
}

func (t *tally) delivered(batch []queue.Delivered) {
	items := uint64(0)
	for i := range batch {
		items += uint64(batch[i].Items)
	}
	t.ackedRecords.Add(uint64(len(batch)))
	t.ackedItems.Add(items)
}

// resolved counts one record of which all or some items were refused. A record counts as rejected when it was set
// aside, its delivered items as delivered.
func (t *tally) resolved(o queue.Outcome, r *queue.Delivered) {
	refused := min(o.Rejected, r.Items)
	if o.Kind == queue.Dead {
		if refused == 0 {
			refused = r.Items
		}
		t.rejectedRecords.Add(1)
	} else {
		t.ackedRecords.Add(1)
	}
	t.rejectedItems.Add(uint64(refused))
	t.ackedItems.Add(uint64(r.Items - refused))
}

// maxRanges bounds how many refused pieces a reason names.
const maxRanges = 16

// itemRange names items of a record, counted from 1.
type itemRange struct{ first, last uint32 }

// fate is what became of the pieces of one record.
type fate struct {
	items    uint32 // of the record
	at       uint32 // items before the piece that is refused
	rejected uint32
	ranges   []itemRange // refused with their piece, as they were heard of
	more     bool        // than are named
	last     exporter.Verdict
}

// took notes a delivered piece, some of whose items may have been refused; nobody says which.
func (f *fate) took(rejected uint32) {
	f.rejected += rejected
}

func (f *fate) refused(items uint32, v exporter.Verdict) {
	if len(f.ranges) < maxRanges {
		f.ranges = append(f.ranges, itemRange{f.at + 1, f.at + items})
	} else {
		f.more = true
	}
	f.rejected += items
	f.last = v
}

// outcome resolves the record. With a refused piece it is set aside as a whole, since a queue keeps records and not
// pieces; what is counted as rejected is what was refused, and the reason says which items these are.
func (f *fate) outcome() queue.Outcome {
	switch {
	case len(f.ranges) == 0:
		return queue.Outcome{Kind: queue.Ack, Rejected: f.rejected}
	case f.rejected >= f.items:
		return queue.Outcome{Kind: queue.Dead, Reason: errText(f.last)}
	}
	return queue.Outcome{Kind: queue.Dead, Rejected: f.rejected, Reason: fmt.Sprintf(
		"items %s of %d refused, the others delivered: %s", f.named(), f.items, errText(f.last))}
}

func (f *fate) named() string {
	slices.SortFunc(f.ranges, func(a, b itemRange) int { return cmp.Compare(a.first, b.first) })
	var b strings.Builder
	for i, r := range f.ranges {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d-%d", r.first, r.last)
	}
	if f.more {
		b.WriteString(", …")
	}
	return b.String()
}
