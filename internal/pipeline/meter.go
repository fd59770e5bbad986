// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"strconv"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// meter counts what a route does with batches, and now and then says that they move (failover, section 15).
type meter struct {
	set       *Settings
	labels    []string
	line      *sender // thins out lines
	delivered []*telemetry.Counter
	again     []*telemetry.Counter
	moves     int64 // batches since the last line
}

func newMeter(set *Settings, d *plan.Destination) *meter {
	m := &meter{set: set, labels: []string{"connector", d.Label, "signal", set.Plan.Signal.String()}}
	for i := range d.Levels {
		level := m.with("level", strconv.Itoa(i))
		m.delivered = append(m.delivered, set.Telemetry.Metrics.Counter("holdfast_failover_delivered_items_total",
			"Items delivered by the level.", level...))
		m.again = append(m.again, set.Telemetry.Metrics.Counter("holdfast_failover_possible_duplicate_items_total",
			"Items sent again although an earlier attempt may have been taken.", level...))
	}
	return m
}

func (m *meter) with(more ...string) []string {
	return append(m.labels[:len(m.labels):len(m.labels)], more...)
}

func (m *meter) sent(e *failover.RouterEffect, items uint32) {
	if e.Again {
		m.again[e.Level].Add(int64(items))
	}
	if e.From < 0 || e.Cause == failover.MoveNone {
		return
	}
	m.set.Telemetry.Metrics.Counter("holdfast_failover_moved_items_total", "Items that went to another level.",
		m.with("from", strconv.Itoa(e.From), "to", strconv.Itoa(e.Level), "cause", e.Cause.String())...).Add(int64(items))
	if e.Level < e.From {
		return // it was held, and goes home
	}
	if m.moves++; m.line != nil && m.line.due("moved") {
		m.line.log.Warn("Failover: export error, batch goes to the next level", zap.Int("from", e.From),
			zap.Int("to", e.Level), zap.Stringer("reason", e.Cause), zap.Int64("batches", m.moves))
		m.moves = 0
	}
}

func (m *meter) ended(e *failover.RouterEffect, items uint32) {
	if e.Kind == failover.AckBatch && e.Level >= 0 {
		m.delivered[e.Level].Add(int64(items - min(e.Rejected, items)))
	}
}
