// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/app/operator"
	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
)

// findStateDir makes the first usable state directory ours and says where it is. Without one the process runs all the
// same, and commands cannot reach it.
func (a *App) findStateDir(last bool) {
	dirs, named := admin.Places(a.opts.StateDir, os.Getenv, sources.StorageDirs(a.now().cfg))
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
	levels := operator.Levels{Room: func() *switchroom.Room {
		if !a.built.Load() {
			return nil
		}
		return a.switches
	}}
	configs := operator.Configs{Driver: a.driver}
	return slices.Concat([]admin.Route{{Method: http.MethodGet, Path: "/status", Handle: a.adminStatus}}, configs.Routes(), levels.Routes())
}
