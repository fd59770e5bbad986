// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// load is a batch in hand: whole records, a piece of one, or a request whose sender waits. It is used again, unless an
// attempt at it was given up.
type load struct {
	failover.Batch
	unit
	from    *source
	seqs    []queue.Seq
	req     exporter.Request
	made    bool // req is filled in
	stray   bool // an attempt that was given up may read it
	attempt *sending
	at      uint32  // items of the record before the piece
	part    *parted // the piece's record
	once    *once   // the request that waits
	last    exporter.Verdict
	message string // of the last delivery
	// For the meter: the levels that were asked, or counted as passed by, and why it may have been taken.
	asked uint64
	doubt doubt
	alone [1]*failover.Batch
}

// parted is a record in several pieces. It is resolved when all of them have ended.
type parted struct {
	fate   fate
	taken  uint32 // items of pieces that were delivered
	live   int
	delay  time.Duration
	nacked bool
	let    bool // released, in part
}

var loads = sync.Pool{New: func() any {
	l := &load{}
	l.Owner, l.alone[0] = l, &l.Batch
	return l
}}

// loadOf makes a load of whole records.
func (x *dispatch) loadOf(from *source, records []queue.Delivered) *load {
	l := loads.Get().(*load)
	l.records, l.from, l.Source, l.Stays = records, from, x.number(from), from.stored
	l.Ordinary, l.Accepted, l.Live = from.repays, records[0].Accepted, x.live(from, records)
	for i := range records {
		l.Seqs, l.seqs = append(l.Seqs, uint64(records[i].Seq)), append(l.seqs, records[i].Seq)
		l.Items += records[i].Items
	}
	if len(records) == 1 {
		l.Attempt = records[0].Attempt
	}
	return l
}

// free gives the load back. Nobody may have it any more.
func (l *load) free() {
	if l.stray {
		return
	}
	clear(l.req.Parts)
	if l.attempt != nil {
		*l.attempt = sending{load: l, results: l.attempt.results, doubts: l.attempt.doubts}
	}
	*l = load{
		Batch: l.Batch, seqs: l.seqs[:0], req: exporter.Request{Parts: l.req.Parts[:0]}, attempt: l.attempt, alone: l.alone,
	}
	l.Seqs, l.Items, l.Attempt, l.Piece, l.Stays = l.Seqs[:0], 0, 0, false, false
	l.Once, l.Ordinary, l.Accepted, l.Live = false, false, time.Time{}, false
	loads.Put(l)
}

// prepare fills in the request, once: every level gets the same bytes.
func (l *load) prepare(s otlp.Signal) error {
	if l.made {
		return nil
	}
	if err := l.request(s, &l.req); err != nil {
		return err
	}
	l.made = true
	return nil
}

// name tells loads apart, for as long as a breaker remembers one.
func (l *load) name() uint64 {
	if len(l.Seqs) == 0 {
		return l.attempt.try
	}
	return l.Seqs[0]
}

// number tells sources apart: their records may have the same Seq.
func (x *dispatch) number(from *source) uint32 {
	for i, s := range x.inherited {
		if s == from {
			return uint32(i + 1)
		}
	}
	if from == x.repay {
		return uint32(len(x.inherited) + 1)
	}
	return 0
}

// cutUp makes loads of the pieces of a record that is above the batch's bound; of one that cannot be cut, one load.
func (x *dispatch) cutUp(from *source, r *queue.Delivered) []*failover.Batch {
	whole := x.loadOf(from, []queue.Delivered{*r})
	if !x.tooMany(r) {
		return whole.alone[:]
	}
	pieces, err := x.split(r, x.dest.Want)
	if err != nil || len(pieces) < 2 {
		return whole.alone[:]
	}
	return x.parts(whole, pieces)
}

// halve takes a load apart: by records, or a single record by its fields. Nothing comes of what cannot be.
func (x *dispatch) halve(l *load, most uint32) []*failover.Batch {
	if l.once != nil { // who sent it may send less
		return nil
	}
	if n := len(l.records); n > 1 {
		var out []*failover.Batch
		for _, half := range [][]queue.Delivered{l.records[:n/2], l.records[n/2:]} {
			h := x.loadOf(l.from, half)
			h.asked, h.doubt = l.asked, l.doubt
			out = append(out, &h.Batch)
		}
		return out
	}
	if most == 0 {
		most = (l.Items + 1) / 2
	}
	var pieces []otlp.Piece
	var err error
	if l.piece != nil {
		pieces, err = otlp.Split(x.set.Plan.Signal, l.piece, most, 0)
	} else {
		pieces, err = x.split(&l.records[0], queue.Want{Sizer: queue.Items, Max: int64(min(most, math.MaxUint32))})
	}
	if err != nil || len(pieces) < 2 {
		return nil
	}
	return x.parts(l, pieces)
}

