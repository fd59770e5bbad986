// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// answer is what the members of a level that did not deliver said together: the first row true of one of them.
type answer struct {
	row       row
	after     time.Duration
	large     bool // every rejection was one of size
	uncounted bool
	unclear   bool // every failure was
	err       error
}

// row is a row of the table of verdicts (failover, section 10); of two, the greater goes.
type row uint8

const (
	rowDelivered row = iota
	rowLocal
	rowRejected
	rowMisconfigured
	rowRetryAfter
	rowRetry
)

var rowOf = [...]row{
	0: rowLocal, exporter.Delivered: rowDelivered, exporter.Retry: rowRetry, exporter.RetryAfter: rowRetryAfter,
	exporter.Ambiguous: rowRetry, exporter.Misconfigured: rowMisconfigured, exporter.Rejected: rowRejected,
}

// hear takes the members' results into b's marks and returns what those say together that did not deliver.
func (b *Batch) hear(members int, results []Result) answer {
	a := answer{large: true, uncounted: true, unclear: true}
	for m := range members {
		if b.delivered[b.level]>>m&1 != 0 {
			continue
		}
		var res *Result
		if m < len(results) {
			res = &results[m]
		}
		if res == nil || int(res.Kind) >= len(rowOf) {
			a.row = max(a.row, rowLocal)
			continue
		}
		if res.Kind == exporter.Delivered {
			b.delivered[b.level] |= 1 << m
			b.refused[b.level] = max(b.refused[b.level], min(res.Rejected, b.Items))
			continue
		}
		b.note(&res.Verdict)
		if res.Kind == exporter.Rejected {
			a.large = a.large && res.TooLarge
		}
		own := rowOf[res.Kind]
		if res.Late {
			own = rowLocal
		}
		if own > a.row {
			a.row, a.err, a.uncounted, a.unclear = own, res.Err, true, true
		}
		if own == a.row {
			a.uncounted, a.unclear = a.uncounted && res.Uncounted, a.unclear && res.Unclear
			a.after = max(a.after, res.After)
		}
	}
	return a
}

// note remembers what an answer says of the batch itself.
func (b *Batch) note(v *exporter.Verdict) {
	if v.Kind == 0 {
		return
	}
	if !b.judged {
		b.judged, b.unclear = true, true
	}
	b.unclear = b.unclear && (v.Kind == exporter.Rejected || v.Kind == exporter.Retry && v.Unclear)
	b.again = b.again || v.Kind == exporter.Ambiguous
	b.err = v.Err
}

// finish judges an attempt that ended.
func (r *Router) finish(now time.Time, b *Batch, results []Result) {
	a := b.hear(len(r.set.Levels[b.level].Members), results)
	b.fresh, b.spent = false, b.spent || b.canary
	b.asked |= 1 << b.level
	r.landed(now, b, a.weight())
	b.cancel, b.until = time.Time{}, time.Time{}
	r.become(b, batchBack)
	if a.row == rowDelivered {
		r.delivered(now, b)
		return
	}
	switch {
	case r.leaving(b) && a.row != rowRejected:
		r.letGo(b)
	case a.row == rowRetry:
		r.failed(now, b, &a)
	case a.row == rowRetryAfter:
		r.asksForTime(now, b, a.after)
	case a.row == rowMisconfigured && a.uncounted:
		r.failed(now, b, &a)
	case a.row == rowMisconfigured:
		b.tried |= 1 << b.level
		r.reroute(now, b, r.causeOf(b, MoveMisconfigured))
	case a.row == rowRejected:
		r.rejected(now, b, a.large)
	default:
		r.local(now, b)
	}
}

// weight is what an answer says of the endpoint's strength.
func (a *answer) weight() Answer {
	switch {
	case a.row == rowDelivered:
		return AnswerDelivered
	case a.row == rowRetryAfter:
		return AnswerAsked
	case a.row == rowRetry && a.unclear:
		return AnswerUnclear
	case a.row == rowRetry:
		return AnswerFailed
	}
	return AnswerNone
}

