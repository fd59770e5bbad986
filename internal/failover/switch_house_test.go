// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"container/heap"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// house is a Switch with scripted endpoints and a plain dispatcher in front of them, in virtual time. The dispatcher
// stands in for Routers: a batch that fails moves to the next level at once, and what no level takes is held until the
// view changes.
type house struct {
	t         *testing.T
	start     time.Time
	now       time.Time
	wake      time.Time
	todo      agenda
	seq       int
	sw        *failover.Switch
	plan      failover.SwitchPlan
	endpoints map[string]*endpoint
	wings     []*wing
	batches   uint64
	probes    int
	refused   string
	// remembered is what a restart would find.
	remembered []failover.Remembered
	// seen is told every effect, before it is done.
	seen func(e *failover.Effect)
	// stepped is told an event and all that came of it, before it is done.
	stepped func(ev *failover.Event, effects []failover.Effect)
	// attempted is told every attempt as it begins and, over, as it ends.
	attempted func(w *wing, level int, m *failover.MemberView, canary, over bool)
}

// wing is a route's part of the house.
type wing struct {
	id        failover.RouteID
	view      *failover.View
	timeouts  []time.Duration // by level
	slots     []int           // by level, free
	held      []*parcel       // no level takes them
	waiting   []*parcel       // for a slot
	delivered []int           // by level
	moved     int             // away from a level that failed
	sent      int
	flying    int
	dead      int // rejected
	late      int // waiting for a time
	all, done int // batches ever sent and delivered
	limit     int // of what is held or waits, beyond which no more is sent; 0 = none
}

// patience is how long a batch waits for a throttled level.
const patience = 30 * time.Second

type parcel struct {
	id    uint64
	tried map[int]bool
}

// endpoint answers for an exporter; the zero value takes everything at once.
type endpoint struct {
	live, probe reply
	up, down    time.Duration         // in turns, if up is set
	since       time.Time             // of the first up
	fails, n    int                   // so many of ten live batches are refused
	only        map[otlp.Signal]reply // one signal's own answer
}

// reply is how an endpoint answers: a class after a while; hang waits for the timeout.
type reply struct {
	class breaker.Class
	after time.Duration // RetryAfter
	took  time.Duration
	hang  bool
	lost  bool // a probe's answer never comes; else as hang
	vague bool // unclear
	text  string
}

var takes = reply{class: breaker.Delivered}

func newHouse(t *testing.T) *house {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &house{t: t, start: start, now: start, endpoints: map[string]*endpoint{}}
}

// open starts the Switch on the plan.
func (h *house) open() {
	h.sw = failover.NewSwitch(&h.plan, h.remembered, h.now)
	h.tell(failover.Event{Kind: failover.EventTick})
}

// add puts a route into the plan; its endpoints take everything.
func (h *house) add(id failover.RouteID, cfg *failover.Config, levels []failover.PlannedLevel) *wing {
	h.plan.Routes = append(h.plan.Routes, cfg.Plan(id, levels))
	w := &wing{id: id, delivered: make([]int, len(levels))}
	for _, l := range levels {
		w.timeouts = append(w.timeouts, l.Timeout)
		w.slots = append(w.slots, 10)
		for _, m := range l.Members {
			if h.endpoints[m.Exporter] == nil {
				h.endpoints[m.Exporter] = &endpoint{live: takes, probe: takes}
			}
		}
	}
	h.wings = append(h.wings, w)
	return w
}

// wing finds a route's part; the connectors of most stories have one signal.
func (h *house) wing(id failover.RouteID) *wing {
	for _, w := range h.wings {
		if w.id == id {
			return w
		}
	}
	return nil
}

// after does something so much later; what is due together is done in the order in which it was said.
func (h *house) after(d time.Duration, do func()) {
	h.seq++
	heap.Push(&h.todo, task{h.now.Add(d), h.seq, do})
}

// at lets time pass until d after the start.
func (h *house) at(d time.Duration) {
	until := h.start.Add(d)
	for n := 0; ; n++ {
		next, tick := until.Add(1), false
		if len(h.todo) > 0 && h.todo[0].at.Before(next) {
			next = h.todo[0].at
		}
		if !h.wake.IsZero() && h.wake.Before(next) {
			next, tick = h.wake, true
		}
		if next.After(until) {
			break
		}
		if tick {
			h.now = next
			h.tell(failover.Event{Kind: failover.EventTick})
			continue
		}
		h.now = h.todo[0].at
		heap.Pop(&h.todo).(task).do()
		h.conserve()
	}
	h.now = until
}

