// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"math"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Bounds of the histograms, in seconds and records.
var (
	secondBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	recordBounds = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

// observer feeds the histograms of the journals that take appends.
func (a *App) observer() journal.Observer {
	g := a.now()
	type histograms struct{ append, sync, group *telemetry.Histogram }
	m, byPipeline := a.opts.Telemetry.Metrics, map[string]histograms{}
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		if p.Storage == "" {
			continue
		}
		byPipeline[p.ID] = histograms{
			m.Histogram("holdfast_journal_append_seconds", "From the hand-over to the commit of one record.",
				secondBounds, "pipeline", p.ID),
			m.Histogram("holdfast_journal_sync_seconds", "One sync of a segment.", secondBounds, "pipeline", p.ID),
			m.Histogram("holdfast_journal_group_records", "Records committed together.", recordBounds, "pipeline", p.ID),
		}
	}
	observe := func(pipeline string, h func(histograms) *telemetry.Histogram, v float64) {
		if of, ok := byPipeline[pipeline]; ok { // a tail has none
			h(of).Observe(v)
		}
	}
	return journal.Observer{
		Append: func(pipeline string, d time.Duration) {
			observe(pipeline, func(h histograms) *telemetry.Histogram { return h.append }, d.Seconds())
		},
		Sync: func(pipeline string, d time.Duration) {
			observe(pipeline, func(h histograms) *telemetry.Histogram { return h.sync }, d.Seconds())
		},
		GroupRecords: func(pipeline string, n int) {
			observe(pipeline, func(h histograms) *telemetry.Histogram { return h.group }, float64(n))
		},
	}
}

// shown is one queue as its series show it.
type shown struct {
	pipeline string // the label
	head     bool   // takes appends
	durable  bool
	limits   []string
	reasons  []string
	labels   map[string]string // of destinations as written, by canonical name; others are shown by that
	get      func() journal.Snapshot
}

// series registers the readers of one queue.
type series struct {
	m      *telemetry.Registry
	labels []string
}

func (s series) with(labels ...string) series {
	return series{s.m, append(s.labels[:len(s.labels):len(s.labels)], labels...)}
}

func (s series) counter(name, help string, read func() float64, labels ...string) {
	s.m.CounterFunc("holdfast_journal_"+name, help, read, s.with(labels...).labels...)
}

func (s series) gauge(name, help string, read func() float64, labels ...string) {
	s.m.GaugeFunc("holdfast_journal_"+name, help, read, s.with(labels...).labels...)
}

// registerQueue shows one queue. A queue in memory has the series that mean something for it.
func (a *App) registerQueue(q *shown) {
	s := series{a.opts.Telemetry.Metrics, []string{"pipeline", q.pipeline}}
	number := func(of func(*journal.Snapshot) float64) func() float64 {
		return func() float64 {
			shot := q.get()
			return of(&shot)
		}
	}
	for _, state := range []string{"ok", "full", "broken", "detached", "closed"} {
		s.gauge("state", "1 for the state the queue is in.", number(func(j *journal.Snapshot) float64 {
			return truth(j.State == state)
		}), "state", state)
	}
	if q.head {
		s.counter("appended_records_total", "Records stored.",
			number(func(j *journal.Snapshot) float64 { return float64(j.AppendedRecords) }))
		s.counter("appended_items_total", "Items stored.",
			number(func(j *journal.Snapshot) float64 { return float64(j.AppendedItems) }))
		for _, limit := range q.limits {
			s.counter("refused_items_total", "Items of appends that were refused, by the limit that refused them.",
				number(func(j *journal.Snapshot) float64 { return float64(j.RefusedItems[limit]) }), "limit", limit)
		}
	}
	if q.durable {
		registerDisk(s, q.head, number)
	}
	first := q.get()
	for i := range first.Destinations {
		registerDestination(s, q, first.Destinations[i].Name)
	}
}

