// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"math"
	"time"
)

// The pace's constants (failover, section 11.4; decision 0021).
const (
	paceShare  = 0.9  // of what was measured, after an overload
	paceFirst  = 0.5  // of what was delivered until the first overload: much of that may have been saved
	paceCut    = 0.7  // of the pace, after an overload that came too soon to measure anything
	paceLeast  = 0.5  // any other overload leaves so much of the pace
	paceSearch = 0.5  // of the pace a second, until something was measured; a quarter of it after each that was none
	paceGrowth = 0.01 // of the pace a second, from then on
	paceProbe  = 1.03 // of what was measured: so far the pace grows
	paceKnown  = 1.2  // of what was measured: a pace above it was on its way up when the overload came, and measured little
	// So long without an overload, and more can be taken than was measured: the pace grows faster and faster.
	paceSteady = 60 * time.Second
	// Spans over which is measured: those before the first overload, of which a shorter one tells only of what was saved,
	// and between two of them.
	firstSpan = 500 * time.Millisecond
	leastSpan = time.Second
	mostSpan  = 10 * time.Second
	// A timer that fires late may be made up for by so much; more would be a burst.
	paceSlack = 100 * time.Millisecond
	// However slow the pace, a batch goes so often: what is delivered is how it learns that more would be.
	maxPaceWait = 10 * time.Second
)

// pace is how many items a second a level is sent. Nobody knows what an endpoint can take, and what it takes at first may
// be what it has saved up while nobody called. But one that says that it is full has nothing saved: what it takes from
// one such moment to the next is what it can take.
//
//	        overload              overload                  overload
//	none ────────────► searching ──────────► measured ◄───┐
//	                   half of what          0.9 of it    ├──────────┘
//	                   was taken,            + 1 % a second, up to 1.03 of it;
//	                   + 50 % a second       a minute without an overload: on and on
//	                   ▲          │ far above what was measured: it was on its way up
//	                   └──────────┘ a quarter as fast
//
// It is pure, and part of a Window.
type pace struct {
	rate   float64 // items a second, 0 = none
	most   float64 // items a second that were measured, 0 = searching
	search float64 // growth while searching
	grown  time.Time
	due    time.Time // of the next batch
	binds  bool      // since it last grew, a batch had to wait for it

	// What is measured, from an overload on; without a pace, over the last ten to twenty seconds.
	anchor  time.Time
	taken   float64       // items delivered of what was sent since
	idle    time.Duration // of the time since: from overloads until something was sent again
	rests   int           // so many times
	latency time.Duration // of deliveries, smoothed
	cut     time.Time     // the last overload that counted: what was sent before it has nothing to add
	resting bool          // nothing was sent since

	// What was taken before the first overload, and in how many seconds: what was saved was less.
	first, before float64
}

func (p *pace) set() bool { return p.rate > 0 }

// next is when a batch may be sent; past = now.
func (p *pace) next(now time.Time) time.Time {
	p.grow(now)
	p.binds = p.binds || now.Before(p.due)
	return p.due
}

// sent counts a batch on its way.
func (p *pace) sent(now time.Time, items uint32) {
	if p.rate == 0 {
		return
	}
	slack := paceSlack
	if p.resting { // it has just room again, and not for more than one
		p.resting, slack = false, 0
		p.idle += now.Sub(p.cut)
		p.rests++
	}
	from := p.due
	if early := now.Add(-slack); from.Before(early) {
		from = early
	}
	cost := math.Min(float64(items)/p.rate, maxPaceWait.Seconds())
	p.due = earlier(from.Add(time.Duration(cost*float64(time.Second))), now.Add(maxPaceWait))
}

// delivered counts a batch that was.
func (p *pace) delivered(now time.Time, took time.Duration, items uint32) {
	if p.latency += (took - p.latency) / 8; now.Add(-took).Before(p.anchor) {
		return
	}
	p.taken += float64(items)
	if span := now.Sub(p.anchor); p.rate == 0 && span > 2*mostSpan {
		p.taken *= mostSpan.Seconds() / span.Seconds()
		p.anchor = now.Add(-mostSpan)
	}
}

// overloaded lowers the pace, once for what was sent while it was as it is. Of an endpoint that took nothing there is
// nothing to learn: without a pace there is none then, and one that there is stays.
func (p *pace) overloaded(now time.Time, took time.Duration, items uint32) {
	span := max(now.Add(-p.latency).Sub(p.anchor), time.Millisecond) // what was sent later has no answer yet
	switch {
	case p.taken == 0 || p.rate > 0 && now.Add(-took).Before(p.cut):
		return
	case p.rate == 0:
		p.first, p.before = p.taken, span.Seconds()
		p.rate = paceFirst * p.taken / math.Max(span.Seconds(), firstSpan.Seconds())
		p.search = paceSearch
		p.measure(now)
	case span < leastSpan:
		p.rate = math.Min(paceCut*p.rate, (p.taken+2*float64(items))/span.Seconds()) // a batch more at either end
	default:
		can := p.capacity(span.Seconds())
		known := p.rate <= paceKnown*can
		if p.most = can; !known {
			p.most, p.search = 0, math.Max(p.search/4, paceGrowth)
		}
		p.rate = math.Max(paceShare*math.Min(can, p.rate), paceLeast*p.rate)
		if !known || span >= mostSpan {
			p.measure(now)
		}
	}
	p.cut, p.grown, p.resting = now, now, true
}

// capacity is what the endpoint can take a second, by what it took in the seconds since anchor, both ends of which are
// overloads. While it was left alone it saved what it would have taken, but no more than before the first overload.
func (p *pace) capacity(span float64) float64 {
	can := p.taken / span
	saved := math.Max(p.first-can*p.before, 0)
	if sending := span - p.idle.Seconds(); sending > 0 {
		can = math.Max(can, (p.taken-float64(p.rests)*saved)/sending)
	}
	return can
}

// measure begins anew with what the endpoint takes.
func (p *pace) measure(now time.Time) { p.anchor, p.taken, p.idle, p.rests = now, 0, 0, 0 }

// grow lets the pace grow for the time since it last did.
func (p *pace) grow(now time.Time) {
	d := now.Sub(p.grown)
	if d < paceSlack {
		return
	}
	p.grown = now
	if !p.binds { // it is something else that keeps more from being sent
		return
	}
	p.binds = false
	steady := now.Sub(p.cut)
	switch {
	case p.most == 0:
		p.rate *= 1 + p.search*d.Seconds()
	case steady >= paceSteady:
		p.rate *= 1 + paceGrowth*math.Max(1, float64(steady-paceSteady)/float64(5*time.Second))*d.Seconds()
	default:
		p.rate = math.Max(p.rate, math.Min(p.rate*(1+paceGrowth*d.Seconds()), paceProbe*p.most))
	}
}
