// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

const (
	// deadRetry is how long a record waits whose dead letter could not be written.
	deadRetry = 30 * time.Second
	// readRetry is how long the journal waits before it asks again for what the disk would not give.
	readRetry = time.Second
)

// handle is one handle of a destination's cursor.
type handle struct {
	d    *destination
	h    *window.Handle
	heir string // whom it serves, if the cursor is parked
}

func newHandle(d *destination, heir string) *handle {
	h := &handle{d: d, heir: heir}
	h.h = d.win.Handle(h.mayTake)
	return h
}

// mayTake says whether the handle gets records now: its owner's while live, the heir's while parked.
func (h *handle) mayTake() bool {
	if h.heir != "" {
		return h.d.slot.State == queue.Parked && h.d.heir == h.heir
	}
	return h.d.slot.State == queue.Live
}

// Take implements queue.Cursor. Records that are on disk only are read here, by the goroutine that asked for them.
func (h *handle) Take(ctx context.Context, w queue.Want) ([]queue.Delivered, error) {
	if w.From > 0 {
		h.d.j.Lock()
		h.d.split(w.From)
		h.d.j.Unlock()
	}
	for {
		got, absent, err := h.h.Take(ctx, w)
		if err != nil {
			return nil, err
		}
		h.d.j.hits.Add(uint64(len(got) - absent))
		if absent > 0 {
			got = h.bring(got, absent)
		}
		if len(got) > 0 {
			return got, nil
		}
	}
}

// bring reads what of a batch is on disk only. What cannot be read is taken out of it.
func (h *handle) bring(got []queue.Delivered, absent int) []queue.Delivered {
	j := h.d.j
	src := stream{files: j.files, bodies: true}
	if absent == 1 {
		src.readBytes = segment.SeekBytes
	}
	defer src.close()
	kept := got[:0]
	for i := range got {
		d := &got[i]
		j.Lock()
		n := h.h.Held(d.Seq)
		if e := n.Entry; !e.Absent { // another handle brought it in the meantime
			d.Record, d.Free = e.Record, nil
			j.Unlock()
			kept = append(kept, *d)
			continue
		}
		src.skip = h.d.failed[d.Seq]
		s := j.mu.catalog.find(d.Seq)
		var v view
		if s != nil {
			v = s.view()
		}
		j.Unlock()
		body, err := src.body(v, d.Seq)
		j.Lock()
		if err == nil {
			j.misses.Add(1)
			delete(h.d.failed, d.Seq)
			n.Entry.Body, n.Entry.Keep, n.Entry.Absent = body, keep, false
			d.Record, d.Free = n.Entry.Record, nil
			kept = append(kept, *d)
			j.Unlock()
			continue
		}
		if n := h.h.Lift(d.Seq, queue.Release); n != nil {
			h.d.win.Nack(n, h.d.win.Due(readRetry))
		}
		j.Unlock()
		j.unreadable(h.d, v, d.Seq, err)
	}
	return kept
}

// keep is queue.Record.Keep of bytes that nobody uses again.
func keep() {}

// Resolve implements queue.Cursor. It fails only for Dead: a dead letter could not be made durable; then the records
// are nacked for 30 s. Numbers this handle does not hold are passed over.
func (h *handle) Resolve(o queue.Outcome, seqs ...queue.Seq) error {
	d := h.d
	j := d.j
	var err error
	if o.Kind == queue.Dead {
		if err = h.bury(o.Reason, seqs); err != nil {
			o = queue.Outcome{Kind: queue.Nack, Delay: deadRetry}
		}
	}
	j.Lock()
	defer j.Unlock()
	r := resolution{Outcome: o}
	if o.Kind == queue.Nack {
		r.due = d.win.Due(o.Delay)
	}
	for _, seq := range seqs {
		n := h.h.Held(seq)
		if n == nil {
			continue
		}
		e := n.Entry
		if n = h.h.Lift(seq, o.Kind); n != nil && !j.mu.closed {
			h.settle(n, &r)
		}
		j.let(e)
	}
	r.report(d)
	d.ended()
	j.changedLocked(d)
	return err
}

