// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// estate is a queue in which something may wait for a destination that left the configuration (reload, section 7): a
// journal, or a queue in memory.
type estate struct {
	pipelineQueue
	pipeline, signal string
	label            string // of metrics and lines
	head             bool   // it takes the appends of the generation
	stored           bool
}

// estates are all queues there are, as the generation sees them.
func (g *generation) estates() []estate {
	var all []estate
	for _, s := range g.app.stores() {
		for _, j := range s.shelves() {
			all = append(all, estate{j.Journal, j.pipeline, j.signal, j.label, j.head.Load(), true})
		}
	}
	for _, m := range g.app.inMemory() {
		signal, _, _ := strings.Cut(m.pipeline, "/")
		all = append(all, estate{m, m.pipeline, signal, g.labelOf(m), g.owns(m), false})
	}
	return all
}

// owns reports whether a queue in memory takes the generation's appends.
func (g *generation) owns(m *memoryQueue) bool { return g.queues[m.pipeline] == pipelineQueue(m.Queue) }

// labelOf is how a queue in memory is called: by its pipeline, unless that appends elsewhere now.
func (g *generation) labelOf(m *memoryQueue) string {
	if g.queues[m.pipeline] != nil && !g.owns(m) {
		return m.pipeline + "@memory"
	}
	return m.pipeline
}

// place is where a cursor is.
type place struct {
	queue queue.Roster
	name  string
}

func (e *estate) place(name string) place {
	if m, ok := e.pipelineQueue.(*memoryQueue); ok {
		return place{m.Queue, name}
	}
	return place{e.pipelineQueue, name}
}

// settleQueues parks what nobody serves in this generation, and finds heirs for it.
func (g *generation) settleQueues() {
	for _, e := range g.estates() {
		if e.stored || e.head {
			g.park(&e)
		}
	}
	g.settle()
}

// settleStrangers is settleQueues for a rollback: of the queues that only the trial appended to. What was made for the
// trial in a queue of this generation is forgotten instead, when the trial's is retired.
func (g *generation) settleStrangers() {
	for _, e := range g.estates() {
		if e.stored && !e.head {
			g.park(&e)
		}
	}
	g.settle()
}

// parkAgain parks what a trial brought back of what had been parked in a queue of this generation: nobody serves it any
// more, and what comes from now on is not meant for it. What was made for the trial is forgotten, not parked.
func (g *generation) parkAgain(trial *generation) {
	g.app.freshen.Lock()
	fresh := slices.Clone(trial.fresh)
	g.app.freshen.Unlock()
	for id, q := range g.queues {
		for _, info := range q.List() {
			if info.State == queue.Live && !g.wants(id, info.Name) && !slices.Contains(fresh, freshName{q, info.Name}) {
				q.Detach(info.Name)
			}
		}
	}
}

// settle is what a commit and a rollback have in common. A queue in memory that nobody appends to any more is drained by
// the pipeline it had, unless it has an heir: that may send elsewhere, and stays.
func (g *generation) settle() {
	g.app.sweep()
	for _, e := range g.estates() {
		if e.stored || e.head || !g.hasHeir(&e) {
			continue
		}
		if p := e.pipelineQueue.(*memoryQueue).shown.Load(); p != nil {
			p.Halt(inFlight)
		}
		g.park(&e)
	}
	g.inheritAll()
	g.app.register()
}

func (g *generation) hasHeir(e *estate) bool {
	return slices.ContainsFunc(e.List(), func(info queue.Info) bool {
		_, _, ok := g.heir(e, &info)
		return ok && info.Counts.Queued+info.Counts.Parked > 0
	})
}

// park parks the cursors of destinations that are not in this generation.
func (g *generation) park(e *estate) {
	for _, info := range e.List() {
		if info.State == queue.Live && !(e.head && g.wants(e.pipeline, info.Name)) {
			e.Detach(info.Name)
		}
	}
}

// inheritAll finds heirs for what is parked and is not served by a pipeline of this generation. A pipeline takes a backlog
// over only before it starts, so those that have one to serve are built anew.
func (g *generation) inheritAll() {
	heirs := map[string]bool{}
	for _, e := range g.estates() {
		for _, info := range e.List() {
			if p, _, ok := g.heir(&e, &info); ok && info.State == queue.Parked && g.served[e.place(info.Name)] == "" {
				heirs[p.ID] = true
			}
		}
	}
	var renewed []int
	for i := range g.plan.Pipelines {
		if !heirs[g.plan.Pipelines[i].ID] {
			continue
		}
		old := g.pipelines[i]
		g.renew(i)
		g.pipelines[i].Attach()
		if m := g.app.memory(g.plan.Pipelines[i].ID); m != nil && g.owns(m) {
			m.shown.Store(g.pipelines[i])
		}
		renewed = append(renewed, i)
		g.retirePipeline(old)
	}
	if err := g.inherit(); err != nil {
		g.app.log.Error("Queue parked: its heir cannot have it", zap.Error(err))
	}
	g.connect(g.doors)
	for _, i := range renewed {
		g.startDelivery(g.pipelines[i])
	}
}

