// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// maxIdlePlans bounds the plans a window keeps for questions nobody waits on.
const maxIdlePlans = 4

// planFor returns the plan for want, kept or new.
func (w *Window) planFor(want queue.Want) *plan {
	w.depth = max(w.depth, min(want.MaxBytes, MaxBytes))
	idle := -1
	for i, p := range w.plans {
		if p.serves(want) {
			return p
		}
		if len(p.waiters) == 0 && idle < 0 {
			idle = i
		}
	}
	if len(w.plans) >= maxIdlePlans && idle >= 0 {
		p := w.plans[idle]
		p.reset()
		p.start(want)
		return p
	}
	p := new(plan)
	p.start(want)
	w.plans = append(w.plans, p)
	return p
}

// resetPlans forgets what all plans but one have placed.
func (w *Window) resetPlans(but *plan) {
	for _, p := range w.plans {
		if p != but {
			p.reset()
		}
	}
}

// tryTake leases the ripe batch of p with the lowest first number to h, or returns nil. Of a window in parts, high says
// which of the two places to read at is asked first.
func (w *Window) tryTake(p *plan, h *Handle, high bool, now time.Time) (got []queue.Delivered, absent int) {
	if w.Held() >= MaxHeld {
		return nil, 0
	}
	w.lookAhead()
	switch top := len(w.parts) - 1; {
	case top == 0:
		got, absent = w.takeOf(p, 0, 0, h, now)
	case high:
		if got, absent = w.takeOf(p, 1, top, h, now); got == nil {
			got, absent = w.takeOf(p, 0, 0, h, now)
		}
	default:
		if got, absent = w.takeOf(p, 0, 0, h, now); got == nil {
			got, absent = w.takeOf(p, 1, top, h, now)
		}
	}
	if got != nil {
		w.lookAhead()
	}
	return got, absent
}

// takeOf leases the ripe batch of a part with the lowest first number.
func (w *Window) takeOf(p *plan, side, part int, h *Handle, now time.Time) (got []queue.Delivered, absent int) {
	from, s := w.parts[part], &p.sides[side]
	if from.ready.head == nil {
		return nil, 0
	}
	most, bound := w.most(part)
	if p.want.Joins == nil { // nothing joins, so nothing is worth waiting for
		n := from.ready.head
		if bound && n.seq() > most {
			return nil, 0
		}
		w.resetPlans(p)
		got = make([]queue.Delivered, 1)
		return got, w.lease(n, h, &got[0])
	}
	s.extend(&from.ready, most, bound)
	i := s.ripe(now)
	if i < 0 {
		return nil, 0
	}
	b := s.remove(i)
	w.resetPlans(p)
	got = make([]queue.Delivered, len(b.nodes))
	for j := len(b.nodes) - 1; j >= 0; j-- {
		s.leaves(b.nodes[j])
		absent += w.lease(b.nodes[j], h, &got[j])
	}
	s.recycle(b)
	return got, absent
}

// lookAhead asks the owner for more.
func (w *Window) lookAhead() {
	if w.refill != nil && w.Low() {
		w.refill()
	}
}

// lease hands n to h and returns 1 if its bytes are absent.
func (w *Window) lease(n *Node, h *Handle, d *queue.Delivered) (absent int) {
	w.unready(n)
	e := n.Entry
	if p := w.parts[w.partOf(e.Seq)]; p.reach < e.Seq {
		p.reach = e.Seq
	}
	n.place = leased
	n.claims++
	e.Leases++
	w.leased++
	h.leases[e.Seq] = n
	d.Record, d.Seq, d.Attempt, d.Accepted = e.Record, e.Seq, n.attempt, e.Accepted
	d.Free = nil // the queue's to call
	if e.Absent {
		return 1
	}
	return 0
}

// serve is Serve when somebody waits.
func (w *Window) serve(now time.Time) {
	w.promote(now)
	for again := true; again; {
		again = false
		for _, p := range w.plans {
			for w.serveFirst(p, now) {
				again = len(w.plans) > 1 // the window moved, for others too
			}
		}
	}
	w.arm(now)
}

// serveFirst serves the first who waits on p and may take.
func (w *Window) serveFirst(p *plan, now time.Time) bool {
	for i, x := range p.waiters {
		if !x.handle.mayTake() {
			continue
		}
		if x.got, x.absent = w.tryTake(p, x.handle, x.high, now); x.got == nil {
			return false
		}
		w.answer(p, i)
		return true
	}
	return false
}

// answer takes waiter i off p and wakes it.
func (w *Window) answer(p *plan, i int) {
	x := p.waiters[i]
	p.waiters = slices.Delete(p.waiters, i, i+1)
	w.waiting--
	x.plan = nil
	x.ready <- struct{}{} // has room for it
}

// dismiss ends the waiting Takes of h, or of everybody.
func (w *Window) dismiss(h *Handle) {
	for _, p := range w.plans {
		for i := 0; i < len(p.waiters); {
			if x := p.waiters[i]; h == nil || x.handle == h {
				x.err = queue.ErrClosed
				w.answer(p, i)
			} else {
				i++
			}
		}
	}
}

// arm sets the timer to the next moment at which time alone makes a batch for somebody who waits. A timer that is set
// for an earlier moment stays: firing too early costs less than setting it for every batch.
func (w *Window) arm(now time.Time) {
	var at time.Time
	if len(w.delays) > 0 {
		at = w.delays[0].due
	}
	if w.Held() < MaxHeld {
		for _, p := range w.plans {
			if !w.awaited(p) {
				continue
			}
			for i := range p.sides {
				if t, ok := p.sides[i].ripensAt(); ok && (at.IsZero() || t.Before(at)) {
					at = t
				}
			}
		}
	}
	if at.IsZero() || w.waiting == 0 || !w.armed.IsZero() && !at.Before(w.armed) {
		return
	}
	w.armed = at
	if d := max(0, at.Sub(now)); w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
	} else {
		w.timer.Reset(d)
	}
}

func (w *Window) awaited(p *plan) bool {
	for _, x := range p.waiters {
		if x.handle.mayTake() {
			return true
		}
	}
	return false
}

// fire is the timer's function.
func (w *Window) fire() {
	w.owner.Lock()
	defer w.owner.Unlock()
	w.armed = time.Time{}
	w.Serve(time.Time{})
}
