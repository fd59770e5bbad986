// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/app/queuelog"
	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// ComponentError says which component of a configuration cannot be built, started or opened, and where it is written.
type ComponentError struct {
	Component string // kind/id
	Position  config.Position
	Err       error
}

func (e *ComponentError) Error() string {
	text := e.Component + ": " + e.Err.Error()
	if place := e.Position.String(); place != "" {
		return place + ": " + text
	}
	return text
}

// Unwrap returns the cause.
func (e *ComponentError) Unwrap() error { return e.Err }

// blame says which component an error is about; nil stays nil.
func (g *generation) blame(kind config.Kind, id string, err error) error {
	if err == nil {
		return nil
	}
	e := &ComponentError{Component: string(kind) + "/" + id, Err: err}
	if c := g.cfg.Components[kind][id]; c != nil {
		e.Position = c.Position
	}
	return e
}

// rehearsalTime bounds the start and the stop of what is rehearsed: nothing in it waits for anybody.
const rehearsalTime = 5 * time.Second

// Rehearse does with a configuration what a start does, in the same order and from the same implementations, but in an
// environment of stubs (reload, section 4): nothing is bound, created, locked or connected to. Listeners are deaf, queues
// are in memory, and what would write a file is built and not started. Certificates, keys and authorities are read for
// real. It returns everything that failed; a configuration must have been loaded without errors.
func Rehearse(ctx context.Context, o *sources.Offer) []error {
	a, err := New(Options{Telemetry: telemetry.Nop()})
	if err != nil {
		return []error{err}
	}
	g := a.generation(o, nil)
	g.deaf = true
	a.running.Store(g)
	a.gate.SetLimit(admissionLimit(o.Config.Service.Admission.LimitMiB))
	ctx, cancel := context.WithTimeout(ctx, rehearsalTime)
	defer cancel()
	r := rehearsal{g: g, ctx: ctx}
	r.all()
	undo, cancelUndo := context.WithTimeout(context.WithoutCancel(ctx), rehearsalTime)
	defer cancelUndo()
	if err := g.unwind(undo); err != nil {
		r.errs = append(r.errs, fmt.Errorf("stop what was tried: %w", err))
	}
	return r.errs
}

// rehearsal goes on after an error as far as that makes sense, so that all of them are told at once.
type rehearsal struct {
	g    *generation
	ctx  context.Context // of one Rehearse
	errs []error
}

func (r *rehearsal) try(do ...func() error) bool {
	if err := inOrder(do...); err != nil {
		r.errs = append(r.errs, err)
		return false
	}
	return true
}

func (r *rehearsal) all() {
	g := r.g
	built := r.try(g.buildLimiters)
	built = r.try(g.buildExporters) && built
	built = r.try(g.buildExtensions) && built
	for _, x := range g.newExtensions {
		r.start(config.Extensions, x.id, x.value.Start, x.value.Stop)
	}
	for _, x := range g.exporters {
		r.start(config.Exporters, x.id, x.value.Start, x.value.Stop)
	}
	if !built || !r.try(r.queues, g.learnRoutes, g.buildPipelines, g.buildReceivers) {
		return
	}
	for _, d := range g.newDoors {
		r.start(config.Receivers, d.id, d.receiver.Start, d.receiver.Stop)
	}
}

// writer is implemented by configurations of components that open files to write to when they start.
type writer interface {
	// Writes are the files, by key.
	Writes() map[string]string
}

func (r *rehearsal) start(kind config.Kind, id string, start func(context.Context, component.Host) error, stop func(context.Context) error) {
	if c := r.g.cfg.Components[kind][id]; c != nil {
		if w, ok := c.Config.(writer); ok && len(w.Writes()) > 0 {
			return
		}
	}
	if r.try(func() error { return r.g.blame(kind, id, start(r.ctx, components.Host{})) }) {
		r.g.began(string(kind)+" "+id, stop, nil)
	}
}

// queues are all in memory, whatever is configured.
func (r *rehearsal) queues() error {
	for i := range r.g.plan.Pipelines {
		p := &r.g.plan.Pipelines[i]
		if !p.Queued() {
			continue
		}
		q, err := openMemory(p, queuelog.NewDrops(r.g.app.lines, p.ID, &r.g.app.dropped))
		if err != nil {
			return err
		}
		r.g.queues[p.ID] = q
		r.g.began("queue "+p.ID, q.Close, nil)
	}
	return nil
}
