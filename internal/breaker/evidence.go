// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// Want is what a breaker wants to be asked next.
type Want uint8

// What can be wanted.
const (
	WantNothing  Want = iota
	WantEvidence      // a probe, as evidence of a suspect
	WantLive          // a live batch, for the same purpose
	WantCheck         // a probe while it carries
	WantProbe         // a probe of one that is down
	WantCanary        // a live batch, as the last proof
	WantRefresh       // a probe while no batch comes for the canary
)

// Recovers reports whether w is about one that is down, and so keeps a route's gap.
func (w Want) Recovers() bool { return w >= WantProbe }

// Probe is a probe to be sent; its answer brings it back. Number 0 = there is nothing to send.
type Probe struct {
	Number     uint64
	Purpose    Purpose
	Generation uint64
}

// evidence is what a suspect is asked: a probe at each strike and a second apart, until enough in a row were good or
// a batch was delivered.
type evidence struct {
	good        int       // in a row, since the last strike
	outstanding int       // sent or claimed, not answered
	last        time.Time // when the last one was sent or put out; zero = none
	token       bool      // a live batch is wanted
}

// again begins anew, at the next second.
func (e *evidence) again() { e.good = 0 }

// settle ends the asking: a delivery says more than probes.
func (e *evidence) settle(enough int) { e.good = max(e.good, enough) }

func (e *evidence) answered() { e.outstanding = max(e.outstanding-1, 0) }

// check is the probe of one that carries.
type check struct {
	next   time.Time // zero = none
	probe  uint64    // outstanding; 0 = none
	began  time.Time
	failed int  // in a row; deliveries do not reset it
	asked  bool // an operator wants one now
	warned bool // that they were never good
	proven bool // a probe of any purpose was good since start
}

// live reports whether only live batches prove anything: there is no probe, or it knocks at another door and has
// never been answered well. Such a door may be gone for good, and the data's may be open.
func (b *Breaker) live() bool { return b.set.Live || b.set.External && !b.check.proven }

// Due is what the breaker wants to be asked now, and since when. The caller may put off what Recovers, for a gap, and
// ask again; it calls Begin for what it does.
func (b *Breaker) Due(now time.Time) (Want, time.Time) {
	at, want := b.wanted()
	if want == WantNothing || now.Before(at) {
		return WantNothing, time.Time{}
	}
	return want, at
}

// Next is when the breaker wants Tick or Due to be called; zero = it waits for events only. A time that is past and
// stays past means that something Due was put off.
func (b *Breaker) Next() time.Time {
	at, _ := b.wanted()
	if b.state == Healthy && b.check.probe == 0 {
		return at
	}
	at = sooner(at, b.lostAt())
	switch b.state {
	case Suspect:
		at = sooner(sooner(at, b.quietAt()), b.delayEnds())
	case Ramping:
		at = sooner(at, b.step(b.ramp.tenths+1))
	case Held:
		at = b.recovery.next
	}
	return at
}

// wanted is what the breaker wants next, and when.
func (b *Breaker) wanted() (time.Time, Want) {
	if b.set.Emergency {
		return b.wantsWrite()
	}
	if b.state == Held {
		return time.Time{}, WantNothing
	}
	if !b.state.Carries() {
		return b.wantsProof()
	}
	var at time.Time
	want := WantNothing
	if b.state == Suspect {
		at, want = b.wantsEvidence()
	}
	if b.check.probe == 0 && (!b.check.next.IsZero() || b.check.asked) {
		next := b.check.next
		if b.check.asked {
			next = b.since
		}
		if next = later(next, b.throttle.until); want == WantNothing || next.Before(at) {
			at, want = next, WantCheck
		}
	}
	return at, want
}

func (b *Breaker) wantsEvidence() (time.Time, Want) {
	e := &b.evidence
	most := b.evidenceGoal()
	if e.good >= most || e.outstanding >= most {
		return time.Time{}, WantNothing
	}
	at := b.since
	if !e.last.IsZero() {
		at = e.last.Add(strikeGap)
	}
	at = later(at, b.throttle.until)
	switch {
	case !b.live():
		return at, WantEvidence
	case b.silent: // else batches come by themselves
		return at, WantLive
	}
	return time.Time{}, WantNothing
}

// evidenceGoal is how many good probes in a row end the asking.
func (b *Breaker) evidenceGoal() int {
	if b.run.last.IsZero() || b.doubted {
		return 1
	}
	if b.delivered.IsZero() {
		return b.set.Startup
	}
	return b.set.Consecutive
}

// Begin does what is due: the caller sends the probe it returns, or puts out the live batch that Proof names.
func (b *Breaker) Begin(now time.Time, want Want, out []Change) (Probe, []Change) {
	switch want {
	case WantEvidence:
		b.evidence.outstanding++
		b.evidence.last = now
		return b.number(ByEvidence), out
	case WantLive:
		b.evidence.last = now
		if !b.evidence.token { // else it still waits for a batch
			b.evidence.token = true
			b.proof++
			b.version++
		}
	case WantCheck:
		p := b.number(ByCheck)
		b.check.probe, b.check.began, b.check.asked = p.Number, now, false
		if b.set.checks() {
			b.check.next = now.Add(b.spread(b.set.Every))
		}
		return p, out
	case WantProbe, WantCanary, WantRefresh:
		return b.beginProof(now, want, out)
	}
	return Probe{}, out
}

