// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit

import (
	"runtime"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// flusher is what only the flusher's goroutine touches.
//
// Invariants: seq >= acked; the numbers in between are void. An active segment goes on at seq + 1, or it is not
// appended to any more. spans is ascending by number; every published record above the last Durable is in it.
type flusher struct {
	seq   queue.Seq // last number given out
	acked queue.Seq // last number published
	items uint64    // accepted up to acked

	active  *seg // nil: none that can be written
	prev    *seg // that of the last published group; nil: from before this process
	before  Position
	roster  uint64 // version of the last Roster
	cursors []uint64
	denied  bool // no segment could be had for a roll that may be put off

	spans    []*span
	unsynced int64     // bytes of their frames
	stranded bool      // some of them are in condemned segments: a rescue failed
	covered  queue.Seq // up to here a sync has been ordered
	open     int64     // bytes of frames above it
	openedAt time.Time // when the first of them was written
	syncs    int       // ordered and not reported
	syncing  bool      // the syncer runs
	synced   chan struct{}
	timer    *time.Timer // for orderDueSyncs

	entries []*window.Entry    // of a group, for reuse
	records [][]segment.Record // likewise; not those of a group that met an error
}

// group is records that are written and synced together.
type group struct {
	answer  *answer
	entries []*window.Entry
	records []segment.Record
	frames  int64 // bytes
	bytes   int64 // of Meta and Body
	items   uint64
}

func newFlusher(at Position) flusher {
	return flusher{
		seq: max(at.Seq, at.PrevLastSeq), acked: at.PrevLastSeq, items: at.Items, before: at,
		covered: at.Seq, synced: make(chan struct{}),
	}
}

// flush is the flusher: it commits one group after the other until Close.
func (l *Log) flush() {
	defer close(l.flushed)
	l.f.timer = time.NewTimer(syncAfter)
	l.f.timer.Stop()
	defer l.f.timer.Stop()
	for {
		l.collect()
		l.orderDueSyncs()
		switch l.look() {
		case commitNow:
			l.commit()
		case saveNow:
			l.saveStranded()
		case sleepNow:
			select {
			case <-l.wake:
			case <-l.f.timer.C:
			}
		case endNow:
			l.finish()
			return
		}
	}
}

type errand uint8

const (
	sleepNow errand = iota
	commitNow
	saveNow
	collectNow
	endNow
)

// look says what there is to do. With nothing to do whoever brings work wakes the flusher.
func (l *Log) look() errand {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.mu.results) > 0:
		return collectNow
	case l.mu.closing:
		return endNow
	case l.mu.retry:
		l.mu.retry = false
		return saveNow
	case l.mu.line.head != nil && l.f.unsynced < maxUnsyncedBytes:
		return commitNow
	}
	l.mu.idle = true
	return sleepNow
}

// commit makes one group of those who wait: what fits the segment it goes to.
func (l *Log) commit() {
	first, ok := l.first()
	if !ok {
		return
	}
	a, b, err := l.place(first)
	if err != nil {
		l.refuse(first, err)
		return
	}
	room := int64(0)
	if b != nil {
		room = segment.FrameRoom(b.bytes)
	} else {
		room = a.w.Free()
	}
	g := l.take(room)
	if g == nil { // who was first has left
		l.putBack(b)
		return
	}
	a, err = l.number(g, a, b)
	if err != nil {
		_, err = l.refusal(err)
		l.drop(g, err)
		return
	}
	l.write(a, g)
}

// first is the size of the first record in the line.
func (l *Log) first() (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.line.head == nil {
		return 0, false
	}
	return l.mu.line.head.frame, true
}

