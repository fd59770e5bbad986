// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

const (
	// backfillLook is how often a source that has nothing to do looks whether that has changed.
	backfillLook = time.Second
	// backlogAge is the age from which records in the queue are a backlog, which goes first (failover, section 11.4).
	backlogAge = 30 * time.Second
	// canaryAfter is how long a level that lacks nothing but a live batch waits for one to come through the door.
	canaryAfter = 5 * time.Second
	// maxDebtRest bounds how long a debt that came back rests.
	maxDebtRest = time.Hour
)

// Debts are what the emergency level of a destination took and no backend has (failover, section 12). They lie in a file
// with receipts, which is somebody else's; a debt that is lent is ended by one of Settle, Return and Refuse. Every method
// may be called from any goroutine.
type Debts interface {
	// Kept reports whether a record of the destination's journal lies under a receipt. Such a record was let go of by the
	// queue, or was about to be when the process ended.
	Kept(seq queue.Seq, accepted time.Time) bool
	// Lend returns the oldest debt that nobody has, read from disk; false if there is none to have now.
	Lend() (Debt, bool, error)
	// Settle says that a backend has it, but for so many items that it refused.
	Settle(n uint64, rejected uint32)
	// Return makes it available again after a rest.
	Return(n uint64, rest time.Duration)
	// Refuse says that no backend will ever take it. It stays where it is.
	Refuse(n uint64)
	// Wake ends all rests.
	Wake()
	// Owed counts what is open.
	Owed() (receipts, items int64)
}

// Debt is one batch as it was put into the file, as wire bytes without encoding.
type Debt struct {
	N     uint64
	Items uint32
	Body  []byte
	Since time.Time // when it was put there
	Again bool      // it may have been delivered by a process that ended before it could say so
}

// backfill is the source that repays the emergency level. It gives when the destination's active level is an ordinary
// one and was healthy for a while, when the queue has no backlog of its own, and never more at once than half of what
// may be in flight: who is late does not get in the way of who is not. Where all is down and nothing is queued, one debt
// at a time is the live batch without which no level returns.
type backfill struct {
	debts  Debts
	after  time.Duration
	most   int
	view   func() *failover.View
	queued func() queue.Fill
	nudges <-chan struct{}
	log    *zap.Logger
	repaid *telemetry.Counter // items
	again  *telemetry.Counter // items that may be there twice

	mu struct {
		sync.Mutex
		healthy time.Time // since when the active level is; zero = it is not
		lacking time.Time // since when a level lacks a live batch and there is none; zero = none does
		lent    map[uint64]uint32
		nacks   map[uint64]int
		began   time.Time // zero = nothing is being repaid
		items   int64     // delivered since
		room    chan struct{}
		said    time.Time // of the last error
	}
}

func newBackfill(b *backfill) *backfill {
	b.mu.lent, b.mu.nacks, b.mu.room = map[uint64]uint32{}, map[uint64]int{}, make(chan struct{}, 1)
	return b
}

// Take implements queue.Cursor.
func (b *backfill) Take(ctx context.Context, w queue.Want) ([]queue.Delivered, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if b.open(time.Now()) {
			if batch := b.next(w); batch != nil {
				return batch, nil
			}
		}
		timer.Reset(backfillLook)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
		case <-b.nudges:
		case <-b.mu.room:
		}
	}
}