// resolution is one Resolve on its way through its records.
type resolution struct {
	queue.Outcome
	due  time.Time
	gone cursor.Drop
}

// settle ends the lease of n as r says, or, for an Ack that comes late, whatever n is doing now. An unknown Kind is a
// Release.
func (h *handle) settle(n *window.Node, r *resolution) {
	d, seq, items := h.d, n.Entry.Seq, n.Entry.Items
	e := n.Entry
	switch r.Kind {
	case queue.Ack:
		refused := min(r.Rejected, items)
		r.Rejected -= refused
		d.resolve(n, Resolution{Outcome: outcomeDelivered})
		d.rebook(refused, outcomeDelivered, outcomeRejected)
	case queue.Dead:
		d.resolve(n, Resolution{Outcome: outcomeRejected})
		if r.Rejected > 0 && r.Rejected < items {
			d.rebook(items-r.Rejected, outcomeRejected, outcomeDelivered)
		}
	case queue.Drop:
		r.gone.First, r.gone.Last = bounds(r.gone, seq)
		r.gone.Records++
		r.gone.Items += uint64(items)
		d.resolve(n, Resolution{Outcome: outcomeDropped, Reason: reasonOf(r.Reason).String()})
	case queue.Nack:
		d.again++
		d.win.Nack(n, r.due)
		d.unload(e, r.due)
	default:
		d.win.Release(n)
	}
}

func bounds(g cursor.Drop, seq queue.Seq) (first, last queue.Seq) {
	if g.Records == 0 {
		return seq, seq
	}
	return min(g.First, seq), max(g.Last, seq)
}

// reasonOf is the code of a word; words that section 7 does not have are the operator's.
func reasonOf(word string) cursor.Reason {
	if r, ok := cursor.ParseReason(word); ok {
		return r
	}
	return cursor.Operator
}

// report books the drops of a Resolve.
func (r *resolution) report(d *destination) {
	if r.gone.Records > 0 {
		r.gone.Reason = reasonOf(r.Reason)
		d.book(r.gone, r.Reason)
	}
}

// let looks after the bytes of an entry whose lease ended: what a delay or an eviction leaves to the disk goes.
func (j *Journal) let(e *window.Entry) {
	if e.Leases > 0 || e.Absent {
		return
	}
	if j.mu.closed {
		j.mu.cache.drop(e, j.mu.fx)
		return
	}
	j.mu.cache.settled(e, j.mu.durable, j.mu.fx)
}

// changedLocked looks after those who wait, once records came back or room was made.
func (j *Journal) changedLocked(d *destination) {
	if j.mu.closed {
		return
	}
	j.mu.changes++
	d.refill()
	d.confine()
	d.win.Serve(time.Time{})
	j.letInLocked()
}

// bury makes dead letters of records this handle holds, synced when it returns nil.
func (h *handle) bury(reason string, seqs []queue.Seq) error {
	d := h.d
	var errs []error
	for _, seq := range seqs {
		d.j.Lock()
		n := h.h.Held(seq)
		var rec queue.Record
		if n != nil {
			rec = n.Entry.Record
		}
		name := d.slot.Name
		d.j.Unlock()
		if n != nil {
			errs = append(errs, d.j.dead.bury(name, reason, seq, rec))
		}
	}
	return errors.Join(errs...)
}

// Wake implements queue.Cursor.
func (h *handle) Wake() {
	h.d.j.Lock()
	defer h.d.j.Unlock()
	if !h.d.j.mu.closed {
		h.d.win.Wake()
		h.d.win.Serve(time.Time{})
	}
}

// Fill implements queue.Cursor.
func (h *handle) Fill() queue.Fill {
	h.d.j.Lock()
	defer h.d.j.Unlock()
	return h.d.fill(h.d.j.now())
}

// Close implements queue.Cursor. A Take that waits on this handle returns queue.ErrClosed.
func (h *handle) Close() {
	h.d.j.Lock()
	defer h.d.j.Unlock()
	if h.h.Close() {
		h.d.win.Serve(time.Time{})
	}
}

var _ queue.Cursor = (*handle)(nil)
