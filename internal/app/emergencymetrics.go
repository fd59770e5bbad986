// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// debt is what an emergency file owes a route: open receipts.
type debt struct {
	items, bytes int64
	oldest       time.Duration
}

// owes is what the emergency file owes a route; without receipts, nothing.
func (a *App) owes(id failover.RouteID) debt {
	if a.debts == nil {
		return debt{}
	}
	return a.debts(id)
}

// registerDebts shows what emergency files owe.
func (a *App) registerDebts() {
	if a.switches == nil {
		return
	}
	for _, id := range a.switches.Routes() {
		labels := []string{"connector", id.Connector, "signal", id.Signal.String()}
		m := a.opts.Telemetry.Metrics
		m.GaugeFunc("holdfast_failover_emergency_items", "Items in the emergency file that are owed to a backend.",
			func() float64 { return float64(a.owes(id).items) }, labels...)
		m.GaugeFunc("holdfast_failover_emergency_bytes", "Bytes in the emergency file that are owed to a backend.",
			func() float64 { return float64(a.owes(id).bytes) }, labels...)
		m.GaugeFunc("holdfast_failover_emergency_oldest_seconds", "Age of the oldest debt of the emergency file.",
			func() float64 { return a.owes(id).oldest.Seconds() }, labels...)
	}
}
