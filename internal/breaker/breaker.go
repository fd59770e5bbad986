// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package breaker decides, from outcomes and the time, whether one exporter carries traffic.
//
// It stands in the switch room: package failover keeps one Breaker per exporter, configuration, signal and settings,
// asks each which probe it wants and tells each what came of it. A Breaker promises that one burst of failures is one
// strike, that outcomes from before its last trip or return change nothing, that it never returns without the proof
// its settings ask for, and that it never stops asking: there is no state without a next probe. It refuses to know
// levels, routes, batches, sockets and clocks; time is an argument.
//
//	           counted failure,                trip rule,
//	           sibling tripped                 checks, retry-after
//	┌─────────┐ T1 T2   ┌─────────┐ T4 T5 T6   ┌──────┐ probe is due T7 ┌─────────┐
//	│ healthy ├────────►│ suspect ├───────────►│ down ├────────────────►│ probing ├─┐ good probe T8,
//	│         │◄────────┤         │            │      │◄────────────────┤         │◄┘ canary put back T10
//	└─────────┘ quiet T3└─────────┘            └──────┘ refuted T11     └────┬────┘
//	     ▲  └──────── T5 T6, too slow ───────────►▲  ▲                       │ canary delivered T9
//	     │                                           │ failed or slow T13    │
//	     │              share is 1 T13         ┌─────┴───┐                   │
//	     └─────────────────────────────────────┤ ramping │◄──────────────────┤
//	     ▲                                     └─────────┘                   │
//	     └──────────────────── no ramp, or nobody else carries ──────────────┘
//
//	any ─► held ─► probing: an operator takes it out and lets it go, or the time is over (T15).
//
// T12 (a sibling returned, an operator asks), T14 (all-down) and T16 (reload) move times within a state. An emergency
// member knows healthy and down only.
package breaker

import "time"

// State is where a breaker stands; of two, the greater is the worse.
type State uint8

// The states.
const (
	Healthy State = iota
	Suspect       // failed lately; carries, and is looked at
	Ramping       // is back, carries a growing share
	Probing       // proves that it is back
	Down          // carries nothing
	Held          // taken out by an operator
)

var stateWords = [...]string{"healthy", "suspect", "ramping", "probing", "down", "held"}

// String is the state's word in metrics and logs.
func (s State) String() string {
	if int(s) < len(stateWords) {
		return stateWords[s]
	}
	return "none"
}

// Carries reports whether batches are sent in this state.
func (s State) Carries() bool { return s <= Ramping }

const (
	// strikeGap parts two strikes, and two evidence probes: what fails together counts once.
	strikeGap = time.Second
	// answerSlack is added to a timeout before an answer is taken for lost, so that a lost one keeps nothing down.
	answerSlack = 30 * time.Second
	// unboundedSend stands for the timeout of an exporter that has none, for the same purpose.
	unboundedSend = 5 * time.Minute
	// localWait is how long a probe rests that failed by our own doing.
	localWait = time.Second
)

// Breaker is one exporter for one signal. It is not safe for concurrent use; see New.
type Breaker struct {
	set    Settings
	jitter func() float64
	born   time.Time

	state      State
	generation uint64
	since      time.Time // of the state
	down       time.Time // since when it does not carry; zero = it does
	reason     Reason    // of the last trip or hold
	allDown    bool      // a route of ours has no level left
	sole       bool      // no other level of a route of ours takes data
	numbers    uint64    // last number given to a probe
	proof      uint64    // last number given to a wanted live batch
	version    uint64

	window    window
	run       run
	lastError string
	delivered time.Time // last delivery; zero = none since start
	silent    bool
	doubted   bool      // a sibling tripped, and nothing was delivered since
	slowSince time.Time // the slow share has been too large; zero = it is not

	evidence evidence
	check    check
	throttle throttle
	recovery recovery
	holdDown holdDown
	ramp     ramp
}

// New returns a healthy breaker. Jitter returns a number in [-1, 1) that spreads probes by a tenth of their interval;
// nil spreads nothing. One goroutine at a time calls a breaker's methods, with times that do not fall.
func New(set Settings, jitter func() float64, now time.Time) *Breaker {
	b := &Breaker{set: set, jitter: jitter, born: now, since: now, generation: 1}
	b.window.init(set.Window)
	if set.checks() {
		b.check.next = now
	}
	return b
}

