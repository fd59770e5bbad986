// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// generation is one configuration as it is built and runs (reload, section 2). It owns its receivers, processors,
// exporters, delivery loops and extensions; queues, the switch room, the accounting and the listening sockets are the
// application's, which lends them.
type generation struct {
	app  *App
	cfg  *config.Config
	plan *plan.Plan

	limiters   map[string]*memorylimiter.Limiter
	instances  map[string]exporter.Exporter
	exporters  []named[exporter.Exporter]
	pipelines  []*pipeline.Pipeline // of plan.Pipelines, in their order
	receivers  []named[receiver.Receiver]
	extensions []named[extension.Extension]
	heirs      map[string][]vault.Owner // who repays an emergency file, by its path

	undo []step // what was started, in order
}

type named[T any] struct {
	id    string
	value T
}

func (g *generation) began(name string, stop func(context.Context) error) {
	g.undo = append(g.undo, step{name, stop})
}

// build makes what needs no queue: limiters, exporters, extensions. It starts nothing.
func (g *generation) build() error {
	for _, build := range []func() error{g.buildLimiters, g.buildExporters, g.buildExtensions} {
		if err := build(); err != nil {
			return err
		}
	}
	return nil
}

func (g *generation) startExtensions(ctx context.Context) error {
	for _, e := range g.extensions {
		if err := e.value.Start(ctx, g.app.host); err != nil {
			return fmt.Errorf("extensions/%s: %w", e.id, err)
		}
		g.began("extension "+e.id, e.value.Stop)
	}
	return nil
}

// startBack starts what stands behind the queues, but not the deliveries.
func (g *generation) startBack(ctx context.Context) error {
	for id, l := range g.limiters {
		if err := l.Start(ctx); err != nil {
			return fmt.Errorf("processors/%s: %w", id, err)
		}
		g.began("processor "+id, l.Stop)
	}
	for _, e := range g.exporters {
		if err := e.value.Start(ctx, g.app.host); err != nil {
			return fmt.Errorf("exporters/%s: %w", e.id, err)
		}
		g.began("exporter "+e.id, e.value.Stop)
	}
	return nil
}

func (g *generation) startDeliveries() {
	for _, p := range g.pipelines {
		p.Start()
		g.began("deliveries", func(ctx context.Context) error { p.Stop(ctx); return nil })
	}
}

func (g *generation) startReceivers(ctx context.Context) error {
	for _, r := range g.receivers {
		if err := r.value.Start(ctx, g.app.host); err != nil {
			return fmt.Errorf("receivers/%s: %w", r.id, err)
		}
		g.began("receiver "+r.id, r.value.Stop)
	}
	return nil
}
