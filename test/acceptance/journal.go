// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	pipeline = "traces"
	// handles is how many deliveries a destination has at work, as an exporter's default.
	handles = 10
	// metaBytes is the metadata beside a body.
	metaBytes = 64
)

// A load is what a journal is given.
type load struct {
	appenders    int
	size         int // of a body, in bytes
	destinations int // that take and acknowledge everything as it comes; 0 = one that takes nothing
}

// A played is what became of it.
type played struct {
	measured
	disk    *counted
	opening int64 // bytes read before the first append
	groups  atomic.Int64
	records atomic.Int64
}

// group is the mean number of records in a commit.
func (p *played) group() int {
	return int((p.records.Load() + p.groups.Load()/2) / max(1, p.groups.Load()))
}

// rig is one open journal.
type rig struct {
	store   *journal.Store
	journal *journal.Journal
	names   []string
}

// open opens a synced store with one journal, with the product's defaults, on disk.
func open(ctx context.Context, disk *counted, dir string, destinations int, observe journal.Observer) (*rig, error) {
	o := journal.Options{Config: *journal.Default().(*journal.Config), Heads: 1, Owner: "acceptance", Now: time.Now, Observe: observe}
	o.Directory = dir
	r := &rig{}
	var err error
	if r.store, err = journal.OpenStore(ctx, disk, o); err != nil {
		return nil, err
	}
	var wanted []queue.Destination
	for i := range max(1, destinations) {
		name := fmt.Sprintf("otlp/%d", i)
		r.names = append(r.names, name)
		wanted = append(wanted, queue.Destination{Name: name, Exporters: []string{name}, Stored: true})
	}
	if r.journal, err = r.store.Head(pipeline, 1, wanted); err != nil {
		return nil, errors.Join(err, r.store.Close(ctx))
	}
	return r, nil
}

// attach makes the destinations live, with so many handles each.
func (r *rig) attach(n int) (all []queue.Cursor) {
	for _, name := range r.names {
		for range n {
			all = append(all, r.journal.Attach(name))
		}
	}
	return all
}

func (r *rig) close(ctx context.Context) error { return r.store.Close(ctx) }

// run gives a fresh journal o.bytes and measures until the last is acknowledged by it; deliveries go on beside it and
// are waited for.
func (o options) run(ctx context.Context, dir string, l load) (p *played, err error) {
	p = &played{disk: newCounted()}
	r, err := open(ctx, p.disk, dir, l.destinations, journal.Observer{GroupRecords: func(_ string, n int) {
		p.groups.Add(1)
		p.records.Add(int64(n))
	}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close(ctx)) }()
	count := (o.bytes + int64(l.size) - 1) / int64(l.size)
	cursors := r.attach(map[bool]int{true: handles, false: 1}[l.destinations > 0])
	defer func() {
		for _, c := range cursors {
			c.Close()
		}
	}()
	p.opening = p.disk.read.Load()

	began, used := time.Now(), cpu()
	var drained chan error
	if l.destinations > 0 {
		drained = make(chan error, 1)
		go func() { drained <- drain(ctx, cursors, count*int64(l.destinations)) }()
	}
	if err := appendAll(ctx, r.journal, l, count); err != nil {
		return nil, err
	}
	p.measured = measured{bytes: count * int64(l.size), wall: time.Since(began), cpu: cpu() - used}
	if drained != nil {
		if err := <-drained; err != nil {
			return nil, err
		}
		p.wall = time.Since(began) // everything has been through
	}
	return p, nil
}

// appendAll appends count records, all with the same bytes, which nobody has to make.
func appendAll(ctx context.Context, j *journal.Journal, l load, count int64) error {
	record := queue.Record{Tag: 1, Items: 100, Size: uint32(l.size), Meta: make([]byte, metaBytes), Body: make([]byte, l.size)}
	fill(record.Meta)
	fill(record.Body)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var left atomic.Int64
	left.Store(count)
	errs := make([]error, l.appenders)
	var wg sync.WaitGroup
	for i := range l.appenders {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := j.Append(ctx, record); err != nil {
					errs[i] = err
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// drain takes and acknowledges until count records are, each at its destination.
func drain(ctx context.Context, cursors []queue.Cursor, count int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	want := queue.Want{Sizer: queue.Bytes, Max: 4 << 20, MaxBytes: 4 << 20,
		Joins: func(_, _ *queue.Record) bool { return true }}
	var done atomic.Int64
	errs := make([]error, len(cursors))
	var wg sync.WaitGroup
	for i, c := range cursors {
		wg.Go(func() {
			for done.Load() < count {
				batch, err := c.Take(ctx, want)
				if err != nil {
					if done.Load() < count {
						errs[i] = err
					}
					return
				}
				seqs := make([]queue.Seq, len(batch))
				for k := range batch {
					seqs[k] = batch[k].Seq
				}
				if err := c.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...); err != nil {
					errs[i] = err
					cancel()
					return
				}
				if done.Add(int64(len(batch))) >= count {
					cancel() // who waits for more waits in vain
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A backlogResult is what a backlog on the disk costs.
type backlogResult struct {
	sequential float64 // reading its files, bytes per second
	drain      float64 // taking and acknowledging it, bytes of payload per second
	opening    int64   // bytes read to open it
	opened     time.Duration
	segments   int
}

// backlogged writes a backlog, and reads its files, opens and drains it with a cold page cache.
func (o options) backlogged(ctx context.Context, dir string) (b backlogResult, err error) {
	dir = filepath.Join(dir, "backlog")
	r, err := open(ctx, newCounted(), dir, 1, journal.Observer{})
	if err != nil {
		return b, err
	}
	for _, c := range r.attach(1) {
		defer c.Close()
	}
	l := load{appenders: 8, size: recordBytes}
	count := o.backlog / int64(l.size)
	if err := errors.Join(appendAll(ctx, r.journal, l, count), r.close(ctx)); err != nil {
		return b, err
	}
	paths, err := filepath.Glob(filepath.Join(layout.Pipeline(dir, pipeline), layout.Segments, "*"))
	if err != nil || len(paths) == 0 {
		return b, fmt.Errorf("no segments in %s: %w", dir, err)
	}
	b.segments = len(paths)
	if err := forget(paths); err != nil {
		return b, err
	}
	if b.sequential, err = readAll(paths); err != nil {
		return b, err
	}
	if err := forget(paths); err != nil {
		return b, err
	}
	disk, began := newCounted(), time.Now()
	if r, err = open(ctx, disk, dir, 1, journal.Observer{}); err != nil {
		return b, err
	}
	b.opened, b.opening = time.Since(began), disk.read.Load()
	cursors := r.attach(handles)
	defer func() {
		for _, c := range cursors {
			c.Close()
		}
		err = errors.Join(err, r.close(ctx))
	}()
	began = time.Now()
	if err := drain(ctx, cursors, count); err != nil {
		return b, err
	}
	b.drain = float64(count*int64(l.size)) / time.Since(began).Seconds()
	return b, nil
}
