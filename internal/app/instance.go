// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app/evidence"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/fan"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
)

// inFlight is how long exports of a generation that is switched out may take before their leases return.
const inFlight = 10 * time.Second

// drainTime is how long a generation that is retired may drain what its pipelines have in memory for themselves. What is
// left then is parked. The next reload waits for it.
const drainTime = 10 * time.Second

// Switch implements reload.Instance. Requests that entered a pipeline of the generation before end there, in its queue;
// new ones enter the new pipelines, over connections of the old receivers too. From here on the destinations of both
// generations are owed everything, and those of this one are served. Receivers that were replaced go on serving the
// connections they have until they are retired, so that there is a way back on which nobody is refused.
func (g *generation) Switch() {
	a, before := g.app, g.app.now()
	if g.rested {
		g.revive()
	}
	g.attach()
	g.takeOver()
	if before != g {
		before.keepViews(g)
	}
	a.switches.Reconfigure(g.switchPlan())
	g.onTrial(!g.committed && a.driver != nil)
	before.left = slices.Concat(g.connect(g.doors), g.connect(before.doors), g.connect(a.leaving.list()))
	g.startDeliveries()
	a.gate.SetLimit(admissionLimit(g.cfg.Service.Admission.LimitMiB))
	a.running.Store(g)
	g.seats.Take()
	g.ports.Take()
	g.keepEvents()
	a.register()
	if before != g {
		a.sayRoutes()
		before.rest(g)
	}
	if g.committed { // the way back
		g.parkAgain(before)
		g.settleStrangers()
	}
	a.takesData()
}

// takeOver makes the queues and what serves them this generation's. Limits of destinations that exist change now.
func (g *generation) takeOver() {
	a := g.app
	a.disks.Lock()
	for _, m := range g.memories {
		a.disks.memories[m.pipeline] = m
	}
	a.disks.Unlock()
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		if m := a.memory(p.ID); m != nil && g.queues[p.ID] == pipelineQueue(m.Queue) {
			m.shown.Store(g.pipelines[i])
		}
		for _, d := range queued(p) {
			if err := g.queues[p.ID].Prepare(d); err != nil { // it exists: nothing has to be made
				a.log.Warn("Queue: the limits from before hold on", zap.String("otelcol.pipeline.id", p.ID), zap.Error(err))
			}
		}
	}
	g.adjustStorages()
	for _, s := range a.stores() {
		for _, j := range s.shelves() {
			j.head.Store(g.queues[j.pipeline] == pipelineQueue(j.Journal))
		}
	}
	a.steps.give(g, func(of any) bool {
		return slices.ContainsFunc(g.doors, func(d *door) bool { return of == any(d) }) ||
			slices.ContainsFunc(g.extensions, func(e named[extension.Extension]) bool { return of == any(e.value) })
	})
}

// keepViews leaves the deliveries of a generation that will rest with the breakers it was built with: what its senders do
// until then says nothing of those of next.
func (g *generation) keepViews(next *generation) {
	for i, p := range g.pipelines {
		if !g.alone(i, next) {
			p.KeepViews()
		}
	}
}

// rest ends the deliveries of a generation that was switched out: nothing more is taken, and what is in flight has its
// time. A queue in memory that next did not take over is drained by it all the same.
func (g *generation) rest(next *generation) {
	g.rested = true
	for i, p := range g.pipelines {
		if !g.alone(i, next) {
			g.halt(p)
		}
	}
}

// halt ends the deliveries of one pipeline, in its own time.
func (g *generation) halt(p *pipeline.Pipeline) {
	over := p.Halt(inFlight)
	g.resting.Go(func() { <-over })
}

// alone reports whether next does not take from a pipeline's queue, and it would be lost with the process.
func (g *generation) alone(i int, next *generation) bool {
	p := &g.plan.Pipelines[i]
	return p.Queued() && p.Storage == "" && next.queues[p.ID] != g.queues[p.ID]
}

// revive makes the deliveries of a generation that rested anew. Nothing in it can fail: it was all built before.
func (g *generation) revive() {
	for i, p := range g.pipelines {
		if p.Halted() {
			g.renew(i)
			g.retirePipeline(p)
		}
	}
	g.rested = false
}

