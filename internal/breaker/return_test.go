// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker_test

import (
	"math"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// returned is a breaker that has just come back by a canary, with other levels beside it.
func returned(t *testing.T, change func(*breaker.Settings)) (*breaker.Breaker, time.Time) {
	t.Helper()
	b := breaker.New(numbers(func(s *breaker.Settings) {
		s.Ramp, s.RampStart, s.Successes, s.Live = 30*time.Second, 0.1, 1, true
		if change != nil {
			change(s)
		}
	}), nil, start)
	now := start
	for range 3 {
		now = now.Add(time.Second)
		o := outcome(breaker.Retry)
		o.Generation = b.Generation()
		b.Attempted(now, &o, false, nil)
	}
	if b.State() != breaker.Down {
		t.Fatalf("%s, want down", b.State())
	}
	now = b.NextProbe()
	want, _ := b.Due(now)
	b.Begin(now, want, nil)
	b.Taken(now)
	o := outcome(breaker.Delivered)
	o.Generation = b.Generation()
	b.CanaryDone(now, &o, nil)
	return b, now
}

func TestShareGrowsByTenths(t *testing.T) {
	b, at := returned(t, nil)
	if b.State() != breaker.Ramping {
		t.Fatalf("%s after the canary", b.State())
	}
	last := 0.0
	for d := time.Duration(0); d < 30*time.Second; d += 100 * time.Millisecond {
		b.Tick(at.Add(d), nil)
		share, line := b.Share(), 0.1+0.9*d.Seconds()/30
		if share < last || share > line+1e-9 || share < line-0.1-1e-9 || math.Abs(share*10-math.Round(share*10)) > 1e-9 {
			t.Fatalf("after %s the share is %v, the line is at %.3f", d, share, line)
		}
		if next := b.Next(); !next.After(at.Add(d)) {
			t.Fatalf("after %s: to be woken at %s", d, next.Sub(at))
		}
		last = share
	}
	generation := b.Generation()
	changes := b.Tick(at.Add(30*time.Second), nil)
	if b.State() != breaker.Healthy || b.Share() != 1 || b.Generation() != generation || len(changes) != 1 ||
		changes[0].Reason != breaker.Ramped {
		t.Errorf("at the end: %s, share %v, %+v", b.State(), b.Share(), changes)
	}
}

func TestRampEndsByItself(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*breaker.Settings)
		then   func(*breaker.Breaker)
		want   breaker.State
	}{
		"no ramp":             {func(s *breaker.Settings) { s.Ramp = 0 }, nil, breaker.Healthy},
		"it starts with all":  {func(s *breaker.Settings) { s.RampStart = 1 }, nil, breaker.Healthy},
		"it starts with none": {func(s *breaker.Settings) { s.RampStart = 0 }, nil, breaker.Ramping},
		"nobody else carries": {nil, func(b *breaker.Breaker) { b.SetSole(true) }, breaker.Healthy},
		"a reload ends it": {nil, func(b *breaker.Breaker) {
			set := b.Settings()
			set.Ramp = 0
			b.Reconfigure(start.Add(time.Minute), set)
		}, breaker.Healthy},
	} {
		b, at := returned(t, c.change)
		if c.then != nil {
			c.then(b)
		}
		b.Tick(at, nil)
		if b.State() != c.want {
			t.Errorf("%s: %s, want %s", name, b.State(), c.want)
		}
	}
}

func TestOneFailureIsARelapse(t *testing.T) {
	for name, c := range map[string]struct {
		outcomes []breaker.Outcome
		want     breaker.State
		why      breaker.Reason
	}{
		"a failure":               {[]breaker.Outcome{{Class: breaker.Retry, Counted: true, Batch: 1}}, breaker.Down, breaker.Relapse},
		"no answer":               {[]breaker.Outcome{{Class: breaker.Ambiguous, Counted: true, Batch: 1}}, breaker.Down, breaker.Relapse},
		"denied":                  {[]breaker.Outcome{{Class: breaker.Misconfigured, Counted: true, Batch: 1}}, breaker.Down, breaker.Standing},
		"one that does not count": {[]breaker.Outcome{{Class: breaker.Retry, Batch: 1}}, breaker.Ramping, 0},
		"rejected":                {[]breaker.Outcome{{Class: breaker.Rejected, Batch: 1}}, breaker.Ramping, 0},
		"one batch may be to blame": {[]breaker.Outcome{
			{Class: breaker.Retry, Unclear: true, Counted: true, Batch: 1}, {Class: breaker.Retry, Unclear: true, Counted: true, Batch: 1},
		}, breaker.Ramping, 0},
		"two are not": {[]breaker.Outcome{
			{Class: breaker.Retry, Unclear: true, Counted: true, Batch: 1}, {Class: breaker.Retry, Unclear: true, Counted: true, Batch: 2},
		}, breaker.Down, breaker.Relapse},
		"slow once": {[]breaker.Outcome{
			{Class: breaker.Delivered, Took: 9 * time.Second}, {Class: breaker.Delivered}, {Class: breaker.Delivered, Took: 9 * time.Second},
		}, breaker.Ramping, 0},
		"slow twice": {[]breaker.Outcome{
			{Class: breaker.Delivered, Took: 9 * time.Second}, {Class: breaker.Delivered, Took: 9 * time.Second},
		}, breaker.Down, breaker.Slow},
	} {
		b, now := returned(t, func(s *breaker.Settings) {
			s.SlowAfter, s.SlowRatio, s.FailoverDelay = 8*time.Second, 0.8, 0
		})
		generation := b.Generation()
		for _, o := range c.outcomes {
			now = now.Add(1500 * time.Millisecond)
			o.Generation = generation
			b.Attempted(now, &o, false, nil)
		}
		if b.State() != c.want || c.want == breaker.Down && (b.Reason() != c.why || b.Generation() != generation+1) {
			t.Errorf("%s: %s for %s, want %s for %s", name, b.State(), b.Reason(), c.want, c.why)
		}
	}
}

