// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/recordmeta"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// maxDrainWait bounds how long a taker sleeps on an empty queue whose last records are leased, while it is drained.
const maxDrainWait = 250 * time.Millisecond

// delivery is one destination's place in the queue: what it takes from, and how what became of records is written
// down. Who sends what is its dispatch's to say. A destination that waits has none of the sources.
type delivery struct {
	set       *Settings
	dest      *plan.Destination
	own       *source   // nil where the client's answer waits
	inherited []*source // backlogs of destinations that left, see heritage.go
	debts     Debts     // what its emergency level owes; nil = there is none
	repay     *source   // brings that back; nil = nothing does, see backfill.go
	sender    *sender   // of the destination's own lines; a plain exporter's is its only one
	tally     tally

	take     context.Context // ends when draining begins, so that waiting takers take what is there
	endTake  context.CancelFunc
	send     context.Context // ends when deliveries are cut
	endSend  context.CancelFunc
	draining atomic.Bool
	empty    atomic.Bool // draining takes everything that is there, in memory
	// backlog is when an outage began whose backlog is not drained, in Unix ns; 0 = none.
	backlog atomic.Int64
}

func newDelivery(set *Settings, d *plan.Destination, s *sender) *delivery {
	v := &delivery{set: set, dest: d, sender: s}
	v.take, v.endTake = context.WithCancel(context.Background())
	v.send, v.endSend = context.WithCancel(context.Background())
	if !d.Wait {
		v.own = &source{Cursor: unattached{}, stored: set.Plan.Storage != ""}
	}
	if set.Debts != nil {
		v.debts = set.Debts(d)
	}
	return v
}

// attach makes what is appended from now on owed to this destination. Before start; again, it does nothing.
func (d *delivery) attach() {
	if _, ok := d.own.Cursor.(unattached); ok {
		d.own.Cursor = d.set.Queue.Attach(d.dest.Name)
	}
}

// unattached stands for the cursor of a destination that is not attached yet.
type unattached struct{}

func (unattached) Take(context.Context, queue.Want) ([]queue.Delivered, error) {
	return nil, queue.ErrClosed
}
func (unattached) Resolve(queue.Outcome, ...queue.Seq) error { return queue.ErrClosed }
func (unattached) Wake()                                     {}
func (unattached) Fill() queue.Fill                          { return queue.Fill{} }
func (unattached) Close()                                    {}

// close gives back every lease there still is.
func (d *delivery) close() {
	d.own.Close()
	for _, s := range d.inherited {
		s.Close()
	}
	if d.repay != nil {
		d.repay.Close()
	}
}

// wake makes all that rests in the queue be offered again.
func (d *delivery) wake() {
	if d.own == nil {
		return
	}
	d.own.Wake()
	for _, s := range d.inherited {
		s.Wake()
	}
	if d.repay != nil {
		d.repay.Wake()
	}
}

// sources are all that the destination takes from, its own first.
func (d *delivery) sources() []*source {
	all := append([]*source{d.own}, d.inherited...)
	if d.repay != nil {
		all = append(all, d.repay)
	}
	return all
}

// fill is the destination's own backlog, without what it inherited.
func (d *delivery) fill() queue.Fill { return d.own.Fill() }

// owed is everything that waits for the destination, what it inherited included.
func (d *delivery) owed() queue.Fill {
	sum := d.own.Fill()
	for _, s := range d.inherited {
		f := s.Fill()
		sum.Records += f.Records
		sum.Items += f.Items
		sum.Bytes += f.Bytes
		sum.Oldest = max(sum.Oldest, f.Oldest)
	}
	return sum
}

var (
	errDry      = errors.New("nothing more comes")
	errUnwanted = errors.New("no batch is wanted")
)

// next takes a batch while ctx lasts, of what was appended from a number on first, if that is not 0. While draining it
// takes what is there, for as long as wanted says so, and fails with errDry when nothing is.
func (d *delivery) next(ctx context.Context, wanted func() bool, from queue.Seq) ([]queue.Delivered, error) {
	return d.nextOf(ctx, d.own, wanted, from)
}

