// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package shown

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Route is a route while its pipelines' loads are added.
type Route struct {
	status.Route
	ID             failover.RouteID
	size, capacity int64
}

// NewRoute is a route as the switch knew it age ago; no load is added yet.
func NewRoute(r *failover.RouteStatus, age time.Duration) *Route {
	out := &Route{ID: r.RouteID, Route: status.Route{
		Connector: r.Connector, Signal: r.Signal.String(), ActiveLevel: r.Active, AllDown: r.AllDown,
		OverdueSeconds: age.Seconds(), Levels: make([]status.Level, 0, len(r.Levels)),
	}}
	for i := range r.Levels {
		l := &r.Levels[i]
		out.HasEmergency = out.HasEmergency || l.Emergency
		level := status.Level{Level: i, State: l.State.String(), Emergency: l.Emergency}
		for k := range l.Members {
			level.Members = append(level.Members, memberOf(&l.Members[k]))
		}
		out.Levels = append(out.Levels, level)
	}
	return out
}

func memberOf(m *failover.MemberStatus) status.Member {
	out := status.Member{
		Exporter: m.Exporter, State: m.State.String(), Since: m.Since.UTC(), DownSince: m.DownSince.UTC(),
		Generation: m.Generation,
		Reason:     m.Reason.String(), Silent: m.Silent, ThrottledSeconds: wholeMillis(m.Throttled),
		Evidence: status.Evidence{
			Strikes: m.Evidence.Strikes, Failed: m.Evidence.Failed, Delivered: m.Evidence.Delivered,
			Error: telemetry.Escape(m.Evidence.Error),
		},
		HoldDownSeconds: wholeMillis(m.HoldDown), Flaps: m.Flaps, FailedProbes: m.FailedProbes,
		Confirmations: m.Confirmed, ReturnsWhen: m.ReturnsWhen, Share: m.Share,
	}
	if m.NextProbe >= 0 {
		in := wholeMillis(m.NextProbe)
		out.NextProbeSeconds = &in
	}
	return out
}

func wholeMillis(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Add adds what one pipeline has of the route.
func (r *Route) Add(d *pipeline.Shown) {
	r.size, r.capacity = r.size+d.Fill.Size, r.capacity+d.Fill.Capacity
	r.Queue.Items += d.Fill.Items
	r.Queue.OldestSeconds = max(r.Queue.OldestSeconds, wholeMillis(d.Fill.Oldest))
	if r.Queue.Share = 0; r.capacity > 0 {
		r.Queue.Share = float64(r.size) / float64(r.capacity)
	}
	h := &r.InHand
	h.InFlight, h.Waiting = h.InFlight+d.Route.InHand.InFlight, h.Waiting+d.Route.InHand.Waiting
	h.Moving, h.Held = h.Moving+d.Route.InHand.Moving, h.Held+d.Route.InHand.Held
}
