// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// sampleEvery is how often the count of failed attempts is read: how exactly the moment of a refusal is known.
const sampleEvery = 15 * time.Millisecond

// Series of the first level's attempts: how many there were, by what came of them, and how long they took.
const (
	attempts = "holdfast_failover_attempts_total"
	lengths  = "holdfast_failover_attempt_seconds"
)

// moment brackets an event: it was after from and not after to. The zero moment is unknown.
type moment struct{ from, to time.Time }

// watch finds out when the first attempt that failed at the primary ended, and how long it had taken, by signal. Who is
// refused a connection, or never read, does not show at the backend, so the collector is asked again and again; the moment
// is known to lie between two answers.
type watch struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	failed map[string]moment        // read after stop
	took   map[string]time.Duration // read after stop
	before map[string]seedbed.Series
}

// startWatch begins with an answer: what comes next is compared with it, however long the next one takes.
func startWatch(ctx context.Context, b *seedbed.Bed) (*watch, error) {
	since := time.Now()
	first, err := b.Books(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, failed: map[string]moment{}, took: map[string]time.Duration{}, before: map[string]seedbed.Series{}}
	w.done.Go(func() { w.run(ctx, b, first, since) })
	return w, nil
}

func (w *watch) run(ctx context.Context, b *seedbed.Bed, last seedbed.Series, since time.Time) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for len(w.took) < len(signals) {
		asked := time.Now()
		if s, err := b.Books(ctx); err == nil {
			w.compare(last, s, moment{since, time.Now()})
			last, since = s, asked
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// compare looks for what happened between two answers. Of attempts that ended between them it is the mean that they took.
func (w *watch) compare(before, after seedbed.Series, when moment) {
	for _, signal := range signals {
		if _, known := w.failed[signal]; !known {
			if failures(after, signal) <= failures(before, signal) {
				continue
			}
			w.failed[signal], w.before[signal] = when, before
		}
		if _, known := w.took[signal]; known {
			continue
		}
		of := func(what string) float64 { // it is counted a moment later, and may be in the next answer only
			old, _ := w.before[signal].Sum(lengths+what, "level", "0", "signal", signal)
			n, _ := after.Sum(lengths+what, "level", "0", "signal", signal)
			return n - old
		}
		if n := of("_count"); n > 0 {
			w.took[signal] = time.Duration(of("_sum") / n * float64(time.Second))
		}
	}
}

// failures are the attempts at the first level that did not deliver.
func failures(s seedbed.Series, signal string) float64 {
	all, _ := s.Sum(attempts, "level", "0", "signal", signal)
	good, _ := s.Sum(attempts, "level", "0", "signal", signal, "verdict", "delivered")
	return all - good
}

func (w *watch) stop() {
	w.cancel()
	w.done.Wait()
}
