// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// registerGauges shows what each destination holds and the promise's equation per destination, from the queue's own
// books: accepted = delivered + queued + parked + rejected + dropped.
func (p *Pipeline) registerGauges(waits []*waiter) {
	for _, d := range p.deliveries {
		q, name := p.set.Queue, d.dest.Name
		p.books(d.dest.Label, func() queue.Counts {
			c, _ := q.Counts(name)
			return c
		})
	}
	for _, w := range waits {
		p.books(w.dest.Label, w.counts)
	}
}

func (p *Pipeline) books(label string, read func() queue.Counts) {
	m := p.set.Telemetry.Metrics
	labels := []string{"pipeline", p.set.Plan.ID, "destination", label, "signal", p.set.Plan.Signal.String()}
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
	for _, reason := range p.set.Reasons {
		counter("dropped_items_total", "Items dropped, each with a drop record.",
			func(c queue.Counts) uint64 { return c.Dropped[reason] }, "reason", reason)
	}
	gauge("queued_items", "Items waiting for this destination.",
		func(c queue.Counts) float64 { return float64(c.Queued) })
	gauge("parked_items", "Items of a destination that left the configuration.",
		func(c queue.Counts) float64 { return float64(c.Parked) })
	gauge("imbalance_items", "Accepted minus all that became of it; must be 0.", func(c queue.Counts) float64 {
		sum := c.Delivered + c.Rejected + c.Queued + c.Parked
		for _, n := range c.Dropped {
			sum += n
		}
		return float64(c.Accepted) - float64(sum)
	})
}

// Backlog is one exporter's share of a queue, for the Collector's queue series.
type Backlog struct {
	Exporter string // ID as written
	Fill     queue.Fill
}

// Backlogs describes the queue of every destination; it never blocks.
func (p *Pipeline) Backlogs() []Backlog {
	out := make([]Backlog, 0, len(p.deliveries))
	for _, d := range p.deliveries {
		out = append(out, Backlog{Exporter: d.dest.Label, Fill: d.fill()})
	}
	return out
}
