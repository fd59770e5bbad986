// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// handle is one handle of a cursor.
type handle struct {
	c *cursor
	h *window.Handle
}

// newHandle returns a handle of c's own, which takes while c is live.
func newHandle(c *cursor) *handle {
	return &handle{c: c, h: c.win.Handle(func() bool { return c.state == queue.Live })}
}

// newHeir returns a handle of the heir, which takes while it is that and c is parked.
func newHeir(c *cursor, heir string) *handle {
	return &handle{c: c, h: c.win.Handle(func() bool { return c.state == queue.Parked && c.heir == heir })}
}

// Take implements queue.Cursor. It returns queue.ErrClosed once the handle or the queue is closed.
func (h *handle) Take(ctx context.Context, w queue.Want) ([]queue.Delivered, error) {
	if w.From > 0 {
		h.c.q.lock()
		h.c.win.Split(w.From)
		h.c.q.unlock()
	}
	got, _, err := h.h.Take(ctx, w)
	return got, err
}

// Resolve implements queue.Cursor. The error is always nil: Dead needs no disk here, the record is counted as rejected,
// told to OnDead, and its bytes are let go. Numbers this handle does not hold are passed over.
func (h *handle) Resolve(o queue.Outcome, seqs ...queue.Seq) error {
	c := h.c
	c.q.lock()
	defer c.q.unlock()
	r := resolution{Outcome: o}
	if o.Kind == queue.Nack {
		r.due = c.win.Due(o.Delay)
	}
	for _, seq := range seqs {
		if n := h.h.Lift(seq, o.Kind); n != nil {
			c.resolve(n, &r)
		}
	}
	if o.Kind == queue.Dead {
		c.reportDead(r.gone, o.Reason)
	} else {
		c.reportDrop(r.gone, o.Reason)
	}
	c.changed()
	return nil
}

// resolution is one Resolve on its way through its records.
type resolution struct {
	queue.Outcome
	due  time.Time
	gone Drop
}

// resolve ends the lease of n, or, for an Ack that comes late, whatever n is doing now. An unknown Kind is a Release.
func (c *cursor) resolve(n *window.Node, r *resolution) {
	items := n.Entry.Items
	switch r.Kind {
	case queue.Ack:
		refused := min(r.Rejected, items)
		r.Rejected -= refused
		c.books.rejected += uint64(refused)
		c.books.delivered += uint64(items - refused)
		c.settle(n)
	case queue.Dead:
		refused := min(r.Rejected, items)
		if refused == 0 {
			refused = items
		}
		c.books.rejected += uint64(refused)
		c.books.delivered += uint64(items - refused)
		r.gone.count(n.Entry)
		r.gone.Items -= uint64(items - refused)
		c.settle(n)
	case queue.Drop:
		c.drop(n, r.Reason, &r.gone)
	case queue.Nack:
		c.win.Nack(n, r.due)
	default:
		c.win.Release(n)
	}
}

// Wake implements queue.Cursor.
func (h *handle) Wake() {
	c := h.c
	c.q.lock()
	defer c.q.unlock()
	c.win.Wake()
	c.changed()
}

// Fill implements queue.Cursor.
func (h *handle) Fill() queue.Fill {
	c := h.c
	c.q.lock()
	defer c.q.unlock()
	return queue.Fill{
		Records: c.records, Items: c.items, Bytes: c.bytes, Size: c.size(), Capacity: c.dest.Limit.Max,
		Oldest: c.oldest(c.q.set.Now()), Leased: int64(c.win.Leased()), Last: c.q.mu.last,
	}
}

// Close implements queue.Cursor. A Take that waits on this handle returns queue.ErrClosed.
func (h *handle) Close() {
	c := h.c
	c.q.lock()
	defer c.q.unlock()
	if h.h.Close() {
		c.changed()
	}
}

var _ queue.Cursor = (*handle)(nil)
