// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// numbers are the defaults of a connector over native exporters.
func numbers(change func(*breaker.Settings)) breaker.Settings {
	s := breaker.Settings{
		Consecutive: 3, Startup: 1, Ratio: 0.5, Window: 30 * time.Second, MinAttempts: 10,
		ProbeTimeout: 5 * time.Second, SendTimeout: 5 * time.Second, Successes: 3,
		RetryInterval: 30 * time.Second, RareInterval: 300 * time.Second, MaxRetries: 10, AllDownEvery: 5 * time.Second,
		HoldDown: 30 * time.Second, HoldDownMax: 15 * time.Minute, FlapWindow: 10 * time.Minute,
		FailoverAfter: 30 * time.Second, MaxWait: 5 * time.Minute,
		Backoff: breaker.Backoff{Initial: time.Second, Multiplier: 2, Max: 10 * time.Second},
	}
	if change != nil {
		change(&s)
	}
	return s
}

// stand drives one breaker through virtual time. Probes are answered at once by probe, or noted if that is nil.
type stand struct {
	t      *testing.T
	b      *breaker.Breaker
	now    time.Time
	batch  uint64
	probe  func() breaker.Outcome
	lines  []string
	open   []breaker.Probe
	sent   []time.Time // probes, and live batches put out
	change []breaker.Change
}

func newStand(t *testing.T, change func(*breaker.Settings)) *stand {
	return &stand{t: t, b: breaker.New(numbers(change), nil, start), now: start}
}

// seasoned is a stand whose breaker has delivered, so that the startup threshold is behind it.
func seasoned(t *testing.T, change func(*breaker.Settings)) *stand {
	s := newStand(t, change)
	s.send(breaker.Delivered)
	return s
}

func outcome(c breaker.Class) breaker.Outcome {
	o := breaker.Outcome{Class: c, Counted: c != breaker.Delivered && c != breaker.Rejected && c != breaker.Local}
	if o.Counted {
		o.Text = "connection refused"
	}
	return o
}

func (s *stand) note(changes []breaker.Change) {
	s.change = append(s.change, changes...)
	for i := range changes {
		c := &changes[i]
		line := fmt.Sprintf("%s ", s.now.Sub(start))
		switch c.Kind {
		case breaker.Moved:
			line += fmt.Sprintf("%s>%s %s", c.From, c.To, c.Reason)
		case breaker.Struck:
			line += fmt.Sprintf("strike %d/%d", c.Strike, c.Of)
		case breaker.Confirmed:
			line += fmt.Sprintf("confirmed %d/%d", c.Confirmed, c.Needed)
		case breaker.Refuted:
			line += fmt.Sprintf("refuted %d", c.Failed)
		case breaker.PutOff:
			line += fmt.Sprintf("put off until %s", c.Until.Sub(start))
		case breaker.Warned:
			line += fmt.Sprintf("warned %s", c.Reason)
		}
		s.lines = append(s.lines, line)
	}
	s.serve()
}

// serve does what is due now.
func (s *stand) serve() {
	for n := 0; ; n++ {
		if n > 20 {
			s.t.Fatalf("%s: never satisfied", s.now.Sub(start))
		}
		want, _ := s.b.Due(s.now)
		if want == breaker.WantNothing {
			return
		}
		p, changes := s.b.Begin(s.now, want, nil)
		s.sent = append(s.sent, s.now)
		if p.Number != 0 {
			s.open = append(s.open, p)
		}
		s.note(changes)
		if p.Number != 0 && s.probe != nil {
			s.answer(s.probe())
		}
	}
}

// answer answers the oldest open probe.
func (s *stand) answer(o breaker.Outcome) {
	s.t.Helper()
	if len(s.open) == 0 {
		s.t.Fatal("no probe is open")
	}
	p := s.open[0]
	s.open = s.open[1:]
	s.note(s.b.Probed(s.now, p, &o, nil))
}

// send tells the outcome of an attempt of a batch of its own, sent and ended now.
func (s *stand) send(c breaker.Class) { s.tell(outcome(c)) }

func (s *stand) tell(o breaker.Outcome) {
	s.batch++
	if o.Batch == 0 {
		o.Batch = s.batch
	}
	if o.Generation == 0 {
		o.Generation = s.b.Generation()
	}
	s.note(s.b.Attempted(s.now, &o, false, nil))
}

// canary claims the wanted canary and tells its outcome.
func (s *stand) canary(o breaker.Outcome) {
	s.t.Helper()
	if n, canary := s.b.Proof(); n == 0 || !canary {
		s.t.Fatalf("%s: no canary is wanted (%s)", s.now.Sub(start), s.b.State())
	}
	s.b.Taken(s.now)
	o.Generation = s.b.Generation()
	s.note(s.b.CanaryDone(s.now, &o, nil))
}

// at lets time pass until d after the start, waking the breaker when it wants to be.
func (s *stand) at(d time.Duration) {
	s.t.Helper()
	until := start.Add(d)
	for n := 0; ; n++ {
		next := s.b.Next()
		if next.IsZero() || next.After(until) {
			break
		}
		if n > 100_000 {
			s.t.Fatalf("%s: time does not pass", s.now.Sub(start))
		}
		if next.After(s.now) {
			s.now = next
		}
		s.note(s.b.Tick(s.now, nil))
	}
	s.now = until
}

// saw checks what changed since the last call.
func (s *stand) saw(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.lines, want) {
		s.t.Errorf("%s: saw\n\t%s\nwant\n\t%s", s.now.Sub(start), strings.Join(s.lines, "\n\t"), strings.Join(want, "\n\t"))
	}
	s.lines, s.change = nil, nil
}

// probed checks when probes were sent since the last call.
func (s *stand) probed(want ...time.Duration) {
	s.t.Helper()
	var got []time.Duration
	for _, at := range s.sent {
		got = append(got, at.Sub(start))
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("asked at %v, want %v", got, want)
	}
	s.sent = nil
}

func (s *stand) is(want breaker.State) {
	s.t.Helper()
	if s.b.State() != want {
		s.t.Fatalf("%s: %s, want %s", s.now.Sub(start), s.b.State(), want)
	}
}

// good and bad are what probes are answered with.
func good() breaker.Outcome { return outcome(breaker.Delivered) }
func bad() breaker.Outcome  { return outcome(breaker.Retry) }

const second = time.Second
