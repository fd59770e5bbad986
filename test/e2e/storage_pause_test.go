// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// Fault: P6. The process is stopped for longer than an attempt may last, with attempts under way, and goes on: nothing is
// lost, and it delivers at once instead of waiting out a backend that never failed.
func TestAPauseOfTheProcessLosesNothingAndIsNoOutage(t *testing.T) {
	t.Parallel()
	const pause = 5 * time.Second
	sets := []string{
		"processors::batch::timeout=200ms",
		"exporters::otlp::timeout=2s",
		// Longer than patience: who waits for the backend after a pause is found out.
		"exporters::otlp::retry_on_failure::initial_interval=120s",
		"exporters::otlp::retry_on_failure::max_interval=120s",
	}
	good := control(t, sets...)
	s := newStage(t, sets...)
	s.start()
	s.faulty("slow:300ms")
	load := loadgen.Options{Run: "pause", Producers: 2, Items: 50, ItemBytes: 200, Rate: 3000}
	ended := s.load(load)
	for range 2 {
		eventually(t, "attempts are under way", func() bool {
			return value(t, s.books(), "otelcol_exporter_in_flight_requests") >= 3
		})
		s.p.signal(syscall.SIGSTOP)
		select {
		case <-time.After(pause):
		case <-s.p.done:
			t.Fatal("a stopped process ended")
		}
		s.p.signal(syscall.SIGCONT)
		began := time.Now()
		eventually(t, "what waited is delivered", func() bool {
			return value(t, s.books(), "holdfast_journal_oldest_seconds") < 3*1 // three pipelines, 1 s each
		})
		failed := 0.0
		for _, items := range []string{"spans", "metric_points", "log_records"} {
			failed += value(t, s.books(), "otelcol_exporter_send_failed_"+items)
		}
		t.Logf("%.1f s after a pause of %s nothing is old any more; attempts with %v items have failed", time.Since(began).Seconds(), pause, failed)
	}
	ended()
	s.drained()
	bound := 2 * duplicatesPerCrash(load.Rate)
	s.pass(ledger.Options{Control: good, MaxDuplicates: &bound})
}
