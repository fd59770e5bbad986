// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	// maxThrottle bounds the delay a backend may ask for (failover, section 4.1: throttle.max_wait).
	maxThrottle = 5 * time.Minute
	// maxReturnDelay bounds how long a record that went back to the queue waits (failover, section 5.3).
	maxReturnDelay = 10 * time.Minute
	// maxDrainWait bounds the wait between attempts while the process is stopping.
	maxDrainWait = time.Second
)

// delivery owns one destination's cursor: workers take batches, send them with backoff, and resolve.
//
// States of a worker: taking → sending ⇄ waiting → resolving → taking. A worker that waits holds its lease; other
// workers and other destinations go on. When one of them delivers, all that wait try again at once.
type delivery struct {
	set       *Settings
	dest      *plan.Destination
	own       *source
	inherited []*source // backlogs of destinations that left, see heritage.go
	debts     Debts     // what its emergency level owes; nil = there is none
	repay     *source   // brings that back; nil = nothing does, see backfill.go
	turns     chan struct{}
	handover  chan job
	sender    *sender
	retry     exporter.RetryConfig
	tally     tally
	levels    *dispatch // of a destination with levels; nil = workers send to one exporter

	take     context.Context // ends when draining begins, so that waiting takers take what is there
	endTake  context.CancelFunc
	send     context.Context // ends when deliveries are cut
	endSend  context.CancelFunc
	draining atomic.Bool
	empty    atomic.Bool // draining takes everything that is there, in memory
	// backlog is when an outage began whose backlog is not drained, in Unix ns; 0 = none.
	backlog atomic.Int64

	mu struct {
		sync.Mutex
		recovered chan struct{} // closed by the first delivery after a failure
		failing   bool
		notBefore time.Time // the backend asked for silence until then
	}
}

func newDelivery(set *Settings, d *plan.Destination, s *sender) *delivery {
	v := &delivery{set: set, dest: d, sender: s, retry: d.Levels[0].Retry}
	v.take, v.endTake = context.WithCancel(context.Background())
	v.send, v.endSend = context.WithCancel(context.Background())
	v.mu.recovered = make(chan struct{})
	// Attached here, not at start: what is appended from now on is owed to this destination.
	v.own = &source{Cursor: set.Queue.Attach(d.Name), stored: set.Plan.Storage != ""}
	if set.Debts != nil {
		v.debts = set.Debts(d)
	}
	return v
}

func (d *delivery) start(workers *sync.WaitGroup) {
	if d.owed().Records > 0 { // from before this process: that it is gone will be worth a line
		d.backlog.Store(time.Now().UnixNano())
	}
	if d.levels != nil {
		d.levels.start(workers)
		return
	}
	d.startHeritage(workers)
	for range max(d.dest.Workers, 1) {
		workers.Go(d.work)
	}
}

// drain makes workers stop when the queue is empty (all) or after what they hold.
func (d *delivery) drain(all bool) {
	d.empty.Store(all)
	d.draining.Store(true)
	d.endTake()
	if d.levels != nil {
		d.levels.stop(all)
	}
	d.own.Wake()
}

// cut ends what is in flight.
func (d *delivery) cut() {
	if d.levels != nil {
		d.levels.order(failover.RouterEvent{Kind: failover.RouterStop})
	}
	d.endSend()
}

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

// fill is the destination's own backlog, without what it inherited.
func (d *delivery) fill() queue.Fill { return d.own.Fill() }

func (d *delivery) work() {
	for {
		batch, err := d.next()
		if err != nil {
			return
		}
		if !d.takeTurn(d.send.Done()) {
			d.resolve(d.own, queue.Outcome{Kind: queue.Release}, seqs(batch)...)
			return
		}
		d.deliver(d.own, batch)
		d.endTurn()
	}
}

