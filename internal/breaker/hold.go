// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// Hold takes the breaker out until then (T15), whatever it is; one that is held already is held until then. A member
// of the emergency level is not held.
func (b *Breaker) Hold(now, until time.Time, out []Change) []Change {
	if b.set.Emergency {
		return out
	}
	if b.state == Held {
		b.recovery.next = until
		b.version++
		return out
	}
	b.recovery = recovery{tripped: now, next: until, evidence: b.found()}
	b.generation++
	b.reason = ByOperator
	b.forgive()
	b.check.failed, b.ramp = 0, ramp{}
	return b.move(now, Held, ByOperator, Change{}, out)
}

// HeldUntil is when a hold ends; zero = it is not held.
func (b *Breaker) HeldUntil() time.Time {
	if b.state != Held {
		return time.Time{}
	}
	return b.recovery.next
}

// Release ends a hold, or lets a manual return go on, also one that has not proven itself yet. It reports whether there
// was something to release.
func (b *Breaker) Release(now time.Time, out []Change) ([]Change, bool) {
	switch {
	case b.state == Held:
		return b.unhold(now, Released, out), true
	case b.state.Carries() || !b.set.Manual || b.recovery.released:
		return out, false
	}
	if b.rests() && b.recovery.probe == 0 {
		b.recovery.next = now
	}
	b.recovery.released = true
	b.version++
	return out, true
}

// unhold lets the breaker prove itself: the first probe is now, or when the endpoint wants to be called.
func (b *Breaker) unhold(now time.Time, why Reason, out []Change) []Change {
	b.recovery.next = now
	return b.move(now, Probing, why, Change{}, out)
}

// waits reports whether a return waits for an operator. In an all-down nobody is waited for: data that is held does not
// ask who takes it.
func (b *Breaker) waits() bool {
	return b.set.Manual && !b.recovery.released && !b.allDown && !b.set.Emergency
}

// rests reports whether all that is left to prove is what an operator has to ask for.
func (b *Breaker) rests() bool { return b.waits() && (b.live() || b.recovery.confirmed >= b.needed()) }