func TestSlowShareTakesALevelDownWhereAnotherCarries(t *testing.T) {
	for _, sole := range []bool{false, true} {
		b := breaker.New(numbers(func(s *breaker.Settings) { s.SlowAfter, s.SlowRatio, s.MinAttempts = time.Second, 0.5, 10 }), nil, start)
		b.SetSole(sole)
		now := start
		for i := range 40 {
			now = now.Add(100 * time.Millisecond)
			o := outcome(breaker.Delivered)
			o.Generation = 1
			if i%2 == 1 {
				o.Took = 2 * time.Second
			}
			b.Attempted(now, &o, false, nil)
			if want := !sole && i >= 9; (b.State() == breaker.Down) != want {
				t.Fatalf("alone %v: %s after %d deliveries", sole, b.State(), i+1)
			}
			if b.State() == breaker.Down {
				break
			}
		}
	}
}

func TestHoldIsKeptAndEnds(t *testing.T) {
	b, now := returned(t, nil)
	generation := b.Generation()
	b.Hold(now, now.Add(time.Hour), nil)
	b.Hold(now, now.Add(2*time.Hour), nil) // longer after all
	if b.State() != breaker.Held || b.Generation() != generation+1 || !b.HeldUntil().Equal(now.Add(2*time.Hour)) {
		t.Fatalf("%s, generation %d, until %s", b.State(), b.Generation(), b.HeldUntil().Sub(now))
	}
	for _, do := range []func(){
		func() { b.ProbeNow(now) }, func() { b.SiblingReturned(now) }, func() { b.SetAllDown(now, true) },
		func() { b.SetAllDown(now, false) }, func() { b.SiblingTripped(now, nil) },
		func() { set := b.Settings(); set.RetryInterval /= 2; b.Reconfigure(now, set) },
		func() { o := outcome(breaker.Delivered); b.Attempted(now, &o, false, nil) },
		func() { b.Tick(now.Add(2*time.Hour-1), nil) },
	} {
		do()
		if want, _ := b.Due(now.Add(time.Hour)); want != breaker.WantNothing || b.State() != breaker.Held ||
			!b.HeldUntil().Equal(now.Add(2*time.Hour)) {
			t.Fatalf("%s, wants %d", b.State(), want)
		}
	}
	end := now.Add(2 * time.Hour)
	if next := b.Next(); !next.Equal(end) {
		t.Errorf("to be woken at %s", next.Sub(now))
	}
	b.Tick(end, nil)
	if want, _ := b.Due(end); b.State() != breaker.Probing || want == breaker.WantNothing {
		t.Errorf("at the end it is %s and wants %d", b.State(), want)
	}
	if _, ok := b.Release(end, nil); ok {
		t.Error("released what is not held")
	}
}

func TestMemoryBringsBackWhatIsWorthKnowing(t *testing.T) {
	b, now := returned(t, nil)
	if _, down := b.Memory(); down {
		t.Error("one that carries is remembered")
	}
	o := outcome(breaker.Retry)
	o.Generation = b.Generation()
	b.Attempted(now.Add(time.Second), &o, false, nil)
	m, down := b.Memory()
	if !down || m.Reason != breaker.Relapse || m.Flaps != 1 || m.Error == "" {
		t.Fatalf("%v %+v", down, m)
	}
	if !m.Since.Equal(now.Add(time.Second)) {
		t.Errorf("it is said to be down since %s", m.Since)
	}
	m.Since, m.ThrottledUntil = now.Add(-time.Minute), now.Add(10*time.Second)
	c := breaker.New(b.Settings(), nil, now)
	changes := c.Recall(now, m, nil)
	if c.State() != breaker.Down || c.Reason() != breaker.Relapse || len(changes) != 1 || changes[0].Reason != breaker.FromBefore ||
		!c.NextProbe().Equal(now.Add(10*time.Second)) {
		t.Errorf("%s for %s, next probe in %s, %+v", c.State(), c.Reason(), c.NextProbe().Sub(now), changes)
	}
	again, _ := c.Memory()
	if again != m {
		t.Errorf("%+v, want %+v", again, m)
	}
	if fresh := breaker.New(b.Settings(), nil, now); len(fresh.Recall(now, breaker.Memory{}, nil)) != 1 ||
		!fresh.NextProbe().Equal(now) || !fresh.ThrottledUntil().IsZero() {
		t.Error("nothing is known but that it was down: the first probe is now")
	}
}

func TestReasonsHaveWordsOfTheirOwn(t *testing.T) {
	for r := breaker.NoReason; r <= breaker.FromBefore; r++ {
		if got := breaker.ReasonOf(r.String()); got != r && r != breaker.WritesAgain {
			t.Errorf("%q is the word of %d and of %d", r, got, r)
		}
	}
	if breaker.ReasonOf("nonsense") != breaker.NoReason {
		t.Error("nonsense is a reason")
	}
}
