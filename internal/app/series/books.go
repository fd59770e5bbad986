// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package series

import (
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// RegisterBooks shows the promise's equation for one destination, from the queue's own books: accepted = delivered +
// queued + parked + rejected + dropped. read may be called from any goroutine.
func RegisterBooks(m *telemetry.Registry, pipeline, destination, signal string, reasons []string, read func() queue.Counts) {
	labels := []string{"pipeline", pipeline, "destination", destination, "signal", signal}
	counter := func(name, help string, of func(queue.Counts) uint64, more ...string) {
		m.CounterFunc("holdfast_ledger_"+name, help, func() float64 { return float64(of(read())) },
			append(labels[:len(labels):len(labels)], more...)...)
	}
	gauge := func(name, help string, of func(queue.Counts) float64) {
		m.GaugeFunc("holdfast_ledger_"+name, help, func() float64 { return of(read()) }, labels...)
	}
	counter("accepted_items_total", "Items accepted for this destination.",
		func(c queue.Counts) uint64 { return c.Accepted })
	counter("delivered_items_total", "Items delivered.", func(c queue.Counts) uint64 { return c.Delivered })
	counter("rejected_items_total", "Items the backend refused for good.",
		func(c queue.Counts) uint64 { return c.Rejected })
	for _, reason := range reasons {
		counter("dropped_items_total", "Items dropped, each with a drop record.",
			func(c queue.Counts) uint64 { return c.Dropped[reason] }, "reason", reason)
	}
	gauge("queued_items", "Items waiting for this destination.",
		func(c queue.Counts) float64 { return float64(c.Queued) })
	gauge("parked_items", "Items of a destination that left the configuration, and those in its emergency file that no backend has.",
		func(c queue.Counts) float64 { return float64(c.Parked) })
	gauge("imbalance_items", "Accepted minus all that became of it; must be 0.",
		func(c queue.Counts) float64 { return float64(c.Imbalance()) })
}
