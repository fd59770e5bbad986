// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// logMemoryBytes bounds what a log keeps in memory: what waits for it and what is not known durable (section 2).
const logMemoryBytes = 32<<20 + 32<<20

// observeNow is when something began that observeAppend measures; nobody asks for the time if nobody wants to know.
func (s *Store) observeNow() time.Time {
	if s.opts.Observe.Append == nil {
		return time.Time{}
	}
	return time.Now()
}

func (s *Store) observeAppend(pipeline string, start time.Time) {
	if s.opts.Observe.Append != nil {
		s.opts.Observe.Append(pipeline, time.Since(start))
	}
}

func (s *Store) observeGroup(pipeline string, n int) {
	if s.opts.Observe.GroupRecords != nil {
		s.opts.Observe.GroupRecords(pipeline, n)
	}
}

// observeStep is what a journal's log is given.
func (j *Journal) observeStep(step commit.Step, took time.Duration) {
	if step == commit.Synced && j.store.opts.Observe.Sync != nil {
		j.store.opts.Observe.Sync(j.pipeline, took)
	}
}

// Words of Snapshot.State that a log does not have, or that a tail has too.
const (
	stateOK       = "ok"
	stateDetached = "detached"
)

// state is the journal's state for people, and why.
func (j *Journal) state() (string, error) {
	j.Lock()
	closed, denied := j.mu.closed, j.mu.denied
	j.Unlock()
	switch {
	case closed:
		return commit.Closed.String(), nil
	case denied != nil:
		return stateDetached, denied
	case j.log == nil:
		return stateOK, nil
	}
	s, err := j.log.State()
	return s.String(), err
}

// Snapshot describes the journal. It waits for no disk.
func (j *Journal) Snapshot() Snapshot {
	s := Snapshot{
		Pipeline: j.pipeline, Head: j.log != nil, CacheHits: j.hits.Load(), CacheMisses: j.misses.Load(),
		Recovery: j.recovery, RecoveryScannedBytes: j.scannedBytes, SegmentBytes: j.share.Bytes().Segments,
	}
	s.State, s.Err = j.state()
	if j.log != nil {
		st := j.log.Stats()
		s.Unsynced, s.SyncAge = st.Unsynced, st.SyncAge
	}
	s.DeadRecords, s.DeadItems, s.DeadEvictedItems = j.dead.totals()
	j.Lock()
	defer j.Unlock()
	now := j.now()
	s.AppendedRecords, s.AppendedItems = j.mu.appended.Records, j.mu.appended.Items
	s.RefusedItems = make(map[string]uint64, len(j.mu.refused))
	for limit, n := range j.mu.refused {
		s.RefusedItems[limit] = n
	}
	s.Segments, s.Condemned, s.DamagedRanges = len(j.mu.catalog), j.mu.condemned, j.mu.damaged
	s.CacheBytes = j.mu.cache.bytes
	for _, d := range j.mu.cursors {
		s.Destinations = append(s.Destinations, d.snapshot(now))
	}
	return s
}

func (d *destination) snapshot(now time.Time) DestinationSnapshot {
	s := DestinationSnapshot{
		Name: d.slot.Name, Heir: d.heir, State: d.slot.State, Fill: d.fill(now), Counts: d.counts(),
		Redelivered: d.again, Resolved: make(map[Resolution]Tally, len(d.resolved)),
	}
	for r, t := range d.resolved {
		s.Resolved[r] = t
	}
	s.Imbalance = d.imbalance()
	return s
}

// imbalance is how many items the books lack: what the journal accepted and owed to d, less what became of it. It is
// known of live cursors; those that are not live are owed nothing new.
func (d *destination) imbalance() int64 {
	sum := d.slot.Delivered.Items + d.slot.Rejected.Items + d.slot.AllDropped().Items + uint64(d.items)
	if d.slot.State == queue.Live {
		return int64(d.j.mu.total - d.slot.NotOwed - sum)
	}
	return int64(d.accepted - sum)
}

// Snapshot describes the directory, as the warden last counted it. It waits for no disk.
func (s *Store) Snapshot() StoreSnapshot {
	sp := s.space.Snapshot()
	out := StoreSnapshot{
		Directory: s.dir, Limit: sp.Cap, Free: sp.Free, UntilFull: sp.UntilFull,
		CacheBytes: s.cache.used.Load(), CacheLimit: s.cache.limit.Load(), MemoryBoundBytes: s.cache.limit.Load(),
		DiskBytes: map[string]int64{
			"segments": sp.Segments, "cursors": sp.Cursors, "dead": sp.Dead, "bad": sp.Bad, "reserve": sp.Reserve,
			"foreign": sp.Foreign,
		},
	}
	for _, j := range s.journals() {
		if j.log != nil {
			out.MemoryBoundBytes += logMemoryBytes
		}
		j.Lock()
		out.MemoryBoundBytes += int64(len(j.mu.cursors)) * window.MaxBytes
		j.Unlock()
	}
	return out
}
