// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

const (
	// rate is the load in items per second, over three signals: seed A's batches of 1024 are full every 2.6 s.
	rate = 1200
	// probeTimeout is how long a probe may take that began before the fault ended.
	probeTimeout = 5 * time.Second
	// slack is what the machine may add to a bound of seconds.
	slack = 2 * time.Second
	// ramp is how long the share of a level grows after its return (return.ramp).
	ramp = 30 * time.Second
	// repayAfter is how long the first level has to be well before the emergency file is repaid (backfill.after).
	repayAfter = time.Minute
	// stay is how long a state is looked at before the next thing happens.
	stay = 5 * time.Second
)

// result is what one case has shown.
type result struct {
	scenario
	began   time.Time
	took    time.Duration
	err     error    // why it could not be played to its end
	broken  []string // promises that were not kept
	verdict *ledger.Verdict

	failed, heal  time.Time // of the primary
	second        time.Time // the secondary fails
	allDown       time.Duration
	counted       float64 // possible duplicates, as the collector counts
	switched      float64 // changes of the active level, all signals
	tripped       float64 // times a level went down, all signals
	watch         *watch
	stalls        *stalls
	raw           bool // nothing is taken off for want of a processor: it is the only run
	m             measures
	acceptedWhile uint64 // items acknowledged while all levels were down
	parked        uint64 // items in the emergency file when all was well again
	repaid        time.Duration
}

func (r *result) ok() bool { return r.err == nil && len(r.broken) == 0 }

func (r *result) broke(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

func (r *result) String() string {
	text := fmt.Sprintf("%s, %.0f s: ", r.name(), r.took.Seconds())
	if r.err != nil {
		return text + "ERROR " + r.err.Error()
	}
	if len(r.broken) > 0 {
		return text + fmt.Sprintf("FAIL %q", r.broken)
	}
	return text + "ok"
}

// play is a case from its beginning to its verdict.
func (r *result) play(ctx context.Context, b *seedbed.Bed, good *ledger.Verdict) error {
	if err := b.Start(ctx); err != nil {
		return err
	}
	l := b.Load(loadgen.Options{Run: "matrix", Producers: 1, Items: 100, ItemBytes: 120, Rate: rate})
	for _, step := range []func(context.Context, *seedbed.Bed) error{r.settled, r.primaryFails, r.secondaryFails, r.allHeal} {
		if err := step(ctx, b); err != nil {
			return err
		}
	}
	if _, err := l.Stop(); err != nil {
		return err
	}
	if err := b.Drained(ctx); err != nil {
		return err
	}
	s, err := b.Books(ctx)
	if err != nil {
		return err
	}
	r.counted, _ = s.Sum("holdfast_failover_possible_duplicate_items_total")
	r.switched, _ = s.Sum("holdfast_failover_switches_total")
	r.tripped, _ = s.Sum("holdfast_failover_transitions_total", "to", "down")
	bound := int64(r.counted)
	v, notes, err := b.Judge(ctx, ledger.Options{Control: good, MaxDuplicates: &bound})
	if err != nil {
		return err
	}
	r.verdict = v
	r.m = measure(notes, b.Process().Lines(), r.failed, r.heal)
	r.judge()
	return nil
}

// settled waits until every signal has reached the primary, three batches of it.
func (r *result) settled(ctx context.Context, b *seedbed.Bed) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := b.Primary.Await(ctx, func(s mockbackend.State) bool {
		return s.Requests["traces"] > 2 && s.Requests["metrics"] > 2 && s.Requests["logs"] > 2
	})
	if err != nil {
		return fmt.Errorf("the primary is not used: %w", err)
	}
	return nil
}

