// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// told plays commands and returns what was told, without the times.
func told(t *testing.T, s *story, commands string) string {
	t.Helper()
	s.t = t
	var out []string
	for _, line := range strings.Split(s.play(commands), "\n") {
		_, text, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(text, "ledger ") {
			out = append(out, text)
		}
	}
	return strings.Join(out, "\n")
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// F1. What waits for a level moves with the view that calls it silent, what is in flight 5 s after the trip.
func TestDeadLevelHoldsNothingHostage(t *testing.T) {
	s := &story{}
	told(t, s, `route a slots=3 patience=5m timeout=30s | b slots=3
		view healthy | healthy
		take times=3
		answer 3 delivered
		answer 1 retry`)
	expect(t, told(t, s, "view suspect silent | healthy"), "1 → b, from a (failure)")
	expect(t, told(t, s, `view down | healthy
		at 5s
		answer 2`), "2 cancelled\n2 → b, from a (down)")
}

// F2. Nothing is ever acknowledged or set aside because time ran out, however long it fails.
func TestRetryTimeRunningOutDeletesNothing(t *testing.T) {
	for _, patience := range []string{"0s", "2s", "10s"} {
		s := &story{}
		told(t, s, "route a slots=4 patience="+patience+` | b slots=4 patience=`+patience+`
			view healthy | healthy
			take`)
		for n := 2; len(s.flying)+int(s.r.InHand().Waiting.Pieces) > 0; n++ {
			if n > 200 {
				t.Fatalf("patience %s: never back in the queue", patience)
			}
			for name := range s.flying {
				told(t, s, "take once\nanswer "+s.next()+" delivered\nanswer "+name+" retry")
			}
			s.at(s.now.Add(500 * time.Millisecond))
		}
		if s.ends["1"] != failover.NackBatch {
			t.Errorf("patience %s: ended with effect %d, not in the queue", patience, s.ends["1"])
		}
	}
}

// F3. A refused batch is at the next level with the refusal.
func TestBatchMovesOnAtOnce(t *testing.T) {
	for _, verdict := range []string{"retry", "ambiguous", "unclear", "misconfigured", "rejected", "retry_after:5m"} {
		s := &story{}
		told(t, s, "route a | b\nview healthy | healthy\ntake")
		if got := told(t, s, "answer 1 "+verdict); !strings.HasPrefix(got, "1 → b") {
			t.Errorf("%s: %s", verdict, got)
		}
	}
}

// F4. Of eight records one is refused: seven are delivered, one is dead, once, and nothing else is.
func TestPoisonIsDeadOnce(t *testing.T) {
	s := &story{}
	told(t, s, "route a slots=4 | b\nview healthy | healthy\ntake records=8 items=8")
	const poison = 6
	for len(s.flying) > 0 {
		for name, sent := range s.flying {
			verdict := "delivered"
			for _, seq := range sent.Batch.Seqs {
				if seq == poison {
					verdict = "rejected"
				}
			}
			told(t, s, "answer "+name+" "+verdict)
			break
		}
	}
	if s.items[failover.AckBatch] != 7 || s.items[failover.DeadBatch] != 1 {
		t.Errorf("%v", s.items)
	}
}

// F5. Whatever is misconfigured, nothing is set aside or acknowledged.
func TestMisconfiguredEndpointDeletesNothing(t *testing.T) {
	for _, view := range []string{"healthy | healthy", "suspect silent | healthy", "suspect silent | suspect silent",
		"healthy | down", "suspect silent | down", "down | probing canary", "down | healthy"} {
		s := &story{}
		told(t, s, "route a slots=4 | b slots=4\nview "+view+"\ntake times=3")
		for range 50 {
			for name := range s.flying {
				told(t, s, "answer "+name+" misconfigured")
			}
			s.at(s.now.Add(time.Second))
		}
		if len(s.items) > 1 || s.items[failover.NackBatch] == 0 && len(s.items) > 0 {
			t.Errorf("%s: %v", view, s.items)
		}
	}
}

// F13. A member that delivered a batch is not sent it again while the batch is in hand, whatever happens in between.
func TestMemberThatDeliveredIsNotSentAgain(t *testing.T) {
	s := &story{}
	told(t, s, "route a members=a1,a2 | b\nview healthy | healthy\ntake records=2\nanswer 1 a1=delivered a2=retry")
	told(t, s, "view down | down\nanswer 1 retry")
	expect(t, told(t, s, "view healthy | down"), "1 → a2, from b (down)\nqueue woken")
	expect(t, told(t, s, "answer 1 rejected"), "1 taken apart: 1.1 1.2\n1.1 → a2\n1.2 → a2")
	expect(t, told(t, s, "answer 1.1 delivered"), "1.1 delivered")
}

// A late answer of an attempt that was given up is not heard, nor is one that comes twice.
func TestAnswersThatNobodyAwaitsChangeNothing(t *testing.T) {
	s := &story{}
	told(t, s, "route a | b\nview healthy | healthy\ntake")
	sent := s.flying["1"]
	for _, ev := range []failover.RouterEvent{
		{Kind: failover.BatchFinished, Batch: sent.Batch, Try: sent.Try + 1},
		{Kind: failover.CanaryRefused, Batch: sent.Batch, Try: sent.Try - 1},
		{Kind: failover.BatchHalved, Batch: sent.Batch},
	} {
		if out := s.r.Step(s.now, s.view, 0, ev, nil); len(out) > 0 {
			t.Errorf("%+v: %+v", ev, out)
		}
	}
	told(t, s, "answer 1 delivered")
	ev := failover.RouterEvent{Kind: failover.BatchFinished, Batch: sent.Batch, Try: sent.Try,
		Results: []failover.Result{{Verdict: exporter.Deliver()}}}
	for _, e := range s.r.Step(s.now, s.view, 0, ev, nil) {
		if e.Kind != failover.WantBatches {
			t.Errorf("answered twice: %+v", e)
		}
	}
}

func TestRoutesThatNoRouterServesAreRefused(t *testing.T) {
	for name, set := range map[string]failover.RouteSettings{
		"no level":      {},
		"no members":    {Levels: []failover.LevelSettings{{Slots: 1}}},
		"no slots":      {Levels: []failover.LevelSettings{{Members: []string{"a"}}}},
		"emergency":     {Levels: []failover.LevelSettings{{Members: []string{"a"}, Slots: 1, Emergency: true}}},
		"many levels":   {Levels: make([]failover.LevelSettings, 65)},
		"many members":  {Levels: []failover.LevelSettings{{Members: make([]string, 65), Slots: 1}}},
		"not the last":  {Levels: []failover.LevelSettings{{Members: []string{"a"}, Slots: 1}, {Members: []string{"f"}, Slots: 1, Emergency: true}, {Members: []string{"b"}, Slots: 1}}},
		"negative slot": {Levels: []failover.LevelSettings{{Members: []string{"a"}, Slots: -1}}},
	} {
		if _, err := failover.NewRouter(set); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
