// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// probeTime bounds a request to probe a level: several probes wait for each other by the route's gap.
const probeTime = 2 * time.Minute

// findStateDir makes the first usable state directory ours and says where it is. Without one the process runs all the
// same, and commands cannot reach it.
func (a *App) findStateDir(last bool) {
	dirs, named := admin.Places(a.opts.StateDir, os.Getenv, a.storageDirs())
	var errs []error
	for i, dir := range dirs {
		err := admin.Use(dir, i < named)
		if err == nil {
			a.stateDir = dir
			a.log.Info("State directory", zap.String("directory", dir))
			break
		}
		errs = append(errs, err)
		if i < named && last {
			a.log.Warn("State directory not usable", zap.Error(err))
		}
	}
	if a.stateDir == "" && last {
		a.log.Warn("No state directory: commands do not reach this process (name one with --state-dir)",
			zap.Error(errors.Join(errs...)))
	}
}

// storageDirs are the directories of the storages in use, in the service's order.
func (a *App) storageDirs() []string {
	g := a.now()
	var out []string
	for _, id := range g.cfg.Service.Extensions {
		if c := g.cfg.Components[config.Extensions][id]; c != nil {
			if cfg, ok := c.Config.(*journal.Config); ok {
				out = append(out, cfg.Directory)
			}
		}
	}
	return out
}

// startAdmin opens the door for commands, before there is anything to show: recovery may take a while. The storages are
// not there yet at the first call; the second is the last. What it cannot have is a warning: data goes before.
func (a *App) startAdmin(last bool) {
	if a.admin != nil {
		return
	}
	if a.stateDir == "" {
		a.findStateDir(last)
	}
	path := admin.Socket(a.opts.AdminSocket, a.stateDir)
	if path == "" {
		return
	}
	s := admin.NewServer(a.log)
	for _, r := range a.adminRoutes() {
		s.Handle(r)
	}
	a.admin = s
	if err := s.Start(path); err != nil {
		hint := "no command reaches this process"
		if errors.Is(err, admin.ErrInUse) {
			hint = "commands reach the other process, not this one; give each a --state-dir of its own"
		}
		a.log.Warn("Admin socket not served: "+hint, zap.Error(err))
		return
	}
	a.log.Info("Listening", zap.String("component", "admin"), zap.String("address", filepath.Clean(path)))
	a.began("admin", func(ctx context.Context) error { return errors.Join(s.Stop(ctx), a.desk.Wait(ctx)) })
}

// adminRoutes are what commands can ask.
func (a *App) adminRoutes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodGet, Path: "/status", Handle: a.adminStatus},
		{Method: http.MethodPost, Path: "/reload", Timeout: reloadTime, Handle: a.adminReload},
		{Method: http.MethodGet, Path: "/config/history", Handle: a.adminHistory},
		{Method: http.MethodPost, Path: "/config/confirm", Handle: a.adminConfirm},
		{Method: http.MethodPost, Path: "/config/rollback", Timeout: reloadTime, Handle: a.adminRollback},
		{Method: http.MethodPost, Path: "/failover/probe", Timeout: probeTime, Handle: a.adminProbe},
		{Method: http.MethodPost, Path: "/failover/hold", Handle: a.adminHold},
		{Method: http.MethodPost, Path: "/failover/release", Handle: a.adminRelease},
	}
}

// LevelRequest names a level for an operator's wish.
type LevelRequest struct {
	Connector string `json:"connector"`
	Signal    string `json:"signal,omitempty"` // empty = all
	Level     int    `json:"level"`            // -1 = all, of a probe
	// ForSeconds and Force are a hold's.
	ForSeconds float64 `json:"for_seconds,omitempty"`
	Force      bool    `json:"force,omitempty"`
}

// RouteAnswer is what came of a wish on one route.
type RouteAnswer struct {
	Connector string               `json:"connector"`
	Signal    string               `json:"signal"`
	Error     string               `json:"error,omitempty"` // refused
	Probes    []status.ProbeAnswer `json:"probes,omitempty"`
}