// conserve holds the batches that were sent against where they are.
func (h *house) conserve() {
	h.t.Helper()
	for _, w := range h.wings {
		if sum := w.done + w.dead + w.flying + w.late + len(w.held) + len(w.waiting); sum != w.all {
			h.t.Fatalf("%s: %d batches were sent, %d are accounted for", h.now.Sub(h.start), w.all, sum)
		}
	}
}

// tell steps the Switch and does what it says.
func (h *house) tell(ev failover.Event) {
	effects := h.sw.Step(h.now, ev, nil)
	if h.stepped != nil {
		h.stepped(&ev, effects)
	}
	var views []*failover.Effect
	for i := range effects {
		e := &effects[i]
		if h.seen != nil {
			h.seen(e)
		}
		switch e.Kind {
		case failover.EffectWakeAt:
			if !e.At.IsZero() && !e.At.After(h.now) {
				h.t.Fatalf("%s: to be woken at %s", h.now.Sub(h.start), e.At.Sub(h.start))
			}
			h.wake = e.At
		case failover.EffectStartProbe:
			h.startProbe(e)
		case failover.EffectPublish:
			if w := h.wing(e.Route); w != nil {
				w.view = e.View
				views = append(views, e)
			}
		case failover.EffectRefused:
			h.refused = e.Why
		case failover.EffectRemember:
			h.remembered = e.Remembered
		}
	}
	for _, e := range views {
		if w := h.wing(e.Route); w.view == e.View {
			h.reroute(w)
		}
	}
}

func (h *house) startProbe(e *failover.Effect) {
	h.probes++
	order, id := e.Order, e.Breaker
	r := h.endpoints[order.Exporter].answer(h.now, order.Signal, true)
	took := r.took
	if r.lost {
		return
	}
	if r.hang || took > *order.What.Timeout {
		r, took = reply{class: breaker.Ambiguous, text: "timeout"}, *order.What.Timeout
	}
	h.after(took, func() {
		o := r.outcome()
		o.Generation = order.Probe.Generation
		h.tell(failover.Event{Kind: failover.EventProbed, Breaker: id, Probe: order.Probe, Outcome: o})
	})
}

func (e *endpoint) answer(now time.Time, s otlp.Signal, probe bool) reply {
	if e.up > 0 && now.Sub(e.since)%(e.up+e.down) >= e.up {
		return reply{class: breaker.Retry, text: "refused"}
	}
	if r, ok := e.only[s]; ok {
		return r
	}
	if probe {
		return e.probe
	}
	if e.n++; e.n*7%10 < e.fails {
		return reply{class: breaker.Retry, text: "connection refused"}
	}
	return e.live
}

func (r *reply) outcome() breaker.Outcome {
	o := breaker.Outcome{Class: r.class, After: r.after, Unclear: r.vague, Text: r.text}
	o.Counted = r.class == breaker.Retry || r.class == breaker.Ambiguous || r.class == breaker.Misconfigured
	return o
}

// load sends n batches, one every gap, from now on.
func (h *house) load(w *wing, gap time.Duration, n int) {
	if n > 0 {
		if w.limit == 0 || len(w.held)+len(w.waiting) < w.limit {
			h.send(w)
		}
		h.after(gap, func() { h.load(w, gap, n-1) })
	}
}

// send hands a fresh batch to the dispatcher.
func (h *house) send(w *wing) {
	h.batches++
	w.sent++
	w.all++
	h.route(w, &parcel{id: h.batches, tried: map[int]bool{}})
}