// take makes a group of the longest prefix of the line that fits. From here on the records wait for its answer.
func (l *Log) take(room int64) *group {
	g := &group{entries: l.f.entries[:0], records: l.spareRecords()}
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := min(maxGroupBytes, room)
	for w := l.mu.line.head; w != nil && len(g.entries) < maxGroupRecords; w = l.mu.line.head {
		if w.frame > room || len(g.entries) > 0 && g.frames+w.frame > limit {
			break
		}
		l.mu.line.remove(w)
		w.answer.Store(l.mu.next)
		e := w.entry
		g.entries = append(g.entries, e)
		g.records = append(g.records, segment.Record{
			Tag: e.Tag, Items: e.Items, Size: e.Size, Meta: e.Meta, Body: e.Body, CRC: w.crc,
		})
		g.frames += w.frame
		g.bytes += int64(len(e.Meta) + len(e.Body))
		g.items += uint64(e.Items)
	}
	if len(g.entries) == 0 {
		return nil
	}
	g.answer, l.mu.next = l.mu.next, newAnswer()
	l.mu.waiting -= g.frames
	l.admitLocked()
	return g
}

// number gives out the group's numbers and returns the segment it goes to: a, or one made of b. An error leaves b for
// later.
func (l *Log) number(g *group, a *seg, b *blank) (*seg, error) {
	f := &l.f
	base := f.seq + 1
	version, cursors, err := l.set.Host.Roster(f.seq + queue.Seq(len(g.entries)))
	if err != nil {
		l.putBack(b)
		return nil, err
	}
	f.seq += queue.Seq(len(g.entries)) // whatever becomes of the group
	f.roster, f.cursors = version, cursors
	if b == nil && l.outdated(a) {
		b = l.freshIfAny(a, g.frames)
	}
	if b != nil {
		if a, err = l.begin(b, base); err != nil {
			return nil, err
		}
	}
	now := l.set.Now()
	for i, e := range g.entries {
		e.Seq, e.Accepted = base+queue.Seq(i), now
		g.records[i].Accepted = now.UnixNano()
	}
	return a, nil
}

// write puts the group on the disk, hands it over and answers it.
func (l *Log) write(a *seg, g *group) {
	start := time.Now()
	_, err := a.w.Append(g.records)
	if err == nil {
		l.observe(Wrote, start)
		if !a.unsynced {
			err = l.syncNow(a)
		}
	}
	if err != nil {
		l.salvage(a, g, err)
		return
	}
	s := l.hold(a, g)
	s.durable = !a.unsynced
	l.publish(a, g)
	l.release()
	l.leaveRoom(a)
	l.endLarge()
	l.answerGroup(g)
}

// publish hands the group over. a is the segment it is in.
func (l *Log) publish(a *seg, g *group) {
	f := &l.f
	f.acked, f.items = g.entries[len(g.entries)-1].Seq, f.items+g.items
	f.prev, a.published = a, true
	l.set.Host.Publish(a.head, a.path, a.w.Summary(), g.entries, f.items)
}

// answerGroup ends the group well.
func (l *Log) answerGroup(g *group) {
	l.mu.Lock()
	s := &l.mu.stats
	s.Records += uint64(len(g.entries))
	s.Items += g.items
	s.Bytes += uint64(g.bytes)
	s.Groups++
	l.mu.Unlock()
	clear(g.entries)
	l.f.entries = g.entries
	g.answer.give(nil)
	runtime.Gosched() // those who were answered and go on at once share the next sync
}

// drop answers a group with the error it met: its buffers are not reused, its entries are their owners' again.
func (l *Log) drop(g *group, err error) {
	for _, e := range g.entries {
		e.Seq, e.Accepted = 0, time.Time{}
	}
	l.f.entries = nil
	if l.f.seq > l.f.acked {
		l.set.Host.Void()
	}
	g.answer.give(err)
}

// refuse answers those for whom there is no segment: all, or, if it is only large records there is none for, the first.
func (l *Log) refuse(first int64, err error) {
	state, err := l.refusal(err)
	if segment.FileBytes(first) <= l.segment.Load() {
		l.setState(state, err)
		return
	}
	if g := l.take(first); g != nil {
		l.drop(g, err)
	}
}

// setState changes the state, unless the Log is closed. In all but OK nobody waits.
func (l *Log) setState(state State, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.state == Closed {
		return
	}
	l.mu.state, l.mu.cause = state, cause
	if state != OK {
		l.refuseLocked(cause)
	}
}
