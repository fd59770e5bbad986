// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package switchroom

import (
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// remindEvery is how often it is said again that data is held.
const remindEvery = time.Minute

// kindLive is the kind of probe of an exporter that has none.
const kindLive = "live"

// scribe writes down what the switch room does: a line and a count for every transition (failover, section 15). Its
// series are all there before the first event. The room's goroutine alone calls its methods, but for remind.
type scribe struct {
	log     *zap.Logger
	metrics *telemetry.Registry
	seats   map[seat]*seatSeries
	routes  map[failover.RouteID]*routeSeries
	taken   map[failover.BreakerID][]seat // by whom a breaker is used; learnt from views
	held    map[failover.RouteID]time.Time
}

// seat is an exporter's place in a route.
type seat struct {
	route    failover.RouteID
	level    int
	exporter string
}

// seatSeries are what is shown of one member.
type seatSeries struct {
	kind   string // of its probe
	states [failover.HeldLevel + 1]*telemetry.Gauge
	moves  map[breaker.Transition]*telemetry.Counter
	probes map[exporter.Kind]*telemetry.Counter
}

// routeSeries are what is shown of one route.
type routeSeries struct {
	active, allDown *telemetry.Gauge
	down            *stopwatch
	at              []*stopwatch // by level, level -1 first
	switches        map[[2]int]*telemetry.Counter
}

func newScribe(plan *failover.SwitchPlan, t *telemetry.Telemetry) *scribe {
	s := &scribe{
		log: t.Logger, metrics: t.Metrics, seats: map[seat]*seatSeries{}, routes: map[failover.RouteID]*routeSeries{},
		taken: map[failover.BreakerID][]seat{}, held: map[failover.RouteID]time.Time{},
	}
	s.expand(plan)
	return s
}

// expand makes the series of a plan that are not there yet.
func (s *scribe) expand(plan *failover.SwitchPlan) {
	for i := range plan.Routes {
		r := &plan.Routes[i]
		s.routes[r.RouteID] = s.newRoute(r)
		for k := range r.Levels {
			for m := range r.Levels[k].Members {
				member := &r.Levels[k].Members[m]
				at := seat{r.RouteID, k, member.Exporter}
				s.seats[at] = s.newSeat(at, member, r.Levels[k].Emergency)
			}
		}
	}
}

// align makes the states that are shown those that are, since a plan that is put in force brings new breakers without a
// transition: a level that was undone while it was down would be down for ever. What has no place any more is not shown.
func (s *scribe) align(routes []failover.RouteStatus) {
	shown, states := map[failover.RouteID]bool{}, map[seat]failover.LevelState{}
	for i := range routes {
		r := &routes[i]
		shown[r.RouteID] = true
		for k := range r.Levels {
			for _, m := range r.Levels[k].Members {
				states[seat{r.RouteID, k, m.Exporter}] = failover.LevelState(m.State)
			}
		}
	}
	for at, x := range s.seats {
		state, there := states[at]
		if !there {
			delete(s.seats, at)
			s.forget("holdfast_failover_level_state", at.labels())
			continue
		}
		for st := range x.states {
			x.states[st].Set(0)
		}
		x.states[state].Set(1)
	}
	for id := range s.routes {
		if !shown[id] {
			delete(s.routes, id)
			s.forget("holdfast_failover_all_down", labels(id))
			s.forget("otelcol_connector_failover_active_level", labels(id))
		}
	}
}

// forget takes the series of a name off that have all of the labels, given in pairs.
func (s *scribe) forget(name string, labels []string) {
	s.metrics.Forget(func(series string, has []string) bool {
		if series != name {
			return false
		}
		for i := 0; i+1 < len(labels); i += 2 {
			at := slices.Index(has, labels[i])
			if at < 0 || has[at+1] != labels[i+1] {
				return false
			}
		}
		return true
	})
}

func (s *scribe) newRoute(r *failover.SwitchRoute) *routeSeries {
	m, id := s.metrics, r.RouteID
	out := &routeSeries{
		allDown: m.Gauge("holdfast_failover_all_down", "1 while no ordinary level takes data.", labels(id)...),
		active: m.Gauge("otelcol_connector_failover_active_level", "Level that new data goes to; -1 = it is held.",
			labels(id)...),
		down:     newStopwatch(m, "holdfast_failover_all_down_seconds_total", "How long no ordinary level took data.", labels(id)),
		switches: map[[2]int]*telemetry.Counter{},
	}
	for level := -1; level < len(r.Levels); level++ {
		out.at = append(out.at, newStopwatch(m, "holdfast_failover_active_seconds_total",
			"How long new data went to the level; -1 = it was held.", labels(id, "level", strconv.Itoa(level))))
		for to := -1; to < len(r.Levels) && len(r.Levels) <= MaxEager; to++ {
			if to != level {
				s.switchOf(out, id, level, to)
			}
		}
	}
	return out
}

// MaxEager is for how many levels the series of every pair are there from the start.
const MaxEager = 8

func (s *scribe) switchOf(r *routeSeries, id failover.RouteID, from, to int) *telemetry.Counter {
	c := r.switches[[2]int{from, to}]
	if c == nil {
		c = s.metrics.Counter("holdfast_failover_switches_total", "Changes of the level that new data goes to.",
			labels(id, "from", strconv.Itoa(from), "to", strconv.Itoa(to))...)
		r.switches[[2]int{from, to}] = c
	}
	return c
}

func (s *scribe) newSeat(at seat, member *failover.SwitchMember, emergency bool) *seatSeries {
	out := &seatSeries{
		kind: member.Probe.Kind, moves: map[breaker.Transition]*telemetry.Counter{},
		probes: map[exporter.Kind]*telemetry.Counter{},
	}
	for st := range out.states {
		out.states[st] = s.metrics.Gauge("holdfast_failover_level_state", "1 for the state the exporter is in.",
			at.labels("state", failover.LevelState(st).String())...)
	}
	out.states[failover.Healthy].Set(1)
	for _, t := range breaker.Transitions(emergency) {
		s.moveOf(out, at, t)
	}
	if out.kind != kindLive {
		for v := exporter.Kind(0); v <= exporter.Rejected; v++ {
			out.probes[v] = s.metrics.Counter("holdfast_failover_probes_total", "Probes answered.",
				at.labels("kind", out.kind, "result", failover.VerdictWord(v))...)
		}
	}
	return out
}

func (s *scribe) moveOf(x *seatSeries, at seat, t breaker.Transition) *telemetry.Counter {
	c := x.moves[t]
	if c == nil {
		c = s.metrics.Counter("holdfast_failover_transitions_total", "Changes of an exporter's state.",
			at.labels("from", t.From.String(), "to", t.To.String(), "reason", t.Reason.String())...)
		x.moves[t] = c
	}
	return c
}

func labels(id failover.RouteID, more ...string) []string {
	return append([]string{"connector", id.Connector, "signal", id.Signal.String()}, more...)
}

func (at seat) labels(more ...string) []string {
	return labels(at.route, append([]string{"level", strconv.Itoa(at.level), "exporter", at.exporter}, more...)...)
}

func (s *scribe) lines(id failover.RouteID) *zap.Logger {
	return s.log.With(zap.String("connector", id.Connector), zap.String("signal", id.Signal.String()))
}

var severities = [...]zapcore.Level{
	failover.Debug: zapcore.DebugLevel, failover.Info: zapcore.InfoLevel, failover.Warn: zapcore.WarnLevel,
	failover.Error: zapcore.ErrorLevel,
}

// write says what an effect says.
func (s *scribe) write(log *zap.Logger, e *failover.Effect, fields func() []zap.Field) {
	for _, line := range e.Lines(nil) {
		if c := log.Check(severities[line.Severity], line.Text); c != nil {
			c.Write(fields()...)
		}
	}
}

// changed writes down what one breaker did, for one of its routes.
func (s *scribe) changed(now time.Time, e *failover.Effect) {
	c := &e.Change
	at := seat{e.Route, e.Level, e.Exporter}
	if x := s.seats[at]; x != nil && c.Kind == breaker.Moved {
		s.moveOf(x, at, breaker.Transition{From: c.From, To: c.To, Reason: c.Reason}).Inc()
		x.states[c.From].Set(0)
		x.states[c.To].Set(1)
	}
	s.write(s.lines(e.Route), e, func() []zap.Field { return changeFields(now, e) })
}

func changeFields(now time.Time, e *failover.Effect) []zap.Field {
	c := &e.Change
	fields := []zap.Field{
		zap.Int("level", e.Level), zap.String("exporter", e.Exporter),
		zap.Stringer("from", c.From), zap.Stringer("to", c.To), zap.Stringer("reason", c.Reason),
		zap.Int("strikes", c.Evidence.Strikes), zap.Int("failed", c.Evidence.Failed),
		zap.Int("delivered", c.Evidence.Delivered), zap.Uint64("generation", c.Generation),
		telemetry.Foreign("error", c.Evidence.Error),
	}
	switch {
	case c.Kind == breaker.Confirmed:
		fields = append(fields, zap.Int("confirmed", c.Confirmed), zap.Int("needed", c.Needed))
	case c.Kind == breaker.PutOff:
		fields = append(fields, zap.Duration("until", c.Until.Sub(now).Round(time.Millisecond)))
	case c.Failed > 0:
		fields = append(fields, zap.Int("failed_probes", c.Failed))
	}
	if !c.Next.IsZero() {
		fields = append(fields, zap.Duration("next_probe", c.Next.Sub(now).Round(time.Millisecond)))
	}
	return fields
}

// published writes down what a new view means for data.
func (s *scribe) published(now time.Time, e *failover.Effect) {
	v, before := e.View, e.Before
	s.learn(e)
	r := s.routes[e.Route]
	if r == nil {
		return
	}
	r.active.Set(int64(v.Active))
	r.allDown.Set(0)
	if v.AllDown {
		r.allDown.Set(1)
	}
	r.down.run(now, v.AllDown)
	for i, w := range r.at {
		w.run(now, i-1 == v.Active)
	}
	if before == nil {
		return
	}
	if v.Active != before.Active {
		s.switchOf(r, e.Route, before.Active, v.Active).Inc()
	}
	s.write(s.lines(e.Route), e, func() []zap.Field {
		return []zap.Field{zap.Int("from", before.Active), zap.Int("to", v.Active)}
	})
}

// learn notes who sits at which breaker. A new plan brings new views of all that changed.
func (s *scribe) learn(e *failover.Effect) {
	for i := range e.View.Levels {
		for _, m := range e.View.Levels[i].Members {
			at := seat{e.Route, i, m.Exporter}
			known := false
			for _, other := range s.taken[m.Breaker] {
				known = known || other == at
			}
			if !known {
				s.taken[m.Breaker] = append(s.taken[m.Breaker], at)
			}
		}
	}
}

// probed counts a probe, once for each route of its breaker. One that failed to bring a level back also counts as an
// export that failed: alerts made of these last as long as the outage, although the level is sent nothing.
func (s *scribe) probed(id failover.BreakerID, o *failover.ProbeOrder, v *exporter.Verdict) {
	for _, at := range s.taken[id] {
		if x := s.seats[at]; x != nil && x.probes[v.Kind] != nil {
			x.probes[v.Kind].Inc()
		}
	}
	if o.Probe.Purpose == breaker.ByRecovery && failover.SpeaksAgainst(v.Kind) {
		FailedItems(s.metrics, o.Exporter, o.Signal).Inc()
	}
}

// FailedItems is the series that attempts which did not deliver count in, and recovery probes that failed.
func FailedItems(m *telemetry.Registry, exporterID string, signal otlp.Signal) *telemetry.Counter {
	return m.Counter("otelcol_exporter_send_failed_"+signal.ItemName(), "Items of attempts that did not deliver.",
		"exporter", exporterID)
}

// remind says every minute that a route's data is held, and how much. One goroutine calls it, now and then.
func (s *scribe) remind(now time.Time, id failover.RouteID, v *failover.View, fill func() queue.Fill) {
	if v == nil || !v.AllDown || v.Active >= 0 {
		delete(s.held, id)
		return
	}
	since, known := s.held[id]
	if !known { // the transition had a line of its own
		s.held[id] = now
		return
	}
	if now.Sub(since) < remindEvery {
		return
	}
	s.held[id] = now
	f := fill()
	fields := []zap.Field{
		zap.Int64("items", f.Items), zap.Int64("size", f.Size), zap.Int64("capacity", f.Capacity),
		zap.Duration("oldest", f.Oldest.Round(time.Second)),
	}
	if f.Capacity > 0 {
		fields = append(fields, zap.Float64("share", float64(f.Size)/float64(f.Capacity)))
	}
	if !v.NextProbe.IsZero() {
		fields = append(fields, zap.Duration("next_probe", max(v.NextProbe.Sub(now), 0).Round(time.Millisecond)))
	}
	s.lines(id).Warn(failover.LineAllDown, fields...)
}
