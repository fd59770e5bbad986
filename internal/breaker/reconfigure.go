// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// Reconfigure puts new settings in force and keeps the state (T16): times that run are cut to the new ones, never
// drawn out. What the window holds is forgotten if its length changes; strikes are not.
func (b *Breaker) Reconfigure(now time.Time, set Settings) {
	old := b.set
	if old == set {
		return
	}
	b.set = set
	b.version++
	if old.Window != set.Window {
		b.window.init(set.Window)
		b.window.forget(now.Sub(b.born))
	}
	if limit := now.Add(set.MaxWait); b.throttle.until.After(limit) {
		b.throttle.until = limit
	}
	b.holdDown.flaps = min(b.holdDown.flaps, set.maxFlaps())
	if limit := now.Add(set.holdDown(b.holdDown.flaps)); b.holdDown.end.After(limit) {
		b.holdDown.end = limit
	}
	b.recheck(now, &old)
	b.ramp.length = min(b.ramp.length, set.Ramp)
	if b.state.Carries() || b.state == Held {
		return
	}
	r := &b.recovery
	limit := now.Add(set.interval(r.counted))
	if b.allDown || set.Emergency {
		limit = now.Add(set.AllDownEvery)
	}
	limit = later(later(limit, b.holdDown.end), b.throttle.until)
	if r.next.After(limit) {
		r.next = limit
	}
	if r.canary && !r.taken && (b.waits() || !b.live() && r.confirmed < b.needed()) {
		r.canary, r.next = false, now
	}
}

// recheck starts, stops or hastens checks. Another probe has yet to prove itself.
func (b *Breaker) recheck(now time.Time, old *Settings) {
	if old.External != b.set.External || old.Live != b.set.Live {
		b.check.proven, b.check.warned = false, false
	}
	switch {
	case !b.set.checks():
		b.check.next, b.check.failed = time.Time{}, 0
	case b.check.next.IsZero():
		b.check.next = now
	case b.check.next.After(now.Add(b.set.Every)):
		b.check.next = now.Add(b.set.Every)
	}
}

// Distrust forgets that probes were ever good: they will ask elsewhere.
func (b *Breaker) Distrust() { b.check.proven, b.check.warned, b.check.failed = false, false, 0 }

// Snapshot is a breaker for showing.
type Snapshot struct {
	State         State
	Since         time.Time
	DownSince     time.Time // since when it does not carry, restarts in between or not; zero = it does
	Generation    uint64
	Reason        Reason // of the last trip; NoReason = it never tripped
	Silent        bool
	Throttled     time.Duration // still
	Evidence      Evidence      // of the last trip while it is down, else as it is
	HoldDown      time.Duration // still
	Flaps         int
	FailedProbes  int
	NextProbe     time.Duration // from now, 0 = due; -1 = none while it carries or an answer is awaited
	Confirmed     int
	Needed        int  // good probes before the canary
	Live          bool // confirmations are live batches
	CanaryWanted  bool
	CanaryTaken   bool
	Untrusted     bool    // its external probe was never good since start
	Share         float64 // of fresh batches; 1 but while ramping
	AwaitsRelease bool    // it has proven itself but for the live batch, and an operator has the word
}

// Snapshot copies what is to be shown.
func (b *Breaker) Snapshot(now time.Time) Snapshot {
	b.window.forget(now.Sub(b.born))
	flaps := b.holdDown
	if b.state.Carries() {
		flaps.decay(now, &b.set)
	}
	s := Snapshot{
		State: b.state, Since: b.since, DownSince: b.down, Generation: b.generation,
		Reason: b.reason, Silent: b.silent,
		Throttled: max(b.throttle.until.Sub(now), 0), Evidence: b.found(), Flaps: flaps.flaps, NextProbe: -1,
		Live: b.live(), Untrusted: b.set.External && !b.check.proven && b.check.warned, Share: b.Share(),
	}
	if b.throttle.until.IsZero() {
		s.Throttled = 0
	}
	if b.state.Carries() {
		return s
	}
	r := &b.recovery
	if b.state == Held {
		s.NextProbe = max(r.next.Sub(now), 0)
	}
	if !b.holdDown.end.IsZero() {
		s.HoldDown = max(b.holdDown.end.Sub(now), 0)
	}
	s.FailedProbes, s.Confirmed, s.Needed = r.failed, r.confirmed, b.needed()
	s.CanaryWanted, s.CanaryTaken = r.canary, r.taken
	s.AwaitsRelease = b.state == Probing && b.rests()
	if at, want := b.wanted(); want != WantNothing {
		s.NextProbe = max(at.Sub(now), 0)
	}
	return s
}
