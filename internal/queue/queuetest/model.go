// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// model is the contract in its plainest form: lists, loops, no care for time or memory. The walk compares a queue with
// it after every step. Blocking appends and heirs are left to the rules.
type model struct {
	drops   bool // Capabilities.DropsOverflow
	cursors []*modelCursor
	last    queue.Seq
}

type modelCursor struct {
	name    string
	limit   queue.Limit
	state   queue.State
	entries []*entry // unresolved, ascending
	books   queue.Counts
	froms   []queue.Seq // where its parts but the lowest begin, ascending
	parted  queue.Seq   // the highest number that a Take asked from
}

// entry is one record at one cursor.
type entry struct {
	sent     *sent
	seq      queue.Seq
	accepted time.Time
	attempt  int
	due      time.Time
	holder   *modelHandle // who leases it
	resolved bool
}

type modelHandle struct {
	cursor queue.Cursor
	of     *modelCursor
	closed bool
	leases []modelLease
}

type modelLease struct {
	entry *entry
	got   queue.Delivered
}

func (c *modelCursor) size() int64 {
	var records, items, bytes int64
	for _, e := range c.entries {
		records++
		items += int64(e.sent.items)
		bytes += int64(e.sent.size)
	}
	switch {
	case c.limit.Sizer == queue.Items:
		return items
	case c.limit.Sizer == queue.Bytes:
		return bytes
	case c.limit.BatchItems > 0:
		b := int64(c.limit.BatchItems)
		return min(records, (items+b-1)/b)
	}
	return records
}

func (c *modelCursor) full() bool { return c.limit.Max > 0 && c.size() >= c.limit.Max }

// refuses says whether an append is refused now.
func (m *model) refuses() bool {
	live := 0
	for _, c := range m.cursors {
		if c.state == queue.Live {
			live++
			if !c.full() {
				return false
			}
		}
	}
	return live > 0
}

func (m *model) append(s *sent, now time.Time) {
	m.last++
	for _, c := range m.cursors {
		if c.state != queue.Live {
			continue
		}
		before, full := c.size(), c.full()
		newest := &entry{sent: s, seq: m.last, accepted: now}
		c.entries = append(c.entries, newest)
		c.books.Accepted += uint64(s.items)
		for m.drops && full && c.size() > before {
			i := slices.IndexFunc(c.entries, func(e *entry) bool { return e.holder == nil })
			if c.entries[i] == newest {
				break
			}
			c.books.Dropped["overflow"] += uint64(c.entries[i].sent.items)
			c.settle(c.entries[i])
		}
	}
}

func (c *modelCursor) settle(e *entry) {
	e.resolved = true
	c.entries = slices.DeleteFunc(c.entries, func(x *entry) bool { return x == e })
	if len(c.entries) == 0 && c.state == queue.Parked {
		c.state = queue.Done
	}
}

// modelBatch is a batch as section 3 describes it.
type modelBatch struct {
	entries    []*entry
	sum, bytes int64
	closed     bool
}

// maxParts is what the contract means by a few.
const maxParts = 8

// split is what a Take that asks from a number does first.
func (c *modelCursor) split(from queue.Seq) {
	if from > max(c.parted, 1) && len(c.froms) < maxParts-1 {
		c.parted, c.froms = from, append(c.froms, from)
	}
}

// merge makes one of two parts when nothing of the lower is left to hand out.
func (c *modelCursor) merge(now time.Time) {
	for len(c.froms) > 0 {
		for _, e := range c.entries {
			if e.seq < c.froms[0] && e.holder == nil && !e.due.After(now) {
				return
			}
		}
		c.froms = c.froms[1:]
	}
}

// next is what a Take with w returns now, or nothing.
func (c *modelCursor) next(w queue.Want, now time.Time) []*entry {
	c.split(w.From)
	if c.state != queue.Live {
		return nil
	}
	c.merge(now)
	if len(c.froms) == 0 {
		return c.nextOf(w, now, 0, math.MaxUint64)
	}
	low := func() []*entry { return c.nextOf(w, now, 0, c.froms[0]-1) }
	high := func() []*entry { return c.nextOf(w, now, c.froms[len(c.froms)-1], math.MaxUint64) }
	if w.From > 0 {
		low, high = high, low
	}
	if batch := low(); batch != nil {
		return batch
	}
	return high()
}

