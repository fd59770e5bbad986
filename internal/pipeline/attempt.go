// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

const (
	// pulseEvery is how often the switch room hears of deliveries at an exporter that is well. It must be well below the
	// second within which a delivery speaks against silence (failover, section 1).
	pulseEvery = 250 * time.Millisecond
	// pulseAge is how long a delivery that was not told is news.
	pulseAge = time.Second
	// lateAfter is how late our own timer may be (failover, section 5.1).
	lateAfter = time.Second
)

// sending is one attempt: the members of a level that have not delivered the load.
type sending struct {
	x       *dispatch
	load    *load
	try     uint64
	level   int
	view    *failover.LevelView // under which it was sent
	proof   bool
	members uint64
	began   time.Time
	req     exporter.Request
	results []failover.Result
	doubts  []doubt // why it may have been taken although nobody said so, by member
	worker  *worker // nil = the request that waits makes it
	cancel  context.CancelFunc
	flying  bool // not answered yet, and not given up
}

// sendTo starts an attempt. One that takes tokens claims them first: they prove something for all who look at the
// level. Whoever stepped makes it, if it can.
func (x *dispatch) sendTo(c *chores, l *load, e *failover.RouterEffect) {
	level := &x.mu.view.Levels[e.Level]
	if l.once != nil && l.once.gone { // nobody is there to send it
		x.mu.events = append(x.mu.events, failover.RouterEvent{Kind: failover.BatchFinished, Batch: e.Batch, Try: e.Try})
		return
	}
	if e.Proof && !level.Claim() {
		x.mu.events = append(x.mu.events, failover.RouterEvent{Kind: failover.CanaryRefused, Batch: e.Batch, Try: e.Try})
		return
	}
	a := l.attempt
	if a == nil {
		a = &sending{load: l}
		l.attempt = a
	}
	members := len(x.senders[e.Level])
	if cap(a.results) < members {
		a.results, a.doubts = make([]failover.Result, members), make([]doubt, members)
	}
	*a = sending{
		x: x, load: l, try: e.Try, level: e.Level, view: level, proof: e.Proof, members: e.Members, began: x.mu.now,
		results: a.results[:members], doubts: a.doubts[:members], flying: true,
	}
	clear(a.results)
	clear(a.doubts)
	if err := l.prepare(x.set.Plan.Signal); err != nil {
		for i := range a.results {
			a.results[i].Verdict = exporter.Verdict{Kind: exporter.Rejected, Err: err}
			a.tell(x.mu.now, i, false)
		}
		x.mu.events = append(x.mu.events, x.heard(a))
		return
	}
	a.req = l.req
	a.req.Receipt = x.receipt(l, e.Level)
	x.meter.sent(e, l, x.mu.view)
	switch {
	case l.once != nil:
		l.once.hand(c, a)
	case c.worker != nil && c.own == nil:
		c.worker.has(a)
		c.own = a
	default:
		x.assign(a)
	}
}

// run sends to all members at once, tells the switch room what came of each before the router hears of it, and returns
// when the last answer came.
func (a *sending) run(ctx context.Context) time.Time {
	if a.members == 1 && len(a.results) == 1 {
		return a.one(ctx, 0)
	}
	var others sync.WaitGroup
	first := -1
	for i := range a.results {
		if a.members>>i&1 == 0 {
			if a.proof { // it has the batch already: that proves nothing of now
				a.tell(time.Now(), i, false)
			}
			continue
		}
		if first < 0 {
			first = i
			continue
		}
		others.Go(func() { a.one(ctx, i) })
	}
	a.one(ctx, first)
	others.Wait()
	return time.Now()
}

func (a *sending) one(ctx context.Context, i int) time.Time {
	x := a.x
	v, now := x.senders[a.level][i].send(ctx, &a.req)
	late := a.late(&v, now)
	cut := late || a.cut(ctx, now)
	x.meter.attempted(a.level, i, &v, now.Sub(a.began))
	a.doubts[i] = x.meter.doubtOf(a.level, &v, now.Sub(a.began), cut, a.proof && a.view.Members[i].Canary)
	a.results[i] = failover.Result{Verdict: v, Uncounted: v.Kind != exporter.Delivered && !x.counts.Counts(&v), Late: late}
	if v.Kind != exporter.Delivered && v.Kind != exporter.Rejected && x.own != nil {
		x.grows(v)
	}
	a.tell(now, i, cut)
	return now
}