// meant are the routes a request names, and the request.
func (a *App) meant(r *admin.Request) (*LevelRequest, []failover.RouteID, error) {
	var req LevelRequest
	if err := r.Decode(&req); err != nil {
		return nil, nil, err
	}
	if !a.built.Load() || a.switches == nil {
		return nil, nil, admin.Refuse(http.StatusNotFound, "there are no levels: no connector is configured, or the process is starting")
	}
	if _, ok := otlp.ParseSignal(req.Signal); !ok && req.Signal != "" {
		return nil, nil, admin.Refuse(http.StatusBadRequest, "signal %q is none of traces, metrics, logs, profiles", req.Signal)
	}
	ids := a.switches.Routes()
	var out []failover.RouteID
	names := map[string]bool{}
	for _, id := range ids {
		names[id.Connector] = true
		if id.Connector == req.Connector && (req.Signal == "" || id.Signal.String() == req.Signal) {
			out = append(out, id)
		}
	}
	if len(out) == 0 {
		return nil, nil, admin.Refuse(http.StatusNotFound, "%s", unknownRoute(&req, names))
	}
	return &req, out, nil
}

func unknownRoute(req *LevelRequest, names map[string]bool) string {
	if names[req.Connector] {
		return req.Connector + " has no " + req.Signal
	}
	var all []string
	for name := range names {
		all = append(all, name)
	}
	text := "no connector or exporter " + strconv.Quote(req.Connector) + " has levels"
	if near := config.Nearest(req.Connector, all); near != "" {
		text += " (did you mean " + strconv.Quote(near) + "?)"
	}
	return text
}

func (a *App) adminProbe(ctx context.Context, r *admin.Request) (any, error) {
	req, ids, err := a.meant(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime-time.Second)
	defer cancel()
	answers := make([]RouteAnswer, len(ids))
	done := make(chan struct{})
	for i, id := range ids {
		go func() { // ends with ctx
			answers[i] = a.probeRoute(ctx, id, req.Level)
			done <- struct{}{}
		}()
	}
	for range ids {
		<-done
	}
	return answers, nil
}

func (a *App) probeRoute(ctx context.Context, id failover.RouteID, level int) RouteAnswer {
	out := answerFor(id, nil)
	answers, err := a.switches.Probe(ctx, id, level)
	if err != nil {
		return answerFor(id, err)
	}
	for i := range answers {
		p := &answers[i]
		one := status.ProbeAnswer{
			Level: p.Level, Exporter: p.Exporter, Good: p.Good(), Kind: p.Kind, Result: p.Verdict.Kind.String(), Error: p.Why,
			State: p.State.String(), ReturnsWhen: p.ReturnsWhen,
		}
		if p.Verdict.Err != nil {
			one.Error = telemetry.Escape(p.Verdict.Err.Error())
		}
		out.Probes = append(out.Probes, one)
	}
	return out
}

func answerFor(id failover.RouteID, err error) RouteAnswer {
	out := RouteAnswer{Connector: id.Connector, Signal: id.Signal.String()}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

func (a *App) adminHold(ctx context.Context, r *admin.Request) (any, error) {
	return a.order(ctx, r, failover.EventHold)
}

func (a *App) adminRelease(ctx context.Context, r *admin.Request) (any, error) {
	return a.order(ctx, r, failover.EventRelease)
}

// order tells the switch an operator's wish for every route that is meant, and passes its refusals on.
func (a *App) order(ctx context.Context, r *admin.Request, kind failover.EventKind) (any, error) {
	req, ids, err := a.meant(r)
	if err != nil {
		return nil, err
	}
	var out []RouteAnswer
	for _, id := range ids {
		err := a.switches.Order(ctx, failover.Event{Kind: kind, Route: id, Level: req.Level,
			For: time.Duration(req.ForSeconds * float64(time.Second)), Force: req.Force})
		var refused *switchroom.RefusedError
		if err != nil && !errors.As(err, &refused) {
			return nil, err
		}
		out = append(out, answerFor(id, err))
	}
	return out, nil
}