// landed takes b off its level's window, and lets others have its place there.
func (r *Router) landed(now time.Time, b *Batch, a Answer) {
	if b.level != r.emergency {
		r.levels[b.level].win.Done(now, b.lane, a, b.Items, now.Sub(b.sent))
	}
	r.freed = true
}

func (r *Router) delivered(now time.Time, b *Batch) {
	l := &r.levels[b.level]
	l.deliveries++
	l.delivered = now
	r.clear(b)
	r.end(b, RouterEffect{Kind: AckBatch, Rejected: b.refused[b.level]})
}

// failed is the row of retry and ambiguous.
func (r *Router) failed(now time.Time, b *Batch, a *answer) {
	set, l := &r.set.Levels[b.level], &r.view.Levels[b.level]
	next := set.Backoff.next(b.backoff)
	wait := set.Backoff.spread(next, r.set.Jitter)
	tired := b.hasty() || set.Patience != Forever && now.Sub(b.arrived)+wait > set.Patience
	moves := !a.uncounted && (r.set.Move || !r.set.Stay && r.levels[b.level].deliveries == b.since)
	if !l.Eligible || moves || tired {
		cause := MoveFailure
		if tired && !moves && l.Eligible {
			cause = MovePatience
		}
		if b.Once || r.elsewhere(b.tried|b.rejected|1<<b.level) {
			b.tried |= 1 << b.level
			r.reroute(now, b, r.causeOf(b, cause))
			return
		}
		if !l.Eligible {
			r.reroute(now, b, r.causeOf(b, cause))
			return
		}
		if tired && !l.Silent {
			r.nack(now, b, r.rest(b))
			return
		}
	}
	b.backoff = next
	r.waitHere(now, b, waitBackoff, wait)
}

// causeOf names what b suffered more exactly: a canary's failure is no news of its level, and a level that is down
// takes its batches with it.
func (r *Router) causeOf(b *Batch, cause MoveCause) MoveCause {
	switch {
	case b.canary:
		return MoveCanary
	case !r.view.Levels[b.level].Eligible:
		return MoveDown
	}
	return cause
}

// asksForTime is the row of retry-after; without a delay the level's backoff is meant.
func (r *Router) asksForTime(now time.Time, b *Batch, after time.Duration) {
	if after <= 0 {
		b.backoff = r.set.Levels[b.level].Backoff.next(b.backoff)
		after = b.backoff
	}
	if r.set.MaxThrottle > 0 {
		after = min(after, r.set.MaxThrottle)
	}
	l := &r.levels[b.level]
	if t := now.Add(after); t.After(l.throttled) {
		l.throttled = t
		r.jolted = true // others wait for the level, too
	}
	r.reroute(now, b, MoveThrottled)
}

// rejected is the row of rejections: the record that is refused is looked for, and the other levels are asked once.
func (r *Router) rejected(now time.Time, b *Batch, large bool) {
	if !b.whole && !r.leaving(b) && (len(b.Seqs) > 1 || large && b.Items > 1) {
		b.asking = false
		r.become(b, batchSplitting)
		r.emit(RouterEffect{Kind: HalveBatch, Batch: b})
		return
	}
	if r.leaving(b) && len(b.Seqs) > 1 {
		r.letGo(b)
		return
	}
	b.rejected |= 1 << b.level
	asked := b.tried | b.rejected
	for i := range r.view.Levels {
		if r.view.Levels[i].Eligible && asked>>i&1 == 0 && i != r.emergency || b.level == r.emergency {
			if r.leaving(b) {
				r.letGo(b)
				return
			}
			r.reroute(now, b, r.causeOf(b, MoveRejected))
			return
		}
	}
	switch {
	case b.Once || b.rejected&r.trial == 0 || r.draining:
		r.dead(b, DeadRejected)
	case r.leaving(b):
		r.letGo(b)
	default:
		r.putOff(b)
	}
}

// putOff returns b to the queue for as long as a trial may take; its end wakes the queue.
func (r *Router) putOff(b *Batch) {
	r.end(b, RouterEffect{Kind: NackBatch, Delay: maxNackDelay, Again: b.again || b.partly(), Err: b.err, Asked: b.asked})
}

