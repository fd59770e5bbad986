// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// reading is a place at which a destination is read: from, and what next has not come to is in the cache or on disk
// only. There is one until somebody asks for fresh data beside a backlog (queue.Want.From); then as many as the window
// has parts, of which the lowest and the highest load. The lowest becomes one with the next when it has come to it and
// nothing of it is left to be handed out. Nothing of all this is on the disk: what is resolved is, in ranges, and after a
// restart the lowest number that is not is where the one reading begins; what was resolved above it is passed over.
type reading struct {
	from, next queue.Seq
	filling    bool   // somebody reads ahead for it
	ahead      stream // of whoever is filling
	over       bool   // it is no more: whoever is filling ends it
}

func (d *destination) newReading(from, next queue.Seq) *reading {
	return &reading{from: from, next: next, ahead: stream{files: d.j.files, bodies: true, behind: true}}
}

// restart forgets all readings: there is nothing in the window, and what comes begins at next.
func (d *destination) restart(next queue.Seq) {
	for d.win.Parts() > 1 {
		d.win.Merge()
	}
	for _, r := range d.reads {
		d.end(r)
	}
	d.reads = []*reading{d.newReading(0, next)}
}

// end lets a reading go. Its stream may be open.
func (d *destination) end(r *reading) {
	r.over = true
	if !r.filling && r.ahead.isOpen() {
		d.j.readers.Go(r.ahead.close)
	}
}

// split begins a reading at from, if the window takes one there.
func (d *destination) split(from queue.Seq) {
	if d.j.mu.closed || !d.win.Split(from) {
		return
	}
	i := len(d.reads) - 1
	top := d.reads[i]
	d.reads = append(d.reads, d.newReading(from, max(from, top.next)))
	top.next = min(top.next, from)
	if i > 0 { // what it has loaded waits for long
		d.win.EachReady(i, d.forgo)
	}
}

// forgo leaves the bytes of a record to the disk that is not in the cache.
func (d *destination) forgo(e *window.Entry) {
	if !e.Absent && e.Leases == 0 && d.j.mu.cache.find(e.Seq) == nil {
		e.Body, e.Keep, e.Absent = nil, nil, true
	}
}

// merge makes the lowest reading one with the next, if it has come to it and nothing of it is left to be handed out. What
// is in flight and comes back, or rests, is in the one they are then.
func (d *destination) merge() {
	for len(d.reads) > 1 && d.reads[0].next >= d.reads[1].from {
		if left, _ := d.win.PartReady(0); left > 0 {
			break
		}
		d.win.Merge()
		d.end(d.reads[0])
		d.reads = slices.Delete(d.reads, 0, 1)
		d.refillAt(0)
	}
}

// loads says whether a reading loads now.
func (d *destination) loads(r *reading) bool { return r == d.reads[0] || r == d.reads[len(d.reads)-1] }

// endOf is the last number a reading may come to, of those there are.
func (d *destination) endOf(r *reading) queue.Seq {
	end := d.upTo()
	if i := slices.Index(d.reads, r); i >= 0 && i+1 < len(d.reads) {
		end = min(end, d.reads[i+1].from-1)
	}
	return end
}

// low says that the window would look at more than it has of a reading.
func (d *destination) low(r *reading) bool {
	i := slices.Index(d.reads, r)
	return i >= 0 && d.win.PartLow(i)
}

// unread calls what for each stretch of numbers up to last that no reading has come to.
func (d *destination) unread(first, last queue.Seq, what func(first, last queue.Seq)) {
	for _, r := range d.reads {
		if from, to := max(first, r.next), min(last, d.endOf(r)); from <= to {
			what(from, to)
		}
	}
}

// look is what a Take does first: it ends what of a split is done, and refills.
func (d *destination) look() {
	d.refill()
	d.merge()
}

// refill loads what is in memory and has what is not read ahead, at both places. The disk is asked when half of the
// window is used up, so that it is asked for much at once.
func (d *destination) refill() {
	d.refillAt(0)
	if top := len(d.reads) - 1; top > 0 {
		d.refillAt(top)
	}
}

func (d *destination) refillAt(i int) {
	r := d.reads[i]
	for end := d.endOf(r); r.next <= end && d.win.PartLow(i); {
		if d.slot.Resolved.Has(r.next) {
			r.next = d.slot.Resolved.Next(r.next)
			continue
		}
		e := d.j.mu.cache.find(r.next)
		if e == nil {
			if records, bytes := d.win.PartReady(i); records < window.Records/2 && bytes < d.win.Depth()/2 {
				d.readAhead(r)
			}
			return
		}
		d.load(r, e)
	}
}

// readAhead starts a reader, one at most. The lock is held.
func (d *destination) readAhead(r *reading) {
	j := d.j
	if r.filling || j.mu.closed || j.now().Before(d.retryAt) {
		return
	}
	r.filling = true
	j.readers.Go(func() { j.read(d, r) })
}

// read fills d's window from disk until it is full, has met the cache, or the disk fails.
func (j *Journal) read(d *destination, r *reading) {
	for {
		j.Lock()
		v, seq, more := d.wanted(r)
		if caughtUp := r.next > d.endOf(r) || r.over || j.mu.closed; !more && caughtUp && r.ahead.isOpen() {
			j.Unlock()
			r.ahead.close() // while nobody else may read: not after filling is over
			continue
		}
		if !more {
			r.filling = false
			d.win.Serve(time.Time{})
			j.Unlock()
			return
		}
		r.ahead.skip = d.failed[seq]
		j.Unlock()
		frames, err := r.ahead.read(v, seq)
		j.Lock()
		if r.over {
			j.Unlock()
			continue
		}
		d.loadFrames(r, frames)
		d.win.Serve(time.Time{})
		next := r.next
		j.Unlock()
		if err != nil {
			r.ahead.close()
			j.unreadable(d, v, next, err)
		}
	}
}