// inherit finds an heir for everything that waits for a destination which left the configuration. What has none stays
// where it is, and is said to.
func (g *generation) inherit() error {
	for _, e := range g.estates() {
		for _, info := range e.List() {
			if info.State != queue.Parked || g.served[e.place(info.Name)] != "" {
				continue
			}
			if err := g.inheritOne(&e, &info); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *generation) inheritOne(e *estate, info *queue.Info) error {
	fields := []zap.Field{
		zap.String("otelcol.pipeline.id", e.label), zap.String("destination", info.Name),
		zap.Uint64("items", info.Counts.Parked), zap.Duration("oldest", info.Oldest),
	}
	p, d, ok := g.heir(e, info)
	if !ok {
		e.Disinherit(info.Name)
		g.app.sayParked(e.stored, append(fields, zap.Strings("exporters", info.Exporters)))
		return nil
	}
	// In its own queue the heir is known by its name, so that it gets no record twice.
	name := p.ID + ":" + d.Name
	if e.head && e.pipeline == p.ID {
		name = d.Name
	}
	if info.Heir != "" && info.Heir != name { // of a generation before
		e.Disinherit(info.Name)
	}
	cursor, err := e.Inherit(info.Name, name)
	if err != nil {
		return fmt.Errorf("queue of pipeline %s: %w", e.label, err)
	}
	for i := range g.pipelines {
		if g.plan.Pipelines[i].ID == p.ID {
			g.app.log.Info("Queue: backlog is inherited", append(fields, zap.String("heir", p.ID+":"+d.Label))...)
			g.served[e.place(info.Name)] = p.ID
			return g.pipelines[i].Inherit(d.Name, cursor, e.stored)
		}
	}
	return fmt.Errorf("queue of pipeline %s: pipeline %s is not built", e.label, p.ID)
}

func (a *App) sayParked(stored bool, fields []zap.Field) {
	if stored {
		a.log.Warn("Queue parked: no destination sends to its exporters; it is kept", fields...)
	} else {
		a.log.Warn("Queue parked: no destination sends to its exporters; it is kept in memory until the process ends", fields...)
	}
}

func (g *generation) heir(e *estate, info *queue.Info) (*plan.Pipeline, *plan.Destination, bool) {
	signal, ok := otlp.ParseSignal(e.signal)
	if !ok {
		return nil, nil, false
	}
	return g.plan.Heir(signal, info.Exporters)
}

// inMemory are the queues in memory that there are.
func (a *App) inMemory() []*memoryQueue {
	a.disks.RLock()
	defer a.disks.RUnlock()
	out := make([]*memoryQueue, 0, len(a.disks.memories))
	for _, m := range a.disks.memories {
		out = append(out, m)
	}
	slices.SortFunc(out, func(x, y *memoryQueue) int { return strings.Compare(x.pipeline, y.pipeline) })
	return out
}

// claim lends a pipeline's queue in memory to the generation, nil if there is none.
func (g *generation) claim(pipelineID string) *memoryQueue {
	g.app.disks.Lock()
	defer g.app.disks.Unlock()
	m := g.app.disks.memories[pipelineID]
	if m != nil {
		m.claims++
		g.claimed = append(g.claimed, m)
	}
	return m
}

// release gives back the queues in memory that were lent to the generation. One that no generation has any more and that
// holds something goes on as what is left of its pipeline: it is parked until somebody sends to its exporters again.
func (g *generation) release(ctx context.Context) {
	a := g.app
	for _, m := range g.claimed {
		a.disks.Lock()
		m.claims--
		last := m.claims == 0
		a.disks.Unlock()
		if !last || a.closeEmpty(ctx, m) {
			continue
		}
		for _, info := range m.List() {
			if info.State == queue.Live {
				m.Detach(info.Name)
				if n := info.Counts.Queued; n > 0 {
					a.sayParked(false, []zap.Field{zap.String("otelcol.pipeline.id", m.pipeline), zap.String("destination", info.Name),
						zap.Uint64("items", n), zap.Duration("oldest", info.Oldest), zap.Strings("exporters", info.Exporters)})
				}
			}
		}
	}
	g.claimed = nil
}

// sweep closes the queues in memory that nobody has and in which nothing is left.
func (a *App) sweep() {
	for _, m := range a.inMemory() {
		a.closeEmpty(context.Background(), m)
	}
}

// closeEmpty closes a queue in memory that no generation has, if nothing is left in it.
func (a *App) closeEmpty(ctx context.Context, m *memoryQueue) bool {
	a.disks.Lock()
	defer a.disks.Unlock()
	if m.claims > 0 || slices.ContainsFunc(m.List(), func(i queue.Info) bool { return i.Counts.Queued+i.Counts.Parked > 0 }) {
		return false
	}
	if a.disks.memories[m.pipeline] == m {
		delete(a.disks.memories, m.pipeline)
	}
	a.steps.take(func(s *step) bool { return s.of == any(m) })
	_ = m.Close(ctx) // nothing is in it: it cannot fail
	return true
}