// local is the row of attempts without a verdict.
func (r *Router) local(now time.Time, b *Batch) {
	if r.view.Levels[b.level].Eligible {
		r.waitHere(now, b, waitLocal, localWait)
		return
	}
	r.reroute(now, b, r.causeOf(b, MoveDown))
}

// waitHere keeps b and its slot at its level.
func (r *Router) waitHere(now time.Time, b *Batch, why waitReason, wait time.Duration) {
	r.apply(now, b, decision{act: actWait, level: b.level, why: why, until: now.Add(wait)}, MoveNone)
}

// reroute finds b a new place after an attempt. A canary that failed and would be held goes back to the queue, so that
// the next canary is another batch; one that the level only asked to wait is not to blame.
func (r *Router) reroute(now time.Time, b *Batch, cause MoveCause) {
	d := r.route(now, b)
	if b.canary && d.act == actHold && cause == MoveCanary {
		delay := r.rest(b)
		switch {
		case !b.judged:
			delay = localWait
		case r.view.AllDown: // it stands in nobody's way, and there may be no other to find out with
			delay = min(delay, r.set.Levels[b.level].Backoff.Max)
		}
		r.nack(now, b, delay)
		return
	}
	r.apply(now, b, d, cause)
}

// refuse routes b without the tokens that others got.
func (r *Router) refuse(now time.Time, b *Batch) {
	r.levels[b.level].lost = r.view.Number
	r.landed(now, b, AnswerNone)
	b.canary, b.cancel, b.until = false, time.Time{}, time.Time{}
	r.become(b, batchBack)
	if r.leaving(b) {
		r.letGo(b)
		return
	}
	r.release(b)
	if b.fresh {
		b.level = -1 // it was never there
	}
	r.apply(now, b, r.route(now, b), MoveCanary)
}

// rest is how long b stays away when it goes back to the queue.
func (r *Router) rest(b *Batch) time.Duration {
	i := b.level
	if i < 0 {
		i = max(b.from, 0)
	}
	base := r.set.Levels[i].Backoff.Max
	for range min(b.Attempt, 64) {
		if base *= 2; base >= maxNackDelay {
			return maxNackDelay
		}
	}
	return min(base, maxNackDelay)
}

// hint is the smallest delay any level has left, for a client that waits.
func (r *Router) hint(now time.Time, b *Batch, d decision) time.Duration {
	switch {
	case d.act == actWait:
		return max(d.until.Sub(now), 0)
	case d.act == actNack:
		return r.set.Levels[max(b.level, 0)].Backoff.Initial
	}
	if r.view.NextProbe.After(now) {
		return r.view.NextProbe.Sub(now)
	}
	return localWait
}

func (r *Router) nack(now time.Time, b *Batch, delay time.Duration) {
	if !b.Once && r.doubtful(now, b) {
		r.dead(b, DeadUnclear)
		return
	}
	if r.draining {
		delay = min(delay, maxDrainWait)
	}
	r.end(b, RouterEffect{Kind: NackBatch, Delay: delay, Again: b.again || b.partly(), Err: b.err, Asked: b.asked})
}

// partly reports whether a member has it that will get it again.
func (b *Batch) partly() bool {
	for _, m := range b.delivered {
		if m != 0 {
			return true
		}
	}
	return false
}

func (r *Router) dead(b *Batch, why DeadReason) {
	r.clear(b)
	if r.set.DropRejected && why == DeadRejected {
		r.end(b, RouterEffect{Kind: AckBatch, Rejected: b.Items, Err: b.err, Asked: b.asked})
		return
	}
	r.end(b, RouterEffect{Kind: DeadBatch, Reason: why, Err: b.err, Asked: b.asked})
}

// letGo returns b to the queue without a word on it.
func (r *Router) letGo(b *Batch) {
	r.end(b, RouterEffect{Kind: ReleaseBatch, Again: b.again || b.partly()})
}

func (r *Router) end(b *Batch, e RouterEffect) {
	e.Batch, e.Level, e.From = b, b.level, -1
	r.leave(b)
	r.emit(e)
}
