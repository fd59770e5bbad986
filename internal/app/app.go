// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package app owns the process: it builds what a plan says from the implementations there are, starts it back to
// front, and stops it in path order.
//
// No data port listens before every queue behind it is open: extensions, queues, exporters and deliveries come first,
// receivers last. It is the only package that names implementations (components.go).
package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Options are what an App is made from.
type Options struct {
	Config *config.Config
	Plan   *plan.Plan
	// Version and Commit are this program's, Collector is the release of the modules it is made with.
	Version, Commit, Collector string
	// Telemetry is the process's; the caller makes it as the configuration says.
	Telemetry *telemetry.Telemetry
	// ShutdownTimeout bounds Stop, ShutdownDelay is how long the process is not ready but still accepting first.
	ShutdownTimeout, ShutdownDelay time.Duration
	// ImplicitHealth is "auto", "off" or an address (compat, section 8).
	ImplicitHealth string
	// StateDir and AdminSocket are the flags' (reload, section 9); empty = sought.
	StateDir, AdminSocket string
}

// App is the process: what outlives a configuration, and the configuration that runs.
type App struct {
	opts    Options
	log     *zap.Logger
	host    host
	gate    *admission.Gate
	running atomic.Pointer[generation] // while the first one is built, that one

	lines    *lines
	events   *events
	storages []*storage
	memories map[string]func() journal.Snapshot // queues in memory, by pipeline
	switches *pipeline.SwitchRoom
	metrics  *telemetry.Server
	vaults   map[string]*vault.Vault // emergency files, by path

	stateDir string        // empty = none is usable
	admin    *admin.Server // nil = not served
	desk     *status.Desk
	pace     *status.Pace
	built    atomic.Bool                 // everything that the status looks at is there
	debts    func(failover.RouteID) debt // of emergency files; nil = they keep no receipts

	phase   atomic.Int32 // extension.Phase
	up      atomic.Pointer[time.Time]
	dropped atomic.Int64 // items with a drop record of shutdown
	undo    []step       // what was started and is no generation's, in order
	hasten  chan struct{}
	room    atomic.Pointer[string] // being stopped
}

// now is the generation that runs.
func (a *App) now() *generation { return a.running.Load() }

// host is the Collector's view of us for its client and server settings. There are no extensions of the Collector's
// kind, so authenticators are not found, and the settings say so.
type host struct{}

func (host) GetExtensions() map[component.ID]component.Component { return nil }

// New builds what needs no queue: limiters, exporters, extensions. It starts nothing and touches no directory of a
// storage. Errors name the component.
func New(opts Options) (*App, error) {
	a := &App{opts: opts, log: opts.Telemetry.Logger, hasten: make(chan struct{})}
	a.setPhase(extension.Starting)
	a.lines = newLines(a.log)
	a.events = newEvents(a.lines, opts.Telemetry.Metrics)
	a.memories = map[string]func() journal.Snapshot{}
	g := &generation{app: a, cfg: opts.Config, plan: opts.Plan}
	a.running.Store(g)
	a.gate = admission.New(admissionLimit(opts.Config.Service.Admission.LimitMiB))
	a.pace, a.desk = status.NewPace(), status.NewDesk(a.header(), a.snapshot)
	if err := g.build(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *App) setPhase(p extension.Phase) { a.phase.Store(int32(p)) }

// Start starts everything. After an error what had started is stopped again.
func (a *App) Start(ctx context.Context) error {
	a.log.Info("Starting holdfast...", zap.String("version", a.opts.Version))
	err := a.start(ctx)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(err, a.unwind(undo))
	}
	now := time.Now()
	a.up.Store(&now)
	a.setPhase(extension.Running)
	a.log.Info("Everything is ready. Begin running and processing data.")
	return nil
}

// start goes back to front: queues are open and recovered, and every series exists, before anything listens; deliveries
// run before receivers do.
func (a *App) start(ctx context.Context) error {
	g := a.now()
	a.startAdmin(false)
	if err := a.openStorages(ctx, vfs.OS()); err != nil {
		return err
	}
	a.startAdmin(true)
	if err := g.openEmergencies(vfs.OS()); err != nil {
		return err
	}
	for _, build := range []func() error{a.buildSwitch, g.buildPipelines, g.buildReceivers, a.inherit} {
		if err := build(); err != nil {
			return err
		}
	}
	a.registerMetrics()
	a.sayRoutes()
	a.built.Store(true)
	var err error
	if a.metrics, err = telemetry.NewServer(g.cfg.Service.Telemetry.Metrics, a.opts.Telemetry); err != nil {
		return err
	}
	if err := a.metrics.Start(ctx); err != nil {
		return err
	}
	a.began("telemetry", a.metrics.Stop)
	if err := g.startExtensions(ctx); err != nil {
		return err
	}
	if err := a.startImplicitHealth(ctx); err != nil {
		return err
	}
	if err := g.startBack(ctx); err != nil {
		return err
	}
	a.switches.Start()
	a.began("switch room", a.switches.Stop)
	g.startDeliveries()
	a.startWatch()
	return g.startReceivers(ctx)
}
