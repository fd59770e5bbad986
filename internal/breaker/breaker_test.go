// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker_test

import (
	"math"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

func TestOneBurstIsOneStrike(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = good
	generation := s.b.Generation()
	for i := range 1000 {
		s.at(time.Duration(i) * 999 * time.Microsecond)
		s.send(breaker.Retry)
	}
	s.saw("0s healthy>suspect failure")
	if s.b.Generation() != generation {
		t.Error("tripped")
	}
}

func TestOutcomesOfAnOlderGenerationChangeNothing(t *testing.T) {
	s := seasoned(t, nil)
	old := outcome(breaker.Retry)
	old.Generation = s.b.Generation()
	delivered := outcome(breaker.Delivered)
	delivered.Generation = s.b.Generation()
	s.probe = bad
	s.send(breaker.Retry)
	s.at(32 * second)
	s.is(breaker.Down)
	s.probe = good
	s.at(time.Minute)
	before := s.b.Snapshot(s.now)
	s.lines = nil
	s.tell(old)
	s.tell(delivered)
	s.note(s.b.CanaryDone(s.now, &delivered, nil))
	s.note(s.b.CanaryDone(s.now, &old, nil))
	s.b.ProofLost(s.now, old.Generation)
	s.saw()
	if after := s.b.Snapshot(s.now); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
}

// Section 4.2 of the failover specification: a black hole is found by probes, whatever the traffic does.
func TestBlackHoleIsDownAfterTheProbesTimedOut(t *testing.T) {
	s := seasoned(t, nil)
	s.at(10 * second)
	s.send(breaker.Ambiguous) // the first timeout
	s.probed(10 * second)
	s.at(15*second - 1)
	s.probed(11*second, 12*second) // three at most wait for an answer
	timeout := outcome(breaker.Ambiguous)
	s.at(15 * second)
	s.answer(timeout)
	s.at(16 * second)
	s.answer(timeout)
	s.saw("10s healthy>suspect failure", "15s strike 2/3", "16s suspect>down consecutive")
}

func TestEvidenceEndsAfterEnoughGoodOnesOrADelivery(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = good
	s.at(5 * second)
	s.send(breaker.Retry)
	s.at(20 * second)
	s.probed(5*second, 6*second, 7*second)
	s.probe = nil
	s.send(breaker.Retry)
	s.send(breaker.Delivered)
	s.at(25 * second)
	s.probed(20 * second)
}

func TestSilenceEndsWithAGoodProbeAndTheRunDoesNot(t *testing.T) {
	s := seasoned(t, nil)
	s.at(5 * second)
	s.send(breaker.Retry)
	if !s.b.Silent() {
		t.Error("not silent: nothing was delivered for five seconds")
	}
	s.answer(good())
	if s.b.Silent() {
		t.Error("silent after a good probe")
	}
	s.at(8 * second)
	s.send(breaker.Retry)
	s.saw("5s healthy>suspect failure", "8s strike 2/3")
}

func TestOneBadBatchCannotTrip(t *testing.T) {
	unclear := func(batch uint64) breaker.Outcome {
		o := outcome(breaker.Retry)
		o.Unclear, o.Batch = true, batch
		return o
	}
	t.Run("not even at the start", func(t *testing.T) {
		s := newStand(t, nil)
		s.probe = good
		for i := range 60 {
			s.at(time.Duration(i) * second)
			s.tell(unclear(7))
		}
		s.saw("0s healthy>suspect failure", "30s suspect>healthy quiet", "30s healthy>suspect failure")
	})
	t.Run("nor between deliveries", func(t *testing.T) {
		s := newStand(t, nil)
		s.probe = good
		for i := range 600 {
			s.at(time.Duration(i) * second)
			s.tell(unclear(7))
			if i%2 == 0 {
				s.send(breaker.Delivered)
			}
		}
		if s.b.Generation() != 1 {
			t.Errorf("tripped: %v", s.lines)
		}
	})
	t.Run("but several can", func(t *testing.T) {
		s := newStand(t, nil)
		s.tell(unclear(7))
		s.at(second)
		s.tell(unclear(8))
		s.is(breaker.Down)
	})
}

func TestMisconfiguredTripsAtOnceUnlessOthersAreDelivered(t *testing.T) {
	s := seasoned(t, nil)
	s.send(breaker.Misconfigured) // one tenant's token
	s.is(breaker.Suspect)
	s.at(40 * second)
	s.lines = nil
	s.send(breaker.Misconfigured)
	s.saw("40s healthy>suspect failure", "40s suspect>down misconfigured")
}

func TestAllDeniedTripsInTheNameOfMisconfiguration(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = func() breaker.Outcome { return outcome(breaker.Misconfigured) }
	s.send(breaker.Misconfigured)
	s.at(5 * second)
	s.saw("0s healthy>suspect failure", "1s strike 2/3", "2s suspect>down misconfigured")
}

func TestUncountedFailuresAndRejectionsMoveNothing(t *testing.T) {
	s := seasoned(t, nil)
	for range 100 {
		s.at(s.now.Sub(start) + second)
		s.tell(breaker.Outcome{Class: breaker.Retry})
		s.send(breaker.Rejected)
		s.send(breaker.Local)
	}
	s.saw()
	o := outcome(breaker.Rejected)
	o.Counted = true // condition.error.permanent
	s.tell(o)
	s.is(breaker.Suspect)
}

func TestSuspectOfKindLiveAsksForABatchASecond(t *testing.T) {
	s := seasoned(t, func(s *breaker.Settings) { s.Live = true })
	s.at(5 * second)
	s.send(breaker.Retry)
	n, canary := s.b.Proof()
	if n == 0 || canary {
		t.Fatalf("proof %d, canary %v", n, canary)
	}
	s.at(9 * second)
	if again, _ := s.b.Proof(); again != n {
		t.Error("another batch is wanted though none came")
	}
	s.b.Taken(s.now)
	s.at(10 * second)
	next, _ := s.b.Proof()
	if next <= n {
		t.Error("no other batch is wanted a second later")
	}
	s.b.Taken(s.now)
	o := outcome(breaker.Delivered)
	o.Generation = s.b.Generation()
	s.note(s.b.Attempted(s.now, &o, true, nil))
	s.at(15 * second)
	if n, _ := s.b.Proof(); n != 0 || len(s.open) > 0 {
		t.Error("evidence is wanted after a delivery")
	}
}

func TestExternalProbeThatWasNeverGoodLeavesTheProofToBatches(t *testing.T) {
	s := newStand(t, func(s *breaker.Settings) { s.External, s.Every = true, 30*second })
	s.probe = bad // the URL is wrong
	s.serve()
	s.send(breaker.Retry) // and the backend is down
	s.is(breaker.Down)
	s.lines = nil
	s.at(30 * second)
	s.canary(outcome(breaker.Delivered)) // it is back: the URL keeps it down no longer than kind live would
	s.canary(outcome(breaker.Delivered))
	s.canary(outcome(breaker.Delivered))
	s.is(breaker.Healthy)
}

func TestAnswersThatNeverComeKeepNothingDown(t *testing.T) {
	s := tripped(t, nil)
	s.at(64 * second)
	s.probed(30 * second)
	s.at(65 * second) // 5 s of timeout, 30 s of slack
	s.probed(65 * second)
	s.answer(breaker.Outcome{Class: breaker.Delivered}) // the first one, after all
	s.probe = good
	s.answer(good())
	first, _ := s.b.Proof()
	s.b.Taken(s.now)
	s.at(s.now.Sub(start) + 35*second)
	if n, canary := s.b.Proof(); n == first || !canary {
		t.Error("the canary is not wanted again after its batch was lost")
	}

	s = seasoned(t, func(s *breaker.Settings) { s.Every = 10 * second })
	s.b.ProbeNow(s.now)
	s.serve()
	s.at(2 * time.Minute)
	if len(s.sent) != 4 { // every 35 s
		t.Errorf("checked at %v", s.sent)
	}
}

// flap lets a breaker trip for up after each return, for a day, and returns the trips.
func flap(t *testing.T, set func(*breaker.Settings), up, whole time.Duration) []time.Duration {
	t.Helper()
	s := newStand(t, set)
	s.probe = good
	var trips []time.Duration
	for s.now.Sub(start) < whole {
		s.send(breaker.Delivered)
		s.at(s.now.Sub(start) + up)
		for s.b.State() != breaker.Down {
			s.send(breaker.Retry)
			s.now = s.now.Add(second)
		}
		trips = append(trips, s.now.Sub(start))
		for s.b.State() != breaker.Healthy {
			if n, canary := s.b.Proof(); n != 0 && canary {
				s.canary(outcome(breaker.Delivered))
				continue
			}
			s.at(s.b.Next().Sub(start))
		}
	}
	return trips
}

// bound is the formula of section 8 of the failover specification.
func bound(set breaker.Settings, w time.Duration) int {
	m := math.Ceil(math.Log2(float64(set.HoldDownMax) / float64(set.HoldDown)))
	return int(1 + m + float64(w)/float64(set.HoldDownMax) + 2*float64(w)/float64(set.FlapWindow))
}

func TestFlappingIsBoundedByTheHoldDown(t *testing.T) {
	change := func(s *breaker.Settings) { s.Successes = 1 } // the fastest way back there is
	for _, up := range []time.Duration{0, 20 * second, 5 * time.Minute, 599 * second, 10 * time.Minute, 21 * time.Minute} {
		trips := flap(t, change, up, 24*time.Hour)
		for _, w := range []time.Duration{10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour} {
			most := 0
			for i := range trips {
				n := 0
				for _, at := range trips[i:] {
					if at-trips[i] <= w {
						n++
					}
				}
				most = max(most, n)
			}
			if limit := bound(numbers(change), w); most > limit {
				t.Errorf("up %s: %d trips in %s, the bound is %d", up, most, w, limit)
			}
		}
	}
}

func TestHoldDownDoublesAndDecays(t *testing.T) {
	s := newStand(t, func(s *breaker.Settings) { s.Successes = 1 })
	holds := func() time.Duration {
		s.t.Helper()
		s.send(breaker.Delivered)
		for s.b.State() != breaker.Down {
			s.send(breaker.Retry)
			s.now = s.now.Add(second)
		}
		at := s.now
		for s.b.State() != breaker.Probing {
			s.at(s.b.Next().Sub(start))
		}
		h := s.now.Sub(at) + second
		s.canary(outcome(breaker.Delivered))
		return h
	}
	for _, want := range []time.Duration{30 * second, 60 * second, 120 * second, 240 * second, 480 * second, 900 * second,
		900 * second} {
		if got := holds(); got != want {
			t.Errorf("held down %s, want %s", got, want)
		}
	}
	if f := s.b.Snapshot(s.now).Flaps; f != 5 {
		t.Errorf("%d flaps", f)
	}
	s.at(s.now.Sub(start) + 31*time.Minute) // three flap windows
	if f := s.b.Snapshot(s.now).Flaps; f != 2 {
		t.Errorf("%d flaps after half an hour", f)
	}
	if got := holds(); got != 120*second {
		t.Errorf("held down %s after half an hour", got)
	}
}

func TestJitterSpreadsProbesByATenth(t *testing.T) {
	for _, j := range []float64{-1, 0.5} {
		b := breaker.New(numbers(func(s *breaker.Settings) { s.HoldDown = second }), func() float64 { return j }, start)
		o := outcome(breaker.Retry)
		o.Generation = 1
		b.Attempted(start, &o, false, nil)
		want := 30*second + time.Duration(j*float64(3*second))
		if got := b.NextProbe().Sub(start); got != want {
			t.Errorf("jitter %v: %s, want %s", j, got, want)
		}
	}
}

func TestSnapshotTellsWhatTheBreakerStandsOn(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = bad
	s.send(breaker.Retry)
	s.at(12 * second)
	got := s.b.Snapshot(s.now)
	want := breaker.Snapshot{
		State: breaker.Down, Since: start.Add(2 * second), DownSince: start.Add(2 * second), Generation: 2, Reason: breaker.Consecutive,
		Evidence: breaker.Evidence{Strikes: 3, Failed: 4, Delivered: 1, Error: "connection refused"},
		HoldDown: 20 * second, NextProbe: 20 * second, Needed: 2, Share: 1,
	}
	if got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	s.at(32 * second)
	if got = s.b.Snapshot(s.now); got.FailedProbes != 1 || got.NextProbe != 30*second {
		t.Errorf("%+v", got)
	}
}

func TestCloneGoesOnAlone(t *testing.T) {
	s := tripped(t, nil)
	s.at(30 * second)
	c := s.b.Clone()
	if want, _ := c.Due(s.now); c.State() != breaker.Probing || want != breaker.WantProbe {
		t.Errorf("%s wants %d", c.State(), want)
	}
	s.answer(bad())
	if c.State() != breaker.Probing || s.b.State() != breaker.Down {
		t.Error("the two are one")
	}
}
