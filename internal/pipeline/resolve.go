// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// ack resolves a delivered batch. A partial success names a number, not items: it is booked on the records in order.
func (d *delivery) ack(from *source, batch []queue.Delivered, rejected uint32) {
	i := 0
	for ; rejected > 0 && i < len(batch); i++ {
		n := min(rejected, batch[i].Items)
		d.resolveOne(from, queue.Outcome{Kind: queue.Ack, Rejected: n}, &batch[i])
		rejected -= n
	}
	if from == d.own {
		d.tally.delivered(batch[i:])
	}
	d.resolve(from, queue.Outcome{Kind: queue.Ack}, seqs(batch[i:])...)
}

// dead sets a record aside that no destination of this pipeline's will ever take.
func (d *delivery) dead(from *source, r queue.Delivered, v exporter.Verdict) {
	reason := errText(v)
	d.sender.setAside(int64(r.Items), reason)
	d.resolveOne(from, queue.Outcome{Kind: queue.Dead, Reason: reason}, &r)
}

// resolveOne ends the lease of one record for good, and counts it unless the queue could not set it aside.
func (d *delivery) resolveOne(from *source, o queue.Outcome, r *queue.Delivered) {
	if d.resolve(from, o, r.Seq) && from == d.own {
		d.tally.resolved(o, r)
	}
}

// resolve reports false when a record could not be set aside; the queue keeps it and offers it again.
func (d *delivery) resolve(from *source, o queue.Outcome, seqs ...queue.Seq) bool {
	if len(seqs) == 0 {
		return true
	}
	defer d.drained()
	if err := from.Resolve(o, seqs...); err != nil {
		if d.sender.due("unset") {
			d.sender.log.Error("Queue: record could not be set aside, it is kept", zap.Error(err))
		}
		return false
	}
	return true
}

// grows says, at the first failure of an outage, that data waits from now on.
func (d *delivery) grows(v exporter.Verdict) {
	if d.backlog.Load() != 0 || !d.sender.due("backlog") {
		return
	}
	d.backlog.Store(time.Now().UnixNano())
	d.sender.log.Info("Queue: backlog grows", zap.Int64("queued", d.owed().Items),
		telemetry.Foreign("error", errText(v)))
}

// drained says, once, that what an outage left in the queue is gone.
func (d *delivery) drained() {
	since := d.backlog.Load()
	if since == 0 || d.owed().Records > 0 || !d.backlog.CompareAndSwap(since, 0) {
		return
	}
	d.sender.log.Info("Queue: backlog drained", zap.Int64("delivered", int64(d.tally.ackedItems.Load())),
		zap.Duration("took", time.Since(time.Unix(0, since))))
}

func seqs(batch []queue.Delivered) []queue.Seq {
	out := make([]queue.Seq, len(batch))
	for i := range batch {
		out[i] = batch[i].Seq
	}
	return out
}
