// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/app/evidence"
	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/sockets"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// generation is one configuration as it is built and runs (reload, section 2). It owns its receivers, processors,
// exporters, delivery loops and extensions; queues, the switch room, the accounting and the listening sockets are the
// application's, which lends them. Receivers and extensions that say the same as before are taken over as they are.
type generation struct {
	app    *App
	cfg    *config.Config
	plan   *plan.Plan
	before *generation         // which ran when this one was built, and is taken over from; nil at start, and once committed
	base   *generation         // which was committed last then, and is compared with; nil = none, and once committed
	seats  *sockets.Seats      // of receivers
	ports  *sockets.Seats      // of extensions
	checks *evidence.Listeners // of both; nil = never was on trial
	deaf   bool                // nobody can reach its listeners: it is rehearsed

	listeners map[string][]net.Listener // by kind and ID of who serves them, those that were taken over included

	limiters   map[string]*memorylimiter.Limiter
	instances  map[string]exporter.Exporter
	exporters  []named[exporter.Exporter]
	queues     map[string]pipelineQueue // by pipeline
	memories   []*memoryQueue           // those of queues that were made here
	claimed    []*memoryQueue           // those that were lent to it, its own included
	served     map[place]string         // parked cursors that its pipelines have inherited, with the pipeline
	storages   []wantedStorage
	fresh      []freshName
	pipelines  []*pipeline.Pipeline // of plan.Pipelines, in their order
	doors      []*door
	extensions []named[extension.Extension]
	heirs      map[string][]vault.Owner // who repays an emergency file, by its path

	// books are read by metrics and status, by pipeline and label of the destination; nil until they are registered.
	books atomic.Pointer[map[[2]string]func() queue.Counts]

	probed evidence.Probes
	panics evidence.Panics

	newDoors      []*door
	newExtensions []named[extension.Extension]

	// resting counts deliveries that end; rested says that they were told to.
	resting           sync.WaitGroup
	rested, committed bool
	left              []<-chan struct{} // closed when nobody is on the ways that led here any more
}

// pipelineQueue is a queue as a pipeline and a reload need it.
type pipelineQueue interface {
	pipeline.Queue
	queue.Roster
}

// readBooks are the books that the metrics show, with what the emergency files owe.
func (g *generation) readBooks() map[[2]string]func() queue.Counts {
	if books := g.books.Load(); books != nil {
		return *books
	}
	return nil
}

type named[T any] struct {
	id    string
	value T
}

func (a *App) generation(o *sources.Offer, before *generation) *generation {
	return &generation{
		app: a, cfg: o.Config, plan: o.Plan, before: before, base: a.good.Load(), seats: a.sockets.Generation(),
		ports:  a.ports.Generation(),
		queues: map[string]pipelineQueue{}, listeners: map[string][]net.Listener{}, served: map[place]string{},
	}
}

// began notes what was started for this generation; of is the receiver or extension that may change its owner.
func (g *generation) began(name string, stop func(context.Context) error, of any) {
	g.app.steps.add(&step{name: name, stop: stop, owner: g, of: of})
}

// build makes what needs no queue: limiters, exporters, extensions. It starts nothing.
func (g *generation) build() error {
	if g.limiters != nil {
		return nil // by New
	}
	return inOrder(g.buildLimiters, g.buildExporters, g.buildExtensions)
}

// prepare does everything that can fail, beside what runs (reload, section 5). Nothing is taken from queues yet.
func (g *generation) prepare(ctx context.Context) error {
	return inOrder(
		func() error { return g.openQueues(ctx) },
		g.buildRest,
		func() error { return g.startExtensions(ctx) },
		func() error { return g.startBack(ctx) },
		func() error { return g.startReceivers(ctx) },
	)
}

// openQueues opens what data waits in.
func (g *generation) openQueues(ctx context.Context) error {
	return inOrder(g.build, func() error { return g.openStorages(ctx, vfs.OS()) }, g.openMemories)
}

