// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// probeTime bounds a request to probe a level: several probes wait for each other by the route's gap.
const probeTime = 2 * time.Minute

// LevelRequest names a level for an operator's wish.
type LevelRequest struct {
	Connector string `json:"connector"`
	Signal    string `json:"signal,omitempty"` // empty = all
	Level     int    `json:"level"`            // -1 = all, of a probe
	// ForSeconds and Force are a hold's.
	ForSeconds float64 `json:"for_seconds,omitempty"`
	Force      bool    `json:"force,omitempty"`
}

// RouteAnswer is what came of a wish on one route.
type RouteAnswer struct {
	Connector string               `json:"connector"`
	Signal    string               `json:"signal"`
	Error     string               `json:"error,omitempty"` // refused
	Probes    []status.ProbeAnswer `json:"probes,omitempty"`
}

// Levels answers what operators want of the levels of connectors.
type Levels struct {
	// Room is the process's switch room; nil = there are no levels, or not yet.
	Room func() *switchroom.Room
}

// Routes are the requests that it answers.
func (l *Levels) Routes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodPost, Path: "/failover/probe", Timeout: probeTime, Handle: l.probe},
		{Method: http.MethodPost, Path: "/failover/hold", Handle: l.hold},
		{Method: http.MethodPost, Path: "/failover/release", Handle: l.release},
	}
}

// wish is a request, the room that can grant it, and the routes it names.
type wish struct {
	LevelRequest
	room *switchroom.Room
	ids  []failover.RouteID
}

func (l *Levels) meant(r *admin.Request) (*wish, error) {
	var req LevelRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	room := l.Room()
	if room == nil {
		return nil, admin.Refuse(http.StatusNotFound, "there are no levels: no connector is configured, or the process is starting")
	}
	if _, ok := otlp.ParseSignal(req.Signal); !ok && req.Signal != "" {
		return nil, admin.Refuse(http.StatusBadRequest, "signal %q is none of traces, metrics, logs, profiles", req.Signal)
	}
	ids := room.Routes()
	var out []failover.RouteID
	names := map[string]bool{}
	for _, id := range ids {
		names[id.Connector] = true
		if id.Connector == req.Connector && (req.Signal == "" || id.Signal.String() == req.Signal) {
			out = append(out, id)
		}
	}
	if len(out) == 0 {
		return nil, admin.Refuse(http.StatusNotFound, "%s", unknownRoute(&req, names))
	}
	return &wish{req, room, out}, nil
}

func unknownRoute(req *LevelRequest, names map[string]bool) string {
	if names[req.Connector] {
		return req.Connector + " has no " + req.Signal
	}
	var all []string
	for name := range names {
		all = append(all, name)
	}
	text := "no connector or exporter " + strconv.Quote(req.Connector) + " has levels"
	if near := config.Nearest(req.Connector, all); near != "" {
		text += " (did you mean " + strconv.Quote(near) + "?)"
	}
	return text
}

func (l *Levels) probe(ctx context.Context, r *admin.Request) (any, error) {
	w, err := l.meant(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime-time.Second)
	defer cancel()
	answers := make([]RouteAnswer, len(w.ids))
	done := make(chan struct{})
	for i, id := range w.ids {
		go func() { // ends with ctx
			answers[i] = probeRoute(ctx, w.room, id, w.Level)
			done <- struct{}{}
		}()
	}
	for range w.ids {
		<-done
	}
	return answers, nil
}

func probeRoute(ctx context.Context, room *switchroom.Room, id failover.RouteID, level int) RouteAnswer {
	out := answerFor(id, nil)
	answers, err := room.Probe(ctx, id, level)
	if err != nil {
		return answerFor(id, err)
	}
	for i := range answers {
		p := &answers[i]
		one := status.ProbeAnswer{
			Level: p.Level, Exporter: p.Exporter, Good: p.Good(), Kind: p.Kind, Result: p.Verdict.Kind.String(), Error: p.Why,
			State: p.State.String(), ReturnsWhen: p.ReturnsWhen,
		}
		if p.Verdict.Err != nil {
			one.Error = telemetry.Escape(p.Verdict.Err.Error())
		}
		out.Probes = append(out.Probes, one)
	}
	return out
}

func answerFor(id failover.RouteID, err error) RouteAnswer {
	out := RouteAnswer{Connector: id.Connector, Signal: id.Signal.String()}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

func (l *Levels) hold(ctx context.Context, r *admin.Request) (any, error) {
	return l.order(ctx, r, failover.EventHold)
}

func (l *Levels) release(ctx context.Context, r *admin.Request) (any, error) {
	return l.order(ctx, r, failover.EventRelease)
}

// order tells the switch an operator's wish for every route that is meant, and passes its refusals on.
func (l *Levels) order(ctx context.Context, r *admin.Request, kind failover.EventKind) (any, error) {
	w, err := l.meant(r)
	if err != nil {
		return nil, err
	}
	var out []RouteAnswer
	for _, id := range w.ids {
		err := w.room.Order(ctx, failover.Event{Kind: kind, Route: id, Level: w.Level,
			For: time.Duration(w.ForSeconds * float64(time.Second)), Force: w.Force})
		var refused *switchroom.RefusedError
		if err != nil && !errors.As(err, &refused) {
			return nil, err
		}
		out = append(out, answerFor(id, err))
	}
	return out, nil
}
