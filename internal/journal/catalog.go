// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"slices"
	"sort"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// stage is where a segment stands in its life as its journal sees it.
type stage uint8

const (
	active    stage = iota // the log appends to it, or has not sealed it yet
	sealed                 // complete
	condemned              // a write or sync failed; read, never written
	leftOver               // unsealed from before this process; recovery could not seal it
)

// seg is one segment with records. The journal's lock guards all of it.
type seg struct {
	id     uint64
	path   string
	header segment.Header
	sum    segment.Summary // grows while active
	stage  stage
	last   queue.Seq // highest number that counts here: below the first of the segment that took over
}

func (s *seg) first() queue.Seq { return s.header.BaseSeq }

func (s *seg) empty() bool { return s.last < s.first() }

// follows says whether s tells recovery which frames of before, the segment in front of it, do not count: those that
// were refused, or that s took over. Then it stays as long as before does, which may be nil.
func (s *seg) follows(before *seg) bool {
	return before != nil && (before.stage == condemned || before.sum.Last > before.last)
}

// end is the end of the bytes that hold its records.
func (s *seg) end() segment.Offset { return s.sum.DataEnd }

// catalog is every segment with records, ordered by (base_seq, id). Of a number found twice the later one counts.
type catalog []*seg

// find returns the segment that holds seq, or nil.
func (c catalog) find(seq queue.Seq) *seg {
	i := sort.Search(len(c), func(i int) bool { return c[i].first() > seq })
	for i--; i >= 0; i-- {
		if c[i].last >= seq {
			return c[i]
		}
		if !c[i].empty() {
			return nil
		}
	}
	return nil
}

// from returns the first segment that holds seq or anything above it, or nil.
func (c catalog) from(seq queue.Seq) *seg {
	i := sort.Search(len(c), func(i int) bool { return c[i].first() > seq })
	for j := max(0, i-1); j < len(c); j++ {
		if c[j].last >= seq && !c[j].empty() {
			return c[j]
		}
	}
	return nil
}

// byID returns the segment of that id, or nil. It is among the youngest.
func (c catalog) byID(id uint64) *seg {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].id == id {
			return c[i]
		}
	}
	return nil
}

// add puts s where it belongs and takes from older ones the numbers that it holds too.
func (c *catalog) add(s *seg) {
	i := sort.Search(len(*c), func(i int) bool {
		o := (*c)[i]
		return o.first() > s.first() || o.first() == s.first() && o.id > s.id
	})
	*c = slices.Insert(*c, i, s)
	for _, o := range (*c)[:i] {
		if o.last >= s.first() {
			o.last = s.first() - 1
		}
	}
}

func (c *catalog) remove(s *seg) {
	if i := slices.Index(*c, s); i >= 0 {
		*c = slices.Delete(*c, i, i+1)
	}
}
