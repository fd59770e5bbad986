// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// weighed is one record that is owed, without its bytes.
type weighed struct {
	seq         queue.Seq
	items, size uint32
}

// weigh lists what d is owed of first to last, counting on disk what is not in memory.
func (j *Journal) weigh(d *destination, first, last queue.Seq) ([]weighed, error) {
	var list []weighed
	src := stream{files: j.files}
	defer src.close()
	j.Lock()
	last = min(last, d.upTo())
	for n := d.win.Oldest(); n != nil && n.Entry.Seq <= last; n = n.Younger() {
		if e := n.Entry; e.Seq >= first {
			list = append(list, weighed{e.Seq, e.Items, e.Size})
		}
	}
	var unread []stretch
	d.unread(first, last, func(first, last queue.Seq) { unread = append(unread, stretch{first, last}) })
	for _, open := range unread {
		for seq := d.slot.Resolved.Next(open.first); seq <= open.last; seq = d.slot.Resolved.Next(seq) {
			if e := j.mu.cache.find(seq); e != nil {
				list = append(list, weighed{seq, e.Items, e.Size})
				seq++
				continue
			}
			s := j.mu.catalog.find(seq)
			if s == nil {
				seq++
				continue
			}
			v := s.view()
			j.Unlock()
			frames, err := j.readSurely(&src, v, seq)
			if err != nil {
				return nil, err
			}
			j.Lock()
			for i := range frames {
				f := &frames[i]
				if f.Seq <= open.last && !d.slot.Resolved.Has(f.Seq) {
					list = append(list, weighed{f.Seq, f.Items, f.Size})
				}
				seq = f.Seq + 1
			}
		}
	}
	slices.SortFunc(list, func(a, b weighed) int { return cmp.Compare(a.seq, b.seq) })
	j.Unlock()
	return list, nil
}

// readSurely reads from seq on as long as that goes well. What cannot be read is asked for once more, through a fresh
// descriptor; then it is damage and given up, and no frame is returned.
func (j *Journal) readSurely(src *stream, v view, seq queue.Seq) ([]segment.Frame, error) {
	frames, err := src.read(v, seq)
	if len(frames) > 0 || err == nil {
		return frames, nil
	}
	src.close()
	j.files.forget(v.id)
	src.skip = unreadable(err)
	frames, err = src.read(v, seq)
	src.skip = false
	var damage *segment.CorruptError
	if len(frames) == 0 && errors.As(err, &damage) && damage.Gap.First <= seq && damage.Gap.Last >= seq {
		src.close()
		j.damaged(v, damage)
		return nil, nil
	}
	if len(frames) > 0 {
		err = nil
	}
	return frames, err
}

// sweep deletes the segments nobody needs any more: slots that say so first, then the names. A crash in between finds
// segments that are resolved already, and deletes them. It returns how many went.
func (j *Journal) sweep() int {
	j.Lock()
	if j.mu.swept == j.mu.changes || j.mu.denied != nil { // what is not ours is not deleted
		j.Unlock()
		return 0
	}
	seen := j.mu.changes
	var idle []*seg
	var kept *seg
	for _, s := range j.mu.catalog {
		if s.stage != active && s.last <= j.mu.durable && !s.follows(kept) && j.resolvedLocked(s.first(), s.last) {
			idle = append(idle, s)
		} else {
			kept = s
		}
	}
	j.Unlock()
	if len(idle) > 0 {
		if err := j.writeSlots(); err != nil {
			return 0 // nothing is deleted while a slot is behind; it is tried again
		}
		idle = j.butTheLast(idle)
	}
	gone := 0
	for _, s := range idle {
		if j.deleteSegment(s) == nil {
			gone++
		}
	}
	j.Lock()
	if gone == len(idle) {
		j.mu.swept = seen
	}
	for _, d := range j.mu.cursors {
		d.ended()
	}
	j.Unlock()
	return gone
}

// butTheLast leaves the last segment out, unless a slot says as well how far the journal has come.
func (j *Journal) butTheLast(idle []*seg) []*seg {
	j.Lock()
	defer j.Unlock()
	if n := len(idle) - 1; idle[n] == j.mu.catalog[len(j.mu.catalog)-1] && !j.rememberedLocked(nil) {
		return idle[:n]
	}
	return idle
}

// resolvedLocked says whether every cursor has resolved what it is owed of first to last.
func (j *Journal) resolvedLocked(first, last queue.Seq) bool {
	for _, d := range j.mu.cursors {
		if last := min(last, d.upTo()); last >= first && !d.slot.Resolved.Covers(first, last) {
			return false
		}
	}
	return true
}

