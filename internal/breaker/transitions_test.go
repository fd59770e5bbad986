// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker_test

import (
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// The transitions of section 5.3 of the failover specification, by their numbers.

func TestT1FailureMakesSuspectAndAsks(t *testing.T) {
	s := seasoned(t, nil)
	s.send(breaker.Retry)
	s.saw("0s healthy>suspect failure")
	s.probed(0)
	if s.b.Silent() {
		t.Error("silent, though a delivery ended in the second before")
	}
	s.at(2 * second)
	s.send(breaker.Ambiguous)
	s.saw("2s strike 2/3")
	if !s.b.Silent() {
		t.Error("not silent: nothing was delivered for two seconds")
	}
	s.send(breaker.Delivered)
	if s.b.Silent() {
		t.Error("silent after a delivery")
	}
}

func TestT1FirstFailureSinceStartTrips(t *testing.T) {
	s := newStand(t, nil)
	s.send(breaker.Retry)
	s.saw("0s healthy>suspect failure", "0s suspect>down startup")
}

func TestT2SiblingTripMakesSuspectAndOneStrikeEnough(t *testing.T) {
	s := seasoned(t, nil)
	s.note(s.b.SiblingTripped(s.now, nil))
	s.saw("0s healthy>suspect sibling_trip")
	s.at(3 * second)
	s.probed(0) // one look, not one a second
	s.answer(bad())
	s.saw("3s suspect>down sibling")
}

func TestT2SiblingTripChangesNothingForOneThatDelivers(t *testing.T) {
	s := seasoned(t, nil)
	s.note(s.b.SiblingTripped(s.now, nil))
	s.send(breaker.Delivered)
	s.answer(bad()) // its own evidence has to be as strong as ever
	s.saw("0s healthy>suspect sibling_trip", "0s strike 1/3")
}

func TestT3SuspectIsHealthyAfterAQuietWindow(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = good
	s.send(breaker.Retry)
	s.at(10 * second)
	s.send(breaker.Retry)
	s.at(2 * time.Minute)
	s.saw("0s healthy>suspect failure", "10s strike 2/3", "40s suspect>healthy quiet")
	s.probed(0, second, 2*second, 10*second, 11*second, 12*second) // three good ones each
	s.send(breaker.Retry)
	s.saw("2m0s healthy>suspect failure") // counted anew
}

func TestT3GoodProbeEndsASiblingsDoubt(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = good
	s.note(s.b.SiblingTripped(s.now, nil))
	s.saw("0s healthy>suspect sibling_trip", "0s suspect>healthy quiet")
}

func TestT4ThreeStrikesASecondApartTrip(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = bad
	s.at(5 * second)
	generation := s.b.Generation()
	s.send(breaker.Retry)
	s.at(20 * second)
	s.saw("5s healthy>suspect failure", "6s strike 2/3", "7s suspect>down consecutive")
	s.probed(5*second, 6*second, 7*second)
	if s.b.Generation() != generation+1 {
		t.Errorf("generation %d after %d", s.b.Generation(), generation)
	}
	if next := s.b.NextProbe().Sub(start); next != 37*second {
		t.Errorf("next probe at %s", next)
	}
}

func TestT4FailedShareTrips(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  int // of ten
		trip bool
	}{{"thirty percent stay", 3, false}, {"sixty percent trip", 6, true}} {
		t.Run(c.name, func(t *testing.T) {
			s := seasoned(t, nil)
			s.probe = good
			for i := range 600 {
				s.at(time.Duration(i) * 100 * time.Millisecond)
				if i*7%10 < c.bad {
					s.send(breaker.Retry)
				} else {
					s.send(breaker.Delivered)
				}
			}
			if tripped := s.b.Reason() == breaker.Ratio; tripped != c.trip {
				t.Errorf("tripped %v: %v", tripped, s.lines)
			}
		})
	}
}

func TestT4FailoverDelayHoldsATripBack(t *testing.T) {
	s := seasoned(t, func(s *breaker.Settings) { s.FailoverDelay = 10 * second })
	s.probe = bad
	s.at(5 * second)
	s.send(breaker.Retry)
	s.at(14 * second)
	s.is(breaker.Suspect)
	s.at(15 * second)
	s.is(breaker.Down)
}

