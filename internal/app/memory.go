// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/app/queuelog"
	"github.com/holdfast-telemetry/holdfast/internal/app/series"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
)

// openMemories makes the queues in memory that are not there yet, and prepares what is new in those that are.
func (g *generation) openMemories() error {
	for i := range g.plan.Pipelines {
		p := &g.plan.Pipelines[i]
		if p.Storage != "" || !p.Queued() {
			continue
		}
		if m := g.claim(p.ID); m != nil {
			if err := g.prepareNew(m.Queue, queued(p)); err != nil {
				return fmt.Errorf("pipeline %s: %w", p.ID, err)
			}
			g.queues[p.ID] = m.Queue
			continue
		}
		drops := queuelog.NewDrops(g.app.lines, p.ID, &g.app.dropped)
		q, err := openMemory(p, drops)
		if err != nil {
			return err
		}
		g.queues[p.ID] = q
		m := &memoryQueue{Queue: q, pipeline: p.ID, drops: drops, claims: 1}
		g.memories, g.claimed = append(g.memories, m), append(g.claimed, m)
		g.app.steps.add(&step{name: "queue " + p.ID, stop: q.Close, of: m})
	}
	return nil
}

// memoryQueue is a queue in memory, which outlives the generation that made it as long as others have its pipeline, or
// something is left in it.
type memoryQueue struct {
	*memory.Queue
	pipeline string
	drops    *queuelog.Drops
	claims   int                               // generations that have it; guarded by App.disks
	shown    atomic.Pointer[pipeline.Pipeline] // whose deliveries it feeds now
}

func (q *memoryQueue) snapshot() journal.Snapshot {
	p := q.shown.Load()
	if p == nil {
		return journal.Snapshot{Head: true, State: "ok"}
	}
	return memorySnapshot(p, q.Queue, q.drops)
}

// memory is the queue in memory of a pipeline, nil if there is none.
func (a *App) memory(pipelineID string) *memoryQueue {
	a.disks.RLock()
	defer a.disks.RUnlock()
	return a.disks.memories[pipelineID]
}

// openMemory makes a queue in memory. A cursor that is full while others are not gives up its oldest records, and says
// so.
func openMemory(p *plan.Pipeline, drops *queuelog.Drops) (*memory.Queue, error) {
	q := memory.New(memory.Settings{OnDrop: drops.Note})
	for i := range p.Destinations {
		if d := &p.Destinations[i]; !d.Wait {
			if err := q.Prepare(d.Destination); err != nil {
				return nil, fmt.Errorf("pipeline %s: queue of %s: %w", p.ID, d.Label, err)
			}
		}
	}
	return q, nil
}

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
			Name: d.Name, State: queue.Live, Fill: d.Fill, Counts: counts, Imbalance: counts.Imbalance(),
			Redelivered: d.Redelivered,
			Resolved: map[journal.Resolution]journal.Tally{
				{Outcome: "delivered"}: journal.Tally(d.Delivered), {Outcome: "rejected"}: journal.Tally(d.Rejected),
			},
		}
		for _, reason := range series.Reasons(false) {
			one.Resolved[journal.Resolution{Outcome: "dropped", Reason: reason}] = drops.Total(d.Name, reason)
		}
		s.Destinations = append(s.Destinations, one)
	}
	if full {
		s.State = "full"
	}
	return s
}
