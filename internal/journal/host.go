// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// host is what the log sees of its journal.
type host struct{ j *Journal }

var _ commit.Host = host{}

// Roster implements commit.Host. Cursors that became live are made durable first: a crash after the group's answer
// must find them, or it would not know to whom the group is owed.
func (h host) Roster(upTo queue.Seq) (uint64, []uint64, error) {
	j := h.j
	for {
		j.Lock()
		var urgent []*destination
		for _, d := range j.mu.live {
			if d.written < d.liveAt {
				urgent = append(urgent, d)
			}
		}
		if len(urgent) == 0 {
			j.mu.given = max(j.mu.given, upTo)
			version, hashes := j.mu.version, j.mu.hashes
			j.Unlock()
			return version, hashes, nil
		}
		j.Unlock()
		for _, d := range urgent {
			if err := j.writeSlot(d); err != nil {
				return 0, nil, fmt.Errorf("%w: cursor of %s: %w", queue.ErrDisk, d.slot.Name, err)
			}
		}
	}
}

// Publish implements commit.Host.
func (h host) Publish(head *segment.Header, path string, sum segment.Summary, entries []*window.Entry, items uint64) {
	j := h.j
	now := j.now()
	j.Lock()
	defer j.Unlock()
	s := j.mu.catalog.byID(head.ID)
	if s == nil {
		s = &seg{id: head.ID, path: path, header: *head}
		s.last = s.first() - 1
		j.mu.catalog.add(s)
	}
	s.sum, s.last = sum, sum.Last
	for _, e := range entries {
		j.publishLocked(e)
	}
	if !slices.Equal(s.header.Cursors, j.mu.hashes) {
		j.misnamedLocked(s)
	}
	j.mu.total = items
	if n := len(entries); n > 0 {
		j.store.observeGroup(j.pipeline, n)
		j.trimLocked()
	}
	for _, d := range j.mu.live {
		d.win.Serve(now)
	}
}

// publishLocked owes one record to every destination that was attached when its number was given out.
func (j *Journal) publishLocked(e *window.Entry) {
	void := stretch{j.mu.last + 1, e.Seq - 1} // of groups that could not be written
	j.mu.last = e.Seq
	j.mu.given = max(j.mu.given, e.Seq)
	j.mu.pending.add(&e.Record, -1)
	j.mu.appended.Records++
	j.mu.appended.Items += uint64(e.Items)
	j.mu.cache.add(e)
	for _, d := range j.mu.cursors {
		live := d.slot.State == queue.Live
		if last := min(void.last, d.mayOwe()); last >= void.first {
			d.slot.Resolved.Add(void.first, last)
		}
		if e.Seq > d.mayOwe() {
			continue
		}
		if live && d.slot.Resolved.Has(e.Seq) { // it came while the group was being made
			d.slot.NotOwed += uint64(e.Items)
			d.changed()
			continue
		}
		d.owe(e)
	}
	j.mu.cache.settled(e, j.mu.durable, j.mu.fx)
}

// misnamedLocked notes which cursors a segment names although they are not owed all of it: no other segment could be had
// when they left.
func (j *Journal) misnamedLocked(s *seg) {
	for _, d := range j.mu.cursors {
		if first := max(d.mayOwe()+1, s.first()); first <= s.last && slices.Contains(s.header.Cursors, cursor.Hash(d.slot.Name)) {
			d.takenOff(first, s.last)
		}
	}
}

// trimLocked keeps the cache within its budget, and the system's free of what nobody will read.
func (j *Journal) trimLocked() {
	some, all := false, true
	for _, d := range j.mu.live {
		next := d.reads[len(d.reads)-1].next
		follows := next > j.mu.last || j.mu.cache.find(next) != nil
		some, all = some || follows, all && follows && len(d.reads) == 1
	}
	j.mu.cache.trim(j.mu.durable, some, j.mu.fx)
	j.log.Followed(all)
}

// Void implements commit.Host. Who attaches now begins above what is published: should the refused group come back, as
// the process died before the next segment, it is owed to all and in everybody's books.
func (h host) Void() {
	j := h.j
	j.Lock()
	defer j.Unlock()
	j.mu.given = j.mu.last
	for _, d := range j.mu.live {
		if d.slot.Resolved.High() > j.mu.last { // it came while the group was being made
			d.slot.Resolved.Cut(j.mu.last)
			for _, r := range d.reads {
				r.next = min(r.next, max(j.mu.last+1, r.from))
			}
			d.changed()
		}
	}
}

// Owed implements commit.Host. What everybody has resolved is needed no more when the slots on disk say so.
func (h host) Owed(first, last queue.Seq) bool {
	j := h.j
	j.Lock()
	resolved := j.resolvedLocked(first, last)
	j.Unlock()
	return !resolved || j.writeSlots() != nil
}

// Durable implements commit.Host.
func (h host) Durable(seq queue.Seq, items uint64) {
	j := h.j
	j.Lock()
	defer j.Unlock()
	if seq <= j.mu.durable {
		return
	}
	from := j.mu.durable
	j.mu.durable, j.mu.durableItems = seq, items
	if j.mu.condemned > 0 {
		j.mu.changes++ // one that was kept for what is durable now may be of no use
	}
	j.mu.cache.moved(from, seq, j.mu.fx)
	j.trimLocked()
}

// Sealed implements commit.Host.
func (h host) Sealed(id uint64, sum segment.Summary) {
	j := h.j
	j.Lock()
	defer j.Unlock()
	if s := j.mu.catalog.byID(id); s != nil {
		last := min(s.last, sum.Last) // what a rescue took over does not count here again
		s.sum, s.last, s.stage = sum, last, sealed
		j.mu.changes++
		j.mu.fx.tend = true
	}
}

// Condemned implements commit.Host.
func (h host) Condemned(id uint64, cause error) {
	j := h.j
	j.Lock()
	defer j.Unlock()
	j.mu.condemned++
	if s := j.mu.catalog.byID(id); s != nil {
		s.stage = condemned
		j.mu.changes++
	}
	j.eventLocked(Event{Level: Alarm, Kind: Condemned, Err: cause,
		Text: fmt.Sprintf("segment %d is not written any more: a write or sync of it failed", id)})
}

// Room implements commit.Host: what the limits allow, after giving up what may be given up.
func (h host) Room(n int64) error { return h.j.room(n) }

// Gave implements commit.Host.
func (h host) Gave(n int64) { h.j.share.Gave(n) }

// Squeeze implements commit.Host.
func (h host) Squeeze() bool { return h.j.store.space.Squeeze() }

func hashesOf(live []*destination) []uint64 {
	hashes := make([]uint64, len(live))
	for i, d := range live {
		hashes[i] = cursor.Hash(d.slot.Name)
	}
	return hashes
}