// Clone returns a breaker in the same state that waits for no answer: where two stand after a reload and one stood
// before, both go on from what is known.
func (b *Breaker) Clone() *Breaker {
	c := *b
	c.recovery.probe, c.check.probe, c.evidence.outstanding = 0, 0, 0
	if c.recovery.canary {
		c.recovery.canary, c.recovery.taken, c.recovery.next = false, false, c.since
	}
	c.evidence.token = false
	return &c
}

// State is where the breaker stands.
func (b *Breaker) State() State { return b.state }

// Generation rises with each trip and each return; an attempt takes it along and brings it back.
func (b *Breaker) Generation() uint64 { return b.generation }

// Silent reports that a strike came, no delivery ended in the second before it, and neither a delivery nor a good
// probe since. Batches that can go elsewhere do.
func (b *Breaker) Silent() bool { return b.silent }

// Reason is why the breaker tripped last, or that an operator took it out.
func (b *Breaker) Reason() Reason { return b.reason }

// OnlyThrottled reports that the breaker is down because the endpoint asked for silence, and that there is no sign yet
// that it is not well: it waits for the end of the silence, or for its first probe after it.
func (b *Breaker) OnlyThrottled(now time.Time) bool {
	return b.reason == Throttled && b.state != Held && b.recovery.failed == 0 && (b.state == Down || now.Before(b.throttle.until))
}

// ThrottledUntil is the time before which nobody sends or probes; zero or past = at once.
func (b *Breaker) ThrottledUntil() time.Time { return b.throttle.until }

// NextProbe is when the next recovery probe or canary is due, of one that is held when that ends; zero while it
// carries.
func (b *Breaker) NextProbe() time.Time {
	if b.state.Carries() {
		return time.Time{}
	}
	return b.recovery.next
}

// Proof is the live batch that is wanted now: its number, 0 = none, and whether it is a canary or evidence. A new
// number means another batch.
func (b *Breaker) Proof() (number uint64, canary bool) {
	switch {
	case b.state == Probing && b.recovery.canary && !b.recovery.taken:
		return b.proof, true
	case b.state == Suspect && b.evidence.token:
		return b.proof, false
	}
	return 0, false
}

// Version rises whenever something of the above changed.
func (b *Breaker) Version() uint64 { return b.version }

// Settings are the ones in force.
func (b *Breaker) Settings() Settings { return b.set }

// move changes the state and reports it.
func (b *Breaker) move(now time.Time, to State, why Reason, c Change, out []Change) []Change {
	c.Kind, c.From, c.To, c.Reason = Moved, b.state, to, why
	switch {
	case to.Carries():
		b.down = time.Time{}
	case b.state.Carries():
		b.down = now
	}
	b.state, b.since = to, now
	b.version++
	return b.report(c, out)
}

// report fills in what every change says.
func (b *Breaker) report(c Change, out []Change) []Change {
	if c.Kind != Moved {
		c.From, c.To = b.state, b.state
	}
	c.Generation, c.Next = b.generation, b.NextProbe()
	c.Evidence = b.found()
	return append(out, c)
}

// found is what the breaker stands on: as it tripped, else as it is.
func (b *Breaker) found() Evidence {
	if !b.state.Carries() {
		return b.recovery.evidence
	}
	return b.now()
}

func (b *Breaker) now() Evidence {
	return Evidence{
		Strikes: b.run.strikes, Failed: int(b.window.sum.failures), Delivered: int(b.window.sum.deliveries),
		Slow: int(b.window.sum.slow), Error: b.lastError,
	}
}

// spread moves d by up to a tenth.
func (b *Breaker) spread(d time.Duration) time.Duration {
	if b.jitter == nil {
		return d
	}
	return d + time.Duration(b.jitter()*float64(d)/10)
}

func (b *Breaker) sendTimeout() time.Duration {
	if b.set.SendTimeout > 0 {
		return b.set.SendTimeout
	}
	return unboundedSend
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sooner is the earlier of two times of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
