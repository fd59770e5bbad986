// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
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
				return g.blame(config.Processors, id, err)
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
	f, ok := components.Exporter(c.Type)
	if !ok {
		return g.blame(config.Exporters, id, fmt.Errorf("no implementation of type %q", c.Type))
	}
	if len(f.Signals) > 0 && !slices.Contains(f.Signals, s) {
		return g.blame(config.Exporters, id, fmt.Errorf("type %q does not carry %s", c.Type, s))
	}
	if g.instances[id] != nil {
		return nil
	}
	e, err := f.New(exporter.Settings{
		ID: id, Telemetry: g.app.opts.Telemetry.For("exporter", id), Version: g.app.opts.Version, Offline: g.deaf,
	}, g.synced(id, c.Config))
	if err != nil {
		return g.blame(config.Exporters, id, err)
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
		Decode: components.Decode, Jitter: rand.Float64, Switch: g.app.switches,
		Debts: func(d *plan.Destination) pipeline.Debts { return g.debtsOf(p, d) },
	}
	if p.Batch != nil {
		set.MetadataKeys = p.Batch.MetadataKeys
	}
	for _, id := range p.MemoryLimiters {
		set.Limiters = append(set.Limiters, g.limiters[id])
	}
	if p.Queued() {
		set.Queue = g.queues[p.ID]
		if set.Queue == nil {
			return fmt.Errorf("pipeline %s: storage %s is not open", p.ID, p.Storage)
		}
		if j, ok := set.Queue.(*journal.Journal); ok {
			set.Room = func() bool { return j.Snapshot().State == "ok" }
		}
	}
	built, err := pipeline.New(set)
	if err != nil {
		return err
	}
	g.pipelines = append(g.pipelines, built)
	return nil
}

func (g *generation) buildExtensions() error {
	for _, id := range g.cfg.Service.Extensions {
		c, err := g.component(config.Extensions, id)
		if err != nil {
			return err
		}
		f, ok := components.Extension(c.Type)
		if !ok {
			continue // file_storage has no process of its own
		}
		if x := g.inheritedExtension(id); x != nil {
			g.keepListeners(config.Extensions, id)
			g.extensions = append(g.extensions, named[extension.Extension]{id, x})
			continue
		}
		e, err := f.New(extension.Settings{
			ID: id, Telemetry: g.app.opts.Telemetry.For("extension", id), Status: g.app.health,
			Show: g.app.Status, Events: g.app.history.Newest, Hosts: g.app.opts.StatusHosts,
			Listen: extension.ListenFunc(g.listen(config.Extensions, id)),
		}, c.Config)
		if err != nil {
			return g.blame(config.Extensions, id, err)
		}
		one := named[extension.Extension]{id, e}
		g.extensions, g.newExtensions = append(g.extensions, one), append(g.newExtensions, one)
	}
	return nil
}

// inheritedExtension is the extension of the generation before, if it says the same.
func (g *generation) inheritedExtension(id string) extension.Extension {
	if g.before == nil || !same(g.before.cfg, g.cfg, config.Extensions, id) {
		return nil
	}
	for _, e := range g.before.extensions {
		if e.id == id {
			return e.value
		}
	}
	return nil
}
