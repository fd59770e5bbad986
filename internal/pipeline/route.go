// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"cmp"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// RouteID names a destination for the switch.
func RouteID(s otlp.Signal, d *plan.Destination) failover.RouteID {
	return failover.RouteID{Connector: d.Label, Signal: s}
}

// Member says of an exporter what the plan does not: a hash of its configuration, and the probe that kind auto means.
type Member func(exporterID string) (config, probe string)

// ofPlain is the configuration of every plain exporter's route: nobody can write one.
var ofPlain = failover.Default().(*failover.Config)

func configOf(d *plan.Destination) *failover.Config {
	if d.Route == nil {
		return ofPlain
	}
	return d.Route.Config
}

// SwitchPlan makes the switch's plan: a route for each connector or plain exporter, and signal. Pipelines with equal
// routes share one.
func SwitchPlan(p *plan.Plan, member Member, jitter func() float64) *failover.SwitchPlan {
	out := &failover.SwitchPlan{Jitter: func() float64 { return 2*jitter() - 1 }}
	seen := map[failover.RouteID]bool{}
	for i := range p.Pipelines {
		pl := &p.Pipelines[i]
		for k := range pl.Destinations {
			d := &pl.Destinations[k]
			id := RouteID(pl.Signal, d)
			if seen[id] {
				continue
			}
			seen[id] = true
			var levels []failover.PlannedLevel
			for n := range d.Levels {
				l := &d.Levels[n]
				planned := failover.PlannedLevel{Emergency: l.Emergency, Timeout: l.Timeout, Retry: l.Retry}
				for _, exporterID := range l.Exporters {
					config, probe := member(exporterID)
					planned.Members = append(planned.Members, failover.PlannedMember{
						Exporter: exporterID, Config: config, OwnProbe: cmp.Or(probe, "live"),
					})
				}
				levels = append(levels, planned)
			}
			out.Routes = append(out.Routes, configOf(d).Plan(id, levels))
		}
	}
	return out
}

// routeSettings are what the router of a destination works with.
func routeSettings(d *plan.Destination, jitter func() float64) failover.RouteSettings {
	s := configOf(d).Settings()
	s.Slots = d.Workers
	s.Jitter = func() float64 { return 2*jitter() - 1 }
	for i := range d.Levels {
		l := &d.Levels[i]
		backoff, patience := failover.BackoffOf(&l.Retry)
		s.Levels = append(s.Levels, failover.LevelSettings{
			Members: l.Exporters, Slots: slots(d, l), Backoff: backoff, Patience: patience, Timeout: l.Timeout,
			MaxItems: l.MaxItems, Emergency: l.Emergency,
		})
	}
	return s
}

// manySlots is for destinations that wait without a bound: as many as there are requests, which the door bounds.
const manySlots = 1 << 20

// slots are the level's, or of a plain exporter its destination's.
func slots(d *plan.Destination, l *plan.Level) int {
	switch {
	case l.Workers > 0:
		return l.Workers
	case d.Workers > 0:
		return d.Workers
	case d.Wait:
		return manySlots
	}
	return 1
}
