// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// ramp is the way from a return to all traffic (T9, T13): the share of fresh batches is
//
//	share(t) = ramp_start + (1 − ramp_start) × t ÷ ramp, in steps of a tenth
//
// and a failure on the way takes the breaker down at once, for the level below still carries.
type ramp struct {
	began  time.Time
	length time.Duration
	tenths int // of the share that are reached
	slow   int // slow deliveries in a row
}

// slowInARow deliveries take one that ramps down: one may be a cold cache.
const slowInARow = 2

// Share is the share of fresh batches that the breaker is to be sent: 1 but while it ramps.
func (b *Breaker) Share() float64 {
	if b.state != Ramping {
		return 1
	}
	return max(b.set.RampStart, float64(b.ramp.tenths)/10)
}

// ramps reports whether a return goes by a ramp. Where nobody else carries there is nothing to share with, and in an
// all-down every return is welcome.
func (b *Breaker) ramps() bool {
	return b.set.Ramp > 0 && b.set.RampStart < 1 && !b.sole && !b.allDown && !b.set.Emergency
}

func (b *Breaker) beginRamp(now time.Time) {
	b.ramp = ramp{began: now, length: b.set.Ramp, tenths: int(b.set.RampStart*10 + 1e-9)}
}

// step is when the share reaches so many tenths; at once if nobody else carries any more.
func (b *Breaker) step(tenths int) time.Time {
	if b.sole || b.set.RampStart >= 1 {
		return b.ramp.began
	}
	part := (float64(tenths)/10 - b.set.RampStart) / (1 - b.set.RampStart)
	return b.ramp.began.Add(time.Duration(part * float64(b.ramp.length)))
}

// grow takes the steps whose time has come, and ends the ramp with the last one.
func (b *Breaker) grow(now time.Time, out []Change) []Change {
	for b.ramp.tenths < 10 && !now.Before(b.step(b.ramp.tenths+1)) {
		b.ramp.tenths++
		b.version++
	}
	if b.ramp.tenths < 10 {
		return out
	}
	b.ramp = ramp{}
	b.run = run{unclear: b.run.unclear, next: b.run.next}
	return b.move(now, Healthy, Ramped, Change{}, out)
}

// SetSole tells that no other level of a route of the breaker takes data, or that one does again. It reports whether
// that is news.
func (b *Breaker) SetSole(on bool) bool {
	news := b.sole != on
	b.sole = on
	return news && b.state == Ramping
}

// isSlow reports whether a delivery that took so long is a slow one.
func (b *Breaker) isSlow(took time.Duration) bool {
	return b.set.SlowAfter > 0 && took >= b.set.SlowAfter && !b.set.Emergency
}

// tooSlow reports whether a delivery, slow or not, is the one too many. A level that delivers slowly is better than
// none, so that one nobody could stand in for is left alone.
func (b *Breaker) tooSlow(now time.Time, slow bool) bool {
	if b.state == Ramping {
		if b.ramp.slow++; !slow {
			b.ramp.slow = 0
		}
		return b.ramp.slow >= slowInARow && !b.sole
	}
	return b.slowLongEnough(now)
}

// slowLongEnough keeps the time since which the slow share of the window is too large, and reports whether that has
// lasted for failover_delay.
func (b *Breaker) slowLongEnough(now time.Time) bool {
	b.window.forget(now.Sub(b.born))
	s := &b.window.sum
	timed := float64(s.deliveries) + float64(s.unanswered)
	if b.set.SlowAfter == 0 || b.sole || uint64(s.deliveries) < uint64(b.set.MinAttempts) ||
		float64(s.slow) < b.set.SlowRatio*timed {
		b.slowSince = time.Time{}
		return false
	}
	if b.slowSince.IsZero() {
		b.slowSince = now
	}
	return now.Sub(b.slowSince) >= b.set.FailoverDelay
}
