// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import "time"

// action is what route decides.
type action uint8

const (
	actSend action = iota
	actWait
	actNack
	actHold
)

// decision is where a batch goes next.
type decision struct {
	act   action
	level int
	proof bool // take the level's tokens along
	anew  bool // wait: forget which levels were tried
	why   waitReason
	until time.Time // wait
}

// stranger is a batch that nobody has taken yet: what route says of it is what a fresh one would do.
var stranger = Batch{level: -1, from: -1, fresh: true, state: batchBack}

// route decides where b goes (failover, section 10). It changes nothing: asked twice under one view, it answers the
// same.
func (r *Router) route(now time.Time, b *Batch) decision {
	skip := b.tried | b.rejected
	if b.state == batchWaiting && b.why != waitThrottle && b.level != r.emergency {
		// 1. It keeps waiting where it is, as long as that makes sense.
		l := &r.view.Levels[b.level]
		if l.Eligible && (!l.Silent || r.set.Stay || !r.elsewhere(skip)) {
			if now.Before(b.until) {
				return decision{act: actWait, level: b.level, why: b.why, until: b.until}
			}
			if d, ok := r.at(now, b, b.level, skip); ok {
				return d
			}
		}
	}
	// 2. Ordinary levels in order. One that ramps is for those within its share, and for all if there is no other.
	spare := -1
	for i := range r.view.Levels {
		if skip>>i&1 != 0 || i == r.emergency {
			continue
		}
		l := &r.view.Levels[i]
		switch {
		case !l.Eligible:
			if (b.fresh || r.view.AllDown) && !b.spent && r.proof(i) {
				return decision{act: actSend, level: i, proof: true}
			}
		case l.Silent && !r.set.Stay && r.elsewhere(skip):
			if b.fresh && r.proof(i) {
				return decision{act: actSend, level: i, proof: true}
			}
		case l.State == Ramping && b.level != i && !r.rises(b, i):
			if spare < 0 || l.Share > r.view.Levels[spare].Share {
				spare = i
			}
		default:
			if d, ok := r.at(now, b, i, skip); ok {
				return d
			}
		}
	}
	if spare >= 0 {
		if d, ok := r.at(now, b, spare, skip); ok {
			return d
		}
	}
	return r.nowhere(now, b)
}

// rises reports whether b is among those that a level that ramps is sent, and need not wait there. It is the batch's
// number that decides, so that asking again makes no difference.
func (r *Router) rises(b *Batch, i int) bool {
	if b.number == 0 { // of one that is not taken yet nobody can say: there must be a place below
		return false
	}
	x := b.number * 0x9e3779b97f4a7c15 // the mixing of splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	l := &r.levels[i]
	return float64(x>>11)/(1<<53) < r.view.Levels[i].Share && r.room(i, b.straggler()) && l.moving == 0 &&
		l.win.flying[Fresh]+l.win.flying[Backlog] < l.win.Limit()
}

// at sends b to level i, or lets it wait there while the level is throttled; not ok: it is better off elsewhere.
func (r *Router) at(now time.Time, b *Batch, i int, skip uint64) (decision, bool) {
	if t := r.throttled(i); t.After(now) {
		if t.Sub(now) > max(minThrottleWait, r.patience(now, b, i)) && r.unthrottled(now, skip|1<<i) {
			return decision{}, false
		}
		return decision{act: actWait, level: i, why: waitThrottle, until: t}, true
	}
	return decision{act: actSend, level: i, proof: r.proof(i)}, true
}