// nextOf is the ripe batch of the records first to last.
func (c *modelCursor) nextOf(w queue.Want, now time.Time, first, last queue.Seq) []*entry {
	window, full := c.window(w, now, first, last)
	batches := sortOut(w, window)
	for i, b := range batches {
		oldest := b.entries[0].accepted
		if b.closed || b.sum >= w.Min || now.Sub(oldest) >= w.Linger || full && i == 0 {
			return b.entries
		}
	}
	return nil
}

// window is the candidates that a Take looks at in a part.
func (c *modelCursor) window(w queue.Want, now time.Time, first, last queue.Seq) (window []*entry, full bool) {
	limit := min(max(windowBytes, w.MaxBytes), maxWindowBytes)
	var bytes int64
	for _, e := range c.entries {
		if e.seq < first || e.seq > last || e.holder != nil || e.due.After(now) {
			continue
		}
		size := int64(e.sent.size)
		if len(window) > 0 && bytes+size > limit {
			return window, true
		}
		window = append(window, e)
		bytes += size
		if len(window) == windowRecords || bytes >= limit {
			return window, true
		}
	}
	return window, false
}

// sortOut forms the batches of a window, in the order of their first records. The walk has fewer kinds of records than
// batches may be open.
func sortOut(w queue.Want, window []*entry) (batches []*modelBatch) {
next:
	for _, e := range window {
		sum, bytes := int64(e.sent.items), int64(e.sent.size)
		if w.Sizer == queue.Bytes {
			sum = bytes
		}
		for _, b := range batches {
			if b.closed || !joined(w, b.entries[0].sent, e.sent) {
				continue
			}
			if passes(w, b.sum+sum, b.bytes+bytes) {
				b.closed = true
				continue
			}
			b.entries, b.sum, b.bytes = append(b.entries, e), b.sum+sum, b.bytes+bytes
			continue next
		}
		batches = append(batches, &modelBatch{entries: []*entry{e}, sum: sum, bytes: bytes, closed: passes(w, sum, bytes)})
	}
	return batches
}

func joined(w queue.Want, first, next *sent) bool {
	return w.Joins != nil && w.Joins(&queue.Record{Meta: []byte(first.key)}, &queue.Record{Meta: []byte(next.key)})
}

func passes(w queue.Want, sum, bytes int64) bool {
	return w.Max > 0 && sum > w.Max || w.MaxBytes > 0 && bytes > w.MaxBytes
}

// resolve ends one lease of h, already taken off its list.
func (h *modelHandle) resolve(o queue.Outcome, e *entry, now time.Time) {
	c := h.of
	if e.resolved || h.closed && o.Kind != queue.Ack {
		return
	}
	items := uint64(e.sent.items)
	switch o.Kind {
	case queue.Ack:
		refused := min(uint64(o.Rejected), items)
		c.books.Rejected += refused
		c.books.Delivered += items - refused
		c.settle(e)
	case queue.Dead:
		c.books.Rejected += items
		c.settle(e)
	case queue.Drop:
		c.books.Dropped[o.Reason] += items
		c.settle(e)
	case queue.Nack:
		e.holder, e.due = nil, now.Add(min(o.Delay, time.Hour))
		e.attempt++
	case queue.Release:
		e.holder = nil
	}
}

func (h *modelHandle) close() {
	h.closed = true
	for _, l := range h.leases {
		if l.entry.holder == h {
			l.entry.holder = nil
		}
	}
}

func (c *modelCursor) forget() {
	for len(c.entries) > 0 {
		c.books.Accepted -= uint64(c.entries[0].sent.items)
		c.settle(c.entries[0])
	}
	c.state, c.froms = queue.Done, nil
}

// counts are the books with what is unresolved.
func (c *modelCursor) counts() queue.Counts {
	n := c.books
	for _, e := range c.entries {
		if c.state == queue.Parked {
			n.Parked += uint64(e.sent.items)
		} else {
			n.Queued += uint64(e.sent.items)
		}
	}
	return n
}

// fill is what Fill says, but for the age.
func (c *modelCursor) fill() (f queue.Fill) {
	for _, e := range c.entries {
		f.Records++
		f.Items += int64(e.sent.items)
		f.Bytes += int64(e.sent.size)
		if e.holder != nil {
			f.Leased++
		}
	}
	f.Size, f.Capacity = c.size(), c.limit.Max
	return f
}
