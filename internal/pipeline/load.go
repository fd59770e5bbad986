// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"math"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// loadOf makes a load of whole records.
func (x *dispatch) loadOf(from *source, records []queue.Delivered) *failover.Batch {
	l := &load{unit: unit{records: records}, from: from}
	l.Owner, l.Source, l.Ordinary = l, x.number(from), from.repays
	l.Seqs = make([]uint64, len(records))
	for i := range records {
		l.Seqs[i] = uint64(records[i].Seq)
		l.Items += records[i].Items
	}
	l.Accepted = records[0].Accepted
	if len(records) == 1 {
		l.Attempt = records[0].Attempt
	}
	return &l.Batch
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

// cut makes loads of the pieces of a record that is above the batch's bound; of one that cannot be cut, one load.
func (x *dispatch) cut(from *source, r *queue.Delivered) []*failover.Batch {
	whole := x.loadOf(from, []queue.Delivered{*r})
	pieces, err := x.split(r, x.dest.Want)
	if err != nil || len(pieces) < 2 {
		return []*failover.Batch{whole}
	}
	return x.parts(whole.Owner.(*load), pieces)
}

// halve takes a load apart: by records, or a single record by its fields. Nothing comes of what cannot be.
func (x *dispatch) halve(l *load, most uint32) []*failover.Batch {
	if n := len(l.records); n > 1 {
		var out []*failover.Batch
		for _, half := range [][]queue.Delivered{l.records[:n/2], l.records[n/2:]} {
			b := x.loadOf(l.from, half)
			of := b.Owner.(*load)
			of.asked, of.doubt = l.asked, l.doubt
			out = append(out, b)
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
		c := &load{unit: unit{records: l.records[:1], piece: p.Body, items: p.Items}, from: l.from, at: at, part: part,
			asked: l.asked, doubt: l.doubt}
		c.Owner, c.Source, c.Piece, c.Seqs, c.Items, c.Attempt = c, l.Source, true, l.Seqs, p.Items, l.Attempt
		c.Ordinary, c.Accepted = l.Ordinary, l.Accepted
		at += p.Items
		out = append(out, &c.Batch)
	}
	return out
}

// end resolves what a load was made of.
func (x *dispatch) end(l *load, e *failover.RouterEffect) {
	if l.last.Err == nil {
		l.last.Err = e.Err
	}
	if e.Kind == failover.DeadBatch && e.Reason == failover.DeadUnclear {
		l.last.Err = fmt.Errorf("answers that blame no endpoint, again and again, while others are delivered: %w", l.last.Err)
	}
	x.meter.ended(e, l)
	switch {
	case l.part != nil:
		x.endPart(l, e)
	case e.Kind == failover.AckBatch:
		x.delivery.ack(l.from, l.records, e.Rejected)
	case e.Kind == failover.DeadBatch:
		for i := range l.records {
			x.dead(l.from, l.records[i], l.last)
		}
	default:
		x.back(l.from, l.records, e)
	}
}

// back returns records to the queue.
func (x *dispatch) back(from *source, records []queue.Delivered, e *failover.RouterEffect) {
	o := queue.Outcome{Kind: queue.Release}
	if e.Kind == failover.NackBatch {
		o = queue.Outcome{Kind: queue.Nack, Delay: e.Delay}
	}
	if from == x.own {
		x.tally.again.Add(uint64(len(records)))
	}
	x.resolve(from, o, seqs(records)...)
}

// endPart notes what became of a piece, and resolves its record with the last one.
func (x *dispatch) endPart(l *load, e *failover.RouterEffect) {
	p := l.part
	p.live--
	switch e.Kind {
	case failover.AckBatch:
		p.fate.took(l.items, e.Rejected)
		p.taken += l.items - min(e.Rejected, l.items)
	case failover.DeadBatch:
		p.fate.at = l.at
		p.fate.refused(l.items, l.last)
	case failover.NackBatch:
		p.nacked, p.delay = true, max(p.delay, e.Delay)
	default:
		p.let = true
	}
	if p.live > 0 {
		return
	}
	if p.nacked || p.let || len(p.fate.ranges) > 0 {
		x.meter.pieces(e.Level, p.taken)
	}
	switch {
	case p.nacked:
		x.back(l.from, l.records, &failover.RouterEffect{Kind: failover.NackBatch, Delay: p.delay})
	case p.let:
		x.back(l.from, l.records, &failover.RouterEffect{Kind: failover.ReleaseBatch})
	default:
		if p.fate.rejected > 0 && len(p.fate.ranges) > 0 {
			x.sender.setAside(int64(p.fate.rejected), errText(p.fate.last))
		}
		x.resolveOne(l.from, p.fate.outcome(), &l.records[0])
	}
}
