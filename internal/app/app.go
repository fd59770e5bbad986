// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package app owns the process: it builds what a plan says from the implementations there are, starts it back to
// front, and stops it in path order.
//
// No data port listens before every queue behind it is open: extensions, queues, exporters and deliveries come first,
// receivers last. Only it and the packages below it name implementations; components lists them all.
//
// It has more files than a package should: a generation is built from what the process lends it (queues, sockets, the switch,
// steps of a stop) and gives it back, and both change together. What can be told without knowing who runs is below.
package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/app/queuelog"
	"github.com/holdfast-telemetry/holdfast/internal/app/series"
	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/failover/statefile"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/sockets"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Options are what an App is made from.
type Options struct {
	// Sources are where a reload finds configurations; nil = there is none.
	Sources *sources.Set
	// Config and Plan are the configuration to Start; nil where a reload driver starts one.
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
	// StatusHosts are names under which status pages may be asked for, besides their addresses (faults, D8).
	StatusHosts []string
	// StateDir and AdminSocket are the flags' (reload, section 9); empty = sought.
	StateDir, AdminSocket string
}

// App is the process: what outlives a configuration, and the configuration that runs.
type App struct {
	opts    Options
	log     *zap.Logger
	gate    *admission.Gate
	running atomic.Pointer[generation] // while the first one is built, that one
	first   *generation                // of Options
	good    atomic.Pointer[generation] // committed last; nil = none
	sockets *sockets.Sockets           // of receivers
	ports   *sockets.Sockets           // of extensions, which serve until the end
	steps   steps
	freshen sync.Mutex // guards what generations have to take back

	lines  *queuelog.Lines
	events *queuelog.Journals
	disks  struct {
		sync.RWMutex
		storages []*storage
		memories map[string]*memoryQueue // queues in memory, by pipeline
		vaults   map[string]*vault.Vault // emergency files, by path
	}
	switches *switchroom.Room             // nil before the first generation is built
	named    map[string]map[string]string // labels of destinations, by pipeline and canonical name; register's alone
	keeper   *statefile.File              // of what the switches should know after a restart; nil = nobody keeps it
	metrics  *telemetry.Server

	stateDir string        // empty = none is usable
	admin    *admin.Server // nil = not served
	desk     *status.Desk
	pace     *status.Pace
	history  *status.History
	built    atomic.Bool                        // everything that the status looks at is there
	debts    func(failover.RouteID) series.Debt // of emergency files; nil = they keep no receipts

	phase    atomic.Int32 // extension.Phase
	up       atomic.Pointer[time.Time]
	dropped  atomic.Int64 // items with a drop record of shutdown
	hasten   chan struct{}
	ending   chan struct{} // closed by Announce
	announce sync.Once
	driver   *reload.Driver         // nil = the configuration never changes
	leaving  doorSet                // receivers whose clients are leaving
	room     atomic.Pointer[string] // being stopped
}

// now is the generation that runs.
func (a *App) now() *generation { return a.running.Load() }

// New makes a process without a configuration, or builds what needs no queue of the one in opts: limiters, exporters,
// extensions. It starts nothing and touches no directory of a storage. Errors name the component.
func New(opts Options) (*App, error) {
	a := &App{opts: opts, hasten: make(chan struct{}), ending: make(chan struct{})}
	a.history = status.NewHistory(status.DefaultHistory)
	a.opts.Telemetry = a.chronicle(opts.Telemetry)
	a.log = a.opts.Telemetry.Logger
	a.setPhase(extension.Starting)
	a.lines = queuelog.New(a.log)
	a.events = queuelog.NewJournals(a.lines, opts.Telemetry.Metrics)
	redelivered(opts.Telemetry.Metrics) // from the start, with 0
	seen := func(network, address string, err error) {
		a.log.Error("Accepting connections failed; it is tried again", zap.String("address", address), zap.Error(err))
	}
	a.sockets, a.ports = sockets.New(seen), sockets.New(seen)
	a.disks.memories, a.disks.vaults = map[string]*memoryQueue{}, map[string]*vault.Vault{}
	a.gate = admission.New(admissionLimit(0))
	none := a.generation(&sources.Offer{Config: &config.Config{}, Plan: &plan.Plan{}}, nil)
	a.running.Store(none)
	a.pace, a.desk = status.NewPace(), status.NewDesk(a.header(), a.snapshot)
	if opts.Config == nil {
		return a, nil
	}
	a.first = a.generation(&sources.Offer{Config: opts.Config, Plan: opts.Plan}, nil)
	return a, a.first.build()
}

