// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// recovery is the way back of one that is down.
//
//	next          when the next probe or canary is due; always set while down or probing, but for one that is out
//	probe ≠ 0     a probe is out, and nothing else is sent before its answer or giveUp
//	canary        a live batch is wanted; taken: it is on its way, and nothing else is sent
//	confirmed     good answers in a row; at Needed the canary is due
type recovery struct {
	tripped   time.Time
	ended     time.Time // when the last answer came; zero = none since the trip
	next      time.Time
	probe     uint64
	began     time.Time // of the probe, or when the canary was seen taken
	failed    int       // in a row since the trip
	counted   int       // those at the normal pace: they make probes rare
	confirmed int
	canary    bool
	taken     bool
	released  bool     // an operator lets a manual return go on
	evidence  Evidence // of the trip
}

// trip takes the breaker down (T4, T5, T6 and failed writes): what is on its way counts no more.
func (b *Breaker) trip(now time.Time, why Reason, c Change, out []Change) []Change {
	b.reason = why
	b.generation++
	r := recovery{tripped: now, evidence: b.now()}
	switch {
	case b.set.Emergency:
		r.next = now.Add(b.set.AllDownEvery)
	case why == Throttled:
		b.holdDown.decay(now, &b.set)
		b.holdDown.end, r.next = now, b.throttle.until
	default:
		b.holdDown.trip(now, &b.set)
		r.next = later(now.Add(b.spread(b.set.RetryInterval)), b.holdDown.end)
		if b.allDown {
			r.next = sooner(r.next, now.Add(b.set.AllDownEvery))
		}
		r.next = later(r.next, b.throttle.until)
	}
	b.recovery = r
	b.forgive()
	b.check.failed, b.ramp = 0, ramp{}
	return b.move(now, Down, why, c, out)
}

// comeBack lets the breaker carry again (T9, and good writes).
func (b *Breaker) comeBack(now time.Time, why Reason, by Purpose, out []Change) []Change {
	b.generation++
	c := Change{By: by, Confirmed: b.recovery.confirmed, Failed: b.recovery.failed}
	b.recovery = recovery{}
	b.holdDown.comeBack(now)
	b.forgive()
	b.run, b.lastError = run{}, ""
	b.window.init(b.set.Window)
	b.window.forget(now.Sub(b.born))
	if by == ByCanary {
		b.window.add(now.Sub(b.born), counts{deliveries: 1})
		b.delivered = now
	}
	b.check.failed, b.check.asked, b.check.next = 0, false, time.Time{}
	if b.set.checks() {
		b.check.next = now.Add(b.spread(b.set.Every))
	}
	if by == ByCanary && b.ramps() {
		b.beginRamp(now)
		return b.move(now, Ramping, why, c, out)
	}
	return b.move(now, Healthy, why, c, out)
}

// needed is how many good answers come before the canary that is the last one. All-down takes the first one.
func (b *Breaker) needed() int {
	n := b.set.Successes - 1
	if b.allDown {
		if b.live() {
			return 0
		}
		return min(n, 1)
	}
	return n
}

// wantsProof is what one that is down wants next.
func (b *Breaker) wantsProof() (time.Time, Want) {
	r := &b.recovery
	at := later(r.next, b.throttle.until)
	switch {
	case r.probe != 0 || r.taken:
		return time.Time{}, WantNothing
	case r.canary, b.rests():
		return at, WantRefresh
	case b.live() || r.confirmed >= b.needed():
		return at, WantCanary
	}
	return at, WantProbe
}

// wantsWrite is what a member of the emergency level wants next.
func (b *Breaker) wantsWrite() (time.Time, Want) {
	if b.state != Down || b.recovery.probe != 0 {
		return time.Time{}, WantNothing
	}
	return b.recovery.next, WantProbe
}

// pace is the interval between probes of one that is down.
func (b *Breaker) pace() time.Duration {
	if b.allDown || b.set.Emergency {
		return b.set.AllDownEvery
	}
	return b.spread(b.set.interval(b.recovery.counted))
}

// beginProof asks one that is down (T7): by a probe, or for a canary. While no batch comes for the canary a probe now
// and then sees to it that one is still worth sending; where there are no probes, it stays wanted.
func (b *Breaker) beginProof(now time.Time, want Want, out []Change) (Probe, []Change) {
	r := &b.recovery
	if b.state == Down && !b.set.Emergency {
		out = b.move(now, Probing, ProbeIsDue, Change{}, out)
	}
	if want == WantCanary {
		b.wantAnother(now)
		return Probe{}, out
	}
	b.version++
	if want == WantRefresh && b.live() {
		r.next = now.Add(b.refreshEvery())
		return Probe{}, out
	}
	p := b.number(ByRecovery)
	r.probe, r.began = p.Number, now
	return p, out
}

func (b *Breaker) refreshEvery() time.Duration {
	if b.allDown {
		return b.set.AllDownEvery
	}
	return b.set.RetryInterval
}

// wantAnother asks for a canary, which is another batch than the last one.
func (b *Breaker) wantAnother(now time.Time) {
	r := &b.recovery
	r.canary, r.taken, r.next = true, false, now.Add(b.refreshEvery())
	b.proof++
	b.version++
}

