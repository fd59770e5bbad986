// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"slices"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// register shows what only the whole process knows: queues and their books, sums over pipelines, the budget,
// what is ready. Every series exists before anything listens.
//
// A reload calls it again: readers of what is there are renewed, and series of pipelines that left are forgotten.
func (a *App) register() {
	m := a.opts.Telemetry.Metrics
	telemetry.RegisterProcess(m)
	telemetry.RegisterBuild(m, a.opts.Version, a.opts.Commit, a.opts.Collector)
	a.forgetGone()
	a.registerQueues()
	a.registerBacklogs()
	m.GaugeFunc("holdfast_door_admission_bytes", "Bytes of requests being read, decoded or committed.",
		func() float64 { return float64(a.gate.Used()) })
	m.GaugeFunc("holdfast_door_admission_limit_bytes", "Budget of holdfast_door_admission_bytes.",
		func() float64 { return float64(a.gate.Limit()) })
	a.registerDebts()
	a.registerCertificates()
	extension.RegisterHealth(m, a.health)
}

// forgetGone takes series off the page whose pipeline or exporter left the configuration and left nothing behind.
func (a *App) forgetGone() {
	g := a.now()
	known := map[string]bool{}
	for i := range g.plan.Pipelines {
		known[g.plan.Pipelines[i].ID] = true
	}
	for _, s := range a.stores() {
		for _, j := range s.shelves() {
			known[j.label], known[j.pipeline] = true, true
		}
	}
	a.opts.Telemetry.Metrics.Forget(func(name string, labels []string) bool {
		if !strings.HasPrefix(name, "holdfast_ledger_") && !strings.HasPrefix(name, "otelcol_exporter_queue_") {
			return false
		}
		for i := 0; i+1 < len(labels); i += 2 {
			switch labels[i] {
			case "pipeline":
				return !known[labels[i+1]]
			case "exporter":
				return g.instances[labels[i+1]] == nil && strings.HasPrefix(name, "otelcol_exporter_queue_")
			}
		}
		return false
	})
}

// registerQueues shows every queue and every cursor in it, those of destinations that left included.
func (a *App) registerQueues() {
	g := a.now()
	m := a.opts.Telemetry.Metrics
	books := map[[2]string]func() queue.Counts{}
	defer g.books.Store(&books)
	written := map[string]map[string]string{} // pipeline → canonical name → label
	for i, p := range g.pipelines {
		pl := &g.plan.Pipelines[i]
		written[pl.ID] = map[string]string{}
		for j := range pl.Destinations {
			written[pl.ID][pl.Destinations[j].Name] = pl.Destinations[j].Label
			a.nameDestination(pl.ID, pl.Destinations[j].Name, pl.Destinations[j].Label)
		}
		reasons := memoryReasons
		if pl.Storage != "" {
			reasons = journalReasons
		}
		for _, b := range p.Books() {
			read, reasons := a.now().withParked(pl, b, reasons)
			registerBooks(m, pl.ID, b.Label, pl.Signal.String(), reasons, read)
			books[[2]string{pl.ID, b.Label}] = read
		}
		if q := a.memory(pl.ID); q != nil {
			shot := glanceAt(q.snapshot)
			a.registerQueue(&shown{pipeline: pl.ID, head: true, limits: memoryLimits, reasons: memoryReasons,
				labels: a.named[pl.ID], get: shot.get})
		}
	}
	for _, s := range a.stores() {
		a.registerStorage(s)
		a.events.register("@" + s.ids[0])
		for _, j := range s.shelves() {
			a.registerJournal(j, written[j.pipeline])
		}
	}
}

// nameDestination remembers how a destination was written last. When it leaves the configuration its series stay what
// they were, and do not begin anew under its canonical name beside them; where they began so, in a process that did not know
// better, they end.
func (a *App) nameDestination(pipelineID, name, label string) {
	if a.named == nil {
		a.named = map[string]map[string]string{}
	}
	if a.named[pipelineID] == nil {
		a.named[pipelineID] = map[string]string{}
	}
	before := cmp.Or(a.named[pipelineID][name], name)
	a.named[pipelineID][name] = label
	if before == label {
		return
	}
	a.opts.Telemetry.Metrics.Forget(func(series string, labels []string) bool {
		return (strings.HasPrefix(series, "holdfast_journal_") || strings.HasPrefix(series, "holdfast_ledger_")) &&
			has(labels, "pipeline", pipelineID) && has(labels, "destination", before)
	})
}

func has(labels []string, name, value string) bool {
	i := slices.Index(labels, name)
	return i >= 0 && i%2 == 0 && labels[i+1] == value
}

func (a *App) registerJournal(j *shelf, written map[string]string) {
	named := a.named[j.pipeline]
	if !j.head.Load() {
		written, named = nil, nil // those are of another journal
	}
	shot := glanceAt(j.Snapshot)
	a.registerQueue(&shown{pipeline: j.label, head: j.head.Load(), durable: true, limits: journalLimits,
		reasons: journalReasons, labels: named, get: shot.get})
	a.events.register(j.label)
	for _, info := range j.List() {
		if j.head.Load() && written[info.Name] != "" {
			continue // a destination of the pipeline, shown with it
		}
		name := info.Name
		registerBooks(a.opts.Telemetry.Metrics, j.label, cmp.Or(named[name], name), j.signal, journalReasons, func() queue.Counts {
			c, _ := j.Counts(name)
			return c
		})
	}
}

// registerBacklogs shows the Collector's series of queues, one per exporter and signal.
func (a *App) registerBacklogs() {
	g := a.now()
	m := a.opts.Telemetry.Metrics
	type key struct{ exporter, signal string }
	seen := map[key]bool{}
	for i, p := range g.pipelines {
		signal := g.plan.Pipelines[i].Signal.String()
		for _, b := range p.Backlogs() {
			k := key{b.Exporter, signal}
			if seen[k] {
				continue
			}
			seen[k] = true
			labels := []string{"exporter", k.exporter, "data_type", k.signal}
			m.GaugeFunc("otelcol_exporter_queue_size", "Size of the queue in front of the exporter, in its sizer.",
				func() float64 { size, _ := a.backlog(k.exporter, k.signal); return size }, labels...)
			m.GaugeFunc("otelcol_exporter_queue_capacity", "Capacity of the queue in front of the exporter.",
				func() float64 { _, capacity := a.backlog(k.exporter, k.signal); return capacity }, labels...)
		}
	}
}

// backlog sums one exporter's queues over the pipelines of a signal.
func (a *App) backlog(exporter, signal string) (size, capacity float64) {
	g := a.now()
	for i, p := range g.pipelines {
		if g.plan.Pipelines[i].Signal.String() != signal {
			continue
		}
		for _, b := range p.Backlogs() {
			if b.Exporter == exporter {
				size += float64(b.Fill.Size)
				capacity += float64(b.Fill.Capacity)
			}
		}
	}
	return size, capacity
}