// next takes a batch. While draining it takes what is there and fails when nothing is.
func (d *delivery) next() ([]queue.Delivered, error) {
	w := d.dest.Want
	w.Joins = joins
	if !d.draining.Load() {
		batch, err := d.own.Take(d.take, w)
		if err == nil || !d.draining.Load() {
			return batch, err
		}
	}
	if !d.empty.Load() {
		return nil, context.Canceled
	}
	w.Min, w.Linger = 0, 0
	for {
		if d.fill().Records == 0 || d.send.Err() != nil {
			return nil, context.Canceled
		}
		// Others may hold the last records in leases that come back; look again now and then.
		ctx, cancel := context.WithTimeout(d.send, maxDrainWait/4)
		batch, err := d.own.Take(ctx, w)
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) {
			return batch, err
		}
	}
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

// deliver sends a batch until each record is resolved.
func (d *delivery) deliver(from *source, batch []queue.Delivered) {
	if len(batch) == 1 && d.tooMany(&batch[0]) {
		d.deliverPieces(from, batch[0], d.dest.Want)
		return
	}
	end := d.attempt(from, unit{records: batch})
	switch {
	case end.verdict.Kind == exporter.Delivered:
		d.ack(from, batch, end.verdict.Rejected)
	case end.verdict.Kind != exporter.Rejected:
		d.giveBack(from, batch, end)
	case len(batch) > 1: // find the record that is refused; its neighbours are delivered
		d.deliver(from, batch[:len(batch)/2])
		d.deliver(from, batch[len(batch)/2:])
	case end.verdict.TooLarge && batch[0].Items > 1:
		w := queue.Want{Sizer: queue.Items, Max: int64(batch[0].Items+1) / 2}
		d.deliverPieces(from, batch[0], w)
	default:
		d.dead(from, batch[0], end.verdict)
	}
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

// deliverPieces splits a record and sends the pieces one after the other. The record is delivered when all of its
// pieces are; pieces that arrived before a failure are sent again with the record.
func (d *delivery) deliverPieces(from *source, r queue.Delivered, w queue.Want) {
	pieces, err := d.split(&r, w)
	if err != nil {
		d.dead(from, r, exporter.Verdict{Kind: exporter.Rejected, Err: err})
		return
	}
	fate := fate{items: r.Items}
	for len(pieces) > 0 {
		p := pieces[0]
		end := d.attempt(from, unit{records: []queue.Delivered{r}, piece: p.Body, items: p.Items})
		switch v := end.verdict; {
		case v.Kind == exporter.Delivered:
			fate.took(p.Items, v.Rejected)
		case v.Kind != exporter.Rejected:
			d.giveBack(from, []queue.Delivered{r}, end)
			return
		case v.TooLarge && p.Items > 1:
			smaller, err := otlp.Split(d.set.Plan.Signal, p.Body, (p.Items+1)/2, 0)
			if err == nil && len(smaller) > 1 {
				pieces = append(smaller, pieces[1:]...)
				continue
			}
			fallthrough
		default:
			fate.refused(p.Items, v)
			d.sender.setAside(int64(p.Items), errText(v))
		}
		pieces = pieces[1:]
	}
	d.resolveOne(from, fate.outcome(), &r)
}

func (d *delivery) split(r *queue.Delivered, w queue.Want) ([]otlp.Piece, error) {
	enc, _, err := decodeMeta(r.Meta)
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

// request builds what the exporter sends; pieces are in identity encoding.
func (u *unit) request(s otlp.Signal) (*exporter.Request, error) {
	enc, md, err := decodeMeta(u.records[0].Meta)
	if err != nil {
		return nil, err
	}
	r := &exporter.Request{Signal: s, Encoding: enc, Metadata: md, Keep: u.keep()}
	if u.piece != nil {
		r.Encoding, r.Items, r.Size, r.Parts = otlp.Identity, u.items, int64(len(u.piece)), [][]byte{u.piece}
		return r, nil
	}
	r.Parts = make([][]byte, len(u.records))
	for i := range u.records {
		r.Items += u.records[i].Items
		r.Size += int64(u.records[i].Size)
		r.Parts[i] = u.records[i].Body
	}
	return r, nil
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
