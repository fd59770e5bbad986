// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/admin"
	"github.com/holdfast-telemetry/holdfast/internal/app/shown"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/healthcheck"
	"github.com/holdfast-telemetry/holdfast/internal/extension/statuspage"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// switchTime is how long a status waits for the switch room; then it shows the last change.
const switchTime = 800 * time.Millisecond

// shownEvents are how many events a status has unless more are asked for.
const shownEvents = 20

// Status is how the process is; it never waits long, and may be called from any goroutine.
func (a *App) Status(ctx context.Context) status.Status { return a.desk.Status(ctx) }

// LogStatus writes to the log what the command status shows, line by line.
func (a *App) LogStatus() {
	s := a.Status(context.Background())
	for line := range strings.Lines(status.Text(&s)) {
		if line = strings.TrimRight(line, "\n"); line != "" {
			telemetry.Always(a.log).Info("Status: " + line)
		}
	}
}

// header is what there is to say before anything is built.
func (a *App) header() status.Status {
	g := a.now()
	s := status.Status{
		Phase: extension.Phase(a.phase.Load()).String(), Version: a.opts.Version, PID: os.Getpid(), Time: time.Now().UTC(),
		Config:    status.Config{Running: status.Generation{SHA256: g.cfg.Hash, Sources: shown.Sources(g.cfg)}},
		Pipelines: []status.Pipeline{}, Destinations: []status.Destination{}, Failover: []status.Route{},
		Storage: []status.Storage{}, Admission: status.Admission{Bytes: a.gate.Used(), LimitBytes: a.gate.Limit()},
	}
	if up := a.up.Load(); up != nil {
		s.UpSince = up.UTC()
	}
	if a.driver != nil {
		x := a.driver.Snapshot()
		shown.Config(&s, &x)
	}
	return s
}

// snapshot copies everything the status shows.
func (a *App) snapshot() status.Status {
	g := a.now()
	s := a.header()
	if !a.built.Load() {
		return s
	}
	now, failing := time.Now(), a.failing()
	routes := a.routes()
	books := g.readBooks()
	for i, p := range g.pipelines {
		pl := &g.plan.Pipelines[i]
		accepting, since := p.Accepting()
		one := status.Pipeline{ID: pl.ID, Signal: pl.Signal.String(), Receivers: pl.Receivers, Accepting: accepting}
		if !accepting && !since.IsZero() {
			one.RefusingSeconds = now.Sub(since).Seconds()
		}
		s.Pipelines = append(s.Pipelines, one)
		state := a.queueState(pl.ID)
		for _, d := range p.Show() {
			if read := books[[2]string{pl.ID, d.Label}]; read != nil { // with what the emergency file owes
				d.Counts = read()
			}
			out := shown.Destination(pl.ID, &d, failing, now)
			if out.Queue != nil {
				out.Queue.Durable, out.Queue.State = pl.Storage != "", state
			}
			s.Destinations = append(s.Destinations, out)
			if d.Route != nil {
				for _, r := range routes {
					if r.ID == d.Route.ID {
						r.Add(&d)
					}
				}
			}
		}
	}
	s.Destinations = append(s.Destinations, a.leftovers()...)
	for _, r := range routes {
		owed := a.owes(r.ID)
		r.Emergency = status.Emergency{Items: owed.Items, Bytes: owed.Bytes}
		s.Failover = append(s.Failover, r.Route)
	}
	a.pace.Fill(&s)
	s.Storage = a.storageStatus()
	return s
}

// routes copies what the switch knows of every route, in the plan's order.
func (a *App) routes() []*shown.Route {
	if a.switches == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), switchTime)
	defer cancel()
	known, age := a.switches.Status(ctx)
	out := make([]*shown.Route, 0, len(known))
	for i := range known {
		out = append(out, shown.NewRoute(&known[i], age))
	}
	return out
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

// failing is when a destination counts as failing: as the health check says, if there is one.
func (a *App) failing() extension.Failing {
	g := a.now()
	for _, id := range g.cfg.Service.Extensions {
		if c := g.cfg.Components[config.Extensions][id]; c != nil {
			if h, ok := c.Config.(*healthcheck.Config); ok {
				p := h.CheckCollectorPipeline
				return extension.Failing{Threshold: p.ExporterFailureThreshold, Interval: p.Interval}
			}
		}
	}
	return extension.DefaultFailing()
}

// queueState is the state of the queue that takes a pipeline's appends.
func (a *App) queueState(pipelineID string) string {
	if q := a.memory(pipelineID); q != nil && a.now().owns(q) {
		return q.snapshot().State
	}
	for _, s := range a.stores() {
		for _, j := range s.shelves() {
			if j.head.Load() && j.pipeline == pipelineID {
				return j.Snapshot().State
			}
		}
	}
	return ""
}

// leftovers are the cursors of destinations that left the configuration.
func (a *App) leftovers() []status.Destination {
	var out []status.Destination
	for _, s := range a.stores() {
		for _, j := range s.shelves() {
			shot := j.Snapshot()
			for i := range shot.Destinations {
				d := &shot.Destinations[i]
				if d.State != queue.Parked && j.head.Load() {
					continue // shown with its pipeline
				}
				q := shown.Queue(&d.Fill)
				q.Durable, q.State = true, shot.State
				out = append(out, status.Destination{
					Pipeline: j.label, Name: d.Name, Queue: q, Books: shown.Books(&d.Counts), Parked: d.Heir == "",
				})
			}
		}
	}
	g := a.now()
	for _, m := range a.inMemory() {
		for _, info := range m.List() {
			if info.State != queue.Parked && (g.owns(m) || info.State == queue.Done) {
				continue
			}
			n := info.Counts.Queued + info.Counts.Parked
			out = append(out, status.Destination{
				Pipeline: g.labelOf(m), Name: info.Name, Books: shown.Books(&info.Counts), Parked: info.State == queue.Parked && info.Heir == "",
				Queue: shown.Queue(&queue.Fill{Items: int64(n), Oldest: info.Oldest}),
			})
		}
	}
	return out
}

func (a *App) storageStatus() []status.Storage {
	out := []status.Storage{}
	for _, s := range a.stores() {
		shot := s.store.Snapshot()
		one := status.Storage{
			Name: s.ids[0], Directory: shot.Directory, LimitBytes: shot.Limit, FreeBytes: shot.Free,
		}
		for _, n := range shot.DiskBytes {
			one.Bytes += n
		}
		if shot.UntilFull > 0 {
			in := shot.UntilFull.Seconds()
			one.FullIn = &in
		}
		out = append(out, one)
	}
	return out
}

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