func (h *house) route(w *wing, p *parcel) {
	v := w.view
	elsewhere := func(not int) bool {
		for i := range v.Levels {
			if l := &v.Levels[i]; i != not && l.Eligible && !l.Silent && !l.Emergency && !p.tried[i] {
				return true
			}
		}
		return false
	}
	eligible := false
	for i := range v.Levels {
		l := &v.Levels[i]
		if l.Emergency {
			continue
		}
		eligible = eligible || l.Eligible
		throttled := l.ThrottledUntil.Sub(h.now)
		proof, canary := l.Wanted()
		switch {
		case p.tried[i]:
		case proof && throttled <= 0 && l.Claim():
			h.attempt(w, p, i, true, canary)
			return
		case !l.Eligible, l.Silent && elsewhere(i):
		case l.State == failover.Ramping && !p.rises(l.Share) && elsewhere(i):
		case throttled > 0:
			if throttled <= patience || !elsewhere(i) {
				h.resend(w, p, throttled)
				return
			}
		case w.slots[i] == 0:
			w.waiting = append(w.waiting, p)
			return
		default:
			h.attempt(w, p, i, false, false)
			return
		}
	}
	last := len(v.Levels) - 1
	if v.AllDown && v.Levels[last].Emergency && v.Levels[last].Eligible && !p.tried[last] {
		h.attempt(w, p, last, false, false)
		return
	}
	clear(p.tried)
	if eligible { // tried already: again in a second
		h.resend(w, p, time.Second)
		return
	}
	w.held = append(w.held, p)
}

// rises reports whether a batch is within a share; they are spread evenly.
func (p *parcel) rises(share float64) bool {
	_, part := math.Modf(float64(p.id) * 0.6180339887498949)
	return part < share
}

// resend routes a batch again after a while.
func (h *house) resend(w *wing, p *parcel, wait time.Duration) {
	w.late++
	h.after(wait, func() {
		w.late--
		h.route(w, p)
	})
}

// reroute routes again what is held, oldest first.
func (h *house) reroute(w *wing) {
	held := append(w.held, w.waiting...)
	w.held, w.waiting = nil, nil
	for _, p := range held {
		h.route(w, p)
	}
}

// attempt sends a batch to every member of a level.
func (h *house) attempt(w *wing, p *parcel, level int, proof, canary bool) {
	l := &w.view.Levels[level]
	left, worst := len(l.Members), reply{class: breaker.Delivered}
	w.flying++
	w.slots[level]--
	for i := range l.Members {
		m := l.Members[i]
		if h.attempted != nil {
			h.attempted(w, level, &m, canary, false)
		}
		r := h.endpoints[m.Exporter].answer(h.now, w.id.Signal, false)
		took := r.took
		if timeout := w.timeouts[level]; r.hang || r.lost || timeout > 0 && took > timeout {
			r, took = reply{class: breaker.Ambiguous, text: "timeout"}, timeout
		}
		done := func() {
			o := r.outcome()
			o.Generation, o.Batch, o.Took = m.Generation, p.id, took
			kind := failover.EventAttempted
			if m.Token != nil && proof && m.Canary {
				kind = failover.EventCanaryDone
			}
			if worst.class == breaker.Delivered || r.class == breaker.Rejected {
				worst = r
			}
			left--
			if h.attempted != nil {
				h.attempted(w, level, &m, canary, true)
			}
			h.tell(failover.Event{Kind: kind, Breaker: m.Breaker, Outcome: o, Proof: proof && m.Token != nil && !m.Canary})
			if left > 0 {
				return
			}
			w.flying--
			w.slots[level]++
			switch {
			case worst.class == breaker.Delivered:
				w.delivered[level]++
				w.done++
			case worst.class == breaker.RetryAfter && w.view.Levels[level].ThrottledUntil.After(h.now):
				h.route(w, p)
			case worst.class == breaker.Rejected:
				w.dead++
			case worst.class == breaker.Local, canary && w.view.Active < 0: // the next canary is to be another batch
				h.resend(w, p, time.Second)
			default:
				p.tried[level] = true
				w.moved++
				h.route(w, p)
			}
			if len(w.waiting) > 0 {
				next := w.waiting[0]
				w.waiting = w.waiting[1:]
				h.route(w, next)
			}
		}
		h.after(took, done)
	}
}

// stamp is the time as stories write it.
func (h *house) stamp(t time.Time) string { return fmt.Sprintf("%.3f", t.Sub(h.start).Seconds()) }

// agenda is what will be done, by time.
type agenda []task

type task struct {
	at  time.Time
	seq int
	do  func()
}

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(task)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	*a = (*a)[:last]
	return x
}
