// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/app/queuelog"
	"github.com/holdfast-telemetry/holdfast/internal/app/shown"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/healthcheck"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// watchEvery is how often it is looked whether something changed.
const watchEvery = time.Second

// admissionLimit is a quarter of the memory there is, unless the configuration says otherwise (faults, part C).
func admissionLimit(configuredMiB int64) int64 {
	if configuredMiB > 0 {
		return configuredMiB << 20
	}
	return telemetry.MemoryLimit() / 4
}

// ready reports whether some pipeline accepts data.
func (a *App) ready() bool {
	g := a.now()
	if extension.Phase(a.phase.Load()) != extension.Running {
		return false
	}
	for _, p := range g.pipelines {
		if ok, _ := p.Accepting(); ok {
			return true
		}
	}
	return len(g.pipelines) == 0
}

// health is the snapshot the health endpoints show. It never waits for the data path.
func (a *App) health() extension.Health {
	g := a.now()
	h := extension.Health{Phase: extension.Phase(a.phase.Load())}
	if up := a.up.Load(); up != nil {
		h.UpSince = *up
	}
	h.Extensions = g.cfg.Service.Extensions
	if !a.built.Load() {
		return h
	}
	for i, p := range g.pipelines {
		ok, since := p.Accepting()
		h.Pipelines = append(h.Pipelines, extension.PipelineHealth{
			ID: g.plan.Pipelines[i].ID, Accepting: ok, RefusingSince: since,
		})
		signal := g.plan.Pipelines[i].Signal
		for _, d := range p.Health() {
			h.Destinations = append(h.Destinations, extension.DestinationHealth{
				Pipeline: d.Pipeline, Name: d.Name, Failed: d.Failed, Delivered: d.Delivered,
				LastFailure: d.LastFailure, LastDelivery: d.LastDelivery, LastError: d.LastError, Oldest: d.Oldest,
				Degraded: a.degraded(failover.RouteID{Connector: d.Name, Signal: signal}),
			})
		}
	}
	return h
}

// startImplicitHealth serves the health paths without being asked, so that probes written for the Collector find
// them. A taken port is a warning.
func (a *App) startImplicitHealth(ctx context.Context) error {
	addr := a.opts.ImplicitHealth
	if addr == "off" || addr == "" || a.hasHealthCheck() {
		return nil
	}
	if addr == "auto" {
		addr = "localhost:13133"
		if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
			addr = "0.0.0.0:13133"
		}
	}
	if l := a.now().plan.Taker(addr); l != nil {
		a.log.Warn("Health endpoint not served: the configuration has another use for its address",
			zap.String("address", addr), zap.String("component", l.Component))
		return nil
	}
	e := healthcheck.NewImplicit(addr, extension.Settings{
		ID: "health_check", Telemetry: a.opts.Telemetry.For("extension", "health_check"), Status: a.health,
	})
	if err := e.Start(ctx, components.Host{}); err != nil {
		a.log.Warn("Health endpoint not served", zap.String("address", addr), zap.Error(err))
		return nil
	}
	a.began("extension health_check", e.Stop)
	return nil
}

func (a *App) hasHealthCheck() bool {
	g := a.now()
	for _, id := range g.cfg.Service.Extensions {
		if c := g.cfg.Components[config.Extensions][id]; c != nil && c.Type == "health_check" {
			return true
		}
	}
	return false
}

// watcher looks at the queues once a second and says what changed. It never holds up the data path, and nothing
// depends on it.
type watcher struct {
	app   *App
	stop  chan struct{}
	done  chan struct{}
	rooms *queuelog.Rooms
}

func (a *App) startWatch() {
	w := &watcher{app: a, stop: make(chan struct{}), done: make(chan struct{}), rooms: queuelog.NewRooms(a.log)}
	go w.run()
	a.began("watch", func(context.Context) error {
		close(w.stop)
		<-w.done
		return nil
	})
}

func (w *watcher) run() {
	defer close(w.done)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case now := <-tick.C:
			w.look(now)
		}
	}
}

func (w *watcher) look(now time.Time) {
	for _, p := range w.app.now().pipelines {
		p.Watch(now)
	}
	w.app.lookAtPace(now)
	if w.app.switches != nil {
		w.app.switches.Remind(now, w.app.routeFill)
	}
	for _, s := range w.app.stores() {
		shot := s.store.Snapshot()
		w.rooms.Look(s.ids[0], &shot)
	}
	w.app.lines.Flush(now, false)
}

// lookAtPace notes the counts of every destination, for their rates.
func (a *App) lookAtPace(now time.Time) {
	g := a.now()
	var counts shown.Counts
	for i, p := range g.pipelines {
		for _, d := range p.Show() {
			counts.Add(g.plan.Pipelines[i].ID, &d)
		}
	}
	a.pace.Look(now, counts.Destinations, counts.Levels())
}
