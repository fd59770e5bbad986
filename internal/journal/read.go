// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// wanted loads what is in memory and says what is to be read next; false: nothing, now.
func (d *destination) wanted(r *reading) (v view, seq queue.Seq, more bool) {
	j := d.j
	if j.mu.closed || r.over || !d.loads(r) || j.now().Before(d.retryAt) {
		return v, 0, false
	}
	for end := d.endOf(r); r.next <= end && d.low(r); {
		if d.slot.Resolved.Has(r.next) {
			r.next = d.slot.Resolved.Next(r.next)
			continue
		}
		if e := j.mu.cache.find(r.next); e != nil {
			d.load(r, e)
			continue
		}
		s := j.mu.catalog.find(r.next)
		if s == nil { // nothing has it, recovery and the log saw to that; should it be, it is not waited for
			last := end
			if s := j.mu.catalog.from(r.next); s != nil {
				last = min(last, s.first()-1)
			}
			d.lose(r.next, last, 0, cursor.Missing)
			continue
		}
		return s.view(), r.next, true
	}
	return v, 0, false
}

// loadFrames puts what was read into the window, but for what was resolved meanwhile, and for what is not owed: a
// segment goes on behind the last number of a parked cursor where no other one could be had. Records this program does
// not understand stay owed and are passed over.
func (d *destination) loadFrames(r *reading, frames []segment.Frame) {
	end := d.endOf(r)
	for i := range frames {
		f := &frames[i]
		if f.Seq > end {
			return
		}
		if f.Seq < r.next {
			continue
		}
		r.next = f.Seq + 1
		if d.slot.Resolved.Has(f.Seq) {
			continue
		}
		if !f.Known() {
			d.j.eventLocked(Event{Level: Alarm, Kind: Damaged, Destination: d.slot.Name, First: f.Seq, Last: f.Seq,
				Records: 1, Items: uint64(f.Items), Text: "a record was written by a newer version; it is kept, not delivered"})
			continue
		}
		d.j.misses.Add(1)
		delete(d.failed, f.Seq)
		d.load(r, &window.Entry{
			Record: queue.Record{Tag: f.Tag, Items: f.Items, Size: f.Size, Meta: f.Meta, Body: f.Body, Keep: keep},
			Seq:    f.Seq, Accepted: time.Unix(0, f.Accepted), Ripe: f.Seq <= d.j.recoveredSeq, Refs: 1,
		})
	}
}

// unreadable decides what becomes of seq, which v did not give: asked once more a second later, through a fresh
// descriptor; then, if its file is there, it is damage (section 13).
func (j *Journal) unreadable(d *destination, v view, seq queue.Seq, err error) {
	if errors.Is(err, fs.ErrClosed) {
		return
	}
	j.files.forget(v.id)
	var damage *segment.CorruptError
	if errors.As(err, &damage) && damage.Gap.First <= seq && damage.Gap.Last >= seq {
		seq = damage.Gap.First
	} else {
		damage = nil
	}
	j.Lock()
	_, again := d.failed[seq]
	if !again || damage == nil {
		// What fails twice is damage: a sector, or an end that came too early. All other refusals leave the record owed:
		// it may be the disk that is gone, or a descriptor that is not to be had, not the bytes.
		d.fail(seq, again && unreadable(err))
		d.retryAt = j.now().Add(readRetry)
		j.mu.fx.tend = true
		if !again {
			j.eventLocked(Event{Level: Warn, Kind: Slow, Destination: d.slot.Name, First: seq, Last: seq, Err: err,
				Text: fmt.Sprintf("record %d cannot be read; it is tried again", seq)})
		}
		j.Unlock()
		return
	}
	j.Unlock()
	j.damaged(v, damage)
}

// unreadable says whether an error is about the bytes: a sector, or an end that came too early.
func unreadable(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, io.ErrUnexpectedEOF)
}

// damaged gives up what does not hold, for everybody.
func (j *Journal) damaged(v view, damage *segment.CorruptError) {
	first, last, items := damage.Gap.First, min(damage.Gap.Last, v.last), damage.Gap.Items
	j.Lock()
	j.mu.damaged++
	j.eventLocked(Event{Level: Alarm, Kind: Damaged, Records: uint64(last-first) + 1, Items: items, First: first, Last: last,
		Err: damage, Text: "bytes of " + v.path + " do not hold; their records are lost"})
	for _, c := range j.mu.cursors {
		delete(c.failed, first)
		c.lose(first, last, items, cursor.Corrupt)
		c.win.Serve(time.Time{})
	}
	j.Unlock()
	j.quarantine(v, damage.Gap)
}

// maxFailed bounds what a destination remembers of records that could not be read; beyond it, it begins anew.
const maxFailed = 4096

// fail remembers that seq could not be read.
func (d *destination) fail(seq queue.Seq, salvage bool) {
	if d.failed == nil || len(d.failed) >= maxFailed {
		d.failed = make(map[queue.Seq]bool)
	}
	d.failed[seq] = salvage
}

// lose gives up what d is owed of a range that cannot be read; what of it is in memory is still delivered. items are
// those of the whole range, 0 = unknown.
func (d *destination) lose(first, last queue.Seq, items uint64, why cursor.Reason) {
	last = min(last, d.upTo())
	if last < first {
		return
	}
	numbers := uint64(last-first) + 1
	share := func(first, last queue.Seq) uint64 { return items * (uint64(last-first) + 1) / numbers }
	d.j.mu.cache.each(first, last, func(e *window.Entry) { last = min(last, e.Seq-1) })
	for n := d.win.Oldest(); n != nil && n.Entry.Seq <= last; {
		next := n.Younger()
		if seq := n.Entry.Seq; seq >= first && !n.Entry.Absent {
			if seq > first {
				d.loseRun(first, seq-1, share(first, seq-1), why)
			}
			first = seq + 1
		}
		n = next
	}
	if last >= first {
		d.loseRun(first, last, share(first, last), why)
	}
	d.ended()
	d.j.mu.changes++
}

// loseRun gives up a run of which nothing is in memory. Where items are not known number by number they are estimated;
// what the balance then lacks is booked when nothing is left.
func (d *destination) loseRun(first, last queue.Seq, items uint64, why cursor.Reason) {
	drop := cursor.Drop{First: first, Last: last, Reason: why}
	numbers := uint64(last-first) + 1
	if drop.Records = numbers - d.slot.Resolved.Count(first, last); drop.Records == 0 {
		return
	}
	var known cursor.Count
	for n := d.win.Oldest(); n != nil && n.Entry.Seq <= last; {
		next := n.Younger()
		if n.Entry.Seq >= first {
			known.Records++
			known.Items += uint64(n.Entry.Items)
			d.win.Settle(n)
		}
		n = next
	}
	if drop.Items = known.Items; known.Records < drop.Records {
		drop.Items = max(known.Items, items*drop.Records/numbers)
		d.slot.Estimated = true
	}
	drop.Items = min(drop.Items, uint64(max(0, d.items)))
	d.slot.Resolved.Add(first, last)
	if d.records > 0 {
		d.size -= int64(float64(d.size) * min(1, float64(drop.Records)/float64(d.records)))
	}
	d.records -= int64(drop.Records)
	d.items -= int64(drop.Items)
	d.count(Resolution{Outcome: outcomeDropped, Reason: why.String()}, drop.Records, drop.Items)
	d.book(drop, why.String())
}
