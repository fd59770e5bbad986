// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// maxUnclear is how many batches are remembered that failed unclearly. It is the greatest number of strikes that a
// trip can ask for: one that is forgotten early is forgotten because so many others failed after it.
const maxUnclear = 100

// run is the strikes since the last delivery, and the strikes since the breaker became suspect.
type run struct {
	strikes int
	first   time.Time // of the run
	episode time.Time // first strike since healthy, deliveries in between or not
	last    time.Time // last strike, whatever was delivered since; zero = none since healthy
	lone    bool      // the run is one strike, and that may be one batch's fault
	misconf bool      // the last strike was misconfigured
	asked   bool      // the rule was asked when failover_delay ended

	unclear [maxUnclear]unclear
	next    int // slot of the next one
}

type unclear struct {
	batch uint64
	at    time.Time
}

// Attempted tells the outcome of a live attempt, sent while the breaker carried. Proof says that it claimed the
// evidence that was wanted. An outcome of an older generation changes nothing.
func (b *Breaker) Attempted(now time.Time, o *Outcome, proof bool, out []Change) []Change {
	if o.Generation != b.generation || !b.state.Carries() {
		return out
	}
	if proof {
		b.evidence.answered()
	}
	if o.Class == Delivered {
		return b.deliver(now, o.Took, o.More, out)
	}
	return b.hear(now, o, ByTraffic, out)
}

// deliver counts a live delivery: it ends the run, and there is nothing left to ask a suspect for.
func (b *Breaker) deliver(now time.Time, took time.Duration, more uint32, out []Change) []Change {
	c := counts{deliveries: 1 + more}
	slow := b.isSlow(took)
	if slow {
		c.slow = 1
	}
	b.window.add(now.Sub(b.born), c)
	b.delivered, b.throttle.unnamed = now, 0
	if b.state == Healthy && !slow && b.slowSince.IsZero() {
		return out
	}
	if b.state == Suspect || b.state == Ramping {
		b.run.strikes, b.run.first, b.run.lone, b.run.misconf, b.doubted = 0, time.Time{}, false, false, false
	}
	if b.tooSlow(now, slow) {
		return b.trip(now, Slow, Change{By: ByTraffic}, out)
	}
	if b.state != Suspect {
		return out
	}
	b.hush(false)
	b.evidence.settle(b.threshold(now))
	if b.evidence.token {
		b.evidence.token, b.version = false, b.version+1
	}
	if b.run.last.IsZero() && b.set.Live { // a sibling's trip brought us here, and no probe will say more
		return b.settle(now, ByTraffic, out)
	}
	return out
}

// hear weighs an outcome that is no delivery, of traffic or of a probe.
func (b *Breaker) hear(now time.Time, o *Outcome, by Purpose, out []Change) []Change {
	switch {
	case o.Class == RetryAfter:
		return b.putOff(now, o.After, by, out)
	case o.failed() && (o.Counted || b.set.Emergency), o.Class == Rejected && o.Counted && by == ByTraffic:
		return b.fail(now, o, by, out)
	}
	return out
}

// fail counts a failure and, if the last strike is long enough ago, a strike (T1, T4).
func (b *Breaker) fail(now time.Time, o *Outcome, by Purpose, out []Change) []Change {
	b.lastError = o.Text
	if b.set.Emergency {
		return b.trip(now, WriteFailed, Change{By: by}, out)
	}
	c := counts{failures: 1}
	if o.Class == Ambiguous && by == ByTraffic && b.set.SlowAfter > 0 {
		c.slow, c.unanswered = 1, 1
	}
	unclear := o.Unclear && by == ByTraffic
	strike := (b.run.last.IsZero() || now.Sub(b.run.last) >= strikeGap) && (!unclear || b.firstOf(now, o.Batch))
	if strike {
		c.strikes = 1
	}
	b.window.add(now.Sub(b.born), c)
	if !strike {
		return out
	}
	return b.strike(now, o.Class == Misconfigured, unclear, by, out)
}

func (b *Breaker) strike(now time.Time, misconf, unclear bool, by Purpose, out []Change) []Change {
	r := &b.run
	r.strikes++
	if r.strikes == 1 {
		r.first, r.asked = now, false
	}
	if r.episode.IsZero() {
		r.episode, r.asked = now, false
	}
	r.last, r.lone, r.misconf = now, r.strikes == 1 && unclear, misconf
	b.evidence.again()
	c := Change{By: by, Strike: r.strikes, Of: b.threshold(now)}
	if !b.silent && b.state != Ramping && (b.delivered.IsZero() || now.Sub(b.delivered) >= strikeGap) {
		c.Silent = true
		b.hush(true)
	}
	if b.state == Healthy {
		out = b.move(now, Suspect, Failure, c, out)
		c = Change{By: by}
	}
	if why := b.rule(now); why != NoReason {
		return b.trip(now, why, c, out)
	}
	if c.Strike > 0 {
		c.Kind, c.Reason = Struck, Failure
		out = b.report(c, out)
	}
	return out
}