// cut reports whether the attempt was ended by us, so that it says nothing of the endpoint. A client that waited for
// half of the time the endpoint has was not in a hurry: its deadline speaks against the endpoint.
func (a *sending) cut(ctx context.Context, now time.Time) bool {
	err := ctx.Err()
	if err == nil {
		return false
	}
	limit := a.x.dest.Levels[a.level].Timeout
	return !errors.Is(err, context.DeadlineExceeded) || limit <= 0 || now.Sub(a.began) < limit/2
}

// late reports whether the attempt ended by a deadline that had long passed: the process did not run, and what the
// endpoint did meanwhile nobody knows.
func (a *sending) late(v *exporter.Verdict, now time.Time) bool {
	limit := a.x.dest.Levels[a.level].Timeout
	return limit > 0 && now.Sub(a.began) > limit+lateAfter && (v.Kind == exporter.Ambiguous || v.Kind == exporter.Retry) &&
		errors.Is(v.Err, context.DeadlineExceeded)
}

// pulse is what is to be told of deliveries at a member that is well.
type pulse struct {
	untold     atomic.Uint32
	last, told atomic.Int64 // Unix ns: of the last delivery that was not told, of the last one that was
}

// tell reports the outcome at member i to the switch room. An attempt that was cut by us says nothing of an endpoint.
// Deliveries at a member that is well are told together: one of them says what all say.
func (a *sending) tell(now time.Time, i int, cut bool) {
	x, m, v := a.x, &a.view.Members[i], &a.results[i].Verdict
	p := &x.pulses[a.level][i]
	delivered := v.Kind == exporter.Delivered && !a.proof
	if delivered && !x.exact && a.calm(i) {
		if at := p.told.Load(); now.UnixNano()-at < int64(pulseEvery) || !p.told.CompareAndSwap(at, now.UnixNano()) {
			p.last.Store(now.UnixNano())
			p.untold.Add(1)
			return
		}
	}
	ev := failover.Event{Kind: failover.EventAttempted, Breaker: m.Breaker, Outcome: x.counts.Outcome(v)}
	if more := p.untold.Swap(0); more > 0 && now.UnixNano()-p.last.Load() < int64(pulseAge) && (delivered || a.calm(i)) {
		if !delivered { // what was delivered before the failure is to be heard before it
			early := failover.Event{Kind: failover.EventAttempted, Breaker: m.Breaker}
			early.Outcome = breaker.Outcome{Class: breaker.Delivered, Generation: m.Generation, More: more - 1}
			x.room.Tell(early)
		} else {
			ev.Outcome.More = more
		}
	}
	if cut && v.Kind != exporter.Delivered && v.Kind != exporter.Rejected {
		ev.Outcome.Class = breaker.Local
	}
	ev.Outcome.Generation, ev.Outcome.Batch, ev.Outcome.Took = m.Generation, a.load.name(), now.Sub(a.began)
	if a.proof && m.Token != nil {
		ev.Proof = !m.Canary
		if m.Canary {
			ev.Kind = failover.EventCanaryDone
		}
		if a.members>>i&1 == 0 {
			ev.Kind = failover.EventCanaryLost
		}
	}
	x.room.Tell(ev)
}

// calm reports whether member i is well now, and was since the attempt began.
func (a *sending) calm(i int) bool {
	view := a.x.view()
	if view == nil || a.level >= len(view.Levels) || i >= len(view.Levels[a.level].Members) {
		return false
	}
	l := &view.Levels[a.level]
	return l.State == failover.Healthy && !l.Silent && l.Members[i].Generation == a.view.Members[i].Generation
}

// abandon stops waiting for an attempt that hangs. What it reads may be read for as long as it likes.
func (x *dispatch) abandon(l *load, try uint64) {
	a := l.attempt
	if a == nil || a.try != try || !a.flying {
		return
	}
	l.attempt, l.stray = nil, true // it goes on with what it has
	a.flying = false
	l.doubt = max(l.doubt, doubtTimeout)
	x.meter.given(a.level)
	a.cancel()
	if a.worker != nil {
		a.worker.astray = true
		x.crew.Done()
	}
	if keep := l.keep(); keep != nil {
		keep()
	}
}
