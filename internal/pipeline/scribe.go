// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// probeLines is how many failed probes in a row share a line, after the first.
const probeLines = 10

// scribe writes down what the switch room does: a line and a count for every transition (failover, section 15).
type scribe struct {
	log     *zap.Logger
	metrics *telemetry.Registry
	states  map[seat]memberState
}

// seat is an exporter's place in a route.
type seat struct {
	route    failover.RouteID
	level    int
	exporter string
}

// memberState are one member's gauges, by state.
type memberState [failover.HeldLevel + 1]*telemetry.Gauge

func newScribe(plan *failover.SwitchPlan, t *telemetry.Telemetry) *scribe {
	s := &scribe{log: t.Logger, metrics: t.Metrics, states: map[seat]memberState{}}
	for i := range plan.Routes {
		r := &plan.Routes[i]
		for k := range r.Levels {
			for _, m := range r.Levels[k].Members {
				var g memberState
				for st := range g {
					g[st] = s.metrics.Gauge("holdfast_failover_level_state", "1 for the state the exporter is in.",
						labels(r.RouteID, "level", strconv.Itoa(k), "exporter", m.Exporter, "state",
							failover.LevelState(st).String())...)
				}
				g[failover.Healthy].Set(1)
				s.states[seat{r.RouteID, k, m.Exporter}] = g
			}
		}
		s.allDown(r.RouteID)
		s.active(r.RouteID)
	}
	return s
}

func labels(id failover.RouteID, more ...string) []string {
	return append([]string{"connector", id.Connector, "signal", id.Signal.String()}, more...)
}

func (s *scribe) allDown(id failover.RouteID) *telemetry.Gauge {
	return s.metrics.Gauge("holdfast_failover_all_down", "1 while no ordinary level takes data.", labels(id)...)
}

func (s *scribe) active(id failover.RouteID) *telemetry.Gauge {
	return s.metrics.Gauge("otelcol_connector_failover_active_level", "Level that new data goes to; -1 = it is held.",
		labels(id)...)
}

func (s *scribe) lines(id failover.RouteID) *zap.Logger {
	return s.log.With(zap.String("connector", id.Connector), zap.String("signal", id.Signal.String()))
}

// changed writes down what one breaker did, for one of its routes.
func (s *scribe) changed(now time.Time, e *failover.Effect) {
	c := &e.Change
	log := s.lines(e.Route).With(zap.Int("level", e.Level), zap.String("exporter", e.Exporter))
	fields := []zap.Field{
		zap.Stringer("from", c.From), zap.Stringer("to", c.To), zap.Stringer("reason", c.Reason),
		zap.Int("strikes", c.Evidence.Strikes), zap.Int("failed", c.Evidence.Failed),
		zap.Int("delivered", c.Evidence.Delivered), zap.Uint64("generation", c.Generation),
		telemetry.Foreign("error", c.Evidence.Error),
	}
	if !c.Next.IsZero() {
		fields = append(fields, zap.Duration("next_probe", c.Next.Sub(now).Round(time.Millisecond)))
	}
	switch c.Kind {
	case breaker.Moved:
		s.metrics.Counter("holdfast_failover_transitions_total", "Changes of an exporter's state.",
			labels(e.Route, "level", strconv.Itoa(e.Level), "exporter", e.Exporter, "from", c.From.String(), "to",
				c.To.String(), "reason", c.Reason.String())...).Inc()
		if g := s.states[seat{e.Route, e.Level, e.Exporter}]; g[c.From] != nil {
			g[c.From].Set(0)
			g[c.To].Set(1)
		}
		s.moved(log, e, fields)
	case breaker.Confirmed:
		log.Info("Failover: retry probe succeeded", fields...)
	case breaker.PutOff:
		log.Warn("Failover: level asks for retry later", append(fields,
			zap.Duration("until", c.Until.Sub(now).Round(time.Millisecond)))...)
	case breaker.Refuted:
		s.refuted(log, c, fields)
	case breaker.Warned:
		log.Warn("Failover: probe says nothing", fields...)
	}
}

func (s *scribe) moved(log *zap.Logger, e *failover.Effect, fields []zap.Field) {
	c := &e.Change
	switch {
	case c.To == breaker.Down && c.From.Carries():
		text := "Failover: level is down, " + [...]string{
			"data goes on", "data goes to the next level", "data goes to the emergency file", "data is held",
		}[e.Goes]
		if c.Reason == breaker.Standing {
			log.Error(text, fields...)
			return
		}
		log.Warn(text, fields...)
	case c.To == breaker.Down:
		s.refuted(log, c, fields)
	case c.To == breaker.Healthy && !c.From.Carries():
		log.Info("Failover: level is back", fields...)
	}
}

func (s *scribe) refuted(log *zap.Logger, c *breaker.Change, fields []zap.Field) {
	if c.Failed <= 1 || c.Failed%probeLines == 0 {
		log.Warn("Failover: retry probe failed", append(fields, zap.Int("failed_probes", c.Failed))...)
	}
}

// published writes down what a new view means for data.
func (s *scribe) published(e *failover.Effect) {
	v, before := e.View, e.Before
	s.active(e.Route).Set(int64(v.Active))
	s.allDown(e.Route).Set(0)
	if v.AllDown {
		s.allDown(e.Route).Set(1)
	}
	if before == nil {
		return
	}
	log := s.lines(e.Route)
	if v.Active != before.Active {
		s.metrics.Counter("holdfast_failover_switches_total", "Changes of the level that new data goes to.",
			labels(e.Route, "from", strconv.Itoa(before.Active), "to", strconv.Itoa(v.Active))...).Inc()
		log.Info("Failover: active level changed", zap.Int("from", before.Active), zap.Int("to", v.Active))
	}
	switch {
	case v.AllDown && !before.AllDown && v.Active < 0:
		log.Warn("Failover: all levels down, data is held")
	case v.AllDown && !before.AllDown:
		log.Warn("Failover: all levels down, data goes to the emergency file")
	case !v.AllDown && before.AllDown:
		log.Info("Failover: all levels down ended")
	}
}

// probed counts a probe.
func (s *scribe) probed(o *failover.ProbeOrder, v *exporter.Verdict) {
	s.metrics.Counter("holdfast_failover_probes_total", "Probes answered.", "exporter", o.Exporter, "signal",
		o.Signal.String(), "kind", o.What.Kind, "purpose", o.Probe.Purpose.String(), "result", v.Kind.String()).Inc()
}
