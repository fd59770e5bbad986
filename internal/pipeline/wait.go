// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"fmt"
	"sync"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// waiter is a destination without a queue, or with wait_for_result: the client's answer waits for its verdict.
// Each request is one attempt; who sent it decides whether to try again.
type waiter struct {
	dest   *plan.Destination
	sender *sender
	slots  chan struct{} // bounds attempts at once; nil = unbounded. A full one makes the request wait for its turn
	mu     struct {
		sync.Mutex
		counts queue.Counts
	}
}

func newWaiter(set *Settings, d *plan.Destination, s *sender) *waiter {
	w := &waiter{dest: d, sender: s}
	if d.Workers > 0 {
		w.slots = make(chan struct{}, d.Workers)
	}
	return w
}

func (w *waiter) send(ctx context.Context, p *otlp.Payload) exporter.Verdict {
	if w.slots != nil {
		select {
		case w.slots <- struct{}{}:
			defer func() { <-w.slots }()
		case <-ctx.Done():
			return exporter.Verdict{Kind: exporter.Retry, Err: ctx.Err()}
		}
	}
	v := w.sender.send(ctx, &exporter.Request{
		Signal: p.Signal, Encoding: p.Encoding, Items: p.Items, Size: int64(p.Size), Parts: [][]byte{p.Body},
		Metadata: p.Metadata, Keep: p.Keep,
	})
	if v.Kind == exporter.Delivered {
		// Refused requests are not in these books: nothing was acknowledged, so nothing is owed.
		w.mu.Lock()
		w.mu.counts.Accepted += uint64(p.Items)
		w.mu.counts.Delivered += uint64(p.Items - v.Rejected)
		w.mu.counts.Rejected += uint64(v.Rejected)
		w.mu.Unlock()
	}
	return v
}

func (w *waiter) counts() queue.Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.counts
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
