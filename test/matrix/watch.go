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

// failedSeries are the series that count failed attempts, by signal.
var failedSeries = map[string]string{
	"traces":  "otelcol_exporter_send_failed_spans",
	"metrics": "otelcol_exporter_send_failed_metric_points",
	"logs":    "otelcol_exporter_send_failed_log_records",
}

// moment brackets an event: it was after from and not after to.
type moment struct{ from, to time.Time }

// watch finds out when the first attempt failed at the primary, by signal. Who is refused a connection does not show at
// the backend, so the collector is asked again and again; the moment is known to lie between two answers.
type watch struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	failed map[string]moment // read after stop
}

func startWatch(ctx context.Context, b *seedbed.Bed, k kind) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, failed: map[string]moment{}}
	if k == said {
		w.done.Go(func() { w.run(ctx, b) })
	}
	return w
}

func (w *watch) run(ctx context.Context, b *seedbed.Bed) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	last := map[string]float64{}
	since := time.Now()
	for first := true; len(w.failed) < len(failedSeries); first = false {
		asked := time.Now()
		s, err := b.Books(ctx)
		if err == nil {
			for signal, name := range failedSeries {
				n, _ := s.Sum(name, "exporter", "otlp/primary")
				if _, known := w.failed[signal]; !first && !known && n > last[signal] {
					w.failed[signal] = moment{since, time.Now()}
				}
				last[signal] = n
			}
			since = asked
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) stop() {
	w.cancel()
	w.done.Wait()
}
