// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package switchroom drives the one Switch of the process, which says of every exporter whether it is up.
//
//	pipelines ─ outcomes ─► Room ─► failover.Switch ─► views ─► pipelines
//	                         └─► probes, lines, series, what the next process should know
//
// It stands above the destinations, which follow its views and wait for nothing here. It promises that no outcome is lost,
// that every transition has a line and a count, and that an operator's wish is answered or refused with a reason. It decides
// nothing, knows no batch and no queue, and sends only probes, over exporters that others own.
package switchroom

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

// Room drives the one Switch of the process: it hands it outcomes and the time, runs the probes it asks for,
// publishes its views and writes down what it changes. It owns one goroutine and one per probe under way.
type Room struct {
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
		followers []follower
	}
}

// follower is a loop that follows a view.
type follower struct {
	news  chan struct{} // of one place; full = it will look anyway
	hears Hears         // nil = it does not
}

// Hears is told of a probe that failed while a route is all-down, by the room's goroutine: it must not wait.
type Hears func(v exporter.Verdict, now time.Time)

// Settings are what a room is built from.
type Settings struct {
	Plan      *failover.SwitchPlan
	Telemetry *telemetry.Telemetry
	// Probe sends a probe over the exporter it names. It returns when ctx ends, at the latest.
	Probe func(ctx context.Context, o *failover.ProbeOrder) exporter.Verdict
	// Remembered is what was down when the process before ended. Remember is told what the next one should know, each
	// time in place of what it was told before; it must not wait. nil = nobody keeps it.
	Remembered []failover.Remembered
	Remember   func([]failover.Remembered)
}

// New makes every route's first view; it starts nothing.
func New(set Settings) *Room {
	r := &Room{
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
func (r *Room) Learn(plan *failover.SwitchPlan) {
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
func (r *Room) Reconfigure(plan *failover.SwitchPlan) {
	_, _ = r.request(r.ctx, failover.Event{Kind: failover.EventReconfigure, Plan: plan}) // fails only once it has stopped
}

// at is where the view of a route is published; nil for one that is not known.
func (r *Room) at(id failover.RouteID) *viewOf { return (*r.routes.Load())[id] }

// Start runs the room until Stop. The first views are there when it returns.
func (r *Room) Start() {
	wake := r.step(failover.Event{Kind: failover.EventTick}, time.Time{})
	r.scribe.align(r.machine.Status(time.Now())) // what is remembered of the process before is no transition
	r.done.Go(func() { r.run(wake) })
}

// Stop ends the room and its probes and waits for them. No attempt tells anything beside or after it.
func (r *Room) Stop(context.Context) error {
	r.closed.Do(r.cancel)
	r.done.Wait()
	return nil
}

// Remember is what the next process should know, for the end of this one: after Stop.
func (r *Room) Remember() []failover.Remembered { return r.machine.Remember(time.Now()) }

func (r *Room) run(wake time.Time) {
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
func (r *Room) step(ev failover.Event, wake time.Time) time.Time {
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
func (r *Room) ask(e *failover.Effect) {
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
func (r *Room) noteProbe(p *probed) {
	r.scribe.probed(p.event.Breaker, &p.order, &p.verdict)
	if !failover.SpeaksAgainst(p.verdict.Kind) {
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
			for _, f := range v.mu.followers {
				if f.hears != nil {
					f.hears(p.verdict, now)
				}
			}
			v.mu.Unlock()
		}
	}
}

// Tell hands over what an attempt came to.
func (r *Room) Tell(ev failover.Event) {
	select {
	case r.inbox <- ev:
	case <-r.ctx.Done():
	}
}

// View is the route's present view, never changed after it was published; nil before Start.
func (r *Room) View(id failover.RouteID) *failover.View {
	if v := r.at(id); v != nil {
		return v.view.Load()
	}
	return nil
}

func (r *Room) publish(e *failover.Effect) {
	v := r.at(e.Route)
	if v == nil {
		return
	}
	v.view.Store(e.View)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range v.mu.followers {
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
}

// Follow returns where the route's view is published, and a channel that holds something whenever there may be a new one;
// nil for an unknown route. Who hears of failed probes is told until Leave.
func (r *Room) Follow(id failover.RouteID, hears Hears) (view *atomic.Pointer[failover.View], news <-chan struct{}) {
	v := r.at(id)
	if v == nil {
		return nil, nil
	}
	f := follower{make(chan struct{}, 1), hears}
	v.mu.Lock()
	v.mu.followers = append(v.mu.followers, f)
	v.mu.Unlock()
	return &v.view, f.news
}

// Leave ends what Follow began.
func (r *Room) Leave(id failover.RouteID, news <-chan struct{}) {
	v := r.at(id)
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.followers = slices.DeleteFunc(v.mu.followers, func(f follower) bool { return f.news == news })
}