// nextOf is next of any source that is drained.
func (d *delivery) nextOf(ctx context.Context, s *source, wanted func() bool, from queue.Seq) ([]queue.Delivered, error) {
	w := d.dest.Want
	w.Joins = joins
	if !d.draining.Load() {
		w.From = from
		batch, err := s.Take(ctx, w)
		switch {
		case err == nil:
			return batch, nil
		case errors.Is(err, queue.ErrClosed):
			return nil, errDry
		case !d.draining.Load():
			return nil, errUnwanted
		}
	}
	w.Min, w.Linger, w.From = 0, 0, 0
	for d.empty.Load() && s.Fill().Records > 0 && d.send.Err() == nil {
		if !wanted() {
			return nil, errUnwanted
		}
		// Others may hold the last records in leases that come back; look again now and then.
		ctx, cancel := context.WithTimeout(d.send, maxDrainWait)
		batch, err := s.Take(ctx, w)
		cancel()
		if err == nil {
			return batch, nil
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return nil, errDry
}

// joins lets records of one signal, encoding and metadata travel together where concatenation is a merge.
func joins(first, next *queue.Record) bool {
	return first.Tag == next.Tag && string(first.Meta) == string(next.Meta) && otlp.Joinable(otlp.Signal(first.Tag))
}

// unit is one request in the making: whole records, or a piece of one.
type unit struct {
	records []queue.Delivered
	piece   []byte // set: a part of records[0], identity encoding
	items   uint32 // of the piece
}

// tooMany reports whether a lone record is above the batch's bound in items or bytes.
func (d *delivery) tooMany(r *queue.Delivered) bool {
	w := &d.dest.Want
	if w.Max <= 0 || r.Items < 2 {
		return false
	}
	if w.Sizer == queue.Bytes {
		return int64(r.Size) > w.Max
	}
	return int64(r.Items) > w.Max
}

func (d *delivery) split(r *queue.Delivered, w queue.Want) ([]otlp.Piece, error) {
	enc, _, err := recordmeta.Decode(r.Meta)
	if err != nil {
		return nil, err
	}
	body := r.Body
	if enc != otlp.Identity {
		if body, err = d.set.Decode(enc, body, int(r.Size)); err != nil {
			return nil, err
		}
	}
	maxItems, maxBytes := uint32(0), 0
	if w.Sizer == queue.Bytes {
		maxBytes = int(w.Max)
	} else {
		maxItems = uint32(min(w.Max, math.MaxUint32))
	}
	return otlp.Split(d.set.Plan.Signal, body, maxItems, maxBytes)
}

// request fills in what the exporter sends; pieces are in identity encoding.
func (u *unit) request(s otlp.Signal, r *exporter.Request) error {
	enc, md, err := recordmeta.Decode(u.records[0].Meta)
	if err != nil {
		return err
	}
	*r = exporter.Request{Signal: s, Encoding: enc, Metadata: md, Keep: u.keep(), Parts: r.Parts[:0]}
	if u.piece != nil {
		r.Encoding, r.Items, r.Size, r.Parts = otlp.Identity, u.items, int64(len(u.piece)), append(r.Parts, u.piece)
		return nil
	}
	for i := range u.records {
		r.Items += u.records[i].Items
		r.Size += int64(u.records[i].Size)
		r.Parts = append(r.Parts, u.records[i].Body)
	}
	return nil
}

// keep is what an exporter calls when something below it may go on reading the records' bytes; nil if one of them
// cannot promise not to be used again.
func (u *unit) keep() func() {
	for i := range u.records {
		if u.records[i].Keep == nil {
			return nil
		}
	}
	if len(u.records) == 1 {
		return u.records[0].Keep
	}
	records := u.records
	return func() {
		for i := range records {
			records[i].Keep()
		}
	}
}