// deleteSegment takes a segment off the disk. What is open of it stays readable.
func (j *Journal) deleteSegment(s *seg) error {
	info, err := j.disk.Stat(s.path)
	if err == nil {
		err = j.disk.Remove(s.path)
	}
	if err != nil && !isGone(err) {
		j.event(Event{Level: Warn, Kind: Slow, Err: err, Text: "a segment that nobody needs cannot be removed"})
		return err
	}
	j.Lock()
	j.mu.catalog.remove(s)
	j.mu.unsyncedNames = true
	j.Unlock()
	j.files.forget(s.id)
	if err == nil {
		j.share.Gave(info.Allocated)
	}
	return nil
}

// syncRemoved makes removed names durable. What comes back after a power cut is resolved already and goes again.
func (j *Journal) syncRemoved() error {
	j.Lock()
	todo := j.mu.unsyncedNames
	j.mu.unsyncedNames = false
	j.Unlock()
	if !todo {
		return nil
	}
	if err := j.disk.SyncDir(path.Join(j.dir, layout.Segments)); err != nil {
		j.Lock()
		j.mu.unsyncedNames = true
		j.Unlock()
		return fmt.Errorf("%s: %w", j.dir, err)
	}
	return nil
}

// room asks for n bytes of the disk. When they are denied, what may be given up is, oldest first (section 10).
func (j *Journal) room(n int64) error {
	for {
		err := j.ask(n)
		var full *queue.FullError
		if err == nil || !errors.As(err, &full) {
			return err
		}
		if j.sweep() > 0 || j.giveUp(full.Limit) {
			continue
		}
		return err
	}
}

// giveUp empties and deletes one segment, searched first here, then, for limits that all share, in the journal that is
// furthest above its share.
func (j *Journal) giveUp(limit string) bool {
	others := []*Journal(nil)
	if limit != limitMaxSize {
		others = j.store.furthest(j)
	}
	for _, may := range j.store.concessions() {
		if j.giveUpAs(may) {
			return true
		}
		for _, o := range others {
			if o.giveUpAs(may) {
				return true
			}
		}
	}
	return false
}

// concession is a step of section 10: whose records may be given up, and what is booked.
type concession struct {
	dead   bool // the oldest dead letters
	reason cursor.Reason
	may    func(d *destination, now int64) bool
}

func (j *Journal) giveUpAs(c concession) bool {
	if c.dead {
		return j.dead.evict()
	}
	s, losers := j.expendable(c)
	if s == nil {
		return false
	}
	for _, d := range losers {
		list, err := j.weigh(d, s.first(), s.last)
		if err != nil {
			return false
		}
		if !j.concede(d, list, c.reason) {
			return false
		}
	}
	return j.sweep() > 0
}

// expendable returns the oldest segment in which only destinations that c names have unresolved records, none of them
// leased, and these destinations.
func (j *Journal) expendable(c concession) (*seg, []*destination) {
	now := j.now().Unix()
	j.Lock()
	defer j.Unlock()
next:
	for i, s := range j.mu.catalog {
		if s.stage == active || s.last > j.mu.durable || s.empty() || i > 0 && s.follows(j.mu.catalog[i-1]) {
			continue
		}
		var losers []*destination
		for _, d := range j.mu.cursors {
			last := min(s.last, d.upTo())
			if last < s.first() || d.slot.Resolved.Covers(s.first(), last) {
				continue
			}
			if !c.may(d, now) || d.leasedIn(s.first(), last) {
				continue next
			}
			losers = append(losers, d)
		}
		if len(losers) > 0 {
			return s, losers
		}
	}
	return nil, nil
}

// leasedIn says whether a record of the range is handed out.
func (d *destination) leasedIn(first, last queue.Seq) bool {
	if d.win.Leased() == 0 {
		return false
	}
	for n := d.win.Oldest(); n != nil && n.Entry.Seq <= last; n = n.Younger() {
		if n.Entry.Seq >= first && n.Leased() {
			return true
		}
	}
	return false
}

// concede gives up the listed records of d, unless one of them was handed out meanwhile.
func (j *Journal) concede(d *destination, list []weighed, why cursor.Reason) bool {
	if len(list) == 0 {
		return true
	}
	j.Lock()
	defer j.Unlock()
	first, last := list[0].seq, list[len(list)-1].seq
	if d.leasedIn(first, last) {
		return false
	}
	list = slices.DeleteFunc(list, func(w weighed) bool { return d.slot.Resolved.Has(w.seq) })
	if len(list) == 0 {
		return true
	}
	drop := cursor.Drop{First: list[0].seq, Last: list[len(list)-1].seq, Reason: why}
	for _, w := range list {
		drop.Records++
		drop.Items += uint64(w.items)
		d.letGo(w)
	}
	d.count(Resolution{Outcome: outcomeDropped, Reason: why.String()}, drop.Records, drop.Items)
	d.book(drop, why.String())
	d.ended()
	j.changedLocked(d)
	return true
}
