// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package series

import (
	"cmp"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// The words of the limits that can refuse an append, and of the reasons under which records are dropped; each has a
// series before it counts.
var (
	memoryLimits  = []string{"queue_size", "closed", "too_large"}
	journalLimits = []string{"queue_size", "max_file_size_mib", "max_size", "min_free_mib", "disk", "busy", "closed",
		"too_large"}
	memoryReasons  = []string{memory.ReasonOverflow, memory.ReasonShutdown}
	journalReasons = []string{"overflow", "corrupt", "missing", "unsynced", "operator", "parked", "drop_oldest"}
)

func limits(durable bool) []string {
	if durable {
		return journalLimits
	}
	return memoryLimits
}

// Reasons are those under which a queue drops records: one with a storage, or one in memory.
func Reasons(durable bool) []string {
	if durable {
		return journalReasons
	}
	return memoryReasons
}

// Queue is one queue as its series show it.
type Queue struct {
	Label    string                  // of the pipeline
	Head     bool                    // it takes appends
	Durable  bool                    // it is a journal
	Labels   map[string]string       // of destinations as written, by canonical name; others are shown by that
	Snapshot func() journal.Snapshot // of what it holds; may be called from any goroutine
}

// RegisterQueue shows one queue. A queue in memory has the series that mean something for it.
func RegisterQueue(m *telemetry.Registry, q *Queue) {
	s := labelled{m, []string{"pipeline", q.Label}}
	get := glanceAt(q.Snapshot).get
	number := func(of func(*journal.Snapshot) float64) func() float64 {
		return func() float64 {
			shot := get()
			return of(&shot)
		}
	}
	for _, state := range []string{"ok", "full", "broken", "detached", "closed"} {
		s.gauge("state", "1 for the state the queue is in.", number(func(j *journal.Snapshot) float64 {
			return truth(j.State == state)
		}), "state", state)
	}
	if q.Head {
		s.counter("appended_records_total", "Records stored.",
			number(func(j *journal.Snapshot) float64 { return float64(j.AppendedRecords) }))
		s.counter("appended_items_total", "Items stored.",
			number(func(j *journal.Snapshot) float64 { return float64(j.AppendedItems) }))
		for _, limit := range limits(q.Durable) {
			s.counter("refused_items_total", "Items of appends that were refused, by the limit that refused them.",
				number(func(j *journal.Snapshot) float64 { return float64(j.RefusedItems[limit]) }), "limit", limit)
		}
	}
	if q.Durable {
		registerDisk(s, q.Head, number)
	}
	first := get()
	for i := range first.Destinations {
		name := first.Destinations[i].Name
		registerDestination(s.with("destination", cmp.Or(q.Labels[name], name)), name, Reasons(q.Durable), get)
	}
}

// registerDisk shows what only a journal has.
func registerDisk(s labelled, head bool, number func(func(*journal.Snapshot) float64) func() float64) {
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
func registerDestination(s labelled, name string, reasons []string, get func() journal.Snapshot) {
	number := func(of func(*journal.DestinationSnapshot) float64) func() float64 {
		return func() float64 {
			shot := get()
			for i := range shot.Destinations {
				if shot.Destinations[i].Name == name {
					return of(&shot.Destinations[i])
				}
			}
			return 0 // done and gone
		}
	}
	for _, r := range resolutions(reasons) {
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
