// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package switchroom

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// ErrNoRoom says that the switch room does not run.
var ErrNoRoom = errors.New("the switch room does not run")

// RefusedError is the switch's refusal of an operator's wish.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

// request is asked of the room's goroutine: an operator's event, if it has a kind, and then how things are.
type request struct {
	event  failover.Event
	answer chan reply // room for one: the room never waits
}

type reply struct {
	at      time.Time
	routes  []failover.RouteStatus
	refused string
}

// probed is a probe that was answered, on its way to the room.
type probed struct {
	order   failover.ProbeOrder
	verdict exporter.Verdict
	event   failover.Event
}

// shownRoutes is how the routes were when something visible changed last.
type shownRoutes struct {
	at     time.Time
	routes []failover.RouteStatus
}

// serve answers one request.
func (r *Room) serve(q request, wake time.Time) time.Time {
	if q.event.Kind == failover.EventReconfigure {
		r.scribe.expand(q.event.Plan)
		r.registerTimers(q.event.Plan, r.metrics)
	}
	if q.event.Kind != 0 {
		wake = r.step(q.event, wake)
	}
	now := time.Now()
	a := reply{at: now, routes: r.machine.Status(now)}
	if q.event.Kind == failover.EventReconfigure {
		r.scribe.align(a.routes)
	}
	if q.event.Kind != 0 {
		a.refused = r.refused
	}
	q.answer <- a
	return wake
}

// request asks the room. It waits for the room's turn, and never longer than ctx.
func (r *Room) request(ctx context.Context, ev failover.Event) (reply, error) {
	q := request{ev, make(chan reply, 1)}
	select {
	case r.requests <- q:
	case <-ctx.Done():
		return reply{}, fmt.Errorf("ask the switch: %w", ctx.Err())
	case <-r.ctx.Done():
		return reply{}, ErrNoRoom
	}
	select {
	case a := <-q.answer:
		return a, nil
	case <-r.ctx.Done():
		return reply{}, ErrNoRoom
	}
}

// Status copies what is to be shown of every route; it may be called from any goroutine. If the room does not answer
// before ctx ends, the last visible change's picture comes with its age. Before Start there are no routes.
func (r *Room) Status(ctx context.Context) (routes []failover.RouteStatus, age time.Duration) {
	a, err := r.request(ctx, failover.Event{})
	if err == nil {
		return a.routes, 0
	}
	if s := r.shown.Load(); s != nil {
		return s.routes, time.Since(s.at)
	}
	return nil, 0
}

// Order hands an operator's event to the switch: EventProbeNow, EventHold, EventRelease. A *RefusedError says why the
// switch does not do it.
func (r *Room) Order(ctx context.Context, ev failover.Event) error {
	a, err := r.request(ctx, ev)
	if err == nil && a.refused != "" {
		err = &RefusedError{a.refused}
	}
	return err
}

// ProbeAnswer is what came of asking one member.
type ProbeAnswer struct {
	Level    int
	Exporter string
	Breaker  failover.BreakerID
	Kind     string           // of the probe; empty = it was not asked
	Verdict  exporter.Verdict // Kind 0 = none
	Why      string           // it was not asked
	// State and ReturnsWhen are how it stands afterwards.
	State       breaker.State
	ReturnsWhen string
}

// Good reports whether the exporter would take data, as far as the probe can tell.
func (a *ProbeAnswer) Good() bool {
	return a.Verdict.Kind == exporter.Delivered || a.Verdict.Kind == exporter.Rejected
}

// Probe makes the next probe of a level due now (-1 = of all levels), waits for the answers and returns one for each
// member. What carries is checked. A member without probes, and one that asked for silence, is not asked, and says so.
// The probes obey the route's gap, so that of several levels one waits for the other; who is not answered before ctx
// ends has no verdict.
func (r *Room) Probe(ctx context.Context, id failover.RouteID, level int) ([]ProbeAnswer, error) {
	before, err := r.request(ctx, failover.Event{})
	if err != nil {
		return nil, err
	}
	answers := r.askable(before.routes, id, level)
	heard := make(chan ProbeAnswer, maxTold) // more than there are members; full = an answer is lost to who asked
	r.heard.Lock()
	r.heard.by[heard] = struct{}{}
	r.heard.Unlock()
	defer func() {
		r.heard.Lock()
		delete(r.heard.by, heard)
		r.heard.Unlock()
	}()
	if err := r.Order(ctx, failover.Event{Kind: failover.EventProbeNow, Route: id, Level: level}); err != nil {
		return nil, err
	}
	waiting := 0
	for i := range answers {
		if answers[i].Why == "" {
			waiting++
		}
	}
	for waiting > 0 {
		select {
		case a := <-heard:
			for i := range answers {
				if m := &answers[i]; m.Breaker == a.Breaker && m.Kind == "" && m.Why == "" {
					m.Kind, m.Verdict = a.Kind, a.Verdict
					waiting--
				}
			}
		case <-ctx.Done():
			for i := range answers {
				if m := &answers[i]; m.Kind == "" && m.Why == "" {
					m.Why = "no answer yet"
				}
			}
			waiting = 0
		case <-r.ctx.Done():
			return nil, ErrNoRoom
		}
	}
	return r.afterwards(ctx, id, answers), nil
}