// buildRest builds what stands around the queues.
func (g *generation) buildRest() error {
	return inOrder(func() error { return g.openEmergencies(vfs.OS()) }, g.learnRoutes, g.buildPipelines, g.buildReceivers)
}

func (g *generation) attach() {
	for _, p := range g.pipelines {
		p.Attach()
	}
}

func inOrder(steps ...func() error) error {
	for _, do := range steps {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// unwind stops what was started for a generation that never had its turn, and takes back what it was given.
func (g *generation) unwind(ctx context.Context) error {
	g.forget()
	err := errors.Join(unwind(ctx, g.own()), g.closeSeats())
	g.release(ctx)
	return err
}

func (g *generation) closeSeats() error { return errors.Join(g.seats.Close(), g.ports.Close()) }

// own takes the steps that are this generation's.
func (g *generation) own() []*step {
	return g.app.steps.take(func(s *step) bool { return s.owner == g })
}

func (g *generation) startExtensions(ctx context.Context) error {
	for _, e := range g.newExtensions {
		if err := e.value.Start(ctx, components.Host{}); err != nil {
			return g.blame(config.Extensions, e.id, err)
		}
		g.began("extension "+e.id, e.value.Stop, e.value)
	}
	return nil
}

// startBack starts what stands behind the queues, but not the deliveries.
func (g *generation) startBack(ctx context.Context) error {
	for id, l := range g.limiters {
		if err := l.Start(ctx); err != nil {
			return g.blame(config.Processors, id, err)
		}
		g.began("processor "+id, l.Stop, nil)
	}
	for _, e := range g.exporters {
		if err := e.value.Start(ctx, components.Host{}); err != nil {
			return g.blame(config.Exporters, e.id, err)
		}
		g.began("exporter "+e.id, e.value.Stop, nil)
	}
	return nil
}

func (g *generation) startDeliveries() {
	for _, p := range g.pipelines {
		if !p.Started() {
			g.startDelivery(p)
		}
	}
}

func (g *generation) startDelivery(p *pipeline.Pipeline) {
	p.Start()
	g.began("deliveries", func(ctx context.Context) error { p.Stop(ctx); return nil }, p)
}

// same reports whether a component says the same in two configurations.
func same(a, b *config.Config, kind config.Kind, id string) bool {
	x, y := a.Components[kind][id], b.Components[kind][id]
	return x != nil && y != nil && x.Type == y.Type && a.HashOf(kind, id) == b.HashOf(kind, id)
}

// Load implements reload.Builder.
func (a *App) Load(ctx context.Context, texts []reload.Text) (reload.Candidate, error) {
	o, err := a.opts.Sources.Load(ctx, texts)
	if err != nil {
		return nil, err // no candidate, rather than one that is nil
	}
	return o, nil
}

// Prepare implements reload.Builder. The first one makes, besides itself, what the application owns.
func (a *App) Prepare(ctx context.Context, c reload.Candidate) (reload.Instance, error) {
	o := c.(*sources.Offer)
	if extension.Phase(a.phase.Load()) == extension.Starting {
		g := a.generation(o, nil)
		if err := a.begin(ctx, g); err != nil {
			return nil, err
		}
		return g, nil
	}
	g := a.generation(o, a.now())
	if err := g.prepare(ctx); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), backDoorTimeout)
		defer cancel()
		return nil, errors.Join(err, g.unwind(undo))
	}
	if section(g.cfg, "telemetry") != section(g.before.cfg, "telemetry") {
		a.log.Warn("Config: service::telemetry takes effect at the next start")
	}
	return g, nil
}

// section is a part of service, in words that are equal where it is.
func section(cfg *config.Config, key string) string {
	service, _ := cfg.Effective["service"].(map[string]any)
	text, err := json.Marshal(service[key])
	if err != nil {
		return fmt.Sprintf("%#v", service[key])
	}
	return string(text)
}

var _ reload.Builder = (*App)(nil)