// parts makes loads of pieces of what l is.
func (x *dispatch) parts(l *load, pieces []otlp.Piece) []*failover.Batch {
	part := l.part
	if part == nil {
		part = &parted{fate: fate{items: l.records[0].Items}, live: 1}
	}
	part.live += len(pieces) - 1
	at := l.at
	var out []*failover.Batch
	for _, p := range pieces {
		c := x.loadOf(l.from, l.records[:1])
		c.unit, c.at, c.part = unit{records: l.records[:1], piece: p.Body, items: p.Items}, at, part
		c.Piece, c.Items, c.asked, c.doubt = true, p.Items, l.asked, l.doubt
		at += p.Items
		out = append(out, &c.Batch)
	}
	return out
}

// end takes note of what became of a load; what is to be said of it to others is a chore.
func (x *dispatch) end(c *chores, l *load, e *failover.RouterEffect) {
	if l.last.Err == nil {
		l.last.Err = e.Err
	}
	if e.Kind == failover.DeadBatch && e.Reason == failover.DeadUnclear {
		l.last.Err = fmt.Errorf("answers that blame no endpoint, again and again, while others are delivered: %w", l.last.Err)
	}
	if e.Kind == failover.NackBatch && x.dest.Route == nil && l.once == nil {
		c.say(x.sender, l, e.Delay)
	}
	x.meter.ended(e, l)
	if l.once != nil {
		l.once.finish(c, l, e)
		return
	}
	last := l.part != nil && l.part.ends(l, e)
	if last && !l.part.whole() {
		x.meter.pieces(e.Level, l.part.taken)
	}
	c.ends = append(c.ends, ended{load: l, effect: *e, record: last})
}

// conclude does what follows from the end of a load.
func (x *dispatch) conclude(end *ended) {
	l, e := end.load, &end.effect
	switch {
	case end.record:
		x.concludeRecord(l)
	case l.part != nil:
	case e.Kind == failover.AckBatch && e.Rejected == 0:
		if l.from == x.own {
			x.tally.delivered(l.records)
		}
		x.resolve(l.from, queue.Outcome{Kind: queue.Ack}, l.seqs...)
	case e.Kind == failover.AckBatch:
		x.ack(l.from, l.records, e.Rejected)
	case e.Kind == failover.DeadBatch:
		for i := range l.records {
			x.dead(l.from, l.records[i], l.last)
		}
	case e.Kind == failover.NackBatch:
		x.back(l, queue.Outcome{Kind: queue.Nack, Delay: e.Delay})
	default:
		x.back(l, queue.Outcome{Kind: queue.Release})
	}
	l.free()
}

// back returns a load's records to the queue.
func (x *dispatch) back(l *load, o queue.Outcome) {
	if l.from == x.own {
		x.tally.again.Add(uint64(len(l.records)))
	}
	x.resolve(l.from, o, l.seqs...)
}

// ends notes what became of a piece, and reports whether it was the last one.
func (p *parted) ends(l *load, e *failover.RouterEffect) bool {
	p.live--
	switch e.Kind {
	case failover.AckBatch:
		p.fate.took(e.Rejected)
		p.taken += l.items - min(e.Rejected, l.items)
	case failover.DeadBatch:
		p.fate.at = l.at
		p.fate.refused(l.items, l.last)
	case failover.NackBatch:
		p.nacked, p.delay = true, max(p.delay, e.Delay)
	default:
		p.let = true
	}
	return p.live == 0
}

// whole reports whether all pieces were delivered.
func (p *parted) whole() bool { return !p.nacked && !p.let && len(p.fate.ranges) == 0 }

// concludeRecord resolves the record that l was the last piece of.
func (x *dispatch) concludeRecord(l *load) {
	switch p := l.part; {
	case p.nacked:
		x.back(l, queue.Outcome{Kind: queue.Nack, Delay: p.delay})
	case p.let:
		x.back(l, queue.Outcome{Kind: queue.Release})
	default:
		if p.fate.rejected > 0 && len(p.fate.ranges) > 0 {
			x.sender.setAside(int64(p.fate.rejected), errText(p.fate.last))
		}
		x.resolveOne(l.from, p.fate.outcome(), &l.records[0])
	}
}
