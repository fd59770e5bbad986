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

func (a *App) component(kind config.Kind, id string) (*config.Component, error) {
	c := a.opts.Config.Components[kind][id]
	if c == nil {
		return nil, fmt.Errorf("%s/%s is not configured", kind, id)
	}
	return c, nil
}

// buildLimiters makes one limiter per processor, shared by the pipelines that name it.
func (a *App) buildLimiters() error {
	a.limiters = map[string]*memorylimiter.Limiter{}
	for i := range a.opts.Plan.Pipelines {
		for _, id := range a.opts.Plan.Pipelines[i].MemoryLimiters {
			if a.limiters[id] != nil {
				continue
			}
			c, err := a.component(config.Processors, id)
			if err != nil {
				return err
			}
			l, err := memorylimiter.New(c.Config.(*memorylimiter.Config), id, a.opts.Telemetry.For("processor", id))
			if err != nil {
				return fmt.Errorf("processors/%s: %w", id, err)
			}
			a.limiters[id] = l
		}
	}
	return nil
}

// buildExporters makes one exporter per ID, shared by the pipelines that lead to it.
func (a *App) buildExporters() error {
	a.instances = map[string]exporter.Exporter{}
	for i := range a.opts.Plan.Pipelines {
		p := &a.opts.Plan.Pipelines[i]
		for j := range p.Destinations {
			for _, level := range p.Destinations[j].Levels {
				for _, id := range level.Exporters {
					if err := a.buildExporter(id, p.Signal); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (a *App) buildExporter(id string, s otlp.Signal) error {
	c, err := a.component(config.Exporters, id)
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
	if a.instances[id] != nil {
		return nil
	}
	e, err := f.New(exporter.Settings{
		ID: id, Telemetry: a.opts.Telemetry.For("exporter", id), Version: a.opts.Version,
	}, a.synced(id, c.Config))
	if err != nil {
		return fmt.Errorf("exporters/%s: %w", id, err)
	}
	a.instances[id] = e
	a.exporters = append(a.exporters, named[exporter.Exporter]{id, e})
	return nil
}

// synced makes a file answer after its sync where a journal may hang on the answer: a record that is resolved is gone
// from the journal. That is so for every file once there is a storage, since any of them may inherit a backlog, and for
// those of an emergency level, which take what no queue will have again.
func (a *App) synced(id string, cfg any) any {
	c, ok := cfg.(*file.Config)
	if !ok || len(a.opts.Plan.Storages) == 0 && !a.emergency(id) {
		return cfg
	}
	out := *c
	out.Synced = true
	return &out
}

func (a *App) buildPipelines() error {
	for i := range a.opts.Plan.Pipelines {
		if err := a.buildPipeline(&a.opts.Plan.Pipelines[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) buildPipeline(p *plan.Pipeline) error {
	set := pipeline.Settings{
		Plan: *p, Telemetry: a.opts.Telemetry, Gate: a.gate, Exporters: a.instances,
		Decode: decode, Jitter: rand.Float64, Switch: a.switches,
	}
	if p.Batch != nil {
		set.MetadataKeys = p.Batch.MetadataKeys
	}
	for _, id := range p.MemoryLimiters {
		set.Limiters = append(set.Limiters, a.limiters[id])
	}
	var inMemory *memory.Queue
	drops := newDropLog(a.lines, p.ID, &a.dropped)
	switch {
	case p.Storage != "":
		j := a.head(p)
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
		a.began("queue "+p.ID, q.Close)
	}
	built, err := pipeline.New(set)
	if err != nil {
		return err
	}
	a.pipelines = append(a.pipelines, built)
	if inMemory != nil {
		a.memories[p.ID] = func() journal.Snapshot { return memorySnapshot(built, inMemory, drops) }
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
func (a *App) buildReceivers() error {
	sinks := map[string]map[otlp.Signal][]receiver.Sink{}
	for i := range a.opts.Plan.Pipelines {
		p := &a.opts.Plan.Pipelines[i]
		for _, id := range p.Receivers {
			if sinks[id] == nil {
				sinks[id] = map[otlp.Signal][]receiver.Sink{}
			}
			sinks[id][p.Signal] = append(sinks[id][p.Signal], a.pipelines[i].Entry())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(sinks)) {
		c, err := a.component(config.Receivers, id)
		if err != nil {
			return err
		}
		f, ok := find(receivers, func(f receiver.Factory) string { return f.Type }, c.Type)
		if !ok {
			return fmt.Errorf("receivers/%s: no implementation of type %q", id, c.Type)
		}
		set := receiver.Settings{
			ID: id, Telemetry: a.opts.Telemetry.For("receiver", id), Sinks: map[otlp.Signal]receiver.Sink{},
			Admission: a.gate, Ready: a.ready,
		}
		for s, entries := range sinks[id] {
			set.Sinks[s] = pipeline.NewFan(entries)
		}
		r, err := f.New(set, c.Config)
		if err != nil {
			return fmt.Errorf("receivers/%s: %w", id, err)
		}
		a.receivers = append(a.receivers, named[receiver.Receiver]{id, r})
	}
	return nil
}

func (a *App) buildExtensions() error {
	for _, id := range a.opts.Config.Service.Extensions {
		c, err := a.component(config.Extensions, id)
		if err != nil {
			return err
		}
		f, ok := find(extensions, func(f extension.Factory) string { return f.Type }, c.Type)
		if !ok {
			continue // file_storage has no process of its own
		}
		e, err := f.New(extension.Settings{
			ID: id, Telemetry: a.opts.Telemetry.For("extension", id), Status: a.health,
		}, c.Config)
		if err != nil {
			return fmt.Errorf("extensions/%s: %w", id, err)
		}
		a.extensions = append(a.extensions, named[extension.Extension]{id, e})
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
