// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package series

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Debt is what an emergency file owes a route: open receipts.
type Debt struct {
	Items, Bytes int64
	Oldest       time.Duration
}

// RegisterDebts shows what emergency files owe.
func RegisterDebts(m *telemetry.Registry, routes []failover.RouteID, owes func(failover.RouteID) Debt) {
	for _, id := range routes {
		labels := []string{"connector", id.Connector, "signal", id.Signal.String()}
		m.GaugeFunc("holdfast_failover_emergency_items", "Items in the emergency file that are owed to a backend.",
			func() float64 { return float64(owes(id).Items) }, labels...)
		m.GaugeFunc("holdfast_failover_emergency_bytes", "Bytes in the emergency file that are owed to a backend.",
			func() float64 { return float64(owes(id).Bytes) }, labels...)
		m.GaugeFunc("holdfast_failover_emergency_oldest_seconds", "Age of the oldest debt of the emergency file.",
			func() float64 { return owes(id).Oldest.Seconds() }, labels...)
	}
}
