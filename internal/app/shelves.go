// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/app/queuelog"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
)

// glanceAge is how old a shown snapshot may be: one scrape asks for dozens of series of one queue, and they should tell
// of one moment.
const glanceAge = 10 * time.Millisecond

// glance keeps a snapshot for a moment.
type glance[T any] struct {
	take func() T
	mu   struct {
		sync.Mutex
		at   time.Time
		last T
	}
}

func glanceAt[T any](take func() T) *glance[T] { return &glance[T]{take: take} }

func (g *glance[T]) get() T {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); g.mu.at.IsZero() || now.Sub(g.mu.at) > glanceAge {
		g.mu.at, g.mu.last = now, g.take()
	}
	return g.mu.last
}

// The words of the limits that can refuse an append, and of the reasons under which records are dropped; each has a
// series before it counts.
var (
	memoryLimits  = []string{"queue_size", "closed", "too_large"}
	journalLimits = []string{"queue_size", "max_file_size_mib", "max_size", "min_free_mib", "disk", "busy", "closed",
		"too_large"}
	memoryReasons  = []string{memory.ReasonOverflow, memory.ReasonShutdown}
	journalReasons = []string{"overflow", "corrupt", "missing", "unsynced", "operator", "parked", "drop_oldest"}
)

// memorySnapshot shows a queue in memory in the words of a journal.
func memorySnapshot(p *pipeline.Pipeline, q *memory.Queue, drops *queuelog.Drops) journal.Snapshot {
	stats := p.Stats()
	s := journal.Snapshot{
		Head: true, State: "ok", AppendedRecords: stats.AppendedRecords, AppendedItems: stats.AppendedItems,
		RefusedItems: stats.RefusedItems,
	}
	full := len(stats.Destinations) > 0
	for _, d := range stats.Destinations {
		counts, _ := q.Counts(d.Name)
		full = full && d.Fill.Capacity > 0 && d.Fill.Size >= d.Fill.Capacity
		one := journal.DestinationSnapshot{
			Name: d.Name, State: queue.Live, Fill: d.Fill, Counts: counts, Imbalance: imbalance(counts),
			Redelivered: d.Redelivered,
			Resolved: map[journal.Resolution]journal.Tally{
				{Outcome: "delivered"}: journal.Tally(d.Delivered), {Outcome: "rejected"}: journal.Tally(d.Rejected),
			},
		}
		for _, reason := range memoryReasons {
			one.Resolved[journal.Resolution{Outcome: "dropped", Reason: reason}] = drops.Total(d.Name, reason)
		}
		s.Destinations = append(s.Destinations, one)
	}
	if full {
		s.State = "full"
	}
	return s
}

// imbalance is what the books lack: accepted minus all that became of it.
func imbalance(c queue.Counts) int64 {
	sum := c.Delivered + c.Rejected + c.Queued + c.Parked
	for _, n := range c.Dropped {
		sum += n
	}
	return int64(c.Accepted - sum)
}
