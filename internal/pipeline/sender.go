// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// logEvery thins out the lines of one destination that keeps failing (compat, section 7).
const logEvery = 10 * time.Second

// sender makes attempts at one exporter, counts each when it happens, and remembers how it fares.
type sender struct {
	shared   *fortune // the destination's
	witness  witness
	exporter exporter.Exporter
	log      *zap.Logger

	sent, failed, rejected *telemetry.Counter // items
	inFlight               *telemetry.Gauge
	sizeItems, sizeBytes   *telemetry.Histogram

	mu struct {
		sync.Mutex
		lastLine map[string]time.Time // by kind of line
		unlogged int64                // failures since the last line
	}
}

func newSender(set *Settings, id string, exp exporter.Exporter, d *plan.Destination) *sender {
	m, signal := set.Telemetry.Metrics, set.Plan.Signal
	item := signal.ItemName()
	s := &sender{
		exporter: exp,
		log:      set.logger(d.Label),
		sent: m.Counter("otelcol_exporter_sent_"+item,
			"Items delivered to the destination.", "exporter", id),
		failed: m.Counter("otelcol_exporter_send_failed_"+item,
			"Items of attempts that did not deliver.", "exporter", id),
		rejected: m.Counter("holdfast_exporter_rejected_items_total",
			"Items the backend refused for good.", "exporter", id, "signal", signal.String()),
		inFlight: m.Gauge("otelcol_exporter_in_flight_requests",
			"Requests sent and not answered yet.", "exporter", id, "data_type", signal.String()),
		sizeItems: m.Histogram("otelcol_exporter_queue_batch_send_size",
			"Items in a request sent.", batchItemBounds, "exporter", id, "data_type", signal.String()),
		sizeBytes: m.Histogram("otelcol_exporter_queue_batch_send_size_bytes",
			"Bytes in a request sent, without compression.", batchByteBounds, "exporter", id, "data_type", signal.String()),
	}
	s.mu.lastLine = map[string]time.Time{}
	return s
}

var (
	batchItemBounds = []float64{10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000,
		9000, 10000, 20000, 30000, 50000, 100000}
	batchByteBounds = []float64{10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000,
		9000, 10000, 20000, 30000, 50000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000,
		900_000, 1000_000, 2000_000, 3000_000, 4000_000, 5000_000, 6000_000, 7000_000, 8000_000, 9000_000}
)

// send makes one attempt. It returns the answer and when that came.
func (s *sender) send(ctx context.Context, r *exporter.Request) (exporter.Verdict, time.Time) {
	s.inFlight.Add(1)
	v := s.exporter.Send(ctx, r)
	s.inFlight.Add(-1)
	now := time.Now()
	s.witness.note(v.Kind, len(r.Parts), now)
	items := int64(r.Items)
	if v.Kind == exporter.Delivered {
		v.Rejected = min(v.Rejected, r.Items)
		s.sizeItems.Observe(float64(items))
		s.sizeBytes.Observe(float64(r.Size))
		s.delivered(now, items-int64(v.Rejected), v)
		return v, now
	}
	s.failed.Add(items)
	s.shared.failed(v, now)
	return v, now
}

func (s *sender) delivered(now time.Time, items int64, v exporter.Verdict) {
	s.sent.Add(items)
	s.rejected.Add(int64(v.Rejected))
	s.shared.delivered(items, now)
	s.mu.Lock()
	s.mu.unlogged = 0
	line := (v.Rejected > 0 || v.Message != "") && s.dueLocked("partial", now)
	s.mu.Unlock()
	if line {
		s.log.Warn("Partial success, items refused by the backend",
			zap.Uint32("rejected", v.Rejected), telemetry.Foreign("message", v.Message))
	}
}

// retrying says, now and then, that a request will be sent again after wait.
func (s *sender) retrying(v exporter.Verdict, wait time.Duration) {
	now := time.Now()
	s.mu.Lock()
	s.mu.unlogged++
	due, count := s.dueLocked("retry", now), s.mu.unlogged
	if due {
		s.mu.unlogged = 0
	}
	s.mu.Unlock()
	if !due {
		return
	}
	fields := []zap.Field{
		telemetry.Foreign("error", errText(v)), zap.String("verdict", v.Kind.String()),
		zap.String("interval", wait.Round(time.Millisecond).String()), zap.Int64("failures", count),
	}
	if v.Kind == exporter.Misconfigured {
		s.log.Error("Exporting failed: the endpoint, credentials or protocol are wrong. Data is kept.", fields...)
		return
	}
	s.log.Info("Exporting failed. Will retry the request after interval.", fields...)
}

// setAside says that items were refused for good.
func (s *sender) setAside(items int64, reason string) {
	s.rejected.Add(items)
	s.mu.Lock()
	due := s.dueLocked("aside", time.Now())
	s.mu.Unlock()
	if due {
		s.log.Error("Exporting failed. Record set aside after error",
			telemetry.Foreign("reason", reason), zap.Int64("items", items))
	}
}

// due reports whether a line of this kind may be written now.
func (s *sender) due(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dueLocked(kind, time.Now())
}

func (s *sender) dueLocked(kind string, now time.Time) bool {
	if last, ok := s.mu.lastLine[kind]; ok && now.Sub(last) < logEvery {
		return false
	}
	s.mu.lastLine[kind] = now
	return true
}

func errText(v exporter.Verdict) string {
	if v.Err == nil {
		return v.Kind.String()
	}
	return v.Err.Error()
}
