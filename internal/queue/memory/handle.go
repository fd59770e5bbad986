// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// handle is one handle of a cursor. The queue's lock guards it. leases keeps a record until this handle resolves it,
// also after Close and after somebody else resolved it: the claim keeps the bytes valid.
type handle struct {
	c      *cursor
	name   string // of the heir, else empty
	heir   bool
	closed bool
	leases map[queue.Seq]*node
}

// Take implements queue.Cursor. It returns queue.ErrClosed once the handle or the queue is closed.
func (h *handle) Take(ctx context.Context, w queue.Want) ([]queue.Delivered, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := h.c
	fx := c.q.lock()
	if h.closed || c.q.mu.closed {
		c.q.unlock(fx)
		return nil, queue.ErrClosed
	}
	p := c.planFor(w)
	var now time.Time
	if w.Min > 0 || len(c.delays) > 0 {
		now = c.q.set.Now() // else nobody asks for it
	}
	if c.wait == 0 && c.mayTake(h) {
		c.promote(now)
		if got := c.tryTake(p, h, now); got != nil {
			c.q.unlock(fx)
			return got, nil
		}
	}
	x := c.q.waiters.Get().(*waiter)
	x.handle, x.plan = h, p
	p.waiters = append(p.waiters, x)
	c.wait++
	if now.IsZero() {
		now = c.q.set.Now()
	}
	c.serve(now)
	c.q.unlock(fx)
	return h.await(ctx, x)
}

// await returns what x is given, or ctx's error; it leaves no lease behind then.
func (h *handle) await(ctx context.Context, x *waiter) ([]queue.Delivered, error) {
	select {
	case <-x.ready:
	case <-ctx.Done():
		if !h.leave(x) {
			<-x.ready // answered in the meantime
			break
		}
		x.err = ctx.Err()
	}
	got, err := x.got, x.err
	*x = waiter{ready: x.ready}
	h.c.q.waiters.Put(x)
	return got, err
}

// leave takes x off its plan; false says that it was answered before.
func (h *handle) leave(x *waiter) bool {
	fx := h.c.q.lock()
	defer h.c.q.unlock(fx)
	p := x.plan
	if p == nil {
		return false
	}
	for i, w := range p.waiters {
		if w == x {
			p.waiters = slices.Delete(p.waiters, i, i+1)
			h.c.wait--
			break
		}
	}
	return true
}

// Resolve implements queue.Cursor. The error is always nil: Dead needs no disk here, the record is counted as rejected,
// told to OnDead, and its bytes are let go. Numbers this handle does not hold are passed over.
func (h *handle) Resolve(o queue.Outcome, seqs ...queue.Seq) error {
	c := h.c
	fx := c.q.lock()
	defer c.q.unlock(fx)
	r := resolution{Outcome: o}
	if o.Kind == queue.Nack && o.Delay > 0 {
		r.due = c.q.set.Now().Add(min(o.Delay, maxNackDelay))
	}
	for _, seq := range seqs {
		n := h.leases[seq]
		if n == nil {
			continue
		}
		delete(h.leases, seq)
		n.claims--
		if n.place == resolved || h.closed && o.Kind != queue.Ack {
			c.q.letGo(n, fx)
			continue
		}
		c.resolve(n, &r, fx)
	}
	if o.Kind == queue.Dead {
		c.report(&fx.dead, r.gone, o.Reason)
	} else {
		c.report(&fx.drops, r.gone, o.Reason)
	}
	if !c.q.mu.closed {
		c.changed(fx)
	}
	return nil
}

// resolution is one Resolve on its way through its records.
type resolution struct {
	queue.Outcome
	due  time.Time
	hint *node // the record that came back just before
	gone Drop
}

// resolve ends the lease of n, or, for an Ack that comes late, whatever n is doing now. An unknown Kind is a Release.
func (c *cursor) resolve(n *node, r *resolution, fx *effects) {
	items := n.rec.Items
	switch r.Kind {
	case queue.Ack:
		refused := min(r.Rejected, items)
		r.Rejected -= refused
		c.books.rejected += uint64(refused)
		c.books.delivered += uint64(items - refused)
		c.settle(n, fx)
	case queue.Dead:
		c.books.rejected += uint64(items)
		r.gone.count(n)
		c.settle(n, fx)
	case queue.Drop:
		c.drop(n, r.Reason, &r.gone, fx)
	case queue.Nack:
		n.attempt++
		fallthrough
	default:
		c.leased--
		if r.due.IsZero() {
			c.offer(n, r.hint)
		} else {
			c.delay(n, r.hint, r.due)
		}
		r.hint = n
	}
}

// changed looks after those who wait, once records came back or room was made.
func (c *cursor) changed(fx *effects) {
	if c.wait > 0 {
		c.serve(c.q.set.Now())
	}
	c.q.admitLocked(fx)
}

// Wake implements queue.Cursor.
func (h *handle) Wake() {
	c := h.c
	fx := c.q.lock()
	defer c.q.unlock(fx)
	if !c.q.mu.closed {
		c.wake()
		c.changed(fx)
	}
}

// Fill implements queue.Cursor.
func (h *handle) Fill() queue.Fill {
	c := h.c
	fx := c.q.lock()
	defer c.q.unlock(fx)
	return queue.Fill{
		Records: c.records, Items: c.items, Bytes: c.bytes, Size: c.size(), Capacity: c.dest.Limit.Max,
		Oldest: c.oldest(c.q.set.Now()), Leased: int64(c.leased),
	}
}

// Close implements queue.Cursor. A Take that waits on this handle returns queue.ErrClosed.
func (h *handle) Close() {
	c := h.c
	fx := c.q.lock()
	defer c.q.unlock(fx)
	if h.closed {
		return
	}
	h.closed = true
	c.dismiss(h)
	var hint *node
	for _, seq := range slices.Sorted(maps.Keys(h.leases)) {
		if n := h.leases[seq]; n.place == leased {
			c.leased--
			c.offer(n, hint)
			hint = n
		}
	}
	if !c.q.mu.closed {
		c.changed(fx)
	}
}

var _ queue.Cursor = (*handle)(nil)
