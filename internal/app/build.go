// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

func (g *generation) component(kind config.Kind, id string) (*config.Component, error) {
	c := g.cfg.Components[kind][id]
	if c == nil {
		return nil, fmt.Errorf("%s/%s is not configured", kind, id)
	}
	return c, nil
}

// buildLimiters makes one limiter per processor, shared by the pipelines that name it.
func (g *generation) buildLimiters() error {
	g.limiters = map[string]*memorylimiter.Limiter{}
	for i := range g.plan.Pipelines {
		for _, id := range g.plan.Pipelines[i].MemoryLimiters {
			if g.limiters[id] != nil {
				continue
			}
			c, err := g.component(config.Processors, id)
			if err != nil {
				return err
			}
			l, err := memorylimiter.New(c.Config.(*memorylimiter.Config), id, g.app.opts.Telemetry.For("processor", id))
			if err != nil {
				return fmt.Errorf("processors/%s: %w", id, err)
			}
			g.limiters[id] = l
		}
	}
	return nil
}

// buildExporters makes one exporter per ID, shared by the pipelines that lead to it.
func (g *generation) buildExporters() error {
	g.instances = map[string]exporter.Exporter{}
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		for j := range p.Destinations {
			for _, level := range p.Destinations[j].Levels {
				for _, id := range level.Exporters {
					if err := g.buildExporter(id, p.Signal); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (g *generation) buildExporter(id string, s otlp.Signal) error {
	c, err := g.component(config.Exporters, id)
	if err != nil {
		return err
	}
	f, ok := find(exporters, func(f exporter.Factory) string { return f.Type }, c.Type)
	if !ok {
		return fmt.Errorf("exporters/%s: no implementation of type %q", id, c.Type)
	}
	if len(f.Signals) > 0 && !slices.Contains(f.Signals, s) {
		return fmt.Errorf("exporters/%s: type %q does not carry %s", id, c.Type, s)
	}
	if g.instances[id] != nil {
		return nil
	}
	e, err := f.New(exporter.Settings{
		ID: id, Telemetry: g.app.opts.Telemetry.For("exporter", id), Version: g.app.opts.Version,
	}, g.synced(id, c.Config))
	if err != nil {
		return fmt.Errorf("exporters/%s: %w", id, err)
	}
	g.instances[id] = e
	g.exporters = append(g.exporters, named[exporter.Exporter]{id, e})
	return nil
}

// synced makes a file answer after its sync where a journal may hang on the answer: a record that is resolved is gone
// from the journal. That is so for every file once there is a storage, since any of them may inherit a backlog, and for
// those of an emergency level, which take what no queue will have again.
func (g *generation) synced(id string, cfg any) any {
	c, ok := cfg.(*file.Config)
	if !ok || len(g.plan.Storages) == 0 && !g.emergency(id) {
		return cfg
	}
	out := *c
	out.Synced = true
	return &out
}

func (g *generation) buildPipelines() error {
	for i := range g.plan.Pipelines {
		if err := g.buildPipeline(&g.plan.Pipelines[i]); err != nil {
			return err
		}
	}
	return nil
}

func (g *generation) buildPipeline(p *plan.Pipeline) error {
	set := pipeline.Settings{
		Plan: *p, Telemetry: g.app.opts.Telemetry, Gate: g.app.gate, Exporters: g.instances,
		Decode: decode, Jitter: rand.Float64, Switch: g.app.switches,
		Debts: func(d *plan.Destination) pipeline.Debts { return g.debtsOf(p, d) },
	}
	if p.Batch != nil {
		set.MetadataKeys = p.Batch.MetadataKeys
	}
	for _, id := range p.MemoryLimiters {
		set.Limiters = append(set.Limiters, g.limiters[id])
	}
	var inMemory *memory.Queue
	drops := newDropLog(g.app.lines, p.ID, &g.app.dropped)
	switch {
	case p.Storage != "":
		j := g.app.head(p)
		if j == nil {
			return fmt.Errorf("pipeline %s: storage %s is not open", p.ID, p.Storage)
		}
		set.Queue = j
		set.Room = func() bool { return j.Snapshot().State == "ok" }
	case p.Queued():
		q, err := openMemory(p, drops)
		if err != nil {
			return err
		}
		set.Queue, inMemory = q, q
		g.app.began("queue "+p.ID, q.Close)
	}
	built, err := pipeline.New(set)
	if err != nil {
		return err
	}
	g.pipelines = append(g.pipelines, built)
	if inMemory != nil {
		g.app.memories[p.ID] = func() journal.Snapshot { return memorySnapshot(built, inMemory, drops) }
	}
	return nil
}

// openMemory makes a queue in memory. A cursor that is full while others are not gives up its oldest records, and says
// so.
func openMemory(p *plan.Pipeline, drops *dropLog) (*memory.Queue, error) {
	q := memory.New(memory.Settings{OnDrop: drops.note})
	for i := range p.Destinations {
		if d := &p.Destinations[i]; !d.Wait {
			if err := q.Prepare(d.Destination); err != nil {
				return nil, fmt.Errorf("pipeline %s: queue of %s: %w", p.ID, d.Label, err)
			}
		}
	}
	return q, nil
}

// buildReceivers makes each receiver once, with a sink per signal that feeds every pipeline it is named in.
func (g *generation) buildReceivers() error {
	sinks := map[string]map[otlp.Signal][]receiver.Sink{}
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		for _, id := range p.Receivers {
			if sinks[id] == nil {
				sinks[id] = map[otlp.Signal][]receiver.Sink{}
			}
			sinks[id][p.Signal] = append(sinks[id][p.Signal], g.pipelines[i].Entry())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(sinks)) {
		c, err := g.component(config.Receivers, id)
		if err != nil {
			return err
		}
		f, ok := find(receivers, func(f receiver.Factory) string { return f.Type }, c.Type)
		if !ok {
			return fmt.Errorf("receivers/%s: no implementation of type %q", id, c.Type)
		}
		set := receiver.Settings{
			ID: id, Telemetry: g.app.opts.Telemetry.For("receiver", id), Sinks: map[otlp.Signal]receiver.Sink{},
			Admission: g.app.gate, Ready: g.app.ready,
		}
		for s, entries := range sinks[id] {
			set.Sinks[s] = pipeline.NewFan(entries)
		}
		r, err := f.New(set, c.Config)
		if err != nil {
			return fmt.Errorf("receivers/%s: %w", id, err)
		}
		g.receivers = append(g.receivers, named[receiver.Receiver]{id, r})
	}
	return nil
}

func (g *generation) buildExtensions() error {
	for _, id := range g.cfg.Service.Extensions {
		c, err := g.component(config.Extensions, id)
		if err != nil {
			return err
		}
		f, ok := find(extensions, func(f extension.Factory) string { return f.Type }, c.Type)
		if !ok {
			continue // file_storage has no process of its own
		}
		e, err := f.New(extension.Settings{
			ID: id, Telemetry: g.app.opts.Telemetry.For("extension", id), Status: g.app.health,
		}, c.Config)
		if err != nil {
			return fmt.Errorf("extensions/%s: %w", id, err)
		}
		g.extensions = append(g.extensions, named[extension.Extension]{id, e})
	}
	return nil
}

// heap lends what a decoder asks for from the heap: splitting a compressed request is rare.
type heap struct{}

func (heap) Lend(b []byte, n int) ([]byte, error) { return slices.Grow(b, max(n-len(b), 0)), nil }

// decode returns the identity form of a stored body; size is what it was counted with when it came in.
func decode(e otlp.Encoding, body []byte, size int) ([]byte, error) {
	codec, ok := compression.Parse(e.String())
	if !ok {
		return nil, fmt.Errorf("decode: no codec for %s", e)
	}
	return compression.Decode(codec, body, size, heap{})
}