// ReloadBy makes the driver known that changes the configuration; before anything starts.
func (a *App) ReloadBy(d *reload.Driver) { a.driver = d }

// Telemetry is the process's, with what the log says seen by the status too: for whoever tells of the process beside it.
func (a *App) Telemetry() *telemetry.Telemetry { return a.opts.Telemetry }

func (a *App) setPhase(p extension.Phase) { a.phase.Store(int32(p)) }

// Start starts the configuration of Options. After an error what had started is stopped again.
func (a *App) Start(ctx context.Context) error {
	if err := a.begin(ctx, a.first); err != nil {
		return err
	}
	a.first.Switch()
	return nil
}

// begin prepares the first generation, back to front: queues are open and recovered, and every series exists, before
// anything listens. What the application owns is made with it, and unmade if it fails.
func (a *App) begin(ctx context.Context, g *generation) error {
	a.log.Info("Starting holdfast...", zap.String("version", a.opts.Version))
	before := a.running.Swap(g)
	a.gate.SetLimit(admissionLimit(g.cfg.Service.Admission.LimitMiB))
	a.startAdmin(false)
	err := inOrder(
		func() error { return g.openQueues(ctx) },
		func() error { a.startAdmin(true); return g.buildRest() },
		func() error { g.attach(); g.takeOver(); return g.inherit() },
		func() error { a.register(); a.sayRoutes(); a.built.Store(true); return a.startMetrics(ctx) },
		func() error { return g.startExtensions(ctx) },
		func() error { return a.startImplicitHealth(ctx) },
		func() error { return g.startBack(ctx) },
		func() error { a.startSwitch(); a.startWatch(); return g.startReceivers(ctx) },
	)
	if err == nil {
		a.began("receiver sockets", func(context.Context) error { return a.sockets.Close() })
		a.began("extension sockets", func(context.Context) error { return a.ports.Close() })
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, unwind(undo, a.steps.take(func(*step) bool { return true })), g.closeSeats())
	a.built.Store(false)
	a.switches, a.admin, a.metrics = nil, nil, nil
	a.disks.Lock()
	a.disks.storages, a.disks.memories, a.disks.vaults = nil, map[string]*memoryQueue{}, map[string]*vault.Vault{}
	a.disks.Unlock()
	a.running.Store(before)
	return err
}

func (a *App) startMetrics(ctx context.Context) (err error) {
	if a.metrics, err = telemetry.NewServer(a.now().cfg.Service.Telemetry.Metrics, a.opts.Telemetry); err != nil {
		return err
	}
	if err := a.metrics.Start(ctx); err != nil {
		return fmt.Errorf("%s: %w", a.now().cfg.Where("service::telemetry::metrics"), err)
	}
	a.began("telemetry", a.metrics.Stop)
	return nil
}

func (a *App) startSwitch() {
	a.switches.Start()
	if a.keeper == nil {
		a.began("switch room", a.switches.Stop)
		return
	}
	a.keeper.Start()
	a.began("switch room", func(ctx context.Context) error {
		err := a.switches.Stop(ctx)
		a.keeper.Tell(a.switches.Remember())
		return errors.Join(err, a.keeper.Stop(ctx))
	})
}

// takesData says, once, that data is taken from now on.
func (a *App) takesData() {
	if extension.Phase(a.phase.Load()) != extension.Starting {
		return
	}
	now := time.Now()
	a.up.Store(&now)
	a.setPhase(extension.Running)
	a.log.Info("Everything is ready. Begin running and processing data.")
}