// open reports whether debts may be paid now.
func (b *backfill) open(now time.Time) bool {
	v := b.view()
	well := v != nil && !v.AllDown && v.Active >= 0 && v.Active < len(v.Levels)
	if well {
		l := &v.Levels[v.Active]
		well = !l.Emergency && l.State == failover.Healthy && !l.Silent
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !well {
		b.mu.healthy = time.Time{}
		if len(b.mu.lent) == 0 {
			b.endLocked(now, "no level is healthy")
		}
		return b.lacksLocked(now, v)
	}
	b.mu.lacking = time.Time{}
	if b.mu.healthy.IsZero() {
		b.mu.healthy = now
	}
	return now.Sub(b.mu.healthy) >= b.after && len(b.mu.lent) < b.most && b.queued().Oldest < backlogAge
}

// lacksLocked reports whether a debt is to be the live batch that a level wants before it returns.
func (b *backfill) lacksLocked(now time.Time, v *failover.View) bool {
	wanted := false
	for i := 0; v != nil && v.AllDown && i < len(v.Levels); i++ {
		_, canary := v.Levels[i].Wanted()
		wanted = wanted || canary
	}
	switch {
	case !wanted || b.queued().Records > 0:
		b.mu.lacking = time.Time{}
	case b.mu.lacking.IsZero():
		b.mu.lacking = now
	default:
		return now.Sub(b.mu.lacking) >= min(canaryAfter, b.after) && len(b.mu.lent) == 0
	}
	return false
}

// next lends the oldest debt, if there is one.
func (b *backfill) next(queue.Want) []queue.Delivered {
	d, ok, err := b.debts.Lend()
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && now.Sub(b.mu.said) >= logEvery {
		b.mu.said = now
		b.log.Warn("Failover: backfill cannot read the emergency file", zap.Error(err))
	}
	if !ok {
		if receipts, _ := b.debts.Owed(); len(b.mu.lent) == 0 && (receipts == 0 || !b.mu.began.IsZero()) {
			b.endLocked(now, "nothing is left to send")
		}
		return nil
	}
	if b.mu.began.IsZero() {
		b.mu.began, b.mu.items = now, 0
		receipts, items := b.debts.Owed()
		b.log.Info("Failover: backfill begins", zap.Int64("items", items), zap.Int64("batches", receipts),
			zap.Duration("oldest", now.Sub(d.Since).Round(time.Second)))
	}
	if d.Again {
		b.again.Add(int64(d.Items))
	}
	b.mu.lent[d.N] = d.Items
	return []queue.Delivered{{
		Record: queue.Record{Items: d.Items, Size: uint32(len(d.Body)), Body: d.Body, Keep: func() {}},
		Seq:    queue.Seq(d.N), Attempt: b.mu.nacks[d.N], Accepted: d.Since,
	}}
}

func (b *backfill) endLocked(now time.Time, reason string) {
	if b.mu.began.IsZero() {
		return
	}
	receipts, items := b.debts.Owed()
	b.log.Info("Failover: backfill ends", zap.Int64("delivered", b.mu.items), zap.Int64("left", items),
		zap.Int64("batches", receipts), zap.Duration("took", now.Sub(b.mu.began)), zap.String("reason", reason))
	b.mu.began = time.Time{}
}

// Resolve implements queue.Cursor.
func (b *backfill) Resolve(o queue.Outcome, seqs ...queue.Seq) error {
	for _, seq := range seqs {
		b.resolve(uint64(seq), &o)
	}
	select {
	case b.mu.room <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

func (b *backfill) resolve(n uint64, o *queue.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items, ok := b.mu.lent[n]
	if !ok {
		return
	}
	delete(b.mu.lent, n)
	switch o.Kind {
	case queue.Ack, queue.Drop:
		rejected := min(o.Rejected, items)
		b.debts.Settle(n, rejected)
		b.repaid.Add(int64(items - rejected))
		b.mu.items += int64(items - rejected)
		delete(b.mu.nacks, n)
	case queue.Dead:
		// Some of it may have been delivered; the file is where it can be looked at, as dead letters are.
		b.debts.Refuse(n)
		b.log.Error("Failover: backfill was refused, the batch stays in the emergency file", zap.Uint64("receipt", n),
			zap.Uint32("items", items), telemetry.Foreign("reason", o.Reason))
	case queue.Nack:
		b.mu.nacks[n]++
		b.debts.Return(n, min(o.Delay, maxDebtRest))
	default:
		b.debts.Return(n, 0)
	}
}

// Wake implements queue.Cursor.
func (b *backfill) Wake() { b.debts.Wake() }

// Fill implements queue.Cursor: what is parked is in no queue.
func (b *backfill) Fill() queue.Fill { return queue.Fill{} }

// Close implements queue.Cursor.
func (b *backfill) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range b.mu.lent {
		b.debts.Return(n, 0)
	}
	clear(b.mu.lent)
	b.endLocked(time.Now(), "the process stops")
}

var _ queue.Cursor = (*backfill)(nil)

// repayment is the source that repays what the destination's emergency level took; nil where there is nothing to repay,
// or it is not wanted.
func (x *dispatch) repayment() *source {
	if x.debts == nil || x.dest.Route == nil || !x.dest.Route.Config.Backfill.Enabled {
		return nil
	}
	slots := 0
	for i := range x.dest.Levels {
		if l := &x.dest.Levels[i]; !l.Emergency {
			slots = max(slots, l.Workers)
		}
	}
	labels := []string{"connector", x.dest.Label, "signal", x.set.Plan.Signal.String()}
	_, news := x.room.Follow(x.id, nil)
	return &source{stored: true, repays: true, Cursor: newBackfill(&backfill{
		debts: x.debts, after: x.dest.Route.Config.Backfill.After, most: max(slots/2, 1), nudges: news,
		view: func() *failover.View { return x.room.View(x.id) }, queued: x.owed,
		log: x.set.Telemetry.Logger.With(zap.String("connector", x.dest.Label),
			zap.String("signal", x.set.Plan.Signal.String())),
		repaid: x.set.Telemetry.Metrics.Counter("holdfast_failover_backfilled_items_total",
			"Items delivered from the emergency file.", labels...),
		again: x.meter.levels[0].again[doubtBackfill],
	})}
}

// receipt is what an emergency level is to write down with a load; nil at other levels. Records are named where the load
// is all of them and one exporter has it: of a piece, or of one of several files, a crash would leave a record that is
// not whole and counts as kept.
func (x *dispatch) receipt(l *load, level int) *exporter.Receipt {
	if x.dest.Route == nil || !x.dest.Levels[level].Emergency {
		return nil
	}
	r := &exporter.Receipt{Pipeline: x.set.Plan.ID, Connector: x.dest.Label}
	if l.from == nil || l.from != x.own || !l.from.stored || l.part != nil || len(x.dest.Levels[level].Exporters) > 1 {
		return r
	}
	for i := range l.records {
		r.Records = append(r.Records, exporter.ReceiptRecord{Seq: uint64(l.records[i].Seq), Accepted: l.records[i].Accepted})
	}
	return r
}

// unkept resolves what of a batch lies in the emergency file already, and returns the rest: the process before ended
// between receipt and resolve.
func (d *delivery) unkept(from *source, batch []queue.Delivered) []queue.Delivered {
	if d.debts == nil || from != d.own || !from.stored {
		return batch
	}
	var kept []queue.Delivered
	for i := range batch {
		if d.debts.Kept(batch[i].Seq, batch[i].Accepted) {
			kept = append(kept, batch[i])
		}
	}
	if len(kept) == 0 {
		return batch
	}
	rest := batch[:0:0]
	for i := range batch {
		if !d.debts.Kept(batch[i].Seq, batch[i].Accepted) {
			rest = append(rest, batch[i])
		}
	}
	d.tally.delivered(kept)
	d.resolve(from, queue.Outcome{Kind: queue.Ack}, seqs(kept)...)
	return rest
}