func TestT4FailoverDelayEndsWithoutAStrike(t *testing.T) {
	s := seasoned(t, func(s *breaker.Settings) { s.FailoverDelay = 10 * second })
	for range 3 { // the probes hang
		s.send(breaker.Retry)
		s.at(s.now.Sub(start) + second)
	}
	s.lines = nil
	s.at(12 * second)
	s.saw("10s suspect>down consecutive")
}

func TestT4FailoverDelayDoesNotTripWhatAnswersWell(t *testing.T) {
	s := seasoned(t, func(s *breaker.Settings) { s.FailoverDelay = 10 * second })
	for range 3 {
		s.send(breaker.Retry)
		s.at(s.now.Sub(start) + second)
	}
	s.probe = good
	for len(s.open) > 0 {
		s.answer(good())
	}
	s.lines = nil
	s.at(time.Minute)
	s.saw("32s suspect>healthy quiet")
}

func TestT5ChecksTripALevelThatDelivers(t *testing.T) {
	for _, trips := range []bool{false, true} {
		s := newStand(t, func(s *breaker.Settings) { s.Every, s.Trips, s.External = 30*second, trips, true })
		s.probe = good
		deliver := func(until time.Duration) {
			for s.now.Sub(start) < until && s.b.State().Carries() {
				s.at(s.now.Sub(start) + 100*time.Millisecond)
				s.send(breaker.Delivered)
			}
		}
		s.serve() // the check at the start
		deliver(20 * second)
		s.probe = bad
		deliver(5 * time.Minute)
		if trips {
			s.is(breaker.Down)
			if s.b.Reason() != breaker.Checks || s.now.Sub(start) != 90*second {
				t.Errorf("%s at %s", s.b.Reason(), s.now.Sub(start))
			}
		} else if s.b.Generation() != 1 {
			t.Errorf("checks alone tripped a level that delivers: %v", s.lines)
		}
	}
}

func TestT5CheckThatWasNeverGoodTripsNothing(t *testing.T) {
	s := newStand(t, func(s *breaker.Settings) { s.Every, s.Trips, s.External = 30*second, true, true })
	s.probe = bad
	s.serve()
	s.at(10 * time.Minute)
	s.saw("0s warned untrusted")
	if len(s.sent) != 21 {
		t.Errorf("%d checks in ten minutes", len(s.sent))
	}
}

func TestT6ShortRetryAfterDelaysLongOneTrips(t *testing.T) {
	s := seasoned(t, nil)
	after := func(d time.Duration) { s.tell(breaker.Outcome{Class: breaker.RetryAfter, After: d}) }
	after(10 * second)
	s.is(breaker.Healthy)
	if until := s.b.ThrottledUntil().Sub(start); until != 10*second {
		t.Errorf("throttled until %s", until)
	}
	s.at(20 * second)
	after(31 * second)
	s.saw("0s put off until 10s", "20s healthy>down throttled")
	if next := s.b.NextProbe().Sub(start); next != 51*second {
		t.Errorf("next probe at %s", next)
	}
	s.at(50 * second)
	s.probed()
	s.probe = good
	s.at(51 * second)
	s.probed(51*second, 51*second, 51*second) // two probes and the canary: here nobody keeps a gap
}

func TestT6ThrottledMoreThanHalfTheTimeTrips(t *testing.T) {
	s := seasoned(t, nil)
	var at time.Duration
	for ; at < 10*time.Minute; at += 16 * second { // 10 s of every 16
		s.at(at)
		if s.tell(breaker.Outcome{Class: breaker.RetryAfter, After: 10 * second}); s.b.State() != breaker.Healthy {
			break
		}
		s.at(at + 10*second)
		s.send(breaker.Delivered)
	}
	if s.b.Reason() != breaker.Throttled || at != 7*16*second { // six spells are 60 s of the last 120, seven are more
		t.Errorf("%s, %s at %s", s.b.State(), s.b.Reason(), at)
	}
}