// registerDisk shows what only a journal has.
func registerDisk(s series, head bool, number func(func(*journal.Snapshot) float64) func() float64) {
	if head {
		s.gauge("unsynced_seconds", "Age of the oldest write that is not durable yet.",
			number(func(j *journal.Snapshot) float64 { return j.Unsynced.Seconds() }))
		s.gauge("sync_age_seconds", "How long the sync that runs has been running.",
			number(func(j *journal.Snapshot) float64 { return j.SyncAge.Seconds() }))
	}
	s.gauge("segments", "Segment files.", number(func(j *journal.Snapshot) float64 { return float64(j.Segments) }))
	s.gauge("cache_bytes", "Bytes of records in memory that are also on disk.",
		number(func(j *journal.Snapshot) float64 { return float64(j.CacheBytes) }))
	s.counter("cache_hits_total", "Records handed out from memory.",
		number(func(j *journal.Snapshot) float64 { return float64(j.CacheHits) }))
	s.counter("cache_misses_total", "Records read from disk to be handed out.",
		number(func(j *journal.Snapshot) float64 { return float64(j.CacheMisses) }))
	s.counter("condemned_segments_total", "Segments of which a write or sync failed.",
		number(func(j *journal.Snapshot) float64 { return float64(j.Condemned) }))
	s.counter("damaged_ranges_total", "Stretches of bytes on disk that did not hold.",
		number(func(j *journal.Snapshot) float64 { return float64(j.DamagedRanges) }))
	s.gauge("dead_records", "Dead letters there are.",
		number(func(j *journal.Snapshot) float64 { return float64(j.DeadRecords) }))
	s.gauge("dead_items", "Items of the dead letters there are.",
		number(func(j *journal.Snapshot) float64 { return float64(j.DeadItems) }))
	s.counter("dead_evicted_items_total", "Items of dead letters that went to make room.",
		number(func(j *journal.Snapshot) float64 { return float64(j.DeadEvictedItems) }))
	s.gauge("recovery_seconds", "How long opening took.",
		number(func(j *journal.Snapshot) float64 { return j.Recovery.Seconds() }))
	s.gauge("recovery_scanned_bytes", "Bytes that opening had to read through.",
		number(func(j *journal.Snapshot) float64 { return float64(j.RecoveryScannedBytes) }))
}

// registerDestination shows one cursor.
func registerDestination(s series, q *shown, name string) {
	label := q.labels[name]
	if label == "" {
		label = name
	}
	s = s.with("destination", label)
	number := func(of func(*journal.DestinationSnapshot) float64) func() float64 {
		return func() float64 {
			shot := q.get()
			for i := range shot.Destinations {
				if shot.Destinations[i].Name == name {
					return of(&shot.Destinations[i])
				}
			}
			return 0 // done and gone
		}
	}
	for _, r := range resolutions(q.reasons) {
		s.counter("resolved_records_total", "Records resolved since start.", number(func(d *journal.DestinationSnapshot) float64 {
			return float64(d.Resolved[r].Records)
		}), "outcome", r.Outcome, "reason", r.Reason)
		s.counter("resolved_items_total", "Items resolved since start.", number(func(d *journal.DestinationSnapshot) float64 {
			return float64(d.Resolved[r].Items)
		}), "outcome", r.Outcome, "reason", r.Reason)
	}
	s.counter("redelivered_records_total", "Records handed out again.",
		number(func(d *journal.DestinationSnapshot) float64 { return float64(d.Redelivered) }))
	for _, parked := range []bool{false, true} {
		prefix, help := "queued_", " waiting for the destination."
		if parked {
			prefix, help = "parked_", " waiting for a destination that left the configuration."
		}
		fill := func(of func(*queue.Fill) int64) func() float64 {
			return number(func(d *journal.DestinationSnapshot) float64 {
				if (d.State == queue.Parked) != parked {
					return 0
				}
				return float64(of(&d.Fill))
			})
		}
		s.gauge(prefix+"records", "Records"+help, fill(func(f *queue.Fill) int64 { return f.Records }))
		s.gauge(prefix+"items", "Items"+help, fill(func(f *queue.Fill) int64 { return f.Items }))
		s.gauge(prefix+"bytes", "Uncompressed bytes"+help, fill(func(f *queue.Fill) int64 { return f.Bytes }))
	}
	s.gauge("oldest_seconds", "Age of the oldest record that waits.",
		number(func(d *journal.DestinationSnapshot) float64 { return d.Fill.Oldest.Seconds() }))
	s.gauge("in_flight_records", "Records handed out and not resolved.",
		number(func(d *journal.DestinationSnapshot) float64 { return float64(d.Fill.Leased) }))
	s.gauge("imbalance_items", "Items accepted minus all that became of them; must be 0.",
		number(func(d *journal.DestinationSnapshot) float64 { return float64(d.Imbalance) }))
}

func resolutions(reasons []string) []journal.Resolution {
	out := []journal.Resolution{{Outcome: "delivered"}, {Outcome: "rejected"}}
	for _, r := range reasons {
		out = append(out, journal.Resolution{Outcome: "dropped", Reason: r})
	}
	return out
}

// registerStorage shows one directory.
func (a *App) registerStorage(s *storage) {
	shot := glanceAt(s.store.Snapshot)
	to := series{a.opts.Telemetry.Metrics, []string{"storage", s.ids[0]}}
	for _, kind := range []string{"segments", "cursors", "dead", "bad", "reserve", "foreign"} {
		to.gauge("disk_bytes", "Allocated bytes below the directory.",
			func() float64 { return float64(shot.get().DiskBytes[kind]) }, "kind", kind)
	}
	to.gauge("disk_limit_bytes", "Cap on everything below the directory.",
		func() float64 { return float64(shot.get().Limit) })
	to.gauge("disk_free_bytes", "What the volume has left.", func() float64 { return float64(shot.get().Free) })
	to.gauge("seconds_until_full", "At the pace of the last minutes; +Inf = it does not grow.", func() float64 {
		if d := shot.get().UntilFull; d > 0 {
			return d.Seconds()
		}
		return math.Inf(1)
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