// renew builds one pipeline anew over the same queue; it is not started.
func (g *generation) renew(i int) {
	old := g.pipelines[i]
	maps.DeleteFunc(g.served, func(_ place, pipelineID string) bool { return pipelineID == g.plan.Pipelines[i].ID })
	g.app.steps.take(func(s *step) bool { return s.of == any(old) })
	built, err := pipeline.New(old.Settings())
	if err != nil {
		panic(fmt.Sprintf("app: a pipeline that was built cannot be built again: %v", err))
	}
	g.pipelines[i] = built
}

// retirePipeline stops a pipeline that another one replaced in its own generation, once the requests in it have ended.
func (g *generation) retirePipeline(p *pipeline.Pipeline) {
	g.halt(p)
	g.resting.Go(func() {
		late := time.NewTimer(inFlight)
		defer late.Stop()
		<-late.C
		ctx, cancel := context.WithTimeout(context.Background(), inFlight)
		defer cancel()
		p.Stop(ctx)
	})
}

// connect leads receivers to this generation's pipelines. A signal that it does not receive from them stays where it
// was. The channels are closed when the last requests have left the old ways.
func (g *generation) connect(doors []*door) (left []<-chan struct{}) {
	for _, d := range doors {
		for s, sink := range d.sinks {
			if entries := g.entries(d.id, s); len(entries) > 0 {
				left = append(left, sink.Swap(fan.New(entries)))
			}
		}
	}
	return left
}

// Commit implements reload.Instance.
func (g *generation) Commit() {
	g.committed = true
	g.onTrial(false)
	g.app.good.Store(g)
	g.before, g.base = nil, nil // nothing is compared any more, and nobody holds on to what is gone
	if err := errors.Join(g.seats.Settle(), g.ports.Settle()); err != nil {
		g.app.log.Warn("Closing a listener failed", zap.Error(err))
	}
	g.settleQueues()
}

// onTrial begins or ends what is different while a generation is on trial: what new and changed senders reject waits, and
// listeners are asked whether they are there.
func (g *generation) onTrial(yes bool) {
	if yes && g.checks == nil {
		g.checks = evidence.Watch(func() []net.Addr { return append(g.seats.Addrs(), g.ports.Addrs()...) }, evidence.Knock)
		g.began("watch listeners", func(context.Context) error { g.checks.Stop(); return nil }, nil)
	} else if !yes && g.checks != nil {
		g.checks.Cancel()
	}
	for _, p := range g.pipelines {
		p.OnTrial(func(id string) bool { return yes && g.changed(config.Exporters, id) })
	}
}

func (g *generation) wants(pipelineID, destination string) bool {
	for i := range g.plan.Pipelines {
		if p := &g.plan.Pipelines[i]; p.ID == pipelineID {
			return slices.ContainsFunc(queued(p), func(d queue.Destination) bool { return d.Name == destination })
		}
	}
	return false
}

