// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// storage is one directory of journals while it is open.
type storage struct {
	ids      []string // extensions that lead to it; the first is the label of its metrics
	cfg      journal.Config
	store    *journal.Store
	journals []*shelf
}

// shelf is one journal.
type shelf struct {
	*journal.Journal
	pipeline string // whose records it holds
	signal   string
	label    string // of metrics and lines: the pipeline, and the storage too where the pipeline appends elsewhere
	head     bool   // takes appends; otherwise it is what was found of a pipeline that does not append here
}

// openStorages opens every storage that is enabled, recovers the journals of the pipelines that append there, and opens
// those that were left behind. Nothing listens yet and nothing is delivered.
func (a *App) openStorages(ctx context.Context, disk vfs.FS) error {
	if err := a.findStorages(disk); err != nil {
		return err
	}
	for _, s := range a.storages {
		heads := a.headsOf(s)
		store, err := journal.OpenStore(ctx, disk, journal.Options{
			Config: s.cfg, Heads: len(heads), Owner: owner(a.opts.Version),
			OnEvent: a.events.of(s.ids[0], func(p string) string { return a.label(s, p) }), Observe: a.observer(),
		})
		if err != nil {
			return fmt.Errorf("extensions/%s: %w", s.ids[0], err)
		}
		s.store = store
		a.began("store "+s.ids[0], store.Close)
		for _, text := range store.Warnings() {
			a.log.Warn(text, zap.String("component", "extensions/"+s.ids[0]))
		}
		if err := a.openJournals(s, heads); err != nil {
			return fmt.Errorf("extensions/%s: %w", s.ids[0], err)
		}
		bounds := store.Snapshot()
		a.log.Info("Limits in force", zap.String("otelcol.component.id", s.ids[0]),
			zap.String("otelcol.component.kind", "extension"), zap.String("directory", bounds.Directory),
			zap.Int64("directory_bytes", bounds.Limit), zap.Int64("memory_bytes", bounds.MemoryBoundBytes),
			zap.Bool("fsync", s.cfg.FSync))
	}
	return nil
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
func (a *App) findStorages(disk vfs.FS) error {
	g := a.now()
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
			return fmt.Errorf("extensions/%s: %w", id, err)
		}
		if s := found[where]; s != nil {
			s.ids, s.cfg = append(s.ids, id), journal.Merge(s.cfg, *cfg)
			continue
		}
		found[where] = &storage{ids: []string{id}, cfg: *cfg}
		a.storages = append(a.storages, found[where])
	}
	return nil
}

// headsOf are the pipelines whose appends go to s.
func (a *App) headsOf(s *storage) []*plan.Pipeline {
	g := a.now()
	var heads []*plan.Pipeline
	for i := range g.plan.Pipelines {
		if p := &g.plan.Pipelines[i]; slices.Contains(s.ids, p.Storage) {
			heads = append(heads, p)
		}
	}
	return heads
}

func (a *App) openJournals(s *storage, heads []*plan.Pipeline) error {
	for _, p := range heads {
		var wanted []queue.Destination
		for i := range p.Destinations {
			if d := &p.Destinations[i]; !d.Wait {
				wanted = append(wanted, d.Destination)
			}
		}
		j, err := s.store.Head(p.ID, uint8(p.Signal), wanted)
		if err != nil {
			return fmt.Errorf("queue of pipeline %s: %w", p.ID, err)
		}
		a.shelve(s, &shelf{Journal: j, pipeline: p.ID, head: true})
	}
	for _, id := range s.store.Found() {
		if slices.ContainsFunc(heads, func(p *plan.Pipeline) bool { return p.ID == id }) {
			continue
		}
		j, err := s.store.Tail(id)
		if err != nil {
			return fmt.Errorf("queue left by pipeline %s: %w", id, err)
		}
		a.shelve(s, &shelf{Journal: j, pipeline: id})
	}
	return nil
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
	s.journals = append(s.journals, j)
	a.began("queue "+j.label, j.Close)
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

// head is the journal that takes p's appends.
func (a *App) head(p *plan.Pipeline) *journal.Journal {
	for _, s := range a.storages {
		for _, j := range s.journals {
			if j.head && j.pipeline == p.ID {
				return j.Journal
			}
		}
	}
	return nil
}

// inherit finds an heir for everything that waits for a destination which left the configuration. What has none stays
// where it is, and is said to.
func (a *App) inherit() error {
	for _, s := range a.storages {
		for _, j := range s.journals {
			for _, info := range j.List() {
				if info.State != queue.Parked {
					continue
				}
				if err := a.inheritOne(j, info); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a *App) inheritOne(j *shelf, info queue.Info) error {
	g := a.now()
	fields := []zap.Field{
		zap.String("otelcol.pipeline.id", j.label), zap.String("destination", info.Name),
		zap.Uint64("items", info.Counts.Parked), zap.Duration("oldest", info.Oldest),
	}
	p, d, ok := a.heir(j, info)
	if !ok {
		a.log.Warn("Queue parked: no destination sends to its exporters; it is kept",
			append(fields, zap.Strings("exporters", info.Exporters))...)
		return nil
	}
	// In its own journal the heir is known by its name, so that it gets no record twice.
	name := p.ID + ":" + d.Name
	if j.head && j.pipeline == p.ID {
		name = d.Name
	}
	cursor, err := j.Inherit(info.Name, name)
	if err != nil {
		return fmt.Errorf("queue of pipeline %s: %w", j.label, err)
	}
	for i := range g.pipelines {
		if g.plan.Pipelines[i].ID == p.ID {
			a.log.Info("Queue: backlog is inherited", append(fields, zap.String("heir", p.ID+":"+d.Label))...)
			return g.pipelines[i].Inherit(d.Name, cursor)
		}
	}
	return fmt.Errorf("queue of pipeline %s: pipeline %s is not built", j.label, p.ID)
}

func (a *App) heir(j *shelf, info queue.Info) (*plan.Pipeline, *plan.Destination, bool) {
	g := a.now()
	signal, ok := otlp.ParseSignal(j.signal)
	if !ok {
		return nil, nil, false
	}
	return g.plan.Heir(signal, info.Exporters)
}
