// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"maps"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// cursor is one destination's place in the queue. The queue's lock guards all of it.
//
// Invariants: the window holds all unresolved records; records, items and bytes sum them; accepted = delivered +
// rejected + dropped + items.
type cursor struct {
	q     *Queue
	dest  queue.Destination
	state queue.State
	heir  string // who serves it while parked
	spans []span // numbers owed, in the order of attaching
	win   *window.Window

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

// add owes e to the destination, the youngest of its records.
func (c *cursor) add(e *window.Entry) {
	before, full := c.size(), c.atLimit()
	n := c.win.Push(e)
	c.records++
	c.items += int64(e.Items)
	c.bytes += int64(e.Size)
	c.books.accepted += uint64(e.Items)
	if full {
		c.overflow(n, before)
	}
}

// overflow drops the oldest unleased records below newest until the cursor is no larger than before.
func (c *cursor) overflow(newest *window.Node, before int64) {
	var d Drop
	for c.size() > before {
		n := c.win.OldestUnleased()
		if n == newest {
			break
		}
		c.drop(n, ReasonOverflow, &d)
	}
	c.reportDrop(d, ReasonOverflow)
}

// drop books n under reason and resolves it.
func (c *cursor) drop(n *window.Node, reason string, d *Drop) {
	if c.books.dropped == nil {
		c.books.dropped = make(map[string]uint64)
	}
	c.books.dropped[reason] += uint64(n.Entry.Items)
	d.count(n.Entry)
	c.settle(n)
}

func (d *Drop) count(e *window.Entry) {
	if d.Records == 0 {
		d.First, d.Last = e.Seq, e.Seq
	} else {
		d.First, d.Last = min(d.First, e.Seq), max(d.Last, e.Seq)
	}
	d.Records++
	d.Items += uint64(e.Items)
}

func (c *cursor) reportDrop(d Drop, reason string) {
	if d.Records > 0 {
		fx := c.q.fxLocked()
		fx.drops = append(fx.drops, c.entitled(d, reason))
	}
}

func (c *cursor) reportDead(d Drop, reason string) {
	if d.Records > 0 {
		fx := c.q.fxLocked()
		fx.dead = append(fx.dead, c.entitled(d, reason))
	}
}

func (c *cursor) entitled(d Drop, reason string) Drop {
	d.Destination, d.Reason, d.At = c.dest.Name, reason, c.q.set.Now()
	return d
}

// settle resolves n wherever it stands; the caller has booked it.
func (c *cursor) settle(n *window.Node) {
	c.records--
	c.items -= int64(n.Entry.Items)
	c.bytes -= int64(n.Entry.Size)
	if c.records == 0 && c.state == queue.Parked {
		c.state = queue.Done
	}
	c.win.Settle(n)
}

// merge ends a split of which nothing is left below. All that is owed is in the window.
func (c *cursor) merge() {
	for c.win.Parts() > 1 {
		if left, _ := c.win.PartReady(0); left > 0 {
			return
		}
		c.win.Merge()
	}
}

// changed looks after those who wait, once records came back or room was made.
func (c *cursor) changed() {
	c.win.Serve(time.Time{})
	c.q.admitLocked()
}

// shutdown drops what is unresolved and sends the waiters home.
func (c *cursor) shutdown() {
	c.win.Close()
	var d Drop
	for n := c.win.Oldest(); n != nil; n = c.win.Oldest() {
		c.drop(n, ReasonShutdown, &d)
	}
	c.reportDrop(d, ReasonShutdown)
}

// forget makes what is unresolved not owed.
func (c *cursor) forget() {
	for n := c.win.Oldest(); n != nil; n = c.win.Oldest() {
		c.books.accepted -= uint64(n.Entry.Items)
		c.settle(n)
	}
	c.merge()
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
	n := c.win.Oldest()
	if n == nil {
		return 0
	}
	return max(0, now.Sub(n.Entry.Accepted))
}

// Lock implements window.Owner.
func (c *cursor) Lock() { c.q.lock() }

// Unlock implements window.Owner.
func (c *cursor) Unlock() { c.q.unlock() }

// Now implements window.Owner.
func (c *cursor) Now() time.Time { return c.q.set.Now() }

// Gone implements window.Owner.
func (c *cursor) Gone(e *window.Entry) { c.q.goneLocked(e) }

var _ window.Owner = (*cursor)(nil)
