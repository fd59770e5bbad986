// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// shownRoute is a route while its pipelines' loads are added.
type shownRoute struct {
	status.Route
	id             failover.RouteID
	size, capacity int64
}

// routes copies what the switch knows of every route, in the plan's order.
func (a *App) routes() []*shownRoute {
	if a.switches == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), switchTime)
	defer cancel()
	known, age := a.switches.Status(ctx)
	out := make([]*shownRoute, 0, len(known))
	for i := range known {
		r := &shownRoute{id: known[i].RouteID, Route: routeOf(&known[i], age)}
		out = append(out, r)
	}
	return out
}

func routeOf(r *failover.RouteStatus, age time.Duration) status.Route {
	out := status.Route{
		Connector: r.Connector, Signal: r.Signal.String(), ActiveLevel: r.Active, AllDown: r.AllDown,
		OverdueSeconds: age.Seconds(), Levels: make([]status.Level, 0, len(r.Levels)),
	}
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

// addLoad adds what one pipeline has of a route.
func addLoad(routes []*shownRoute, d *pipeline.Shown) {
	for _, r := range routes {
		if r.id != d.Route.ID {
			continue
		}
		r.size, r.capacity = r.size+d.Fill.Size, r.capacity+d.Fill.Capacity
		r.Queue.Items += d.Fill.Items
		r.Queue.OldestSeconds = max(r.Queue.OldestSeconds, wholeMillis(d.Fill.Oldest))
		h := &r.InHand
		h.InFlight, h.Waiting = h.InFlight+d.Route.InHand.InFlight, h.Waiting+d.Route.InHand.Waiting
		h.Moving, h.Held = h.Moving+d.Route.InHand.Moving, h.Held+d.Route.InHand.Held
	}
}

// degraded says what keeps a destination's levels from being as they should, in a sentence; empty = nothing.
func (a *App) degraded(id failover.RouteID) string {
	if a.switches == nil {
		return ""
	}
	v := a.switches.View(id)
	if v == nil {
		return ""
	}
	if v.AllDown && v.Active < 0 && len(v.Levels) == 1 {
		return "it is down, data is held"
	}
	if v.AllDown && v.Active < 0 {
		return "all levels are down, data is held"
	}
	now := time.Now()
	for i := range v.Levels {
		l := &v.Levels[i]
		if l.State > failover.Ramping {
			return fmt.Sprintf("level %d is %s", i, l.State)
		}
		if left := l.ThrottledUntil.Sub(now); left > 0 {
			return fmt.Sprintf("level %d asks for silence for another %s", i, left.Round(time.Second))
		}
	}
	return ""
}

// sayRoutes says at start what a connector makes of settings that are written elsewhere, or differently.
func (a *App) sayRoutes() {
	g := a.now()
	said := map[string]bool{}
	once := func(connector, text string, fields ...zap.Field) {
		if key := connector + " " + text; !said[key] {
			said[key] = true
			a.log.Info(text, append([]zap.Field{zap.String("connector", connector)}, fields...)...)
		}
	}
	for i := range g.plan.Pipelines {
		for k := range g.plan.Pipelines[i].Destinations {
			r := g.plan.Pipelines[i].Destinations[k].Route
			if r == nil || r.Config == nil {
				continue
			}
			if r.RetryGap < r.Config.RetryGap {
				once(r.Connector, "Failover: retry_gap shortened", zap.Duration("from", r.Config.RetryGap),
					zap.Duration("to", r.RetryGap), zap.Duration("retry_interval", r.RetryInterval))
			}
			for _, id := range r.Lifted {
				once(r.Connector, "Failover: queue and retry settings of "+id+" belong to the connector",
					zap.String("exporter", id))
			}
		}
	}
}
