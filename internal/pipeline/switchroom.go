// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// maxTold bounds what waits for the switch room. Full, attempts wait with their outcome: none is lost.
const maxTold = 1024

// SwitchRoom drives the one Switch of the process: it hands it outcomes and the time, runs the probes it asks for,
// publishes its views and writes down what it changes. It owns one goroutine and one per probe under way.
type SwitchRoom struct {
	machine *failover.Switch
	routes  atomic.Pointer[map[failover.RouteID]*viewOf] // never changed, replaced by Learn
	metrics *telemetry.Registry
	probe   func(ctx context.Context, o *failover.ProbeOrder) exporter.Verdict
	scribe  *scribe
	// remember keeps what the next process should know; nil = nobody does.
	remember func([]failover.Remembered)

	inbox    chan failover.Event
	probed   chan probed  // unbuffered: a probe waits until the room has its answer
	requests chan request // unbuffered: who asks waits for the answer anyway
	refused  string       // what the switch said to the last event; the room's own
	shown    atomic.Pointer[shownRoutes]
	heard    struct { // who waits for answers to probes
		sync.Mutex
		by map[chan ProbeAnswer]struct{}
	}
	ctx    context.Context // of probes
	cancel context.CancelFunc
	done   sync.WaitGroup
	closed sync.Once
}

// viewOf is where the view of a route is published.
type viewOf struct {
	view atomic.Pointer[failover.View]
	mu   struct {
		sync.Mutex
		nudges   []chan struct{} // one for each loop, of one place; full = it will look anyway
		fortunes []*fortune      // of the loops: probes tell of them, too
	}
}

// RoomSettings are what a switch room is built from.
type RoomSettings struct {
	Plan      *failover.SwitchPlan
	Telemetry *telemetry.Telemetry
	// Probe sends a probe over the exporter it names. It returns when ctx ends, at the latest.
	Probe func(ctx context.Context, o *failover.ProbeOrder) exporter.Verdict
	// Remembered is what was down when the process before ended. Remember is told what the next one should know, each
	// time in place of what it was told before; it must not wait. nil = nobody keeps it.
	Remembered []failover.Remembered
	Remember   func([]failover.Remembered)
}

// NewSwitchRoom makes every route's first view; it starts nothing.
func NewSwitchRoom(set RoomSettings) *SwitchRoom {
	r := &SwitchRoom{
		machine: failover.NewSwitch(set.Plan, set.Remembered, time.Now()), probe: set.Probe, remember: set.Remember,
		metrics: set.Telemetry.Metrics,
		inbox:   make(chan failover.Event, maxTold), probed: make(chan probed), requests: make(chan request),
		scribe: newScribe(set.Plan, set.Telemetry),
	}
	r.heard.by = map[chan ProbeAnswer]struct{}{}
	r.registerTimers(set.Plan, set.Telemetry.Metrics)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.routes.Store(&map[failover.RouteID]*viewOf{})
	r.Learn(set.Plan)
	return r
}

// Learn makes a plan's routes known, so that deliveries can be built for them. They have no view before Start or
// Reconfigure. One call at a time.
func (r *SwitchRoom) Learn(plan *failover.SwitchPlan) {
	routes := maps.Clone(*r.routes.Load())
	for i := range plan.Routes {
		if id := plan.Routes[i].RouteID; routes[id] == nil {
			routes[id] = &viewOf{}
		}
	}
	r.routes.Store(&routes)
}

// Reconfigure puts a plan in force whose routes were learnt (failover, T16): its views are there when it returns. Levels
// whose exporters are the same go on as they are.
func (r *SwitchRoom) Reconfigure(plan *failover.SwitchPlan) {
	_, _ = r.request(r.ctx, failover.Event{Kind: failover.EventReconfigure, Plan: plan}) // fails only once it has stopped
}

// at is where the view of a route is published; nil for one that is not known.
func (r *SwitchRoom) at(id failover.RouteID) *viewOf { return (*r.routes.Load())[id] }

// Start runs the room until Stop. The first views are there when it returns.
func (r *SwitchRoom) Start() {
	wake := r.step(failover.Event{Kind: failover.EventTick}, time.Time{})
	r.scribe.align(r.machine.Status(time.Now())) // what is remembered of the process before is no transition
	r.done.Go(func() { r.run(wake) })
}

// Stop ends the room and its probes and waits for them. No attempt tells anything beside or after it.
func (r *SwitchRoom) Stop(context.Context) error {
	r.closed.Do(r.cancel)
	r.done.Wait()
	return nil
}

// Remember is what the next process should know, for the end of this one: after Stop.
func (r *SwitchRoom) Remember() []failover.Remembered { return r.machine.Remember(time.Now()) }

