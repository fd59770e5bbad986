// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import "time"

// arrive takes one batch as taken into hand, in the pieces it was taken apart into.
func (r *Router) arrive(now time.Time, pieces []*Batch) {
	r.wanted = 0
	if len(pieces) == 0 {
		return
	}
	crowded := r.straggling >= max(r.total/4, 1)
	f := r.found()
	for _, b := range pieces {
		b.begin(len(r.levels))
		r.arrivals++
		b.number = r.arrivals
		r.adopt(b, f, nil)
	}
	for _, b := range pieces {
		switch {
		case r.leaving(b):
			r.letGo(b)
		case crowded && b.straggler():
			r.nack(now, b, localWait) // what cannot be delivered is not to fill the hand
		default:
			r.apply(now, b, r.route(now, b), MoveNone)
		}
	}
}

// halved puts pieces into the place of b. The first of them takes over its slot.
func (r *Router) halved(now time.Time, b *Batch, pieces []*Batch) {
	r.become(b, batchBack)
	if len(pieces) == 0 {
		b.whole = true
		switch {
		case r.leaving(b):
			r.letGo(b)
		case b.asking:
			r.reroute(now, b, MoveNone)
		default:
			r.rejected(now, b, false)
		}
		return
	}
	after := b
	for _, p := range pieces {
		p.begin(len(r.levels))
		p.inherit(b)
		r.adopt(p, b.family, after)
		after = p
	}
	level, slot, cause := b.level, b.slot, MoveRejected
	if b.asking {
		cause = MoveNone
	}
	r.leave(b)
	if first := pieces[0]; slot && !r.leaving(first) {
		first.level = level
		r.grab(first)
	}
	for _, p := range pieces {
		if r.leaving(p) {
			r.letGo(p)
			continue
		}
		r.apply(now, p, r.route(now, p), cause)
	}
}

// look routes all anew that is not in flight, oldest first: the view has changed.
func (r *Router) look(now time.Time, v *View) {
	old := r.view
	r.view = v
	back := old.AllDown && !v.AllDown
	for i := range v.Levels {
		if l := &r.levels[i]; l.lost > 0 && v.Number > l.lost {
			l.spent, l.lost = nil, 0
		}
		if v.Levels[i].Eligible && !old.Levels[i].Eligible && i != r.emergency && old.Number > 0 {
			back = true
			r.levels[i].win.Returned(now)
		}
	}
	for b := r.first; b != nil; b = b.next {
		switch {
		case b.state == batchInFlight:
			r.hurry(now, b)
		case b.state == batchWaiting && b.why == waitBackoff && revived(&old.Levels[b.level], &v.Levels[b.level]):
			b.until = now
		}
	}
	r.jolt(now)
	if back && !r.stopping {
		r.emit(RouterEffect{Kind: WakeQueue})
	}
}

// revived reports whether a level that gave no sign of life gives one again, or one that was suspected is well. What waits
// for it then waited for nothing but that, however long its backoff.
func revived(was, is *LevelView) bool {
	return was.Silent && !is.Silent || was.State == Suspect && is.State == Healthy
}

// jolt routes all anew that is not in flight.
func (r *Router) jolt(now time.Time) {
	r.jolted = false
	if r.stopping {
		return
	}
	for b := r.first; b != nil; {
		next := b.next
		switch b.state {
		case batchMoving, batchWaiting, batchHeld:
			r.again(now, b)
		}
		b = next
	}
}

// again routes what is not in flight.
func (r *Router) again(now time.Time, b *Batch) {
	cause := MoveReturn
	if b.level >= 0 {
		switch l := &r.view.Levels[b.level]; {
		case !l.Eligible:
			cause = MoveDown
		case r.throttled(b.level).After(now):
			cause = MoveThrottled
		case l.Silent:
			cause = MoveFailure
		}
	}
	r.apply(now, b, r.route(now, b), cause)
}

// hurry ends what is in flight at a level that is down, in a while. A canary is there because it is down.
func (r *Router) hurry(now time.Time, b *Batch) {
	if b.canary || r.stopping {
		return
	}
	switch eligible := r.view.Levels[b.level].Eligible; {
	case !eligible && b.cancel.IsZero():
		b.cancel = now.Add(cancelAfter)
		r.schedule(b.cancel)
	case eligible && b.cancel.After(now):
		b.cancel = time.Time{}
	}
}