func (b *Breaker) number(p Purpose) Probe {
	b.numbers++
	return Probe{Number: b.numbers, Purpose: p, Generation: b.generation}
}

// Probed tells the answer to a probe. An answer that is not waited for changes nothing.
func (b *Breaker) Probed(now time.Time, p Probe, o *Outcome, out []Change) []Change {
	switch p.Purpose {
	case ByEvidence:
		if p.Generation != b.generation || b.state != Suspect {
			return out
		}
		b.evidence.answered()
		return b.weigh(now, o, ByEvidence, out)
	case ByCheck:
		if p.Number != b.check.probe {
			return out
		}
		b.check.probe = 0
		if p.Generation != b.generation || !b.state.Carries() {
			return out
		}
		return b.checked(now, o, out)
	case ByRecovery:
		return b.recovered(now, p, o, out)
	}
	return out
}

// weigh hears a probe of one that carries.
func (b *Breaker) weigh(now time.Time, o *Outcome, by Purpose, out []Change) []Change {
	if o.good() {
		b.check.proven = true
		b.hush(false)
		if b.state != Suspect {
			return out
		}
		if by == ByEvidence {
			b.evidence.good++
		}
		if b.run.last.IsZero() { // a sibling's trip brought us here: that was the look it asked for
			return b.settle(now, by, out)
		}
		return out
	}
	if o.failed() && b.set.External && !b.check.proven {
		return b.distrust(by, out)
	}
	return b.hear(now, o, by, out)
}

// checked hears a check: a failure like others, and if checks may trip, one of its own count (T5).
func (b *Breaker) checked(now time.Time, o *Outcome, out []Change) []Change {
	c := &b.check
	switch {
	case o.good():
		c.failed = 0
	case o.failed():
		c.failed++
	}
	generation := b.generation
	out = b.weigh(now, o, ByCheck, out)
	if b.set.Trips && c.proven && c.failed >= b.set.Consecutive && generation == b.generation {
		b.lastError = o.Text
		return b.trip(now, Checks, Change{By: ByCheck, Strike: c.failed, Of: b.set.Consecutive}, out)
	}
	return out
}

// distrust says once that a probe was never good and proves nothing.
func (b *Breaker) distrust(by Purpose, out []Change) []Change {
	if b.check.warned {
		return out
	}
	b.check.warned = true
	return b.report(Change{Kind: Warned, Reason: ProbeIsNotTrusted, By: by}, out)
}

// ProofLost tells that a claimed live batch brought no outcome: its sender stopped (T10).
func (b *Breaker) ProofLost(now time.Time, generation uint64) {
	if generation != b.generation {
		return
	}
	switch b.state {
	case Suspect:
		b.evidence.answered()
	case Probing:
		b.wantAnother(now)
	}
}

// Taken tells that a batch has claimed the proof that was wanted.
func (b *Breaker) Taken(now time.Time) {
	switch {
	case b.state == Suspect && b.evidence.token:
		b.evidence.token = false
		b.evidence.outstanding++
		b.version++
	case b.state == Probing && b.recovery.canary && !b.recovery.taken:
		b.recovery.taken, b.recovery.began = true, now
		b.version++
	}
}

// lostAt is when an answer that is waited for will be taken for lost.
func (b *Breaker) lostAt() time.Time {
	var at time.Time
	if b.check.probe != 0 {
		at = sooner(at, b.check.began.Add(b.set.ProbeTimeout+answerSlack))
	}
	if b.evidence.outstanding > 0 {
		at = sooner(at, b.evidence.last.Add(max(b.set.ProbeTimeout, b.sendTimeout())+answerSlack))
	}
	if b.recovery.probe != 0 {
		at = sooner(at, b.recovery.began.Add(b.set.ProbeTimeout+answerSlack))
	}
	if b.recovery.taken {
		at = sooner(at, b.recovery.began.Add(b.sendTimeout()+answerSlack))
	}
	return at
}

// giveUp stops waiting for answers that are overdue: nothing stays down for one that is lost.
func (b *Breaker) giveUp(now time.Time) {
	if at := b.lostAt(); at.IsZero() || now.Before(at) {
		return
	}
	due := func(began time.Time, timeout time.Duration) bool {
		return !now.Before(began.Add(timeout + answerSlack))
	}
	if b.check.probe != 0 && due(b.check.began, b.set.ProbeTimeout) {
		b.check.probe = 0
	}
	if b.evidence.outstanding > 0 && due(b.evidence.last, max(b.set.ProbeTimeout, b.sendTimeout())) {
		b.evidence.outstanding = 0
	}
	if b.recovery.probe != 0 && due(b.recovery.began, b.set.ProbeTimeout) {
		b.recovery.probe, b.recovery.next = 0, now
		b.version++
	}
	if b.recovery.taken && due(b.recovery.began, b.sendTimeout()) {
		b.wantAnother(now)
	}
}