func (r *SwitchRoom) run(wake time.Time) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), time.Millisecond))
			due = timer.C
		}
		select {
		case ev := <-r.inbox:
			wake = r.step(ev, wake)
		case p := <-r.probed:
			r.noteProbe(&p)
			wake = r.step(p.event, wake)
			r.tellAnswer(&p)
		case q := <-r.requests:
			wake = r.serve(q, wake)
		case <-due:
			wake = r.step(failover.Event{Kind: failover.EventTick}, wake)
		case <-r.ctx.Done():
			return
		}
	}
}

// step does what one event brings and returns when time will next mean something.
func (r *SwitchRoom) step(ev failover.Event, wake time.Time) time.Time {
	now := time.Now()
	r.refused = ""
	effects := r.machine.Step(now, ev, nil)
	visible := false
	for i := range effects {
		switch e := &effects[i]; e.Kind {
		case failover.EffectStartProbe:
			r.ask(e)
		case failover.EffectChanged:
			visible = true
			r.scribe.changed(now, e)
		case failover.EffectPublish:
			visible = true
			r.publish(e)
			r.scribe.published(now, e)
		case failover.EffectWakeAt:
			wake = e.At
		case failover.EffectRemember:
			if r.remember != nil {
				r.remember(e.Remembered)
			}
		case failover.EffectRefused:
			r.refused = e.Why
		}
	}
	if visible {
		r.shown.Store(&shownRoutes{now, r.machine.Status(now)})
	}
	return wake
}

// ask runs a probe. Its answer is told like any other event; when the room ends, nobody needs it.
func (r *SwitchRoom) ask(e *failover.Effect) {
	p := probed{order: e.Order, event: failover.Event{
		Kind: failover.EventProbed, Breaker: e.Breaker, Probe: e.Order.Probe,
	}}
	r.done.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, *p.order.What.Timeout)
		defer cancel()
		p.verdict = r.probe(ctx, &p.order)
		var every failover.Conditions
		p.event.Outcome = every.Outcome(&p.verdict)
		p.event.Outcome.Generation = p.order.Probe.Generation
		select {
		case r.probed <- p:
		case <-r.ctx.Done():
		}
	})
}

// noteProbe counts a probe. One that failed is a failure of every route that is all-down: nothing else is sent there. Of
// others it is none: a level that is down beside one that is up does not make a destination fail that has no traffic.
func (r *SwitchRoom) noteProbe(p *probed) {
	r.scribe.probed(p.event.Breaker, &p.order, &p.verdict)
	if !speaksAgainst(p.verdict.Kind) {
		return
	}
	now := time.Now()
	for _, at := range r.scribe.taken[p.event.Breaker] {
		v := r.at(at.route)
		if v == nil {
			continue
		}
		if view := v.view.Load(); view != nil && view.AllDown {
			v.mu.Lock()
			for _, f := range v.mu.fortunes {
				f.failed(p.verdict, now)
			}
			v.mu.Unlock()
		}
	}
}

// Tell hands over what an attempt came to.
func (r *SwitchRoom) Tell(ev failover.Event) {
	select {
	case r.inbox <- ev:
	case <-r.ctx.Done():
	}
}

// View is the route's present view, never changed after it was published; nil before Start.
func (r *SwitchRoom) View(id failover.RouteID) *failover.View {
	if v := r.at(id); v != nil {
		return v.view.Load()
	}
	return nil
}

func (r *SwitchRoom) publish(e *failover.Effect) {
	v := r.at(e.Route)
	if v == nil {
		return
	}
	v.view.Store(e.View)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, nudge := range v.mu.nudges {
		select {
		case nudge <- struct{}{}:
		default:
		}
	}
}

// follow returns a channel that holds something whenever the route may have a new view; nil for an unknown route. The
// fortune, if it is not nil, hears of failed probes.
func (r *SwitchRoom) follow(id failover.RouteID, f *fortune) <-chan struct{} {
	v := r.at(id)
	if v == nil {
		return nil
	}
	nudge := make(chan struct{}, 1)
	v.mu.Lock()
	v.mu.nudges = append(v.mu.nudges, nudge)
	if f != nil {
		v.mu.fortunes = append(v.mu.fortunes, f)
	}
	v.mu.Unlock()
	return nudge
}

// leave ends what follow began.
func (r *SwitchRoom) leave(id failover.RouteID, nudge <-chan struct{}, f *fortune) {
	v := r.at(id)
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.nudges = slices.DeleteFunc(v.mu.nudges, func(c chan struct{}) bool { return c == nudge })
	v.mu.fortunes = slices.DeleteFunc(v.mu.fortunes, func(x *fortune) bool { return x == f })
}
