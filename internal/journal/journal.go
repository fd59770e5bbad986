// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package journal is the queue that lasts: what it acknowledged is on disk and survives kill -9 and power cuts.
//
// It stands where queue/memory stands, behind the accept loop and in front of the deliveries. It stores opaque bytes
// once and keeps one cursor per destination; a segment is deleted when every cursor has resolved it. It promises G1 to
// G14 of its specification (docs/architecture.md names the test of each). It knows no telemetry, no configuration
// documents and no network.
//
//	Append ─► commit.Log: pending ─► group ─► segment, sync ─► publish ─► answer
//	                                                             │
//	                          cache (tail in memory) ◄───────────┤
//	                                                             ▼
//	Take ◄─ window of each destination ◄─ cache, or read ahead from segments
//	Resolve ─► books, resolved numbers ─► slot ─► delete what nobody needs     (keeper)
//
// Goroutines: the log's flusher and, in unsynced mode, its syncer; the keeper; and one reader for each destination
// that is behind the cache, while it is. One lock guards a journal; no disk is touched under it.
package journal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Journal is the durable queue of one pipeline. It implements queue.Queue and queue.Roster.
type Journal struct {
	store    *Store
	pipeline string
	dir      string
	id       [16]byte
	tag      uint8
	disk     vfs.FS
	now      func() time.Time
	log      *commit.Log // nil: a tail, which takes no appends
	share    *space.Share
	files    *files
	dead     *graveyard
	effects  sync.Pool // *effects

	keeper  keeper
	readers sync.WaitGroup

	hits, misses atomic.Uint64 // records handed out from memory, from disk

	recovery     time.Duration
	recoveredSeq queue.Seq // last number from before this process
	scannedBytes int64

	mu struct {
		sync.Mutex
		fx      *effects
		closed  bool
		denied  error // why it is detached
		last    queue.Seq
		given   queue.Seq // last number given out; above last while a group is being written
		total   uint64    // items accepted up to last
		durable queue.Seq
		// durableItems is total at durable.
		durableItems uint64
		version      uint64   // of the set of live cursors
		hashes       []uint64 // their hashes
		cursors      []*destination
		live         []*destination
		heirs        map[string][]string // what each heir inherited
		catalog      catalog
		cache        cache
		pending      weight // admitted and not published
		blocked      []*appender

		appended  Tally
		refused   map[string]uint64
		condemned uint64
		damaged   uint64
		changes   uint64 // resolutions, roster changes and seals so far
		swept     uint64 // of them the last search for segments to delete saw
		// unsyncedNames: segments were removed, and their names may come back.
		unsyncedNames bool
	}
}

// weight sums records.
type weight struct{ records, items, bytes int64 }

func (w *weight) add(r *queue.Record, sign int64) {
	w.records += sign
	w.items += sign * int64(r.Items)
	w.bytes += sign * int64(r.Size)
}

// appender waits for room (Limit.Block). done has room for the one answer it gets.
type appender struct {
	rec  *queue.Record
	done chan error
}

// Words of FullError.Limit and of refused_items_total.
const (
	limitQueueSize = "queue_size"
	limitDisk      = "disk"
	limitBusy      = "busy"
	limitClosed    = "closed"
	limitTooLarge  = "too_large"
)

// Words of Resolution.Outcome.
const (
	outcomeDelivered = "delivered"
	outcomeRejected  = "rejected"
	outcomeDropped   = "dropped"
)

// Append implements queue.Queue. When every destination is at its queue_size the answer is *queue.FullError, after
// waiting until ctx ends if one of them blocks; when only some are, their cursors grow on. With no destination
// attached the record is stored all the same, owed to nobody. A tail takes nothing: queue.ErrClosed.
func (j *Journal) Append(ctx context.Context, r queue.Record) error {
	err := j.append(ctx, r)
	if err != nil {
		j.refuse(&r, err)
	}
	return err
}

func (j *Journal) append(ctx context.Context, r queue.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if j.log == nil {
		return queue.ErrClosed
	}
	if err := j.admit(ctx, &r); err != nil {
		return err
	}
	start := j.store.observeNow()
	if err := j.log.Append(ctx, &window.Entry{Record: r}); err != nil {
		j.Lock()
		j.mu.pending.add(&r, -1)
		j.letInLocked()
		j.Unlock()
		return err
	}
	j.store.observeAppend(j.pipeline, start)
	return nil
}

