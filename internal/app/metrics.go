// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/app/series"
	"github.com/holdfast-telemetry/holdfast/internal/config"
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
	a.forgetGone(a.registerQueues())
	a.registerBacklogs()
	m.GaugeFunc("holdfast_door_admission_bytes", "Bytes of requests being read, decoded or committed.",
		func() float64 { return float64(a.gate.Used()) })
	m.GaugeFunc("holdfast_door_admission_limit_bytes", "Budget of holdfast_door_admission_bytes.",
		func() float64 { return float64(a.gate.Limit()) })
	if a.switches != nil {
		series.RegisterDebts(m, a.switches.Routes(), a.owes)
	}
	series.RegisterCertificates(m, a.secured())
	extension.RegisterHealth(m, a.health)
}

// forgetGone takes series off the page whose destination or exporter left the configuration and left nothing behind; books
// are the destinations that are shown.
func (a *App) forgetGone(books map[[2]string]bool) {
	g := a.now()
	a.opts.Telemetry.Metrics.Forget(func(name string, labels []string) bool {
		switch {
		case strings.HasPrefix(name, "holdfast_ledger_"):
			return !books[[2]string{labelOf(labels, "pipeline"), labelOf(labels, "destination")}]
		case strings.HasPrefix(name, "otelcol_exporter_queue_"):
			return g.instances[labelOf(labels, "exporter")] == nil
		}
		return false
	})
}

// registerQueues shows every queue and every cursor in it, those of destinations that left included. It returns the
// destinations whose books are shown.
func (a *App) registerQueues() map[[2]string]bool {
	g := a.now()
	m := a.opts.Telemetry.Metrics
	books := map[[2]string]func() queue.Counts{}
	defer g.books.Store(&books)
	shows := map[[2]string]bool{}
	written := map[string]map[string]string{} // pipeline → canonical name → label
	for i, p := range g.pipelines {
		pl := &g.plan.Pipelines[i]
		written[pl.ID] = map[string]string{}
		for j := range pl.Destinations {
			written[pl.ID][pl.Destinations[j].Name] = pl.Destinations[j].Label
			a.nameDestination(pl.ID, pl.Destinations[j].Name, pl.Destinations[j].Label)
		}
		for _, b := range p.Books() {
			read, reasons := a.now().withParked(pl, b, series.Reasons(pl.Storage != ""))
			series.RegisterBooks(m, pl.ID, b.Label, pl.Signal.String(), reasons, read)
			books[[2]string{pl.ID, b.Label}] = read
			shows[[2]string{pl.ID, b.Label}] = true
		}
		if q := a.memory(pl.ID); q != nil && g.owns(q) {
			series.RegisterQueue(m, &series.Queue{Label: pl.ID, Head: true, Labels: a.named[pl.ID], Snapshot: q.snapshot})
		}
	}
	for _, q := range a.inMemory() {
		signal, _, _ := strings.Cut(q.pipeline, "/")
		for _, info := range q.List() { // what is left of a pipeline, or of a destination of it
			if g.owns(q) && written[q.pipeline][info.Name] != "" {
				continue
			}
			label := cmp.Or(a.named[q.pipeline][info.Name], info.Name)
			shows[[2]string{g.labelOf(q), label}] = true
			series.RegisterBooks(m, g.labelOf(q), label, signal, series.Reasons(false), func() queue.Counts {
				c, _ := q.Counts(info.Name)
				return c
			})
		}
	}
	for _, s := range a.stores() {
		series.RegisterStorage(m, s.ids[0], s.store.Snapshot)
		a.events.Register("@" + s.ids[0])
		for _, j := range s.shelves() {
			a.registerJournal(j, written[j.pipeline], shows)
		}
	}
	return shows
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
	a.opts.Telemetry.Metrics.Forget(func(name string, labels []string) bool {
		return (strings.HasPrefix(name, "holdfast_journal_") || strings.HasPrefix(name, "holdfast_ledger_")) &&
			labelOf(labels, "pipeline") == pipelineID && labelOf(labels, "destination") == before
	})
}

func (a *App) registerJournal(j *shelf, written map[string]string, shows map[[2]string]bool) {
	named := a.named[j.pipeline]
	if !j.head.Load() {
		written, named = nil, nil // those are of another journal
	}
	m := a.opts.Telemetry.Metrics
	series.RegisterQueue(m, &series.Queue{Label: j.label, Head: j.head.Load(), Durable: true, Labels: named, Snapshot: j.Snapshot})
	a.events.Register(j.label)
	for _, info := range j.List() {
		if j.head.Load() && written[info.Name] != "" {
			continue // a destination of the pipeline, shown with it
		}
		name, label := info.Name, cmp.Or(named[info.Name], info.Name)
		shows[[2]string{j.label, label}] = true
		series.RegisterBooks(m, j.label, label, j.signal, series.Reasons(true), func() queue.Counts {
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

// secured are the components that run, with the settings that may name certificates.
func (a *App) secured() []series.Secured {
	g := a.now()
	used := map[config.Kind]map[string]bool{config.Receivers: {}, config.Exporters: {}, config.Extensions: {}}
	for i := range g.plan.Pipelines {
		for _, id := range g.plan.Pipelines[i].Receivers {
			used[config.Receivers][id] = true
		}
	}
	for id := range g.instances {
		used[config.Exporters][id] = true
	}
	for _, id := range g.cfg.Service.Extensions {
		used[config.Extensions][id] = true
	}
	var out []series.Secured
	for kind, ids := range used {
		section, _ := g.cfg.Effective[string(kind)].(map[string]any)
		for id := range ids {
			out = append(out, series.Secured{Component: id, Settings: section[id]})
		}
	}
	return out
}
