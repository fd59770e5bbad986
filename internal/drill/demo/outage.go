// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/lookout"
	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

const (
	// waitLimit is generous: machines are busy. What has not happened by then is a doubt.
	waitLimit  = 60 * time.Second
	drainLimit = 120 * time.Second
	// controlTime is how long the run without a fault lasts, and controlQuiet how long it is watched after its last item.
	controlTime  = 2 * time.Second
	controlQuiet = time.Second
	quiet        = 3 * time.Second
)

// expected is what must have been seen for the outage to have been one.
var expected = []string{"primary.stored>0", "secondary.stored>0", "primary.hits>0", "secondary.hits>0", "restarts=1",
	"transitions>0", "queued=0", "parked=0"}

// Outage plays the demo: under load the primary goes away, the collector is killed and started again, the secondary goes
// away too, both come back. A short control run without faults comes first. The verdict is the ledger's; an error says
// that there is none.
func Outage(ctx context.Context, o Options) (*ledger.Verdict, error) {
	if o.Load < MinLength {
		return nil, fmt.Errorf("a load of %s is too short for an outage (%s at least)", o.Load, MinLength)
	}
	began, p := time.Now(), paceOf(o.Load)
	control, err := playControl(ctx, o, p, began)
	if err != nil {
		return nil, fmt.Errorf("control run: %w", err)
	}
	if control.Outcome != ledger.Pass {
		return control, nil
	}
	s, ctx, err := newStage(ctx, o, "outage", began)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // after end everything has ended, and its errors were returned
	v, err := s.outage(ctx, p, control)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the others follow from it
	}
	return v, err
}

func playControl(ctx context.Context, o Options, p pace, began time.Time) (*ledger.Verdict, error) {
	o.Events = io.Discard
	s, ctx, err := newStage(ctx, o, "control", began)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // after end everything has ended, and its errors were returned
	if err := s.prologue(ctx, p); err != nil {
		return nil, err
	}
	if err := lookout.Rest(ctx, controlTime); err != nil {
		return nil, err
	}
	if _, err := s.load.stop(); err != nil {
		return nil, err
	}
	if err := s.drained(ctx, controlQuiet); err != nil {
		return nil, err
	}
	m, err := s.end(ctx)
	if err != nil {
		return nil, err
	}
	return s.judge(ledger.Options{Metrics: m, QuietFor: controlQuiet})
}

// prologue brings up the collector and the load.
func (s *stage) prologue(ctx context.Context, p pace) error {
	if err := os.WriteFile(s.path("config.yaml"), []byte(s.configure(p)), 0o600); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.send(ctx, loadgen.Options{})
	return nil
}

// step is a part of a scenario: it acts and waits for what must come of it, and lasts at least its time.
type step struct {
	title string
	lasts time.Duration
	do    func(context.Context) error
}

// play plays steps, and shows a picture at the end of each. What does not happen in time is a doubt, and the next step
// begins: the ledger has the last word.
func (s *stage) play(ctx context.Context, steps []step) error {
	for i, st := range steps {
		began := time.Now()
		s.event("-- %d of %d: %s", i+1, len(steps), st.title)
		var late *lookout.LateError
		switch err := st.do(ctx); {
		case errors.As(err, &late):
			s.doubt("%s", late)
		case err != nil:
			return err
		}
		// What was waited for shall be seen for a while, however long it took.
		if err := lookout.Rest(ctx, max(st.lasts-time.Since(began), st.lasts/4)); err != nil {
			return err
		}
		n := s.look(ctx)
		s.tell(event{at: n.at, who: "demo", notes: n.picture(), text: fmt.Sprintf(
			"where %s acknowledged items are:", words.Count(n.acked))})
	}
	return nil
}