func TestT6NothingElseToGoToWaits(t *testing.T) {
	s := seasoned(t, func(s *breaker.Settings) { s.Alone = true })
	s.tell(breaker.Outcome{Class: breaker.RetryAfter, After: time.Hour})
	s.saw("0s put off until 5m0s") // throttle.max_wait
	s.is(breaker.Healthy)
}

func TestT6NobodyElseTakesDataWaits(t *testing.T) {
	s := seasoned(t, nil)
	s.b.SetSole(true)
	s.tell(breaker.Outcome{Class: breaker.RetryAfter, After: 45 * second})
	s.is(breaker.Healthy)
	s.b.SetSole(false) // another one is back: it is not taken down for what it asked for before, but for the next wish
	s.is(breaker.Healthy)
	s.at(46 * second)
	s.tell(breaker.Outcome{Class: breaker.RetryAfter, After: 45 * second})
	s.saw("0s put off until 45s", "46s healthy>down throttled")
	s.is(breaker.Down)
}

func TestT6UnnamedDelayIsTheBackoff(t *testing.T) {
	s := seasoned(t, nil)
	for range 3 {
		for range 5 { // what fails together asks once
			s.tell(breaker.Outcome{Class: breaker.RetryAfter})
		}
		s.at(s.b.ThrottledUntil().Sub(start))
	}
	s.send(breaker.Delivered)
	s.tell(breaker.Outcome{Class: breaker.RetryAfter})
	s.saw("0s put off until 1s", "1s put off until 3s", "3s put off until 7s", "7s put off until 8s")
}

// tripped is a stand whose breaker went down at 0s for three strikes.
func tripped(t *testing.T, change func(*breaker.Settings)) *stand {
	t.Helper()
	s := newStand(t, change)
	s.send(breaker.Retry)
	s.is(breaker.Down)
	s.lines, s.sent = nil, nil
	return s
}

func TestT7ProbeIsDueAfterTheInterval(t *testing.T) {
	s := tripped(t, nil)
	s.at(time.Minute)
	s.saw("30s down>probing due")
	s.probed(30 * second)
}

func TestT7OneSuccessGoesStraightToACanary(t *testing.T) {
	for _, live := range []bool{false, true} {
		s := tripped(t, func(s *breaker.Settings) { s.Live, s.Successes = live, 1 })
		s.at(30 * second)
		s.saw("30s down>probing due")
		s.canary(outcome(breaker.Delivered))
		s.saw("30s probing>healthy canary")
	}
}

func TestT8ConfirmationsThenCanary(t *testing.T) {
	s := tripped(t, nil)
	s.probe = good
	s.at(30 * second)
	s.saw("30s down>probing due", "30s confirmed 1/2", "30s confirmed 2/2")
	s.probed(30*second, 30*second, 30*second)
	first, _ := s.b.Proof()
	s.at(65 * second) // nobody came: still good?
	s.saw("1m0s confirmed 2/2")
	s.probed(60 * second)
	if again, canary := s.b.Proof(); again == first || !canary {
		t.Error("the canary is not wanted anew after a good refresh")
	}
	s.probe = bad
	s.at(90 * second)
	s.saw("1m30s probing>down probe_failed")
	if n, _ := s.b.Proof(); n != 0 {
		t.Error("a canary is wanted of a level that is down")
	}
}

func TestT9CanaryDeliveredReturns(t *testing.T) {
	s := tripped(t, nil)
	s.probe = good
	s.at(30 * second)
	generation := s.b.Generation()
	s.canary(outcome(breaker.Delivered))
	s.is(breaker.Healthy)
	if s.b.Generation() != generation+1 {
		t.Errorf("generation %d after %d", s.b.Generation(), generation)
	}
	s.lines = nil
	late := outcome(breaker.Retry)
	late.Generation = generation
	s.tell(late) // from before the return
	s.saw()
	s.send(breaker.Retry)
	s.saw("30s healthy>suspect failure")
}

func TestT9LiveKindWantsEveryConfirmationAsABatch(t *testing.T) {
	s := tripped(t, func(s *breaker.Settings) { s.Live = true })
	s.at(30 * second)
	s.canary(outcome(breaker.Delivered))
	s.canary(outcome(breaker.Delivered))
	s.canary(outcome(breaker.Delivered))
	s.saw("30s down>probing due", "30s confirmed 1/2", "30s confirmed 2/2", "30s probing>healthy canary")
	if len(s.open) != 0 {
		t.Error("a probe was sent of kind live")
	}
}

