// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// maxIdlePlans bounds the plans a cursor keeps for questions nobody waits on.
const maxIdlePlans = 4

// planFor returns the plan for w, kept or new.
func (c *cursor) planFor(w queue.Want) *plan {
	idle := -1
	for i, p := range c.plans {
		if p.serves(w) {
			return p
		}
		if len(p.waiters) == 0 && idle < 0 {
			idle = i
		}
	}
	if len(c.plans) >= maxIdlePlans && idle >= 0 {
		p := c.plans[idle]
		p.reset()
		p.start(w)
		return p
	}
	p := new(plan)
	p.start(w)
	c.plans = append(c.plans, p)
	return p
}

// resetPlans forgets what all plans but one have placed.
func (c *cursor) resetPlans(but *plan) {
	for _, p := range c.plans {
		if p != but {
			p.reset()
		}
	}
}

// tryTake leases the ripe batch of p with the lowest first number to h, or returns nil.
func (c *cursor) tryTake(p *plan, h *handle, now time.Time) []queue.Delivered {
	if c.leased+c.late.n >= maxHeld || c.ready.head == nil {
		return nil
	}
	if p.want.Joins == nil { // nothing joins, so nothing is worth waiting for
		n := c.ready.head
		c.resetPlans(p)
		return []queue.Delivered{c.lease(n, h)}
	}
	p.extend(&c.ready)
	i := p.ripe(now)
	if i < 0 {
		return nil
	}
	b := p.remove(i)
	c.resetPlans(p)
	got := make([]queue.Delivered, len(b.nodes))
	for j := len(b.nodes) - 1; j >= 0; j-- {
		p.leaves(b.nodes[j])
		got[j] = c.lease(b.nodes[j], h)
	}
	p.recycle(b)
	return got
}

// lease hands n to h.
func (c *cursor) lease(n *node, h *handle) queue.Delivered {
	c.ready.remove(n)
	n.place = leased
	n.claims++
	c.leased++
	h.leases[n.seq()] = n
	d := queue.Delivered{Record: n.rec.Record, Seq: n.rec.seq, Attempt: n.attempt, Accepted: n.rec.accepted}
	d.Free = nil // the queue's to call
	return d
}

// serve gives batches to those who wait, as many as are ripe, and sees to it that somebody looks again in time.
func (c *cursor) serve(now time.Time) {
	if c.wait == 0 {
		return
	}
	c.promote(now)
	for again := true; again; {
		again = false
		for _, p := range c.plans {
			for c.serveFirst(p, now) {
				again = len(c.plans) > 1 // the window moved, for others too
			}
		}
	}
	c.arm(now)
}

// serveFirst serves the first who waits on p and may take.
func (c *cursor) serveFirst(p *plan, now time.Time) bool {
	for i, w := range p.waiters {
		if !c.mayTake(w.handle) {
			continue
		}
		if w.got = c.tryTake(p, w.handle, now); w.got == nil {
			return false
		}
		c.answer(p, i)
		return true
	}
	return false
}

// answer takes waiter i off p and wakes it.
func (c *cursor) answer(p *plan, i int) {
	w := p.waiters[i]
	p.waiters = slices.Delete(p.waiters, i, i+1)
	c.wait--
	w.plan = nil
	w.ready <- struct{}{} // has room for it
}

// dismiss ends the waiting Takes of h, or of everybody.
func (c *cursor) dismiss(h *handle) {
	for _, p := range c.plans {
		for i := 0; i < len(p.waiters); {
			if w := p.waiters[i]; h == nil || w.handle == h {
				w.err = queue.ErrClosed
				c.answer(p, i)
			} else {
				i++
			}
		}
	}
}

// arm sets the timer to the next moment at which time alone makes a batch for somebody who waits. A timer that is set
// for an earlier moment stays: firing too early costs less than setting it for every batch.
func (c *cursor) arm(now time.Time) {
	var at time.Time
	if len(c.delays) > 0 {
		at = c.delays[0].due
	}
	if c.leased+c.late.n < maxHeld {
		for _, p := range c.plans {
			if !c.awaited(p) {
				continue
			}
			if t, ok := p.ripensAt(); ok && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
	}
	if at.IsZero() || c.wait == 0 || !c.armed.IsZero() && !at.Before(c.armed) {
		return
	}
	c.armed = at
	if d := max(0, at.Sub(now)); c.timer == nil {
		c.timer = time.AfterFunc(d, c.fire)
	} else {
		c.timer.Reset(d)
	}
}

func (c *cursor) awaited(p *plan) bool {
	for _, w := range p.waiters {
		if c.mayTake(w.handle) {
			return true
		}
	}
	return false
}

// fire is the timer's function.
func (c *cursor) fire() {
	fx := c.q.lock()
	defer c.q.unlock(fx)
	c.armed = time.Time{}
	if !c.q.mu.closed {
		c.serve(c.q.set.Now())
	}
}
