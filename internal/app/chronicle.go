// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/extension/statuspage"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// shownEvents are how many events a status has unless more are asked for.
const shownEvents = 20

// chronicle makes events of what the log says from now on.
func (a *App) chronicle(tel *telemetry.Telemetry) *telemetry.Telemetry {
	out := *tel
	out.Logger = telemetry.Tap(tel.Logger, func(e zapcore.Entry) bool {
		return status.IsEvent(e.Message, e.Level >= zapcore.WarnLevel)
	}, func(e zapcore.Entry, fields []zapcore.Field) {
		known := zapcore.NewMapObjectEncoder()
		for i := range fields {
			if fields[i].Key != "resource" {
				fields[i].AddTo(known)
			}
		}
		if ev, ok := status.EventOf(e.Message, known.Fields, a.levelName); ok {
			ev.Time, ev.Level = e.Time.UTC(), e.Level.String()
			a.history.Add(ev)
		}
	})
	return &out
}

// levelName is what people call a level of a connector.
func (a *App) levelName(connector string, level int64) string {
	if level < 0 {
		return "nowhere, it is held"
	}
	if g := a.now(); g != nil {
		for i := range g.plan.Pipelines {
			for k := range g.plan.Pipelines[i].Destinations {
				d := &g.plan.Pipelines[i].Destinations[k]
				if d.Label != connector || level >= int64(len(d.Levels)) {
					continue
				}
				if d.Levels[level].Emergency {
					return "the emergency file"
				}
				return strings.Join(d.Levels[level].Exporters, "+")
			}
		}
	}
	return fmt.Sprintf("level %d", level)
}

// keepEvents makes the history as long as the configuration says; several pages share it.
func (g *generation) keepEvents() {
	most := status.DefaultHistory
	for _, id := range g.cfg.Service.Extensions {
		if c := g.cfg.Components[config.Extensions][id]; c != nil {
			if page, ok := c.Config.(*statuspage.Config); ok {
				most = max(page.History, shownEvents)
			}
		}
	}
	g.app.history.Keep(most)
}

// adminStatus answers with as many events as were asked for.
func (a *App) adminStatus(ctx context.Context, r *admin.Request) (any, error) {
	most := shownEvents
	if text := r.Query.Get("events"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, admin.Refuse(http.StatusBadRequest, "events=%q is no number", text)
		}
		most = n
	}
	s := a.Status(ctx)
	s.Events, _ = a.history.Newest(most)
	return s, nil
}
