// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit

import (
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// span is one published group that is not known durable, or waits for one before it that is not. Its records stay in
// memory: they may have to be written again.
type span struct {
	seg         *seg
	first, last queue.Seq
	acked       queue.Seq // last number published before first
	before      uint64    // items accepted before first
	items       uint64    // accepted up to last
	frames      int64
	at          time.Time
	durable     bool
	records     []segment.Record
}

// job is one sync of a segment: what was written before mark, up to the number last.
type job struct {
	seg  *seg
	mark segment.Offset
	last queue.Seq
}

type result struct {
	job
	err error
}

// hold keeps the group until it is durable.
func (l *Log) hold(a *seg, g *group) *span {
	f := &l.f
	s := &span{
		seg: a, first: g.entries[0].Seq, last: g.entries[len(g.entries)-1].Seq, acked: f.acked,
		before: f.items, items: f.items + g.items, frames: g.frames, at: time.Now(), records: g.records,
	}
	f.spans = append(f.spans, s)
	f.unsynced += s.frames
	if f.open == 0 {
		f.openedAt = s.at
	}
	f.open += s.frames
	return s
}

// pins says whether records of s are not known durable.
func (l *Log) pins(s *seg) bool {
	for _, p := range l.f.spans {
		if p.seg == s && !p.durable {
			return true
		}
	}
	return false
}

// release tells the Host what is durable without a gap, and lets go of it.
func (l *Log) release() {
	f := &l.f
	n := 0
	for n < len(f.spans) && f.spans[n].durable {
		s := f.spans[n]
		f.unsynced -= s.frames
		clear(s.records)
		f.records = append(f.records, s.records[:0])
		n++
	}
	var last *span
	if n > 0 {
		last = f.spans[n-1]
		rest := copy(f.spans, f.spans[n:])
		clear(f.spans[rest:])
		f.spans = f.spans[:rest]
	}
	if len(f.spans) == 0 {
		f.covered, f.open = f.acked, 0
	}
	if f.stranded {
		f.stranded = slices.ContainsFunc(f.spans, func(s *span) bool { return s.seg.condemned && !s.durable })
	}
	l.mu.Lock()
	l.mu.stats.UnsyncedBytes, l.mu.oldest, l.mu.stranded = f.unsynced, time.Time{}, f.stranded
	if len(f.spans) > 0 {
		l.mu.oldest = f.spans[0].at
	}
	l.mu.Unlock()
	if last != nil {
		l.set.Host.Durable(last.last, last.items)
	}
}

// spareRecords is an empty slice for a group.
func (l *Log) spareRecords() []segment.Record {
	if n := len(l.f.records); n > 0 {
		r := l.f.records[n-1]
		l.f.records = l.f.records[:n-1]
		return r
	}
	return nil
}

// syncNow makes the segment durable before its group is answered.
func (l *Log) syncNow(a *seg) error {
	return l.sync(a, a.w.Mark())
}

func (l *Log) sync(a *seg, mark segment.Offset) error {
	start := time.Now()
	l.mu.Lock()
	l.mu.syncSince = start
	l.mu.Unlock()
	err := a.w.Sync(mark)
	l.mu.Lock()
	l.mu.syncSince = time.Time{}
	l.mu.stats.Syncs++
	l.mu.Unlock()
	l.observe(Synced, start)
	if err == nil {
		l.dropBehind(a, mark)
	}
	return err
}

// dropBehindBytes is how much is let go of at once: asking for less costs more than it frees.
const dropBehindBytes = 512 << 10

// dropBehind tells the system that what is durable need not stay in its cache, if all destinations follow: then nobody
// reads it again, and its pages serve the next writes while they are warm. One sync of a segment runs at a time.
func (l *Log) dropBehind(a *seg, mark segment.Offset) {
	if !l.followed.Load() {
		a.dropped = mark // whoever is behind reads it soon
		return
	}
	if n := mark - a.dropped; n >= dropBehindBytes {
		a.file.DropBehind(int64(a.dropped), int64(n))
		a.dropped = mark
	}
}

// Followed says whether every destination has what it needs in memory, so that nothing will be read back. It is a hint.
func (l *Log) Followed(yes bool) { l.followed.Store(yes) }

// orderDueSyncs orders a sync when the oldest record no sync covers was written long enough ago, or when there are
// many; one at a time. The timer is set for the moment at which it has to be called again.
func (l *Log) orderDueSyncs() {
	f := &l.f
	if f.open == 0 || f.syncs > 0 {
		return
	}
	wait := syncAfter - time.Since(f.openedAt)
	if f.open >= syncBytes || wait <= 0 {
		l.orderSync()
		return
	}
	f.timer.Reset(wait)
}

// orderSync orders a sync of all that is written and not covered by one. The next group begins on a new block.
func (l *Log) orderSync() {
	f := &l.f
	if f.open == 0 {
		return
	}
	f.open = 0
	var jobs []job
	for _, s := range f.spans {
		if s.last <= f.covered {
			continue
		}
		f.covered = s.last
		if s.durable || s.seg.condemned {
			continue
		}
		if n := len(jobs); n == 0 || jobs[n-1].seg != s.seg {
			jobs = append(jobs, job{seg: s.seg, mark: s.seg.w.Mark()})
		}
		jobs[len(jobs)-1].last = s.last
	}
	if len(jobs) == 0 {
		return
	}
	for _, j := range jobs {
		j.seg.jobs++
	}
	f.syncs += len(jobs)
	l.mu.Lock()
	l.mu.jobs = append(l.mu.jobs, jobs...)
	l.mu.Unlock()
	if !f.syncing {
		f.syncing = true
		go l.syncer()
	}
	select {
	case l.syncWake <- struct{}{}:
	default:
	}
}

// syncer does what is ordered, until syncWake is closed.
func (l *Log) syncer() {
	defer close(l.f.synced)
	for range l.syncWake {
		for {
			l.mu.Lock()
			if len(l.mu.jobs) == 0 {
				l.mu.Unlock()
				break
			}
			j := l.mu.jobs[0]
			l.mu.jobs = append(l.mu.jobs[:0], l.mu.jobs[1:]...)
			l.mu.Unlock()
			err := l.sync(j.seg, j.mark)
			l.mu.Lock()
			l.mu.results = append(l.mu.results, result{j, err})
			l.wakeLocked()
			l.mu.Unlock()
		}
	}
}

// collect takes in what the syncer has done. What a failed sync leaves is rescued.
func (l *Log) collect() {
	l.mu.Lock()
	results := l.mu.results
	l.mu.results = nil
	l.mu.Unlock()
	for _, r := range results {
		l.f.syncs--
		r.seg.jobs--
		if r.err == nil {
			for _, s := range l.f.spans {
				s.durable = s.durable || s.seg == r.seg && s.last <= r.last
			}
			l.release()
			l.sealIfDurable(r.seg)
		} else if !r.seg.condemned {
			l.salvage(r.seg, nil, r.err)
		}
		l.letGo(r.seg)
	}
}