// nowhere is step 3: no ordinary level is left to b.
func (r *Router) nowhere(now time.Time, b *Batch) decision {
	if e := r.emergency; e >= 0 && !b.Ordinary && r.view.AllDown && r.view.Levels[e].Eligible && b.rejected>>e&1 == 0 &&
		(r.share >= r.set.HighWater || r.draining) {
		if b.state == batchWaiting && b.level == e && now.Before(b.until) {
			return decision{act: actWait, level: e, why: b.why, until: b.until}
		}
		if t := r.throttled(e); t.After(now) {
			return decision{act: actWait, level: e, why: waitThrottle, until: t}
		}
		return decision{act: actSend, level: e}
	}
	first, refused := -1, false
	for i := range r.view.Levels {
		l := &r.view.Levels[i]
		if i == r.emergency || !l.Eligible {
			continue
		}
		if b.tried>>i&1 != 0 && !l.Silent {
			return decision{act: actNack}
		}
		switch {
		case b.rejected>>i&1 != 0:
			refused = true
		case first < 0:
			first = i
		}
	}
	switch {
	case first >= 0:
		return decision{act: actWait, level: first, anew: true, until: now.Add(r.set.Levels[first].Backoff.Initial)}
	case refused: // and the levels that did not refuse it are down: let it rest in the queue
		return decision{act: actNack}
	}
	return decision{act: actHold}
}

// elsewhere reports whether an ordinary level outside skip is eligible and not silent.
func (r *Router) elsewhere(skip uint64) bool {
	for i := range r.view.Levels {
		if l := &r.view.Levels[i]; skip>>i&1 == 0 && l.Eligible && !l.Silent && i != r.emergency {
			return true
		}
	}
	return false
}

// unthrottled is elsewhere without levels that are throttled too: from one of these to another leads nowhere.
func (r *Router) unthrottled(now time.Time, skip uint64) bool {
	for i := range r.view.Levels {
		if l := &r.view.Levels[i]; skip>>i&1 == 0 && l.Eligible && !l.Silent && i != r.emergency &&
			!r.throttled(i).After(now) {
			return true
		}
	}
	return false
}

// proof reports whether level i wants a live batch that was not sent yet.
func (r *Router) proof(i int) bool {
	t := r.view.Levels[i].token()
	return t != nil && t != r.levels[i].spent
}

// token identifies what a level wants; nil = nothing.
func (l *LevelView) token() *Token {
	for i := range l.Members {
		if t := l.Members[i].Token; t != nil {
			return t
		}
	}
	return nil
}

// throttled is when level i may be called again; past = now.
func (r *Router) throttled(i int) time.Time {
	if t := r.view.Levels[i].ThrottledUntil; t.After(r.levels[i].throttled) {
		return t
	}
	return r.levels[i].throttled
}

// patience is what is left of b's at level i.
func (r *Router) patience(now time.Time, b *Batch, i int) time.Duration {
	p := r.set.Levels[i].Patience
	switch {
	case b.hasty():
		return 0
	case p == Forever || b.level != i || b.arrived.IsZero():
		return p
	}
	return p - now.Sub(b.arrived)
}

// apply does what was decided for b.
func (r *Router) apply(now time.Time, b *Batch, d decision, cause MoveCause) {
	if b.Once && d.act != actSend {
		r.nack(now, b, r.hint(now, b, d))
		return
	}
	switch d.act {
	case actSend:
		r.enter(b, d.level, cause)
		room := (b.slot || r.room(d.level, b.straggler())) &&
			(d.proof && !r.view.Levels[d.level].Eligible || r.open(now, d.level, b.laneAt(now)))
		if !room || !b.slot && b.state != batchMoving && r.ahead(b) {
			r.freed = r.freed || room
			r.become(b, batchMoving)
			return
		}
		r.launch(now, b, d)
	case actWait:
		r.enter(b, d.level, cause)
		if d.anew {
			b.tried, b.arrived, b.backoff = 0, time.Time{}, 0
		}
		if r.draining && d.why != waitThrottle {
			d.until = earlier(d.until, now.Add(maxDrainWait))
		}
		r.wait(b, d.why, d.until)
	case actNack:
		r.nack(now, b, r.rest(b))
	case actHold:
		if b.Ordinary {
			r.letGo(b)
			return
		}
		r.hold(now, b)
	}
}

// open reports whether the window of level i lets a batch of the lane be sent now, and sees to it that somebody asks
// again.
func (r *Router) open(now time.Time, i int, lane Lane) bool {
	if i == r.emergency {
		return true
	}
	ok, at := r.levels[i].win.Allow(now, lane)
	if !ok && !at.IsZero() {
		r.schedule(at)
	}
	return ok
}