func TestT10CanaryWithoutAVerdictIsWantedAgain(t *testing.T) {
	s := tripped(t, nil)
	s.probe = good
	s.at(30 * second)
	s.lines = nil
	last, _ := s.b.Proof()
	for _, c := range []breaker.Class{breaker.Rejected, breaker.Local} {
		s.canary(outcome(c))
		if n, canary := s.b.Proof(); n <= last || !canary {
			t.Errorf("%s: proof %d after %d", c, n, last)
		} else {
			last = n
		}
	}
	s.b.Taken(s.now)
	s.b.ProofLost(s.now, s.b.Generation())
	if n, _ := s.b.Proof(); n <= last {
		t.Error("not wanted again after its sender stopped")
	}
	s.saw()
	s.is(breaker.Probing)
}

func TestT10RetryAfterPutsTheProofOff(t *testing.T) {
	s := tripped(t, nil)
	s.at(30 * second)
	s.answer(breaker.Outcome{Class: breaker.RetryAfter, After: 40 * second})
	s.probe = good
	s.at(69 * second)
	s.saw("30s down>probing due", "30s put off until 1m10s")
	s.at(70 * second)
	s.canary(breaker.Outcome{Class: breaker.RetryAfter, After: 7 * second})
	if n, _ := s.b.Proof(); n != 0 {
		t.Error("a canary is wanted while throttled")
	}
	s.at(77 * second)
	s.canary(outcome(breaker.Delivered))
	s.saw("1m10s confirmed 1/2", "1m10s confirmed 2/2", "1m10s put off until 1m17s", "1m17s probing>healthy canary")
}

func TestT11FailedProbesBecomeRareAndNeverEnd(t *testing.T) {
	s := tripped(t, func(s *breaker.Settings) {
		s.RetryInterval, s.RareInterval, s.MaxRetries, s.HoldDown = 15*second, 150*second, 5, 15*second
	})
	s.probe = bad
	s.at(400 * second)
	s.probed(15*second, 30*second, 45*second, 60*second, 75*second, 225*second, 375*second)
	s.at(24 * time.Hour)
	if n := len(s.sent); n != (24*3600-375)/150 {
		t.Errorf("%d probes in the rest of the day", n)
	}
	s.probe = good
	s.at(24*time.Hour + 150*second)
	s.canary(outcome(breaker.Delivered))
	s.is(breaker.Healthy)
}

func TestT11FailedCanaryTakesItDownAgain(t *testing.T) {
	for _, c := range []breaker.Class{breaker.Retry, breaker.Ambiguous, breaker.Misconfigured} {
		s := tripped(t, nil)
		s.probe = good
		s.at(30 * second)
		s.lines = nil
		s.canary(outcome(c))
		s.saw("30s probing>down canary_failed")
		if next := s.b.NextProbe().Sub(start); next != 60*second {
			t.Errorf("%s: next probe at %s", c, next)
		}
	}
}

func TestT12SiblingReturnHastensTheProbe(t *testing.T) {
	s := tripped(t, func(s *breaker.Settings) { s.HoldDown = 20 * second })
	s.at(10 * second)
	s.b.SiblingReturned(s.now)
	if next := s.b.NextProbe().Sub(start); next != 20*second { // not before the hold-down is over
		t.Errorf("next probe at %s", next)
	}
	s.at(25 * second)
	s.answer(bad())
	s.at(30 * second)
	s.b.SiblingReturned(s.now)
	s.serve()
	s.probed(20*second, 30*second)
}

func TestT12OperatorHastensTheProbe(t *testing.T) {
	s := tripped(t, nil)
	s.at(3 * second)
	s.b.ProbeNow(s.now)
	s.serve()
	s.probed(3 * second)
	s.answer(breaker.Outcome{Class: breaker.RetryAfter, After: 20 * second})
	s.b.ProbeNow(s.now)
	s.at(22 * second)
	s.probed() // not even an operator calls a throttled level
	s.at(23 * second)
	s.probed(23 * second)

	s = seasoned(t, nil)
	s.b.ProbeNow(s.now)
	s.serve()
	s.answer(good())
	s.probed(0)
	s.saw()
}

