// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"math"
	"sort"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// count counts what cursors are owed and have not resolved.
type count struct{ edges *edges }

// upTo is the last number a cursor is owed.
func (t *line) upTo(s *cursor.Slot) queue.Seq {
	switch s.State {
	case queue.Live:
		return t.seq
	case queue.Parked:
		return min(s.Until, t.seq)
	}
	return 0
}

// items is what c is owed and has not resolved of what can be read, and whether the disk gave all that it takes to know.
func (n *count) items(t *line, c *Cursor) (items uint64, ok bool) {
	upTo := t.upTo(&c.Slot)
	ok = true
	owed := stretches(&c.Slot.Resolved, upTo)
	if len(owed) == 0 {
		return 0, true
	}
	for i := t.from(owed[0].first); i < len(t.spans) && len(owed) > 0; i++ {
		s := &t.spans[i]
		for len(owed) > 0 && owed[0].last < s.first {
			owed = owed[1:]
		}
		for k := 0; k < len(owed) && owed[k].first <= s.last; k++ {
			first, last := max(owed[k].first, s.first), min(owed[k].last, s.last)
			if first > last {
				continue
			}
			more, exact := n.edges.items(s.f, &s.run, first, last)
			items, ok = items+more, ok && exact
		}
		for len(owed) > 0 && owed[0].last <= s.last {
			owed = owed[1:]
		}
	}
	return items, ok
}

// stretch is numbers in a row.
type stretch struct{ first, last queue.Seq }

// stretches is what is not resolved, up to a number.
func stretches(set *cursor.Set, upTo queue.Seq) (open []stretch) {
	next := set.Floor() + 1
	set.Ranges(func(first, last queue.Seq) {
		if next <= min(first-1, upTo) {
			open = append(open, stretch{next, min(first-1, upTo)})
		}
		next = last + 1
	})
	if next <= upTo {
		open = append(open, stretch{next, upTo})
	}
	return open
}

// from is the first span that ends at or after seq.
func (t *line) from(seq queue.Seq) int {
	return sort.Search(len(t.spans), func(i int) bool { return t.spans[i].last >= seq })
}

// fill says what c is owed: records exactly, bytes by the share of the records, items from the edges, or, where there
// are too many of them, what the books lack.
func (n *count) fill(t *line, c *Cursor) {
	upTo, set := t.upTo(&c.Slot), &c.Slot.Resolved
	q, bytes := &c.Queued, 0.0
	for i := t.from(set.Next(1)); i < len(t.spans) && t.spans[i].first <= upTo; i++ {
		s := &t.spans[i]
		last := min(s.last, upTo)
		open := uint64(last-s.first) + 1 - set.Count(s.first, last)
		if sum := &s.f.sum; sum.Records > 0 {
			open = min(open, sum.Records) // a seal with gaps: these are not there
			bytes += float64(sum.Bytes) * float64(open) / float64(sum.Records)
		}
		q.Records += open
	}
	q.Bytes = uint64(math.Round(bytes))
	c.Accepted, c.Known = t.itemsAt(n.edges, upTo)
	if upTo == 0 {
		c.Accepted, c.Known = booked(&c.Slot), false
	}
	if set.Len() <= exactEdges {
		if q.Items, q.Counted = n.items(t, c); q.Counted {
			return
		}
	}
	q.Items = minus(c.Accepted, booked(&c.Slot))
}

// book takes the holes off what c is owed: what was never acknowledged is not owed, the rest is lost and listed. Where c
// had resolved a part of a hole, what it lost are the items that its books lack.
func (l *look) book(p *Plan, t *line, n *count, c *Cursor) {
	s := &c.Slot
	var partial []partialLoss
	for i := range t.holes {
		h := &t.holes[i]
		first, last := max(h.first, s.Resolved.Floor()+1), min(h.last, t.upTo(s))
		if first > last {
			continue
		}
		records := uint64(last-first) + 1 - s.Resolved.Count(first, last)
		if records == 0 {
			continue
		}
		s.Resolved.Add(first, last)
		c.dirty = true
		if records < h.records() {
			partial = append(partial, partialLoss{h, first, last, records})
			continue
		}
		l.give(p, c, h, Loss{First: first, Last: last, Count: cursor.Count{Records: records, Items: h.items}})
	}
	if len(partial) > 0 {
		accepted, known := t.itemsAt(n.edges, t.upTo(s))
		queued, counted := n.items(t, c)
		s.Estimated = s.Estimated || !known || !counted
		lacks := minus(accepted, booked(s)+queued)
		for _, part := range partial {
			items := min(lacks, part.items)
			lacks -= items
			l.give(p, c, part.hole, Loss{
				First: part.first, Last: part.last, Count: cursor.Count{Records: part.records, Items: items},
			})
		}
	}
	if s.High = max(s.High, s.Resolved.High()); s.State == queue.Parked && s.Until > t.seq {
		s.Until, c.dirty = t.seq, true // it was given out and never written: somebody else gets these numbers
	}
}

type partialLoss struct {
	*hole
	first, last queue.Seq
	records     uint64
}

// give books what c lost of a hole, or that it is not owed it.
func (l *look) give(p *Plan, c *Cursor, h *hole, lost Loss) {
	s := &c.Slot
	if c.Lost && h.absent {
		s.NotOwed += lost.Items
		return
	}
	if h.lacked(lost.First, lost.Last, lost.Count); h.reason == 0 {
		s.NotOwed += lost.Items
		return
	}
	lost.Cursor, lost.Reason, lost.Path = s.Name, h.reason, h.path
	drop := cursor.Drop{First: lost.First, Last: lost.Last, Count: lost.Count, Reason: lost.Reason}
	if n := len(p.Losses); c.losses >= maxLosses && p.Losses[n-1].Reason == lost.Reason && p.Losses[n-1].Path == lost.Path {
		one := &p.Losses[n-1]
		one.Last = lost.Last
		one.Add(lost.Count)
		entry := &s.Drops[len(s.Drops)-1]
		entry.Last = lost.Last
		entry.Add(lost.Count)
		s.Dropped[lost.Reason].Add(lost.Count)
		return
	}
	c.losses++
	p.Losses = append(p.Losses, lost)
	s.Book(drop)
}