// laneAt is the lane that b is in: old data is backlog, and so is what the emergency level had; but for what came while a
// backlog was drained.
func (b *Batch) laneAt(now time.Time) Lane {
	if b.Ordinary || !b.Live && !b.Accepted.IsZero() && now.Sub(b.Accepted) > backlogAge {
		return Backlog
	}
	return Fresh
}

// ahead reports whether others wait for a slot of b's level, who go first. A straggler does not stand in the way.
func (r *Router) ahead(b *Batch) bool {
	return r.levels[b.level].moving > 0 || b.straggler() && r.movers > 0
}

// enter makes level i the one where b is or for which it is on the move. A stay at another level ends, with its slot.
func (r *Router) enter(b *Batch, i int, cause MoveCause) {
	if b.level == i {
		return
	}
	r.release(b)
	if b.state == batchMoving {
		r.become(b, batchBack) // counted under the level that it leaves
	}
	if cause == MoveThrottled && b.level >= 0 && !b.arrived.IsZero() {
		b.tried |= 1 << b.level // it waited there for as long as it may; elsewhere it would have its patience again
	}
	if b.level >= 0 && b.from < 0 {
		b.from, b.cause = b.level, cause
	}
	if b.from == i {
		b.from = -1
	}
	b.level, b.arrived, b.backoff = i, time.Time{}, 0
}

// wait lets b wait at its level; the slot, if it has one, stays its own.
func (r *Router) wait(b *Batch, why waitReason, until time.Time) {
	told := b.state == batchWaiting && b.until.Equal(until)
	r.become(b, batchWaiting)
	b.why, b.until = why, until
	r.schedule(until)
	if !told {
		r.emit(RouterEffect{Kind: WaitBatch, Batch: b, Level: b.level, Until: until})
	}
}

// hold keeps b until there is a level for it. What it suffered before is forgotten, but not who delivered it.
func (r *Router) hold(now time.Time, b *Batch) {
	r.release(b)
	told := b.state == batchHeld
	r.become(b, batchHeld)
	if b.level >= 0 && b.from < 0 {
		b.from, b.cause = b.level, MoveDown
	}
	b.level, b.tried, b.spent, b.arrived, b.backoff = -1, 0, false, time.Time{}, 0
	if r.emergency >= 0 && r.set.HighWater > 0 && r.view.AllDown {
		r.schedule(now.Add(waterEvery))
	}
	if !told {
		r.emit(RouterEffect{Kind: HoldBatch, Batch: b})
	}
}

// launch sends b to its level, where it has a slot or gets one.
func (r *Router) launch(now time.Time, b *Batch, d decision) {
	set, l := &r.set.Levels[d.level], &r.levels[d.level]
	if b.state == batchMoving {
		r.become(b, batchBack)
	}
	if !b.slot {
		r.grab(b)
	}
	if set.MaxItems > 0 && b.Items > set.MaxItems && !b.whole && (b.Items > 1 || len(b.Seqs) > 1) {
		b.asking = true
		r.become(b, batchSplitting)
		r.emit(RouterEffect{Kind: HalveBatch, Batch: b, Max: set.MaxItems})
		return
	}
	r.become(b, batchInFlight)
	r.tries++
	b.try, b.since = r.tries, l.deliveries
	b.sent, b.lane = now, b.laneAt(now)
	if d.level != r.emergency {
		l.win.Sent(now, b.lane, b.Items)
	}
	b.canary = d.proof && !r.view.Levels[d.level].Eligible
	b.cancel, b.until = time.Time{}, time.Time{}
	if b.arrived.IsZero() {
		b.arrived = now
	}
	if d.proof {
		l.spent = r.view.Levels[d.level].token()
	}
	if set.Timeout > 0 {
		b.until = now.Add(set.Timeout + stuckAfter)
		r.schedule(b.until)
	}
	r.emit(RouterEffect{
		Kind: SendBatch, Batch: b, Try: b.try, Level: d.level, From: b.from, Cause: b.cause, Proof: d.proof, Again: b.again,
		Members: all(len(set.Members)) &^ b.delivered[d.level],
	})
	b.from = -1
}

func all(members int) uint64 { return ^uint64(0) >> (64 - members) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
