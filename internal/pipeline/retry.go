// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// ending is how a unit's stay at its destination ended: delivered, rejected, or back to the queue.
type ending struct {
	verdict exporter.Verdict
	cut     bool // the process is stopping: nothing is to be concluded from it
}

// attempt sends u until it is delivered or rejected, patience ends (max_elapsed_time), or deliveries are cut.
func (d *delivery) attempt(from *source, u unit) ending {
	req, err := u.request(d.set.Plan.Signal)
	if err != nil {
		return ending{verdict: exporter.Verdict{Kind: exporter.Rejected, Err: err}}
	}
	began := time.Now()
	for n := 0; ; n++ {
		if !d.awaitThrottle(from) {
			return ending{cut: true}
		}
		v := d.sender.send(d.send, req)
		switch v.Kind {
		case exporter.Delivered:
			d.recover()
			return ending{verdict: v}
		case exporter.Rejected:
			return ending{verdict: v}
		}
		if d.send.Err() != nil {
			return ending{verdict: v, cut: true}
		}
		wait := d.backoff(n)
		recovered := d.fail(v, &wait)
		d.grows(v)
		if !d.retry.Enabled || d.retry.MaxElapsedTime > 0 && time.Since(began)+wait > d.retry.MaxElapsedTime {
			d.sender.retrying(v, d.returnDelay(u.records[0].Attempt))
			return ending{verdict: v}
		}
		d.sender.retrying(v, wait)
		if !d.pause(from, wait, recovered) {
			return ending{verdict: v, cut: true}
		}
	}
}

// backoff is the n-th wait: initial × multiplierⁿ, at most max_interval, spread by randomization_factor.
func (d *delivery) backoff(n int) time.Duration {
	wait := float64(d.retry.InitialInterval) * math.Pow(max(d.retry.Multiplier, 1), float64(min(n, 64)))
	wait = min(wait, float64(max(d.retry.MaxInterval, d.retry.InitialInterval)))
	spread := d.retry.RandomizationFactor
	return time.Duration(wait * (1 - spread + 2*spread*d.set.Jitter()))
}

// returnDelay is how long a record rests that goes back to the queue: max_interval, doubled for each time before.
func (d *delivery) returnDelay(before int) time.Duration {
	base := max(d.retry.MaxInterval, time.Second)
	return min(base<<min(before, 16), maxReturnDelay)
}

// fail notes that the destination did not take a unit, and returns the channel that the next delivery closes. A
// delay the backend asked for is kept by all workers, and never cut short; wait becomes at least as long.
func (d *delivery) fail(v exporter.Verdict, wait *time.Duration) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v.Kind == exporter.RetryAfter && v.After > 0 {
		after := min(v.After, maxThrottle)
		after += time.Duration(d.set.Jitter() * float64(after) / 10)
		*wait = after
		if until := time.Now().Add(after); until.After(d.mu.notBefore) {
			d.mu.notBefore = until
		}
	}
	d.mu.failing = true
	return d.mu.recovered
}

// recover wakes every worker that waits for this destination: it takes data again.
func (d *delivery) recover() {
	d.mu.Lock()
	woken := d.mu.failing
	if woken {
		d.mu.failing = false
		close(d.mu.recovered)
		d.mu.recovered = make(chan struct{})
	}
	d.mu.Unlock()
	if !woken {
		return
	}
	d.own.Wake()
	for _, s := range d.inherited {
		s.Wake()
	}
}

// awaitThrottle waits until the backend wants to hear from us again; false when the batch is to be left. While the process
// stops nothing more is sent of what stays in a journal.
func (d *delivery) awaitThrottle(from *source) bool {
	if from.stored && d.draining.Load() {
		return false
	}
	for {
		d.mu.Lock()
		wait := time.Until(d.mu.notBefore)
		d.mu.Unlock()
		if wait <= 0 {
			return d.send.Err() == nil
		}
		if !d.pause(from, wait, nil) {
			return false
		}
	}
}

// pause waits, shorter if another worker delivered, or if the process is stopping. It reports false when the batch is
// to be left: deliveries are cut, or the process is stopping and what is left stays in a journal.
func (d *delivery) pause(from *source, wait time.Duration, recovered <-chan struct{}) bool {
	stopping := d.take.Done()
	if d.draining.Load() {
		if from.stored {
			return false
		}
		wait, stopping = min(wait, maxDrainWait), nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-recovered:
	case <-stopping:
		return !from.stored && d.send.Err() == nil
	case <-d.send.Done():
		return false
	}
	return d.send.Err() == nil
}

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

// giveBack returns a batch to the queue. A cut stop says nothing of the records; patience that ended delays them, so
// that what cannot be delivered does not block what can.
func (d *delivery) giveBack(from *source, batch []queue.Delivered, end ending) {
	if from == d.own {
		d.tally.again.Add(uint64(len(batch)))
	}
	if end.cut {
		d.resolve(from, queue.Outcome{Kind: queue.Release}, seqs(batch)...)
		return
	}
	for i := range batch {
		d.resolve(from, queue.Outcome{Kind: queue.Nack, Delay: d.returnDelay(batch[i].Attempt)}, batch[i].Seq)
	}
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
	d.sender.log.Info("Queue: backlog drained", zap.Int64("delivered", d.health().Delivered),
		zap.Duration("took", time.Since(time.Unix(0, since))))
}

func seqs(batch []queue.Delivered) []queue.Seq {
	out := make([]queue.Seq, len(batch))
	for i := range batch {
		out[i] = batch[i].Seq
	}
	return out
}
