// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import (
	"math"
	"time"
)

const (
	// An exporter throttled for more than throttleShare of the last throttleSpan is as good as down.
	throttleSpan  = 120 * time.Second
	throttleShare = 60 * time.Second
	// throttleSpells are remembered to add them up. Delays are a second or longer, so that more than so many do not
	// fit without their sum being above the share; what is forgotten of shorter ones only makes the trip later.
	throttleSpells = 64
)

// throttle is when the endpoint asked for silence.
type throttle struct {
	from, until time.Time // the last spell; zero = none yet
	unnamed     int       // spells in a row whose length was not named
	spells      [throttleSpells]spell
	next        int
}

// spell is silence between two ages of the breaker.
type spell struct{ from, until time.Duration }

// putOff heeds a retry-after (T6, T10): nobody sends before it is over. One that is too long, or spells that add up,
// take the breaker down where another level takes data. Where none does that would only cost time: data waits either way,
// and what is down has to prove itself after its silence.
func (b *Breaker) putOff(now time.Time, d time.Duration, by Purpose, out []Change) []Change {
	if b.set.Emergency {
		return out
	}
	fresh := !now.Before(b.throttle.until)
	if d <= 0 {
		if fresh || b.throttle.unnamed == 0 {
			b.throttle.unnamed++
		}
		d = b.set.Backoff.delay(b.throttle.unnamed - 1)
	}
	until := now.Add(min(d, b.set.MaxWait))
	if until.After(b.throttle.until) {
		b.throttle.extend(b.born, now, until)
		b.version++
	}
	until = b.throttle.until
	if !b.state.Carries() {
		r := &b.recovery
		r.canary, r.taken, r.probe, r.next = false, false, 0, until
		b.version++
		return b.report(Change{Kind: PutOff, Reason: Throttled, By: by, Until: until}, out)
	}
	c := Change{Kind: PutOff, Reason: Throttled, By: by, Until: until}
	if !b.set.Alone && !b.sole && (until.Sub(now) > b.set.FailoverAfter || b.throttle.spent(b.born, now) > throttleShare) {
		return b.trip(now, Throttled, c, out)
	}
	if !fresh {
		return out
	}
	return b.report(c, out)
}

// extend makes the silence last until then.
func (t *throttle) extend(born, now, until time.Time) {
	if now.After(t.until) {
		if !t.until.IsZero() {
			t.spells[t.next] = spell{t.from.Sub(born), t.until.Sub(born)}
			t.next = (t.next + 1) % throttleSpells
		}
		t.from = now
	}
	t.until = until
}

// spent is how much of the last throttleSpan was silence.
func (t *throttle) spent(born, now time.Time) time.Duration {
	age := now.Sub(born)
	begin := age - throttleSpan
	sum := max(0, min(t.until.Sub(born), age)-max(t.from.Sub(born), begin))
	for i := range t.spells {
		s := &t.spells[i]
		sum += max(0, min(s.until, age)-max(s.from, begin))
	}
	return sum
}

// delay is the n-th delay.
func (f *Backoff) delay(n int) time.Duration {
	d := float64(f.Initial) * math.Pow(max(f.Multiplier, 1), float64(min(n, 64)))
	return time.Duration(min(d, float64(max(f.Max, f.Initial))))
}