// askable lists the members of a level, and why some of them are not asked.
func (r *Room) askable(routes []failover.RouteStatus, id failover.RouteID, level int) []ProbeAnswer {
	var out []ProbeAnswer
	for i := range routes {
		if routes[i].RouteID != id {
			continue
		}
		for k := range routes[i].Levels {
			if level >= 0 && level != k {
				continue
			}
			l := &routes[i].Levels[k]
			for m := range l.Members {
				s := &l.Members[m]
				out = append(out, ProbeAnswer{
					Level: k, Exporter: s.Exporter, Breaker: s.Breaker, State: s.State, ReturnsWhen: s.ReturnsWhen,
					Why: r.notAsked(seat{id, k, s.Exporter}, l, s),
				})
			}
		}
	}
	return out
}

func (r *Room) notAsked(at seat, l *failover.LevelStatus, m *failover.MemberStatus) string {
	switch {
	case m.Throttled > 0:
		return "it asks for silence for another " + m.Throttled.Round(time.Second).String()
	case m.State == breaker.Held:
		return "it is held"
	case l.Emergency && m.State.Carries():
		return "it takes data; a file is tried only after a failed write"
	case m.CanaryTaken:
		return "a live batch is on its way to it"
	case r.scribe.seats[at] != nil && r.scribe.seats[at].kind == kindLive:
		return "it has no probe: live batches prove it"
	case m.Live && !m.State.Carries():
		return "its probe was never good since start: live batches prove it"
	}
	return ""
}

// afterwards fills in how the members stand now.
func (r *Room) afterwards(ctx context.Context, id failover.RouteID, answers []ProbeAnswer) []ProbeAnswer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	routes, _ := r.Status(ctx)
	now := r.askable(routes, id, -1)
	for i := range answers {
		for k := range now {
			if a, b := &answers[i], &now[k]; a.Level == b.Level && a.Exporter == b.Exporter {
				a.State, a.ReturnsWhen = b.State, b.ReturnsWhen
			}
		}
	}
	return answers
}

// tellAnswer hands a probe's answer to those who wait for one.
func (r *Room) tellAnswer(p *probed) {
	r.heard.Lock()
	defer r.heard.Unlock()
	for c := range r.heard.by {
		select {
		case c <- ProbeAnswer{Breaker: p.event.Breaker, Kind: p.order.What.Kind, Verdict: p.verdict}:
		default:
		}
	}
}

// Remind says of every route whose data is held, once a minute, how much there is and how old. One goroutine calls it,
// about once a second.
func (r *Room) Remind(now time.Time, fill func(failover.RouteID) queue.Fill) {
	for id := range *r.routes.Load() {
		r.scribe.remind(now, id, r.View(id), func() queue.Fill { return fill(id) })
	}
}

// registerTimers shows the times that run at each level: of its members the longest hold-down and silence, and the
// nearest probe.
func (r *Room) registerTimers(plan *failover.SwitchPlan, m *telemetry.Registry) {
	for i := range plan.Routes {
		id := plan.Routes[i].RouteID
		for level := range plan.Routes[i].Levels {
			gauge := func(name, help string, read func(*failover.LevelStatus, time.Duration) float64) {
				m.GaugeFunc(name, help, func() float64 {
					l, age := r.shownLevel(id, level)
					return read(l, age)
				}, labels(id, "level", strconv.Itoa(level))...)
			}
			gauge("holdfast_failover_hold_down_seconds", "How long the level stays down at least.", holdDownLeft)
			gauge("holdfast_failover_next_probe_seconds", "Until the next recovery probe; -1 = none is due.", nextProbeLeft)
			gauge("holdfast_failover_share", "Share of new batches that the level takes, of those it could: 1 but while it ramps.",
				shareOf)
			gauge("holdfast_failover_throttled_seconds", "How long nobody sends because the backend asked for silence.",
				throttledLeft)
		}
	}
}

// shownLevel is a level as it was at the last visible change, which is so long ago; never nil.
func (r *Room) shownLevel(id failover.RouteID, level int) (*failover.LevelStatus, time.Duration) {
	if s := r.shown.Load(); s != nil {
		for i := range s.routes {
			if st := &s.routes[i]; st.RouteID == id && level < len(st.Levels) {
				return &st.Levels[level], time.Since(s.at)
			}
		}
	}
	return &failover.LevelStatus{}, 0
}

func holdDownLeft(l *failover.LevelStatus, age time.Duration) float64 {
	left := time.Duration(0)
	for i := range l.Members {
		left = max(left, l.Members[i].HoldDown-age)
	}
	return left.Seconds()
}

func shareOf(l *failover.LevelStatus, _ time.Duration) float64 {
	share := 1.0
	for i := range l.Members {
		share = min(share, l.Members[i].Share)
	}
	return share
}

func throttledLeft(l *failover.LevelStatus, age time.Duration) float64 {
	left := time.Duration(0)
	for i := range l.Members {
		left = max(left, l.Members[i].Throttled-age)
	}
	return left.Seconds()
}

func nextProbeLeft(l *failover.LevelStatus, age time.Duration) float64 {
	left := -1.0
	for i := range l.Members {
		if next := l.Members[i].NextProbe; next >= 0 {
			if s := max(next-age, 0).Seconds(); left < 0 || s < left {
				left = s
			}
		}
	}
	return left
}

// Routes lists the routes there are, sorted.
func (r *Room) Routes() []failover.RouteID {
	return slices.SortedFunc(maps.Keys(*r.routes.Load()), func(a, b failover.RouteID) int {
		return cmp.Or(cmp.Compare(a.Connector, b.Connector), cmp.Compare(a.Signal, b.Signal))
	})
}
