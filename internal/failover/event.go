// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// RouteID names a route: one connector or one plain exporter, for one signal. Pipelines that share it see one view.
type RouteID struct {
	Connector string // its ID as written; a plain exporter's own
	Signal    otlp.Signal
}

// EventKind says what is told to the Switch.
type EventKind uint8

// The events. Every one is also a tick.
const (
	EventTick        EventKind = 1 + iota // the time of the last EffectWakeAt has come
	EventAttempted                        // Breaker, Outcome, Proof: a live attempt ended
	EventProbed                           // Breaker, Probe, Outcome: a probe was answered
	EventCanaryDone                       // Breaker, Outcome: an attempt ended that had claimed a canary's token
	EventCanaryLost                       // Breaker, Outcome.Generation: a token was claimed, and nothing sent
	EventReconfigure                      // Plan: a reload was committed
	EventProbeNow                         // Route, Level (-1 = all): an operator asks
	EventHold                             // Route, Level, For, Force: an operator takes a level out
	EventRelease                          // Route, Level (-1 = all): ends a hold, or lets a manual return go on
)

// Event is told to the Switch. The fields that count are named at its kind.
type Event struct {
	Kind    EventKind
	Breaker BreakerID
	Outcome breaker.Outcome
	Proof   bool // the attempt had claimed the member's token as evidence
	Probe   breaker.Probe
	Plan    *SwitchPlan
	Route   RouteID
	Level   int
	For     time.Duration // Hold: at most MaxHold
	Force   bool          // Hold: also the last level that takes data
}

// MaxHold is the longest a level is held.
const MaxHold = 24 * time.Hour

// EffectKind says what the Switch wants done.
type EffectKind uint8

// The effects.
const (
	// EffectStartProbe: send Order's probe, within its timeout, and tell EventProbed with its Breaker and Probe,
	// whatever comes of it. A probe that is over after its breaker is gone is told all the same.
	EffectStartProbe EffectKind = 1 + iota
	// EffectChanged: Route, Level, Exporter, Breaker, Change, Goes: write the line, step the counters. It comes once
	// for each route the breaker is in.
	EffectChanged
	// EffectPublish: store View as the route's, and wake its Routers; Before is the one it replaces, nil at first.
	EffectPublish
	// EffectWakeAt: tell EventTick at At, and not at the time told before; zero = not at all.
	EffectWakeAt
	// EffectRefused: an operator's event could not be done, for the reason in Why.
	EffectRefused
	// EffectRemember: keep Remembered, in place of what was kept before, where a restart finds it; empty = forget. It
	// comes again while something is down, so that what is kept does not grow old. Losing it costs a restarted process
	// some failed batches, no more.
	EffectRemember
)

// Effect is what the Switch wants done.
type Effect struct {
	Kind     EffectKind
	Route    RouteID
	Level    int
	Exporter string
	Breaker  BreakerID
	Change   breaker.Change
	Goes     Goes
	Order    ProbeOrder
	View     *View
	Before   *View
	At       time.Time
	Why      string

	Remembered []Remembered
}

// ProbeOrder is a probe to be sent over one exporter.
type ProbeOrder struct {
	Probe    breaker.Probe
	Exporter string
	Signal   otlp.Signal
	What     ProbeKind // kind is never auto nor live
}

// Goes says where fresh data of a route goes after a change.
type Goes uint8

// Where it can go.
const (
	GoesOn        Goes = iota // as before: to this level or a better one
	GoesNext                  // to a lower ordinary level
	GoesEmergency             // to the emergency file
	GoesNowhere               // it is held
)
