// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// waiter is a destination without a queue, or with wait_for_result: the client's answer waits for its verdict. Each
// request is at each level once, at most (failover, section 11.5); who sent it decides whether to try again.
type waiter struct {
	*dispatch
	books struct {
		sync.Mutex
		counts queue.Counts
	}
}

// once is a request whose sender waits, and makes the attempts itself.
type once struct {
	turn chan *sending   // of one place: it may go now; nil = it has ended
	ctx  context.Context // the client's
	// The router's lock guards the rest.
	own   context.Context // of the attempt
	gone  bool            // nobody waits any more
	ended bool
	fate  exporter.Verdict
}

// hand gives the request its next attempt.
func (o *once) hand(c *chores, a *sending) {
	o.own, a.cancel = context.WithCancel(o.ctx)
	if c.once == o {
		c.own = a
		return
	}
	o.turn <- a // has room: it is in flight once at a time
}

// finish notes what became of the request, as a verdict: what no level took has the smallest delay that any has left.
func (o *once) finish(c *chores, l *load, e *failover.RouterEffect) {
	o.ended = true
	switch e.Kind {
	case failover.AckBatch:
		o.fate = exporter.Verdict{Kind: exporter.Delivered, Rejected: e.Rejected, Message: l.message}
	case failover.DeadBatch:
		o.fate = exporter.Verdict{Kind: exporter.Rejected, Err: l.last.Err}
	default:
		o.fate = exporter.Verdict{Kind: exporter.Retry, After: e.Delay, Err: l.last.Err}
	}
	if c.once != o && !o.gone {
		o.turn <- nil
	}
}

// send offers a request to each level that is up, once, and returns what came of it.
func (w *waiter) send(ctx context.Context, p *otlp.Payload) exporter.Verdict {
	o := &once{turn: make(chan *sending, 1), ctx: ctx}
	l := loads.Get().(*load)
	l.once, l.Once, l.Items, l.made = o, true, p.Items, true
	l.req = exporter.Request{
		Signal: p.Signal, Encoding: p.Encoding, Items: p.Items, Size: int64(p.Size), Parts: append(l.req.Parts, p.Body),
		Metadata: p.Metadata, Keep: p.Keep,
	}
	v, whole := w.see(ctx, l, o)
	if whole {
		l.free()
	}
	if v.Kind == exporter.Delivered {
		// Refused requests are not in these books: nothing was acknowledged, so nothing is owed.
		w.books.Lock()
		w.books.counts.Accepted += uint64(p.Items)
		w.books.counts.Delivered += uint64(p.Items - v.Rejected)
		w.books.counts.Rejected += uint64(v.Rejected)
		w.books.Unlock()
	}
	return v
}

// see makes the attempts that the router asks for until it has done with the request. It reports whether nobody else has
// anything to do with the load any more.
func (w *waiter) see(ctx context.Context, l *load, o *once) (exporter.Verdict, bool) {
	done := ctx.Done()
	ev := failover.RouterEvent{Kind: failover.BatchArrived, Pieces: l.alone[:]}
	for now := time.Now(); ; {
		c := chores{once: o}
		w.mu.Lock()
		w.step(&c, now, ev)
		own, ended := o.own, o.ended
		a := w.unlock(&c)
		for a == nil {
			if ended {
				return o.fate, !l.stray
			}
			select {
			case a = <-o.turn:
				w.mu.Lock()
				own, ended = o.own, o.ended
				w.mu.Unlock()
			case <-done:
				if w.leave(o) {
					return exporter.Verdict{Kind: exporter.Retry, Err: ctx.Err()}, false
				}
				done = nil // its turn has come meanwhile
			}
		}
		now = a.run(own)
		w.mu.Lock()
		ev = failover.RouterEvent{Kind: failover.ViewChanged} // of an attempt that was given up there is nothing to say
		if l.attempt == a {
			a.cancel()
			ev = w.heard(a)
		} else {
			w.meter.freed(a.level)
		}
		w.mu.Unlock()
	}
}

// leave says that nobody waits any more for a request that is not in flight; false if it is by now, or has ended.
func (w *waiter) leave(o *once) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.gone = !o.ended && len(o.turn) == 0
	return o.gone
}

func (w *waiter) counts() queue.Counts {
	w.books.Lock()
	defer w.books.Unlock()
	return w.books.counts
}

// deliver sends p to every waiting destination at once. It fails with the first destination's refusal, in
// configuration order.
func (e *Entry) deliver(ctx context.Context, p *otlp.Payload) (receiver.Result, error) {
	verdicts := make([]exporter.Verdict, len(e.waits))
	if len(e.waits) == 1 {
		verdicts[0] = e.waits[0].send(ctx, p)
	} else {
		var all sync.WaitGroup
		for i, w := range e.waits {
			all.Go(func() { verdicts[i] = w.send(ctx, p) })
		}
		all.Wait()
	}
	var res receiver.Result
	for i, v := range verdicts {
		switch v.Kind {
		case exporter.Delivered:
			if v.Rejected >= res.Rejected {
				res = receiver.Result{Rejected: v.Rejected, Message: v.Message}
			}
		case exporter.Rejected:
			return res, &receiver.Refusal{Code: receiver.Denied, Reason: receiver.ReasonMalformed,
				Text: fmt.Sprintf("%s: %s", e.waits[i].dest.Label, errText(v))}
		default:
			if ctx.Err() != nil {
				return res, ctx.Err()
			}
			r := e.refuse(receiver.ReasonQueueFull, queueHint, fmt.Sprintf("%s: %s", e.waits[i].dest.Label, errText(v)))
			if v.After > r.After {
				r.After = v.After
			}
			return res, r
		}
	}
	return res, nil
}