func TestT14AllDownProbesOftenAndOneIsEnough(t *testing.T) {
	s := tripped(t, nil)
	s.probe = bad
	s.b.SetAllDown(s.now, true)
	s.at(22 * second)
	s.probed(5*second, 10*second, 15*second, 20*second)
	s.probe = good
	s.lines = nil
	s.at(25 * second)
	s.saw("25s down>probing due", "25s confirmed 1/1")
	s.canary(outcome(breaker.Delivered))
	s.is(breaker.Healthy)
}

func TestT14AfterAllDownThePaceIsNormal(t *testing.T) {
	s := tripped(t, func(s *breaker.Settings) { s.MaxRetries = 3 })
	s.probe = bad
	s.b.SetAllDown(s.now, true)
	s.at(52 * second)
	s.b.SetAllDown(s.now, false)
	s.sent = nil
	s.at(200 * second) // ten failed probes of the all-down do not make the next ones rare
	s.probed(80*second, 110*second, 140*second)
}

func TestT14AfterAllDownTheHoldDownHolds(t *testing.T) {
	s := tripped(t, func(s *breaker.Settings) { s.HoldDown = 2 * time.Minute })
	s.probe = good
	s.b.SetAllDown(s.now, true)
	s.at(6 * second)
	s.b.SetAllDown(s.now, false)
	if n, _ := s.b.Proof(); n != 0 {
		t.Error("a canary is wanted during the hold-down")
	}
	s.sent = nil
	s.at(170 * second)
	s.probed(120*second, 120*second, 150*second) // the second confirmation, the canary, a refresh
}

func TestT16ReloadKeepsTheStateAndCutsTimes(t *testing.T) {
	s := tripped(t, nil)
	s.at(2 * second)
	set := numbers(func(s *breaker.Settings) { s.RetryInterval, s.HoldDown = 10*second, 10*second })
	s.b.Reconfigure(s.now, set)
	s.is(breaker.Down)
	s.at(12 * second)
	s.probed(12 * second)

	s = tripped(t, nil)
	s.b.Reconfigure(s.now, numbers(func(s *breaker.Settings) { s.RetryInterval, s.HoldDown = time.Hour, time.Hour }))
	s.at(30 * second) // never drawn out
	s.probed(30 * second)

	s = seasoned(t, nil)
	s.tell(breaker.Outcome{Class: breaker.RetryAfter, After: 20 * second})
	s.b.Reconfigure(s.now, numbers(func(s *breaker.Settings) { s.MaxWait = 5 * second }))
	if until := s.b.ThrottledUntil().Sub(start); until != 5*second {
		t.Errorf("throttled until %s", until)
	}
}

func TestT16CheckIsStartedAndStopped(t *testing.T) {
	s := seasoned(t, nil)
	s.probe = good
	s.b.Reconfigure(s.now, numbers(func(s *breaker.Settings) { s.Every = 10 * second }))
	s.at(25 * second)
	s.probed(0, 10*second, 20*second)
	s.b.Reconfigure(s.now, numbers(nil))
	s.at(time.Minute)
	s.probed()
}

func TestEmergencyMemberIsHealthyOrDown(t *testing.T) {
	s := newStand(t, func(s *breaker.Settings) { s.Emergency = true })
	o := outcome(breaker.Retry)
	o.Counted = false // no condition is asked
	s.tell(o)
	s.saw("0s healthy>down write")
	s.probe = bad
	s.at(7 * second)
	s.saw("5s refuted 1")
	s.probe = good
	s.at(10 * second)
	s.saw("10s down>healthy write")
	if n, _ := s.b.Proof(); n != 0 {
		t.Error("a canary is wanted of a file")
	}
	s.note(s.b.SiblingTripped(s.now, nil))
	s.send(breaker.Delivered)
	s.send(breaker.Rejected)
	s.is(breaker.Healthy)
}