// firstOf reports whether a batch's unclear failure is its first in this run and this window, and remembers it: one
// bad batch is not to look like many failures.
func (b *Breaker) firstOf(now time.Time, batch uint64) bool {
	r := &b.run
	for i := range r.unclear {
		u := &r.unclear[i]
		if u.batch == batch && !u.at.IsZero() &&
			(now.Sub(u.at) < b.set.Window || !r.first.IsZero() && !u.at.Before(r.first)) {
			return false
		}
	}
	r.unclear[r.next] = unclear{batch, now}
	r.next = (r.next + 1) % maxUnclear
	return true
}

// threshold is how many strikes of a run trip, now.
func (b *Breaker) threshold(now time.Time) int {
	switch {
	case b.doubted, b.state == Ramping:
		return 1
	case b.run.misconf && b.undelivered(now):
		return 1
	case b.delivered.IsZero():
		return b.set.Startup
	}
	return b.set.Consecutive
}

// undelivered reports whether the window holds no delivery.
func (b *Breaker) undelivered(now time.Time) bool {
	b.window.forget(now.Sub(b.born))
	return b.window.sum.deliveries == 0
}

// rule is the trip rule, asked at each strike and when failover_delay ends; NoReason = no trip.
func (b *Breaker) rule(now time.Time) Reason {
	r := &b.run
	why := NoReason
	switch {
	case b.state == Ramping && (r.strikes == 0 || r.lone):
		return NoReason
	case b.state == Ramping: // the level below still carries: no delay
		why = Relapse
	case r.strikes >= b.threshold(now) && !r.lone && now.Sub(r.first) >= b.set.FailoverDelay:
		why = b.why()
	case now.Sub(r.episode) >= b.set.FailoverDelay && b.ratioHolds(now):
		why = Ratio
	case b.slowLongEnough(now):
		why = Slow
	default:
		return NoReason
	}
	if r.misconf {
		return Standing
	}
	return why
}

// why names the threshold that a run has reached.
func (b *Breaker) why() Reason {
	switch {
	case b.run.strikes >= b.set.Consecutive:
		return Consecutive
	case b.doubted:
		return SiblingDown
	}
	return Startup
}

// ratioHolds reports whether the failed share of the window is too large. Strikes are asked for as well, so that a
// thousand failures at one instant are not a share.
func (b *Breaker) ratioHolds(now time.Time) bool {
	b.window.forget(now.Sub(b.born))
	s := &b.window.sum
	all := uint64(s.failures) + uint64(s.deliveries)
	return b.set.Ratio > 0 && s.strikes >= uint32(b.set.Consecutive) && all >= uint64(b.set.MinAttempts) &&
		float64(s.failures) >= b.set.Ratio*float64(all)
}

// hush notes whether the breaker is silent.
func (b *Breaker) hush(silent bool) {
	if b.silent != silent {
		b.silent = silent
		b.version++
	}
}

// Tick lets time pass: a suspect that had no strike for a window is healthy (T3), one that failed for failover_delay
// trips (T4), a share grows (T13), a hold ends (T15), and answers that never came are given up.
func (b *Breaker) Tick(now time.Time, out []Change) []Change {
	b.giveUp(now)
	switch {
	case b.state == Ramping:
		return b.grow(now, out)
	case b.state == Held && !now.Before(b.recovery.next):
		return b.unhold(now, HoldEnded, out)
	case b.state != Suspect:
		return out
	}
	if !now.Before(b.quietAt()) {
		return b.settle(now, ByTraffic, out)
	}
	if at := b.delayEnds(); !at.IsZero() && !now.Before(at) {
		b.run.asked = true
		if b.evidence.good == 0 {
			if why := b.rule(now); why != NoReason {
				return b.trip(now, why, Change{Strike: b.run.strikes, Of: b.threshold(now)}, out)
			}
		}
	}
	return out
}

// quietAt is when a suspect is healthy if nothing happens.
func (b *Breaker) quietAt() time.Time { return later(b.run.last, b.since).Add(b.set.Window) }

// delayEnds is when the trip rule is to be asked without a strike; zero = not again.
func (b *Breaker) delayEnds() time.Time {
	if b.set.FailoverDelay == 0 || b.run.asked || b.run.episode.IsZero() {
		return time.Time{}
	}
	if !b.run.first.IsZero() {
		return b.run.first.Add(b.set.FailoverDelay)
	}
	return b.run.episode.Add(b.set.FailoverDelay)
}

// settle makes a suspect healthy (T3).
func (b *Breaker) settle(now time.Time, by Purpose, out []Change) []Change {
	b.forgive()
	return b.move(now, Healthy, Quiet, Change{By: by}, out)
}

// forgive forgets strikes, silence, doubts and what was asked for; what the window holds leaves by age.
func (b *Breaker) forgive() {
	r := &b.run
	r.strikes, r.first, r.episode, r.last = 0, time.Time{}, time.Time{}, time.Time{}
	r.lone, r.misconf, r.asked = false, false, false
	b.doubted, b.slowSince = false, time.Time{}
	b.hush(false)
	b.evidence = evidence{}
}

// SiblingTripped tells that another breaker of the same exporter tripped: look now, and believe the first strike (T2).
func (b *Breaker) SiblingTripped(now time.Time, out []Change) []Change {
	if b.set.Emergency || b.state != Healthy && b.state != Suspect {
		return out
	}
	b.doubted = true
	b.evidence.again()
	if b.state == Suspect {
		return out
	}
	return b.move(now, Suspect, SiblingTrip, Change{}, out)
}
