// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

const (
	// atOnce is how long a batch whose attempt failed may take to the next level (failover, F3).
	atOnce = 100 * time.Millisecond
	// beyond is what a batch whose attempt timed out may take beyond its timeout (F3).
	beyond = time.Second
	// strikes is how long three strikes take, and evidence how long the probe of the last one (failover, 5.2).
	strikes  = 2 * time.Second
	evidence = probeTimeout
)

// tripBound is how long a level may take to go down: a batch has to come by, its attempt has to fail, and strikes are a
// second apart.
func (r *result) tripBound() time.Duration {
	t := r.seed.Times()
	switch r.kind {
	case silent:
		return t.Linger + t.Timeout + strikes - time.Second + evidence + slack
	case throttling:
		return t.Linger + slack
	}
	return t.Linger + strikes + slack
}

// returnBound is how long after healing data may take to go to the first level again: a probe under way ends, the next
// one comes, is confirmed after the gap, and after another one a batch comes by (failover, 4.2, section 8). With both
// levels down the second may come first, and the first begins anew.
func (r *result) returnBound() time.Duration {
	t := r.seed.Times()
	bound := t.RetryInterval*11/10 + 2*t.Gap + t.Linger + slack
	if r.kind == silent {
		bound += probeTimeout
	}
	bound += r.after
	if r.both {
		bound += probeTimeout + t.Linger
	}
	return bound
}

// interval is the longest time between two batches of any signal before the fault: how long the first attempt may be
// away.
func (r *result) interval() time.Duration { return worst(r.m.interval) }

// judge compares what was seen with what is promised.
func (r *result) judge() {
	if r.verdict.Outcome != ledger.Pass {
		r.broke("the ledger does not pass: %v %v", r.verdict.Failures, r.verdict.Doubts)
	}
	if r.verdict.Lost > 0 {
		r.broke("%d acknowledged items are lost", r.verdict.Lost)
	}
	if d := r.verdict.Duplicates; float64(d.Ours+d.Across) > r.counted {
		r.broke("%d items arrived twice, %.0f are counted", d.Ours+d.Across, r.counted)
	}
	if !r.switches() {
		r.judgePatience()
		return
	}
	r.judgeSwitch()
	r.judgeReturn()
	if r.both && r.acceptedWhile == 0 && r.holds() {
		r.broke("nothing is accepted while all levels are down")
	}
	if r.both && r.holds() && r.seed == seedbed.A && r.parked == 0 {
		r.broke("nothing went to the emergency file")
	}
}

// judgePatience: nothing moves for a short wish.
func (r *result) judgePatience() {
	if r.switched > 0 || len(r.m.first) > 0 {
		r.broke("%.0f switches for a level that asks for %s", r.switched, r.after)
	}
}

// judgeSwitch: the way down.
func (r *result) judgeSwitch() {
	if gone := missing(r.firstAfter()); gone != nil {
		r.broke("nothing of %v reaches the secondary", gone)
		return
	}
	t := r.seed.Times()
	switch h := r.handover(); {
	case h.unknown:
		r.broke("when an attempt failed could not be found out of any signal")
	case h.late > 0:
		r.broke("first batch at the next level %s after its attempt failed, %s late", short(h.raw), short(h.late))
	}
	if gone := missing(r.m.down); gone != nil {
		r.broke("the log does not say that the first level of %v is down", gone)
	}
	if d, most := worst(r.m.down), r.interval()+r.tripBound()-t.Linger; d > most+r.stalled(d-strikes, d) {
		r.broke("down after %s, not within %s", short(d), short(most))
	}
	most := max(worst(r.m.down), worst(r.firstAfter()))
	if r.kind == silent {
		most = max(most, worst(r.firstAfter())+t.Timeout)
	}
	if d := worst(r.m.followed); d > most+beyond+r.interval() {
		r.broke("what was queued is delivered after %s, not within %s", short(d), short(most+beyond+r.interval()))
	}
	if !r.both && r.switched != 2*float64(len(signals)) {
		r.broke("%.0f switches, not one down and one up for each signal", r.switched)
	}
}

// judgeReturn: the way home.
func (r *result) judgeReturn() {
	if gone := missing(r.m.back); gone != nil {
		r.broke("the log does not say that the first level of %v is back", gone)
	}
	if d, most := worst(r.m.back), r.returnBound(); d > most {
		r.broke("back after %s, not within %s", short(d), short(most))
	}
	if d, most := worst(r.m.whole), worst(r.m.back)+ramp+slack; d > most {
		r.broke("all of it after %s, not within %s", short(d), short(most))
	}
	if most := r.second.Add(r.after).Sub(r.heal) + r.interval() + slack; r.both && !r.holds() && worst(r.m.again) > most {
		r.broke("delivered again after %s, not within %s", short(worst(r.m.again)), short(most))
	}
	if r.m.below > 0 {
		r.broke("%d items at the second level although the first takes all", r.m.below)
	}
}

// stalled is for how long the collector had no processor between two moments after the fault.
func (r *result) stalled(from, to time.Duration) time.Duration {
	return r.starved(r.failed.Add(from), r.failed.Add(to))
}

// starved is stalled, between two times. A run by itself has the machine, and what it lacks is its own doing.
func (r *result) starved(from, to time.Time) time.Duration {
	if r.raw {
		return 0
	}
	return r.stalls.within(from, to)
}

// firstAfter is how long after the fault the first batch reached the secondary.
func (r *result) firstAfter() map[string]time.Duration {
	out := map[string]time.Duration{}
	for s, t := range r.m.first {
		out[s] = t.Sub(r.failed)
	}
	return out
}

// handed is how long the slowest signal's first batch took to the next level.
type handed struct {
	began     time.Duration // since its attempt began; of faults that say nothing
	raw       time.Duration // since its attempt failed
	corrected time.Duration // the same, without the time in which the collector was ready to run and had no processor
	late      time.Duration // by how much the promise was missed, if it was
	unknown   bool          // it could be found out of no signal
}

// handover measures the way from the failed attempt to the next level. A signal whose siblings were quicker may have made no
// attempt: its first level goes down by a probe, and its data is below without any detour. Where a moment is known only to lie in a span of
// time, what is shown is the most that it can have been, and what is judged the least.
func (r *result) handover() (h handed) {
	h.unknown = true
	bound, timeout := atOnce, time.Duration(0)
	if r.kind == silent {
		bound, timeout = beyond, r.seed.Times().Timeout
	}
	for _, s := range signals {
		var failed moment
		first, took := r.m.first[s], timeout
		if seen, ok := r.m.handover[s]; r.seen && ok {
			failed = moment{seen.failed.Add(timeout), seen.failed.Add(timeout)}
			first = seen.failed.Add(seen.first)
		} else if !r.seen {
			failed, took = r.watch.failed[s], r.watch.took[s]
		}
		if failed.from.IsZero() || first.IsZero() || r.kind == silent && took == 0 {
			continue
		}
		h.unknown = false
		stalled := r.starved(failed.from, first)
		h.raw = max(h.raw, first.Sub(failed.from))
		h.corrected = max(h.corrected, first.Sub(failed.from)-stalled, time.Millisecond) // 0 would read as none
		h.late = max(h.late, first.Sub(failed.to)-stalled-bound)
		if r.kind == silent {
			h.began = max(h.began, took+first.Sub(failed.from))
			h.late = max(h.late, took-timeout+first.Sub(failed.to)-stalled-bound)
		}
	}
	return h
}
