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

// primary is the exporter both seeds' first level has.
const primary = "otlp/primary"

// failedSeries are the series that count failed attempts, by signal.
var failedSeries = map[string]string{
	"traces":  "otelcol_exporter_send_failed_spans",
	"metrics": "otelcol_exporter_send_failed_metric_points",
	"logs":    "otelcol_exporter_send_failed_log_records",
}

// attempts is the histogram of how long attempts took.
const attempts = "holdfast_failover_attempt_seconds"

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

func startWatch(ctx context.Context, b *seedbed.Bed) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, failed: map[string]moment{}, took: map[string]time.Duration{}, before: map[string]seedbed.Series{}}
	w.done.Go(func() { w.run(ctx, b) })
	return w
}

func (w *watch) run(ctx context.Context, b *seedbed.Bed) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var last seedbed.Series
	var since time.Time
	for len(w.took) < len(failedSeries) {
		asked := time.Now()
		if s, err := b.Books(ctx); err == nil {
			if last != nil {
				w.compare(last, s, moment{since, time.Now()})
			}
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
	for signal, name := range failedSeries {
		if _, known := w.failed[signal]; !known {
			old, _ := before.Sum(name, "exporter", primary)
			if n, _ := after.Sum(name, "exporter", primary); n <= old {
				continue
			}
			w.failed[signal], w.before[signal] = when, before
		}
		if _, known := w.took[signal]; known {
			continue
		}
		of := func(what string) float64 { // it is counted a moment later, and may be in the next answer only
			old, _ := w.before[signal].Sum(attempts+what, "level", "0", "signal", signal)
			n, _ := after.Sum(attempts+what, "level", "0", "signal", signal)
			return n - old
		}
		if n := of("_count"); n > 0 {
			w.took[signal] = time.Duration(of("_sum") / n * float64(time.Second))
		}
	}
}

func (w *watch) stop() {
	w.cancel()
	w.done.Wait()
}
