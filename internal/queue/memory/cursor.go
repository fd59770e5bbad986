// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"maps"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// cursor is one destination's place in the queue. The queue's lock guards all of it.
//
// Invariants: all holds the unresolved records; each of them is in exactly one of ready, late (and then in delays) and
// the leased; records, items and bytes sum all; accepted = delivered + rejected + dropped + items.
type cursor struct {
	q     *Queue
	dest  queue.Destination
	state queue.State
	heir  string      // who serves it while parked
	spans []span      // numbers owed, in the order of attaching
	plans []*plan     // one for each question that is asked
	wait  int         // waiters of all plans
	timer *time.Timer // nil until a Take had to wait for a moment
	armed time.Time   // when timer fires, zero = it does not
	all   struct {    // linked by older and younger
		head, tail *node
	}
	ready, late list
	delays      delays
	leased      int

	records, items, bytes int64
	books                 books
}

// books are totals in items; what is unresolved is counted in cursor.items.
type books struct {
	accepted, delivered, rejected uint64
	dropped                       map[string]uint64
}

// size is the cursor's size in its limit's unit. In requests a record counts as the share of a batch that it will be:
// with batches made behind the queue, queue_size counts batches.
func (c *cursor) size() int64 {
	switch l := c.dest.Limit; {
	case l.Sizer == queue.Items:
		return c.items
	case l.Sizer == queue.Bytes:
		return c.bytes
	case l.BatchItems > 0:
		b := int64(l.BatchItems)
		return min(c.records, (c.items+b-1)/b)
	}
	return c.records
}

func (c *cursor) atLimit() bool { return c.dest.Limit.Max > 0 && c.size() >= c.dest.Limit.Max }

func (c *cursor) full() error {
	return &queue.FullError{Limit: "queue_size", Used: c.size(), Max: c.dest.Limit.Max}
}

// add owes s to the destination, the youngest of its records.
func (c *cursor) add(s *stored, fx *effects) {
	before, full := c.size(), c.atLimit()
	n := c.q.newNode()
	n.rec = s
	if n.older = c.all.tail; n.older == nil {
		c.all.head = n
	} else {
		n.older.younger = n
	}
	c.all.tail = n
	c.ready.insertAfter(c.ready.tail, n)
	c.records++
	c.items += int64(s.Items)
	c.bytes += int64(s.Size)
	c.books.accepted += uint64(s.Items)
	if full {
		c.overflow(n, before, fx)
	}
}

// overflow drops the oldest unleased records below newest until the cursor is no larger than before.
func (c *cursor) overflow(newest *node, before int64, fx *effects) {
	var d Drop
	for c.size() > before {
		n := c.ready.head
		if o := c.late.head; o != nil && o.seq() < n.seq() {
			n = o
		}
		if n == newest {
			break
		}
		c.drop(n, ReasonOverflow, &d, fx)
	}
	c.report(&fx.drops, d, ReasonOverflow)
}

// drop books n under reason and resolves it.
func (c *cursor) drop(n *node, reason string, d *Drop, fx *effects) {
	if c.books.dropped == nil {
		c.books.dropped = make(map[string]uint64)
	}
	c.books.dropped[reason] += uint64(n.rec.Items)
	d.count(n)
	c.settle(n, fx)
}

func (d *Drop) count(n *node) {
	if seq := n.seq(); d.Records == 0 {
		d.First, d.Last = seq, seq
	} else {
		d.First, d.Last = min(d.First, seq), max(d.Last, seq)
	}
	d.Records++
	d.Items += uint64(n.rec.Items)
}

func (c *cursor) report(to *[]Drop, d Drop, reason string) {
	if d.Records > 0 {
		d.Destination, d.Reason, d.At = c.dest.Name, reason, c.q.set.Now()
		*to = append(*to, d)
	}
}

// settle resolves n wherever it stands; the caller has booked it.
func (c *cursor) settle(n *node, fx *effects) {
	switch n.place {
	case ready:
		c.ready.remove(n)
		c.resetPlans(nil)
	case late:
		c.late.remove(n)
		c.delays.remove(n)
	case leased:
		c.leased--
	}
	if n.older == nil {
		c.all.head = n.younger
	} else {
		n.older.younger = n.younger
	}
	if n.younger == nil {
		c.all.tail = n.older
	} else {
		n.younger.older = n.older
	}
	n.older, n.younger = nil, nil
	c.records--
	c.items -= int64(n.rec.Items)
	c.bytes -= int64(n.rec.Size)
	n.place = resolved
	if c.records == 0 && c.state == queue.Parked {
		c.state = queue.Done
	}
	c.q.letGo(n, fx)
}

// offer makes n a candidate again. hint is the one offered just before, or nil.
func (c *cursor) offer(n, hint *node) {
	n.place = ready
	c.ready.insert(n, hint)
	c.resetPlans(nil) // it is below what they cover, or soon will be
}

// delay holds n back until due.
func (c *cursor) delay(n, hint *node, due time.Time) {
	n.place, n.due = late, due
	c.late.insert(n, hint)
	c.delays.push(n)
}

// promote offers the records whose delay is over.
func (c *cursor) promote(now time.Time) {
	var hint *node
	for len(c.delays) > 0 && !c.delays[0].due.After(now) {
		n := c.delays[0]
		c.delays.remove(n)
		c.late.remove(n)
		c.offer(n, hint)
		hint = n
	}
}

// wake offers all records that are held back.
func (c *cursor) wake() {
	var hint *node
	for n := c.late.head; n != nil; n = c.late.head {
		c.late.remove(n)
		c.offer(n, hint)
		hint = n
	}
	clear(c.delays)
	c.delays = c.delays[:0]
}

// mayTake says whether h gets records now: its owner's while live, the heir's while parked.
func (c *cursor) mayTake(h *handle) bool {
	if h.heir {
		return c.state == queue.Parked && c.heir == h.name
	}
	return c.state == queue.Live
}

// shutdown drops what is unresolved and sends the waiters home.
func (c *cursor) shutdown(fx *effects) {
	c.dismiss(nil)
	if c.timer != nil {
		c.timer.Stop()
	}
	var d Drop
	for c.all.head != nil {
		c.drop(c.all.head, ReasonShutdown, &d, fx)
	}
	c.report(&fx.drops, d, ReasonShutdown)
	c.plans = nil
}

// forget makes what is unresolved not owed.
func (c *cursor) forget(fx *effects) {
	for n := c.all.head; n != nil; n = c.all.head {
		c.books.accepted -= uint64(n.rec.Items)
		c.settle(n, fx)
	}
}

func (c *cursor) counts() queue.Counts {
	n := queue.Counts{
		Accepted: c.books.accepted, Delivered: c.books.delivered, Rejected: c.books.rejected,
		Dropped: maps.Clone(c.books.dropped),
	}
	if c.state == queue.Parked {
		n.Parked = uint64(c.items)
	} else {
		n.Queued = uint64(c.items)
	}
	return n
}

func (c *cursor) oldest(now time.Time) time.Duration {
	if c.all.head == nil {
		return 0
	}
	return max(0, now.Sub(c.all.head.rec.accepted))
}