// admit counts r as pending, once queue_size allows it.
func (j *Journal) admit(ctx context.Context, r *queue.Record) error {
	j.Lock()
	switch full, block := j.fullLocked(); {
	case j.mu.closed:
		j.Unlock()
		return queue.ErrClosed
	case j.mu.denied != nil:
		defer j.Unlock()
		return j.mu.denied
	case full == nil:
		j.mu.pending.add(r, 1)
		j.Unlock()
		return nil
	case !block:
		defer j.Unlock()
		return full.fullError()
	}
	a := &appender{rec: r, done: make(chan error, 1)}
	j.mu.blocked = append(j.mu.blocked, a)
	j.Unlock()
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
	}
	j.Lock()
	defer j.Unlock()
	for i, b := range j.mu.blocked {
		if b == a {
			j.mu.blocked = append(j.mu.blocked[:i], j.mu.blocked[i+1:]...)
			if full, _ := j.fullLocked(); full != nil {
				return full.fullError()
			}
			j.mu.pending.add(r, 1)
			return nil
		}
	}
	return <-a.done // answered in the meantime
}

// fullLocked returns a destination that is at its limit if every one is, and whether one of them makes appends wait.
func (j *Journal) fullLocked() (full *destination, block bool) {
	for _, d := range j.mu.live {
		if !d.full() {
			return nil, false
		}
		if full == nil {
			full = d
		}
		block = block || d.limit.Block
	}
	return full, block
}

// letInLocked admits those who waited for room, in the order they came, as long as there is any.
func (j *Journal) letInLocked() {
	for len(j.mu.blocked) > 0 {
		if full, _ := j.fullLocked(); full != nil {
			return
		}
		a := j.mu.blocked[0]
		j.mu.blocked = append(j.mu.blocked[:0], j.mu.blocked[1:]...)
		j.mu.pending.add(a.rec, 1)
		a.done <- nil
	}
}

// refuse counts a refusal by what caused it.
func (j *Journal) refuse(r *queue.Record, err error) {
	word := limitDisk
	var full *queue.FullError
	switch {
	case errors.As(err, &full):
		word = full.Limit
	case errors.Is(err, queue.ErrBusy):
		word = limitBusy
	case errors.Is(err, queue.ErrClosed):
		word = limitClosed
	case errors.Is(err, queue.ErrTooLarge):
		word = limitTooLarge
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return
	}
	j.Lock()
	defer j.Unlock()
	if j.mu.refused == nil {
		j.mu.refused = make(map[string]uint64)
	}
	j.mu.refused[word] += uint64(r.Items)
}

// Close implements queue.Queue: appends are refused, the running group is finished and synced, leases return, slots are
// written and segments sealed. It resolves nothing and waits for no backend. After an error what was acknowledged is
// on disk all the same; recovery finds it.
func (j *Journal) Close(ctx context.Context) error {
	j.Lock()
	if j.mu.closed {
		j.Unlock()
		return nil
	}
	j.mu.closed = true
	for _, a := range j.mu.blocked {
		a.done <- queue.ErrClosed
	}
	j.mu.blocked = nil
	j.Unlock()
	close(j.keeper.stop)
	<-j.keeper.done
	var errs []error
	if j.log != nil {
		errs = append(errs, j.log.Close(ctx))
	}
	j.Lock()
	for _, d := range j.mu.cursors {
		d.win.Close()
	}
	j.Unlock()
	j.readers.Wait()
	j.sweep()
	errs = append(errs, j.writeSlots(), j.syncRemoved(), j.dead.close(ctx))
	j.Lock()
	j.mu.cache.empty(j.mu.fx)
	cursors := j.mu.cursors
	j.Unlock()
	for _, d := range cursors {
		for _, r := range d.reads {
			r.ahead.close()
		}
		if d.file != nil {
			errs = append(errs, d.file.Close())
		}
	}
	errs = append(errs, j.files.close())
	j.store.closed(j)
	return errors.Join(errs...)
}

var (
	_ queue.Queue  = (*Journal)(nil)
	_ queue.Roster = (*Journal)(nil)
)
