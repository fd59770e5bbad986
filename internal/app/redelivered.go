// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// redelivered counts what a trial that was taken back had delivered to a destination of its own, where one that it had
// removed is served again: that one is owed all of it, so it arrives at both (reload, section 7).
func redelivered(m *telemetry.Registry) *telemetry.Counter {
	return m.Counter("holdfast_config_redelivered_items_total",
		"Items that a trial had delivered elsewhere and that the destinations from before deliver again.", "reason", "rollback")
}

// countRedelivered counts when a trial is retired, and what it had in flight is settled; before its cursors are forgotten.
func (g *generation) countRedelivered(now *generation) {
	if !now.committed {
		return // another trial took its place, and nothing was undone
	}
	for id, q := range now.queues {
		most, again := uint64(0), 0
		for _, info := range q.List() {
			switch {
			case slices.Contains(g.fresh, freshName{queue.Roster(q), info.Name}) && !now.wants(id, info.Name):
				most = max(most, info.Counts.Delivered)
			case info.State == queue.Live && now.wants(id, info.Name) && !g.wants(id, info.Name):
				again++
			}
		}
		if most > 0 && again > 0 {
			redelivered(g.app.opts.Telemetry.Metrics).Add(int64(most))
			g.app.log.Warn("Queue: what the trial delivered elsewhere is delivered again",
				zap.String("otelcol.pipeline.id", id), zap.Uint64("items", most))
		}
	}
}