// due does what its time has come for, and finds the next time.
func (r *Router) due(now time.Time) {
	r.next, r.announced = time.Time{}, time.Time{}
	r.freed = r.freed || r.movers > 0 // the time of one that waits for its level's pace may have come
	for b := r.first; b != nil; {
		next := b.next
		switch b.state {
		case batchInFlight:
			r.overdue(now, b)
		case batchWaiting:
			if !now.Before(b.until) {
				r.again(now, b)
			} else {
				r.schedule(b.until)
			}
		case batchHeld:
			if r.emergency >= 0 && r.set.HighWater > 0 && r.view.AllDown {
				r.again(now, b)
			}
		}
		b = next
	}
}

// overdue cancels an attempt, or gives it up if it hangs.
func (r *Router) overdue(now time.Time, b *Batch) {
	if !b.cancel.IsZero() && !now.Before(b.cancel) {
		b.cancel = time.Time{}
		b.until = earlier(b.until, now.Add(stuckAfter))
		if !b.until.After(now) || b.until.IsZero() {
			b.until = now.Add(stuckAfter)
		}
		r.emit(RouterEffect{Kind: CancelBatch, Batch: b, Try: b.try, Level: b.level})
	}
	if !b.until.IsZero() && !now.Before(b.until) {
		r.emit(RouterEffect{Kind: AbandonBatch, Batch: b, Try: b.try, Level: b.level})
		r.finish(now, b, stuck[:len(r.set.Levels[b.level].Members)])
		return
	}
	for _, t := range [...]time.Time{b.cancel, b.until} {
		if !t.IsZero() {
			r.schedule(t)
		}
	}
}

// drain shortens waits, and lets go of what is safe where it is.
func (r *Router) drain(now time.Time) {
	r.draining = true
	for b := r.first; b != nil; {
		next := b.next
		if b.Stays && (b.state == batchMoving || b.state == batchWaiting || b.state == batchHeld) {
			r.letGo(b)
		}
		b = next
	}
	r.jolt(now)
}

// stop returns what is not in flight to the queue and gives the rest a while.
func (r *Router) stop(now time.Time, grace time.Duration) {
	r.stopping = true
	for b := r.first; b != nil; {
		next := b.next
		switch b.state {
		case batchInFlight:
			if t := now.Add(grace); b.cancel.IsZero() || t.Before(b.cancel) {
				b.cancel = t
				r.schedule(t)
			}
		case batchMoving, batchWaiting, batchHeld:
			r.letGo(b)
		}
		b = next
	}
}

// pump gives slots that came free to those who wait for one, oldest first.
func (r *Router) pump(now time.Time) {
	if !r.freed || r.movers == 0 || r.stopping {
		r.freed = false
		return
	}
	r.freed = false
	for b := r.first; b != nil && r.movers > 0; {
		next := b.next
		if b.state == batchMoving && (b.slot || r.room(b.level, b.straggler())) && r.open(now, b.level, b.laneAt(now)) {
			r.again(now, b)
		}
		b = next
	}
}

// want asks for a batch if one could be sent at once and there is a place for it in hand (failover, section 11.2).
func (r *Router) want(now time.Time) {
	n, lane := 0, AnyLane
	if !r.stopping && r.taken <= r.total && (!r.set.Strict || r.taken == 0) {
		switch d := r.route(now, &stranger); d.act {
		case actSend:
			if r.levels[d.level].moving == 0 && r.room(d.level, false) && (d.proof || r.open(now, d.level, AnyLane)) {
				n, r.place = 1, d.level
				if !r.set.Strict && d.level != r.emergency {
					lane = r.levels[d.level].win.Lane(now)
				}
			}
		case actWait:
			r.schedule(d.until)
		}
	}
	if n != r.wanted || n > 0 && lane != r.lane {
		r.wanted, r.lane = n, lane
		r.emit(RouterEffect{Kind: WantBatches, N: n, Lane: lane})
	}
}
