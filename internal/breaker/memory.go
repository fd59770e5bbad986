// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// Memory is what is worth knowing of a breaker that is down when its process is over.
type Memory struct {
	Since          time.Time // it has not carried; zero = not known
	Reason         Reason
	Error          string
	Flaps          int
	ThrottledUntil time.Time
}

// Memory returns it, and whether the breaker is down or probing. What an operator holds is not remembered, and an
// emergency file is simply tried.
func (b *Breaker) Memory() (Memory, bool) {
	if b.set.Emergency || b.state != Down && b.state != Probing {
		return Memory{}, false
	}
	return Memory{
		Since: b.down, Reason: b.reason, Error: b.recovery.evidence.Error, Flaps: b.holdDown.flaps,
		ThrottledUntil: b.throttle.until,
	}, true
}

// Recall takes a breaker that is new down as it was before a restart: its next probe is now. It is better asked than
// believed, for the endpoint may be well again; and better asked first than sent to, for it mostly is not.
func (b *Breaker) Recall(now time.Time, m Memory, out []Change) []Change {
	if b.set.Emergency || b.state != Healthy {
		return out
	}
	b.reason, b.lastError = m.Reason, m.Error
	b.holdDown.flaps, b.holdDown.end = min(max(m.Flaps, 0), b.set.maxFlaps()), now
	if m.ThrottledUntil.After(now) {
		b.throttle.extend(b.born, now, sooner(m.ThrottledUntil, now.Add(b.set.MaxWait)))
	}
	b.generation++
	b.recovery = recovery{tripped: now, next: later(now, b.throttle.until), evidence: Evidence{Error: m.Error}}
	out = b.move(now, Down, FromBefore, Change{}, out)
	if !m.Since.IsZero() {
		b.down = sooner(m.Since, now)
	}
	return out
}
