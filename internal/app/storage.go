// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app/series"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// storage is one directory of journals while it is open. It stays open until the process ends, even if no configuration
// names it any more: what waits there may have an heir.
type storage struct {
	ids   []string // extensions that lead to it; the first is the label of its metrics
	where string   // the directory, symbolic links resolved
	cfg   journal.Config
	store *journal.Store
	mu    struct {
		sync.RWMutex
		journals []*shelf
	}
}

// shelves are its journals.
func (s *storage) shelves() []*shelf {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.mu.journals)
}

func (s *storage) change(journals func([]*shelf) []*shelf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.journals = journals(s.mu.journals)
}

// shelf is one journal.
type shelf struct {
	*journal.Journal
	pipeline string // whose records it holds
	signal   string
	label    string // of metrics and lines: the pipeline, and the storage too where the pipeline appends elsewhere
	// head says that it takes the appends of the generation that runs; else it is what is left of a pipeline.
	head atomic.Bool
}

// openStorages opens every storage that is enabled and not open, recovers the journals of the pipelines that append
// there, and opens those that were left behind. In one that is open already it prepares what is new. Nothing listens yet
// and nothing is delivered.
func (g *generation) openStorages(ctx context.Context, disk vfs.FS) error {
	wanted, err := g.findStorages(disk)
	if err != nil {
		return err
	}
	for _, s := range wanted {
		stores := g.app.stores()
		if i := slices.IndexFunc(stores, func(o *storage) bool { return o.where == s.where }); i >= 0 {
			g.storages = append(g.storages, wantedStorage{stores[i], s.ids, s.cfg})
			err = inOrder(func() error { return stores[i].store.Fits(s.cfg, len(g.headsOf(s.ids))) },
				func() error { return g.openJournals(ctx, stores[i], s.ids) })
		} else {
			g.storages = append(g.storages, wantedStorage{s, s.ids, s.cfg})
			err = g.openStorage(ctx, disk, s)
		}
		if err != nil {
			return g.blame(config.Extensions, s.ids[0], err)
		}
	}
	return nil
}

// wantedStorage is what a generation says of a storage that is open.
type wantedStorage struct {
	*storage
	ids []string
	cfg journal.Config
}

// adjustStorages makes the limits of this generation hold, or hold again after a trial.
func (g *generation) adjustStorages() {
	for _, w := range g.storages {
		if err := w.store.Adjust(w.cfg, len(g.headsOf(w.ids))); err != nil { // they were found good: it is the disk
			g.app.log.Warn("Storage: the limits from before hold on",
				zap.String("otelcol.component.id", w.ids[0]), zap.Error(err))
		}
	}
}

func (g *generation) openStorage(ctx context.Context, disk vfs.FS, s *storage) error {
	a, heads := g.app, g.headsOf(s.ids)
	store, err := journal.OpenStore(ctx, disk, journal.Options{
		Config: s.cfg, Heads: len(heads), Owner: owner(a.opts.Version),
		OnEvent: a.events.Of(s.ids[0], func(p string) string { return a.label(s, p) }), Observe: series.Observer(a.opts.Telemetry.Metrics, a.durable()),
	})
	if err != nil {
		return err
	}
	s.store = store
	a.began("store "+s.ids[0], store.Close)
	a.disks.Lock()
	a.disks.storages = append(a.disks.storages, s)
	a.disks.Unlock()
	for _, text := range store.Warnings() {
		a.log.Warn(text, zap.String("component", "extensions/"+s.ids[0]))
	}
	if err := g.openJournals(ctx, s, s.ids); err != nil {
		return err
	}
	bounds := store.Snapshot()
	a.log.Info("Limits in force", zap.String("otelcol.component.id", s.ids[0]),
		zap.String("otelcol.component.kind", "extension"), zap.String("directory", bounds.Directory),
		zap.Int64("directory_bytes", bounds.Limit), zap.Int64("memory_bytes", bounds.MemoryBoundBytes),
		zap.Bool("fsync", s.cfg.FSync))
	return nil
}