func (r *result) primaryFails(ctx context.Context, b *seedbed.Bed) error {
	r.stalls = watchStalls(b.Process().PID())
	defer r.stalls.stop()
	var err error
	if r.watch, err = startWatch(ctx, b); err != nil {
		return err
	}
	r.failed = time.Now()
	if err := b.Primary.SetFaults(r.set()...); err != nil {
		return err
	}
	limit := r.tripBound() + 20*time.Second
	if !r.switches() {
		r.watch.stop()
		return pause(ctx, 2*r.after)
	}
	err = b.Until(ctx, limit, "every signal is switched, and its first level down", func(s seedbed.Series) bool {
		down, _ := s.Sum("holdfast_failover_level_state", "level", "0", "state", "down")
		probing, _ := s.Sum("holdfast_failover_level_state", "level", "0", "state", "probing")
		return s.AllAt(1) && down+probing == float64(len(signals))
	})
	r.watch.stop()
	if err != nil {
		return err
	}
	return pause(ctx, stay)
}

func (r *result) secondaryFails(ctx context.Context, b *seedbed.Bed) error {
	if !r.both {
		return nil
	}
	r.second = time.Now()
	if err := b.Secondary.SetFaults(r.set()...); err != nil {
		return err
	}
	if !r.holds() {
		return pause(ctx, 2*stay)
	}
	times := r.seed.Times()
	limit := times.SecondTimeout + 3*probeTimeout + 20*time.Second
	err := b.Until(ctx, limit, "all levels are down, for every signal", func(s seedbed.Series) bool {
		down := s.Each("holdfast_failover_all_down", "signal")
		for _, v := range down {
			if v == 0 {
				return false
			}
		}
		return len(down) > 0
	})
	if err != nil {
		return err
	}
	r.allDown = time.Since(r.second)
	accepted := func(s seedbed.Series) float64 { n, _ := s.Sum("holdfast_ledger_accepted_items_total"); return n }
	before, err := b.Books(ctx)
	if err != nil {
		return err
	}
	if r.seed == seedbed.A {
		err = b.Until(ctx, 20*time.Second, "every signal reaches the emergency file", func(s seedbed.Series) bool {
			for _, signal := range []string{"traces", "metrics", "logs"} {
				if n, _ := s.Sum("holdfast_failover_delivered_items_total", "level", "2", "signal", signal); n == 0 {
					return false
				}
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if err := pause(ctx, stay); err != nil {
		return err
	}
	after, err := b.Books(ctx)
	r.acceptedWhile = uint64(max(0, accepted(after)-accepted(before)))
	return err
}

// allHeal ends the faults and waits until all data goes to the first level again.
func (r *result) allHeal(ctx context.Context, b *seedbed.Bed) error {
	r.heal = time.Now()
	for _, s := range []*mockbackend.Backend{b.Primary, b.Secondary} {
		if err := s.SetFaults(); err != nil {
			return err
		}
	}
	err := b.Until(ctx, r.returnBound()+ramp+30*time.Second, "all data goes to the first level again", func(s seedbed.Series) bool {
		healthy, _ := s.Sum("holdfast_failover_level_state", "level", "0", "state", "healthy")
		return s.AllAt(0) && healthy == float64(len(signals))
	})
	if err != nil {
		return err
	}
	if r.both && r.holds() && r.seed == seedbed.A {
		if err := r.repaying(ctx, b); err != nil {
			return err
		}
	}
	return pause(ctx, max(stay, 2*r.seed.Times().Linger))
}

// repaying waits until a backend has everything that is in the emergency file.
func (r *result) repaying(ctx context.Context, b *seedbed.Bed) error {
	const owed = "holdfast_failover_emergency_items"
	s, err := b.Books(ctx)
	if err != nil {
		return err
	}
	items, _ := s.Sum(owed)
	r.parked = uint64(items)
	began := time.Now()
	err = b.Until(ctx, repayAfter+time.Minute, "the emergency file is repaid", func(s seedbed.Series) bool {
		items, found := s.Sum(owed)
		return found && items == 0
	})
	r.repaid = time.Since(began)
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worst is the largest of some durations, 0 of none.
func worst(all map[string]time.Duration) time.Duration {
	out := time.Duration(0)
	for _, d := range all {
		out = max(out, d)
	}
	return out
}

// signals are the words of all of them.
var signals = []string{"traces", "metrics", "logs"}

func missing(all map[string]time.Duration) (out []string) {
	for _, s := range signals {
		if _, ok := all[s]; !ok {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}