// Retire implements reload.Instance.
func (g *generation) Retire(ctx context.Context) error {
	var errs []error
	var doors sync.WaitGroup
	var mu sync.Mutex
	for _, d := range g.doors {
		if slices.Contains(g.app.now().doors, d) {
			continue
		}
		g.app.steps.take(func(s *step) bool { return s.of == any(d) })
		doors.Go(func() {
			err := d.leave(ctx, g.app)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	doors.Wait()
	for _, left := range g.left { // requests that are in the old pipelines end there
		select {
		case <-left:
		case <-ctx.Done():
		}
	}
	g.rests(ctx)
	g.drain(ctx)
	if !g.committed {
		g.forget()
	}
	errs = append(errs, unwind(ctx, g.own()), g.closeSeats())
	g.release(ctx)
	return errors.Join(errs...)
}

// drain lets the pipelines that have a queue in memory for themselves empty it for a while.
func (g *generation) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range g.pipelines {
		if p.Started() && !p.Halted() {
			all.Go(func() { p.Stop(ctx) })
		}
	}
	all.Wait()
}

// rests waits until the deliveries have ended, or the process ends.
func (g *generation) rests(ctx context.Context) {
	over := make(chan struct{})
	go func() { // ends when the deliveries do, which is bounded
		g.resting.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-g.app.ending:
	case <-ctx.Done():
	}
}

// forget takes back what destinations were given that are not to stay.
func (g *generation) forget() {
	now := g.app.now()
	g.app.freshen.Lock()
	defer g.app.freshen.Unlock()
	g.countRedelivered(now)
	for _, f := range g.fresh {
		if now != g && now.serves(f) {
			now.fresh = append(now.fresh, f) // it came before this one's end, and is that one's to take back now
		} else {
			f.roster.Forget(f.name)
		}
	}
	g.fresh = nil
}

// serves reports whether a cursor is that of a destination of the generation.
func (g *generation) serves(f freshName) bool {
	for id, q := range g.queues {
		if queue.Roster(q) == f.roster {
			return g.wants(id, f.name)
		}
	}
	return false
}

// Preflight implements reload.Instance: an empty export for every sender that is new or says something else than before, and
// for its twin if nothing was tried there of late, as with a level that stands by: else nobody knows whether that one is
// better.
func (g *generation) Preflight(ctx context.Context) []reload.Probe {
	var all []reload.Probe
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, e := range g.exporters {
		p, ok := e.value.(exporter.Prober)
		signal, used := g.signalTo(e.id)
		if !ok || !used || p.ProbeKind() != exporter.ProbeEmpty || !g.changed(config.Exporters, e.id) {
			continue
		}
		asked.Go(func() {
			one := reload.Probe{Sender: e.id, Twin: g.twinOf(e.id)}
			var twin sync.WaitGroup
			twin.Go(func() { one.TwinGood, one.TwinAsked = g.askTwin(ctx, cmp.Or(one.Twin, e.id)) })
			v := probeThrice(ctx, p, signal)
			twin.Wait()
			one.Good = answered(v.Kind)
			if v.Err != nil {
				one.Text = v.Err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, one)
		})
	}
	asked.Wait()
	return all
}

// askTwin makes an empty export over a sender of the last committed generation that was idle for the time a baseline looks
// back.
func (g *generation) askTwin(ctx context.Context, id string) (good, asked bool) {
	if g.base == nil {
		return false, false
	}
	p, ok := g.base.instances[id].(exporter.Prober)
	signal, used := g.base.signalTo(id)
	if !ok || !used || p.ProbeKind() != exporter.ProbeEmpty || !g.base.idle(id, time.Now()) {
		return false, false
	}
	return answered(probeThrice(ctx, p, signal).Kind), true
}

// idle reports whether nothing was tried with an exporter for reload.BaselineSpan.
func (g *generation) idle(id string, now time.Time) bool {
	for _, s := range g.senders() {
		if s.ID == id {
			return now.Sub(s.LastDelivery) > reload.BaselineSpan && now.Sub(s.LastFailure) > reload.BaselineSpan
		}
	}
	return true
}

// probeTime bounds one preflight's attempts, of which there are three at most.
const preflightTime = 5 * time.Second

func probeThrice(ctx context.Context, p exporter.Prober, s otlp.Signal) (v exporter.Verdict) {
	ctx, cancel := context.WithTimeout(ctx, preflightTime)
	defer cancel()
	pause := time.NewTicker(preflightTime / 5)
	defer pause.Stop()
	for range 3 {
		if v = p.Probe(ctx, s); answered(v.Kind) {
			return v
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return v
		}
	}
	return v
}

// answered reports whether a backend is there and takes requests of this kind.
func answered(k exporter.Kind) bool {
	return k == exporter.Delivered || k == exporter.RetryAfter || k == exporter.Rejected
}

// changed reports whether a component is new, or says something else than in the generation that a rollback leads to.
func (g *generation) changed(kind config.Kind, id string) bool {
	return g.base == nil || !same(g.base.cfg, g.cfg, kind, id)
}

// signalTo is a signal that an exporter gets, if it gets any.
func (g *generation) signalTo(exporterID string) (otlp.Signal, bool) {
	for i := range g.plan.Pipelines {
		for _, d := range g.plan.Pipelines[i].Destinations {
			for _, l := range d.Levels {
				if slices.Contains(l.Exporters, exporterID) {
					return g.plan.Pipelines[i].Signal, true
				}
			}
		}
	}
	return 0, false
}

// Refresh implements reload.Instance. Certificates and tokens are read anew by those who use them, in their own time.
func (g *generation) Refresh(context.Context) error { return nil }

var _ reload.Instance = (*generation)(nil)
