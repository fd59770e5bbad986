// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// SwitchPlan is what the Switch stands on: every route of the process, plain exporters too.
type SwitchPlan struct {
	Routes []SwitchRoute
	// Jitter returns a number in [-1, 1) and spreads probes; nil = no spread.
	Jitter func() float64
}

// SwitchRoute is one route.
type SwitchRoute struct {
	RouteID
	Gap    time.Duration // least time between two recovery probes; EffectiveGap
	Stay   bool          // on_failure stay: a silent level is not passed by
	Filled bool          // the emergency level takes data only when the queue is filled (emergency.when: queue_high)
	Levels []SwitchLevel
}

// SwitchLevel is one level.
type SwitchLevel struct {
	Emergency bool
	Members   []SwitchMember
}

// SwitchMember is one exporter of a level. Members of equal Exporter, Config, Settings and Probe share a breaker in
// routes of one signal; those of equal Exporter and Config are siblings.
type SwitchMember struct {
	Exporter string // ID as written
	Config   string // hash of its configuration: another one is another endpoint, which starts healthy
	Share    bool   // share_health: siblings tell each other
	Settings breaker.Settings
	Probe    ProbeKind // every key filled in, and what EffectStartProbe asks for
}

// PlannedLevel is what a level's members have in common with their exporters' configuration.
type PlannedLevel struct {
	Emergency bool
	Timeout   time.Duration // of one attempt, the longest of the members'; 0 = none
	Retry     exporter.RetryConfig
	Members   []PlannedMember
}

// PlannedMember is an exporter of a level.
type PlannedMember struct {
	Exporter string // ID as written
	Config   string // hash of its configuration
	// OwnProbe is what probe kind auto means for it: empty (native OTLP), write (file), or live (it has no probe).
	OwnProbe string
}

// Plan makes a route's part of the plan from its connector's configuration; a plain exporter's is Default.
func (c *Config) Plan(id RouteID, levels []PlannedLevel) SwitchRoute {
	ordinary := 0
	for i := range levels {
		if !levels[i].Emergency {
			ordinary++
		}
	}
	stay, _ := c.Stays()
	r := SwitchRoute{RouteID: id, Gap: c.EffectiveGap(ordinary), Stay: stay, Filled: c.Emergency.When == "queue_high"}
	for i := range levels {
		l := SwitchLevel{Emergency: levels[i].Emergency}
		for _, m := range levels[i].Members {
			probe := c.For(m.Exporter, i == 0)
			if probe.Kind == "auto" {
				probe.Kind = m.OwnProbe
			}
			l.Members = append(l.Members, SwitchMember{
				Exporter: m.Exporter, Config: m.Config, Share: c.ShareHealth, Probe: probe,
				Settings: c.breaker(&probe, &levels[i], ordinary < 2),
			})
		}
		r.Levels = append(r.Levels, l)
	}
	return r
}

// breaker makes a member's settings.
func (c *Config) breaker(p *ProbeKind, l *PlannedLevel, alone bool) breaker.Settings {
	holdDown := c.Return.HoldDown
	if holdDown == 0 {
		holdDown = c.RetryInterval
	}
	s := breaker.Settings{
		Consecutive: c.Detector.Consecutive, Startup: c.Detector.Startup, Ratio: c.Detector.Ratio,
		Window: c.Detector.Window, MinAttempts: c.Detector.MinAttempts, FailoverDelay: c.FailoverDelay,
		SlowAfter: c.Detector.slowAfter(l.Timeout), SlowRatio: c.Detector.SlowRatio,
		Live: p.Kind == "live", External: p.Kind == "http" || p.Kind == "tcp" || p.Kind == "grpc_health",
		ProbeTimeout: *p.Timeout, SendTimeout: l.Timeout, Successes: *p.Successes, Every: *p.Every, Trips: p.Trips,
		RetryInterval: c.RetryInterval, RareInterval: c.RareInterval(), MaxRetries: c.MaxRetries,
		AllDownEvery: c.AllDown.ProbeEvery,
		HoldDown:     holdDown, HoldDownMax: max(c.Return.HoldDownMax, holdDown), FlapWindow: c.Return.FlapWindow,
		Ramp: c.Return.Ramp, RampStart: c.Return.RampStart, Manual: c.Return.Mode == "manual",
		FailoverAfter: c.Throttle.FailoverAfter, MaxWait: c.Throttle.MaxWait,
		Backoff: breaker.Backoff{
			Initial: l.Retry.InitialInterval, Multiplier: l.Retry.Multiplier, Max: l.Retry.MaxInterval,
		},
		Alone: alone, Emergency: l.Emergency,
	}
	if s.Backoff.Initial <= 0 { // a 429 without a delay asks for some silence all the same
		s.Backoff.Initial = exporter.DefaultRetry().InitialInterval
	}
	return s
}

// seatKey says which members share a breaker.
type seatKey struct {
	sibling  siblingKey
	signal   otlp.Signal
	settings breaker.Settings
	probe    string
	share    bool
}

// siblingKey says which breakers are siblings.
type siblingKey struct{ exporter, config string }

func (m *SwitchMember) key(s otlp.Signal) seatKey {
	return seatKey{
		sibling: siblingKey{exporter: m.Exporter, config: m.Config}, signal: s, settings: m.Settings, share: m.Share,
		probe: fmt.Sprintf("%s %q %q %d", m.Probe.Kind, m.Probe.URL, m.Probe.Service, m.Probe.Expect),
	}
}
