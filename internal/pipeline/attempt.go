// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// sendTo starts an attempt at the members of a level that have not delivered the load. An attempt that takes tokens
// claims them first: they prove something for all who look at the level.
func (x *dispatch) sendTo(l *load, e *failover.RouterEffect) {
	level := &x.view.Levels[e.Level]
	if e.Proof && !level.Claim() {
		x.events = append(x.events, failover.RouterEvent{Kind: failover.CanaryRefused, Batch: e.Batch, Try: e.Try})
		return
	}
	req, err := l.request(x.set.Plan.Signal)
	if err == nil {
		req.Receipt = x.receipt(l, e.Level)
	}
	ctx, cancel := context.WithCancel(x.send)
	try := e.Try // e is the loop's, and soon another one
	given := new(atomic.Bool)
	x.flights[try] = &flight{l, e.Level, cancel, given}
	a := &sending{
		dispatch: x, batch: l.Seqs[0], level: e.Level, view: level, proof: e.Proof, members: e.Members, req: req,
		results: make([]failover.Result, len(x.senders[e.Level])), doubts: make([]doubt, len(x.senders[e.Level])),
		began: x.now,
	}
	if err != nil {
		for i := range a.results {
			a.results[i].Verdict = exporter.Verdict{Kind: exporter.Rejected, Err: err}
			a.tell(ctx, i)
		}
		x.events = append(x.events, x.heard(answer{try: try, results: a.results}))
		return
	}
	x.meter.sent(e, l, x.view)
	// Nobody waits for the goroutine but for its answer; of an attempt that is abandoned not even that.
	go func() {
		doubt := a.run(ctx)
		if !given.CompareAndSwap(false, true) {
			x.meter.freed(a.level)
			return
		}
		select {
		case x.answers <- answer{try, a.results, doubt}:
		case <-x.over:
		}
	}()
}

// sending is one attempt under way.
type sending struct {
	*dispatch
	batch   uint64
	level   int
	view    *failover.LevelView // under which it was sent
	proof   bool
	members uint64
	req     *exporter.Request
	results []failover.Result
	doubts  []doubt
	began   time.Time
}

// run sends to all members at once, and tells the switch room what came of each before the loop hears of it. It returns
// why the batch may have been taken although nobody said so.
func (a *sending) run(ctx context.Context) doubt {
	var others sync.WaitGroup
	first := -1
	for i := range a.results {
		if a.members>>i&1 == 0 {
			if a.proof { // it has the batch already: that proves nothing of now
				a.tell(ctx, i)
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
	return slices.Max(a.doubts)
}

func (a *sending) one(ctx context.Context, i int) {
	began := time.Now()
	v := a.senders[a.level][i].send(ctx, a.req)
	took := time.Since(began)
	a.meter.attempted(a.level, i, &v, took)
	a.doubts[i] = a.meter.doubtOf(a.level, &v, took, ctx.Err() != nil, a.proof && a.view.Members[i].Canary)
	a.results[i] = failover.Result{Verdict: v, Uncounted: !a.counts[a.level].Counts(&v)}
	a.tell(ctx, i)
}

// tell reports the outcome at member i to the switch room. An attempt that was cut by us says nothing of an endpoint.
func (a *sending) tell(ctx context.Context, i int) {
	m, v := &a.view.Members[i], &a.results[i].Verdict
	ev := failover.Event{Kind: failover.EventAttempted, Breaker: m.Breaker, Outcome: a.counts[a.level].Outcome(v)}
	if ctx.Err() != nil && v.Kind != exporter.Delivered && v.Kind != exporter.Rejected {
		ev.Outcome.Class = breaker.Local
	}
	ev.Outcome.Generation, ev.Outcome.Batch, ev.Outcome.Took = m.Generation, a.batch, time.Since(a.began)
	if a.proof && m.Token != nil {
		ev.Proof = !m.Canary
		if m.Canary {
			ev.Kind = failover.EventCanaryDone
		}
		if a.members>>i&1 == 0 {
			ev.Kind = failover.EventCanaryLost
		}
	}
	a.room.Tell(ev)
}

// abandon stops waiting for an attempt that hangs. What it reads may be read for as long as it likes.
func (x *dispatch) abandon(l *load, try uint64) {
	f := x.flights[try]
	if f == nil {
		return
	}
	delete(x.flights, try)
	f.cancel()
	l.doubt = max(l.doubt, doubtTimeout)
	if f.given.CompareAndSwap(false, true) {
		x.meter.given(f.level)
	}
	if keep := l.keep(); keep != nil {
		keep()
	}
}