func (s *stage) outage(ctx context.Context, p pace, control *ledger.Verdict) (*ledger.Verdict, error) {
	if s.o.Status != "" {
		stop, err := s.serve(s.o.Status)
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	s.event("control run without an outage: %s, %s items", control.Outcome, words.Count(control.Totals.Acked))
	if err := s.prologue(ctx, p); err != nil {
		return nil, err
	}
	s.event("holdfast is process %d; ask it yourself: holdfast status --state-dir %s", s.child.PID(), s.path("state"))
	s.event("load: %s items/s of traces, metrics and logs for %s", words.Count(itemsPerSecond), p.length)
	err := s.play(ctx, []step{
		{"all well", p.well, s.allWell},
		{"the primary goes away: connections are refused", p.primary, s.primaryAway},
		{"kill -9 of the collector", p.killed, s.crash},
		{"the secondary goes away too", p.both, s.secondaryAway},
		{"both come back", p.healing, s.bothBack},
		{"the load ends", 0, s.epilogue},
	})
	if err != nil {
		return nil, err
	}
	m, err := s.end(ctx)
	if err != nil {
		return nil, err
	}
	return s.judge(ledger.Options{Metrics: m, QuietFor: quiet, Control: control, Expect: expected})
}

func (s *stage) allWell(ctx context.Context) error {
	return s.until(ctx, waitLimit, "all signals at the primary", func(n *snapshot) bool { return n.allAt(0) && n.primary > 0 })
}

func (s *stage) primaryAway(ctx context.Context) error {
	has, began := stored(s.secondary), time.Now()
	if err := s.primary.SetFaults("refuse"); err != nil {
		return err
	}
	if err := s.first(ctx, s.secondary, has); err != nil {
		return err
	}
	s.event("the secondary has its first items %s after the primary went away", words.Seconds(time.Since(began)))
	return s.until(ctx, waitLimit, "the primary is down, all signals at the secondary", func(n *snapshot) bool {
		state, _, _ := n.level(0)
		return n.allAt(1) && (state == "down" || state == "probing")
	})
}

// first waits until a backend has more than it had.
func (s *stage) first(ctx context.Context, b *mockbackend.Backend, had uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, waitLimit, &lookout.LateError{What: "items at a backend that is there", Limit: waitLimit})
	defer cancel()
	err := b.Await(ctx, func(st mockbackend.State) bool {
		sum := uint64(0)
		for _, n := range st.Stored {
			sum += n
		}
		return sum > had
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

func (s *stage) crash(ctx context.Context) error {
	n, err := s.atRisk(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	s.child.Kill()
	has := stored(s.secondary)
	s.event("process %d is dead; %s acknowledged items were in its queue", s.child.PID(), words.Count(n.books().Queued))
	if err := s.begin(ctx); err != nil {
		return err
	}
	ready := time.Now()
	s.event("process %d is ready %s after the kill", s.child.PID(), words.Seconds(ready.Sub(began)))
	err = ledger.AppendFault(s.notes(), ledger.Fault{T0: began.UnixMicro(), T1: ready.UnixMicro(), Where: "holdfast",
		Fault: ledger.Restart, Hits: 1})
	if err != nil {
		return err
	}
	if err := s.first(ctx, s.secondary, has); err != nil {
		return err
	}
	s.event("data flows again %s after the kill", words.Seconds(time.Since(began)))
	return s.until(ctx, waitLimit, "all signals at the secondary again", func(n *snapshot) bool { return n.allAt(1) })
}

func (s *stage) secondaryAway(ctx context.Context) error {
	if err := s.secondary.SetFaults("refuse"); err != nil {
		return err
	}
	return s.until(ctx, waitLimit, "all signals in the emergency file", func(n *snapshot) bool {
		return n.allAt(2) && n.books().Parked > 0
	})
}

func (s *stage) bothBack(ctx context.Context) error {
	began := time.Now()
	if err := errors.Join(s.primary.SetFaults(), s.secondary.SetFaults()); err != nil {
		return err
	}
	err := s.until(ctx, waitLimit, "all signals home at the primary", func(n *snapshot) bool { return n.allAt(0) })
	if err != nil {
		return err
	}
	s.event("all signals are home %s after the backends came back", words.Seconds(time.Since(began)))
	return nil
}

func (s *stage) epilogue(ctx context.Context) error {
	sum, err := s.load.stop()
	if err != nil {
		return err
	}
	s.event("%s items were acknowledged; answers took %.1f ms (median), %.1f ms (99 of 100), %.1f ms at most",
		words.Count(sum.Acked), sum.P50, sum.P99, sum.Max)
	if err := s.drained(ctx, quiet); err != nil {
		return err
	}
	s.event("queue empty, nothing parked, backends quiet for %s: the ledger closes", quiet)
	return nil
}

// drained waits until nothing is owed and nothing has arrived for a while.
func (s *stage) drained(ctx context.Context, calm time.Duration) error {
	var since time.Time
	var had uint64
	return s.until(ctx, drainLimit, "nothing queued, nothing parked, backends quiet", func(n *snapshot) bool {
		b, has := n.books(), n.primary+n.secondary
		if n.status == nil || b.Accepted == 0 || b.Queued+b.Parked > 0 || has != had || since.IsZero() {
			since, had = n.at, has
			return false
		}
		return n.at.Sub(since) > calm
	})
}
