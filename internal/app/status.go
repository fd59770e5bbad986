// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/healthcheck"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// switchTime is how long a status waits for the switch room; then it shows the last change.
const switchTime = 800 * time.Millisecond

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
		Config:    status.Config{Running: status.Generation{SHA256: g.cfg.Hash, Sources: sourcesOf(g.cfg)}},
		Pipelines: []status.Pipeline{}, Destinations: []status.Destination{}, Failover: []status.Route{},
		Storage: []status.Storage{}, Admission: status.Admission{Bytes: a.gate.Used(), LimitBytes: a.gate.Limit()},
	}
	if up := a.up.Load(); up != nil {
		s.UpSince = up.UTC()
	}
	a.addConfig(&s)
	return s
}

// sourcesOf names where the configuration came from, without what may be secret in it.
func sourcesOf(cfg *config.Config) []string {
	out := []string{}
	for _, s := range cfg.Sources {
		uri := s.URI
		if strings.HasPrefix(uri, "yaml:") {
			uri = "yaml:…"
		}
		if u, err := url.Parse(uri); err == nil && u.User != nil {
			uri = u.Redacted()
		}
		out = append(out, uri)
	}
	return out
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
			out := destinationOf(pl.ID, &d, failing, now)
			if out.Queue != nil {
				out.Queue.Durable, out.Queue.State = pl.Storage != "", state
			}
			s.Destinations = append(s.Destinations, out)
			if d.Route != nil {
				addLoad(routes, &d)
			}
		}
	}
	s.Destinations = append(s.Destinations, a.leftovers()...)
	for _, r := range routes {
		if r.Queue.Share = 0; r.capacity > 0 {
			r.Queue.Share = float64(r.size) / float64(r.capacity)
		}
		owed := a.owes(r.id)
		r.Emergency = status.Emergency{Items: owed.Items, Bytes: owed.Bytes}
		s.Failover = append(s.Failover, r.Route)
	}
	a.pace.Fill(&s)
	s.Storage = a.storageStatus()
	return s
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

func destinationOf(pipelineID string, d *pipeline.Shown, failing extension.Failing, now time.Time) status.Destination {
	h := extension.DestinationHealth{Failed: d.Health.Failed, LastFailure: d.Health.LastFailure}
	out := status.Destination{
		Pipeline: pipelineID, Name: d.Label, Books: booksOf(&d.Counts), Fails: failing.Fails(&h, now),
	}
	if d.Health.Failed > 0 && now.Sub(d.Health.LastFailure) < failing.Interval {
		out.Failed, out.LastError = d.Health.Failed, telemetry.Escape(d.Health.LastError)
	}
	if d.Queued {
		out.Queue = queueOf(&d.Fill)
	}
	return out
}

func queueOf(f *queue.Fill) *status.Queue {
	return &status.Queue{
		Items: f.Items, Records: f.Records, Bytes: f.Bytes, Size: f.Size, Capacity: f.Capacity,
		OldestSeconds: f.Oldest.Seconds(), State: "ok",
	}
}

func booksOf(c *queue.Counts) status.Books {
	b := status.Books{
		Accepted: c.Accepted, Delivered: c.Delivered, Queued: c.Queued, Parked: c.Parked, Rejected: c.Rejected,
	}
	for _, n := range c.Dropped {
		b.Dropped += n
	}
	return b
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
				q := queueOf(&d.Fill)
				q.Durable, q.State = true, shot.State
				out = append(out, status.Destination{
					Pipeline: j.label, Name: d.Name, Queue: q, Books: booksOf(&d.Counts), Parked: d.Heir == "",
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
				Pipeline: g.labelOf(m), Name: info.Name, Books: booksOf(&info.Counts), Parked: info.State == queue.Parked && info.Heir == "",
				Queue: queueOf(&queue.Fill{Items: int64(n), Oldest: info.Oldest}),
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

// lookAtPace notes the counts of every destination, for their rates.
func (a *App) lookAtPace(now time.Time) {
	g := a.now()
	var counts []status.Count
	flows := map[failover.RouteID][]int64{} // those that share a route share its counters
	for i, p := range g.pipelines {
		for _, d := range p.Show() {
			b := booksOf(&d.Counts)
			counts = append(counts, status.Count{
				Pipeline: g.plan.Pipelines[i].ID, Name: d.Label, In: b.Accepted, Out: b.Delivered + b.Rejected + b.Dropped,
				Size: d.Fill.Size, Capacity: d.Fill.Capacity,
			})
			if d.Route != nil {
				flows[d.Route.ID] = d.Route.Delivered
			}
		}
	}
	var levels []status.Flow
	for id, delivered := range flows {
		for level, items := range delivered {
			levels = append(levels, status.Flow{Connector: id.Connector, Signal: id.Signal.String(), Level: level, Items: uint64(items)})
		}
	}
	a.pace.Look(now, counts, levels)
}

// routeFill is what waits for a route in all its pipelines.
func (a *App) routeFill(id failover.RouteID) queue.Fill {
	g := a.now()
	var sum queue.Fill
	for _, p := range g.pipelines {
		for _, d := range p.Show() {
			if d.Route != nil && d.Route.ID == id {
				sum.Items, sum.Size, sum.Capacity = sum.Items+d.Fill.Items, sum.Size+d.Fill.Size, sum.Capacity+d.Fill.Capacity
				sum.Oldest = max(sum.Oldest, d.Fill.Oldest)
			}
		}
	}
	return sum
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