// durable are the pipelines that append to a storage.
func (a *App) durable() (ids []string) {
	g := a.now()
	for i := range g.plan.Pipelines {
		if p := &g.plan.Pipelines[i]; p.Storage != "" {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// owner is what another process is told of this one when it wants the same directory.
func owner(version string) string {
	text := fmt.Sprintf("holdfast %s, process %d", version, os.Getpid())
	if host, err := os.Hostname(); err == nil {
		text += " on " + host
	}
	return text
}

// findStorages merges the enabled extensions that lead to one directory, symbolic links resolved.
func (g *generation) findStorages(disk vfs.FS) ([]*storage, error) {
	var all []*storage
	found := map[string]*storage{}
	for _, id := range g.cfg.Service.Extensions {
		c := g.cfg.Components[config.Extensions][id]
		if c == nil {
			continue
		}
		cfg, ok := c.Config.(*journal.Config)
		if !ok {
			continue
		}
		where, err := journal.Identity(disk, cfg.Directory)
		if err != nil {
			return nil, g.blame(config.Extensions, id, fmt.Errorf("directory %q: %w", cfg.Directory, err))
		}
		if s := found[where]; s != nil {
			s.ids, s.cfg = append(s.ids, id), journal.Merge(s.cfg, *cfg)
			continue
		}
		found[where] = &storage{ids: []string{id}, where: where, cfg: *cfg}
		all = append(all, found[where])
	}
	return all, nil
}

// headsOf are the pipelines whose appends go to a storage.
func (g *generation) headsOf(ids []string) []*plan.Pipeline {
	var heads []*plan.Pipeline
	for i := range g.plan.Pipelines {
		if p := &g.plan.Pipelines[i]; slices.Contains(ids, p.Storage) {
			heads = append(heads, p)
		}
	}
	return heads
}

func (g *generation) openJournals(ctx context.Context, s *storage, ids []string) error {
	heads := g.headsOf(ids)
	for _, p := range heads {
		if err := g.openHead(ctx, s, p); err != nil {
			return fmt.Errorf("queue of pipeline %s: %w", p.ID, err)
		}
	}
	for _, id := range s.store.Found() {
		if s.find(id) != nil {
			continue
		}
		j, err := s.store.Tail(id)
		if err != nil {
			return fmt.Errorf("queue left by pipeline %s: %w", id, err)
		}
		g.app.shelve(s, &shelf{Journal: j, pipeline: id})
	}
	return nil
}

// openHead makes the journal that takes a pipeline's appends ready. One that is open gets cursors for what is new.
func (g *generation) openHead(ctx context.Context, s *storage, p *plan.Pipeline) error {
	wanted := queued(p)
	if j := s.find(p.ID); j != nil {
		if j.appends() {
			g.queues[p.ID] = j.Journal
			return g.prepareNew(j.Journal, wanted)
		}
		// What was left behind only drains: it is opened anew to take appends.
		g.app.steps.take(func(s *step) bool { return s.of == any(j) })
		if err := j.Close(ctx); err != nil {
			return err
		}
		s.change(func(all []*shelf) []*shelf { return slices.DeleteFunc(all, func(x *shelf) bool { return x == j }) })
	}
	j, err := s.store.Head(p.ID, uint8(p.Signal), wanted)
	if err != nil {
		return err
	}
	one := &shelf{Journal: j, pipeline: p.ID}
	one.head.Store(true)
	g.app.shelve(s, one)
	g.queues[p.ID] = j
	return nil
}

// find is the journal of a pipeline, nil if none is open.
func (s *storage) find(pipeline string) *shelf {
	for _, j := range s.shelves() {
		if j.pipeline == pipeline {
			return j
		}
	}
	return nil
}

// stores are the storages that are open.
func (a *App) stores() []*storage {
	a.disks.RLock()
	defer a.disks.RUnlock()
	return slices.Clone(a.disks.storages)
}

// appends reports whether the journal was opened to take appends, now or before.
func (j *shelf) appends() bool { return j.Snapshot().Head }

// queued are the destinations of a pipeline that stand behind its queue.
func queued(p *plan.Pipeline) []queue.Destination {
	var out []queue.Destination
	for i := range p.Destinations {
		if d := &p.Destinations[i]; !d.Wait {
			out = append(out, d.Destination)
		}
	}
	return out
}

// prepareNew prepares the destinations a queue does not know. Of those it knows the limits change at the switch: what
// Prepare is told holds at once.
func (g *generation) prepareNew(r queue.Roster, wanted []queue.Destination) error {
	known := r.List()
	for _, d := range wanted {
		i := slices.IndexFunc(known, func(x queue.Info) bool { return x.Name == d.Name && x.State != queue.Done })
		if i >= 0 {
			continue
		}
		if err := r.Prepare(d); err != nil {
			return err
		}
		g.fresh = append(g.fresh, freshName{r, d.Name})
	}
	return nil
}

// freshName is a cursor that was made for a generation.
type freshName struct {
	roster queue.Roster
	name   string
}

// label is how a pipeline's journal in s is called: by the pipeline, unless the pipeline appends elsewhere.
func (a *App) label(s *storage, pipeline string) string {
	g := a.now()
	for i := range g.plan.Pipelines {
		if p := &g.plan.Pipelines[i]; p.ID == pipeline && !slices.Contains(s.ids, p.Storage) {
			return pipeline + "@" + s.ids[0]
		}
	}
	return pipeline
}

func (a *App) shelve(s *storage, j *shelf) {
	j.signal, _, _ = strings.Cut(j.pipeline, "/")
	j.label = a.label(s, j.pipeline)
	s.change(func(all []*shelf) []*shelf { return append(all, j) })
	a.steps.add(&step{name: "queue " + j.label, stop: j.Close, of: j})
	sum := queue.Fill{}
	shown := j.Snapshot()
	for _, d := range shown.Destinations {
		sum.Records, sum.Items, sum.Bytes = sum.Records+d.Fill.Records, sum.Items+d.Fill.Items, sum.Bytes+d.Fill.Bytes
		sum.Oldest = max(sum.Oldest, d.Fill.Oldest)
	}
	a.log.Info("Queue: opened", zap.String("otelcol.pipeline.id", j.label), zap.String("storage", s.ids[0]),
		zap.Int64("items", sum.Items), zap.Int64("records", sum.Records), zap.Int64("bytes", sum.Bytes),
		zap.Duration("oldest", sum.Oldest), zap.Bool("recovered", shown.RecoveryScannedBytes > 0),
		zap.Duration("took", shown.Recovery))
}