// recovered hears a recovery probe (T8, T10, T11).
func (b *Breaker) recovered(now time.Time, p Probe, o *Outcome, out []Change) []Change {
	r := &b.recovery
	if p.Number != r.probe || r.probe == 0 {
		return out
	}
	r.probe, r.ended = 0, now
	b.version++
	if o.good() {
		b.check.proven = true
	}
	switch {
	case b.set.Emergency && o.good():
		return b.comeBack(now, WritesAgain, ByRecovery, out)
	case b.set.Emergency:
		r.failed++
		r.next = now.Add(b.set.AllDownEvery)
		return b.report(Change{Kind: Refuted, Reason: ProbeFailed, By: ByRecovery, Failed: r.failed}, out)
	case r.taken: // a batch took the canary meanwhile: it says more
		return out
	case o.good():
		return b.confirm(now, ByRecovery, out)
	case o.Class == RetryAfter:
		return b.putOff(now, o.After, ByRecovery, out)
	case o.Class == Local:
		r.next = now.Add(localWait)
		return out
	}
	return b.refute(now, o, ProbeFailed, ByRecovery, out)
}

// confirm counts a good answer; what comes next is due at once, and waits for the route's gap.
func (b *Breaker) confirm(now time.Time, by Purpose, out []Change) []Change {
	r := &b.recovery
	r.failed, r.counted = 0, 0
	why := ProbeGood
	switch {
	case r.canary: // a refresh: the canary is wanted anew, of whoever would not take it before
		why = StillGood
		b.wantAnother(now)
	case b.rests():
		why = StillGood
		r.next = now.Add(b.refreshEvery())
	default:
		r.confirmed++
		if r.next = now; b.rests() {
			r.next = now.Add(b.refreshEvery())
		}
	}
	b.version++
	return b.report(Change{Kind: Confirmed, Reason: why, By: by, Confirmed: r.confirmed, Needed: b.needed()}, out)
}

// refute takes one that is probing down again (T11).
func (b *Breaker) refute(now time.Time, o *Outcome, why Reason, by Purpose, out []Change) []Change {
	r := &b.recovery
	r.failed++
	if !b.allDown { // probes of an all-down are many: they say nothing about how rare probes should be after it
		r.counted++
	}
	r.confirmed, r.canary, r.taken, r.probe = 0, false, false, 0 // nor is a refresh waited for
	r.next = later(now.Add(b.pace()), b.throttle.until)
	b.lastError, r.evidence.Error = o.Text, o.Text
	return b.move(now, Down, why, Change{By: by, Failed: r.failed}, out)
}

// CanaryDone tells the outcome of a canary (T9, T10, T11).
func (b *Breaker) CanaryDone(now time.Time, o *Outcome, out []Change) []Change {
	if o.Generation != b.generation || b.state != Probing {
		return out
	}
	r := &b.recovery
	r.ended = now
	switch o.Class {
	case Delivered:
		if b.live() && !b.allDown && r.confirmed < b.set.Successes-1 {
			r.canary, r.taken = false, false
			b.delivered = now
			return b.confirm(now, ByCanary, out)
		}
		return b.comeBack(now, ProofComplete, ByCanary, out)
	case Rejected, Local:
		b.wantAnother(now)
		return out
	case RetryAfter:
		return b.putOff(now, o.After, ByCanary, out)
	}
	return b.refute(now, o, CanaryFailed, ByCanary, out)
}

// SiblingReturned tells that another breaker of the same exporter carries again: once the hold-down is over, it is
// worth a look (T12).
func (b *Breaker) SiblingReturned(now time.Time) {
	if b.state == Down && !b.set.Emergency && b.recovery.probe == 0 {
		b.hasten(later(now, b.holdDown.end))
	}
}

// ProbeNow is an operator's wish (T12): the next probe is now, though no sooner than the endpoint asked for. One that
// carries is checked.
func (b *Breaker) ProbeNow(now time.Time) {
	if b.state.Carries() {
		b.check.asked = !b.set.Live && !b.set.Emergency
		return
	}
	if b.state != Held && b.recovery.probe == 0 && !b.recovery.taken {
		b.hasten(now)
	}
}

// hasten brings the next probe forward.
func (b *Breaker) hasten(to time.Time) {
	to = later(to, b.throttle.until)
	if to.Before(b.recovery.next) {
		b.recovery.next = to
		b.version++
	}
}

// SetAllDown tells that a route of the breaker has no level left, or has one again (T14).
func (b *Breaker) SetAllDown(now time.Time, on bool) {
	if b.allDown == on || b.set.Emergency {
		return
	}
	b.allDown = on
	if b.state.Carries() || b.state == Held {
		return
	}
	r := &b.recovery
	b.version++
	if on {
		last := later(r.tripped, r.ended)
		b.hasten(later(now, last.Add(b.set.AllDownEvery)))
		return
	}
	early := now.Before(b.holdDown.end)
	if r.canary && !r.taken && (early || b.waits() || !b.live() && r.confirmed < b.needed()) {
		r.canary, r.next = false, now
	}
	if b.state == Down {
		last := later(r.tripped, r.ended)
		r.next = later(now, last.Add(b.spread(b.set.interval(r.counted))))
	}
	if early {
		r.next = later(r.next, b.holdDown.end)
	}
	r.next = later(r.next, b.throttle.until)
}
