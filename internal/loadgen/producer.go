// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// producer sends the items of one number and one signal.
type producer struct {
	l      *load
	signal item.Signal
	number uint16
	sender sender

	mu      sync.Mutex
	request uint64 // the last one begun
}

func newProducer(l *load, s item.Signal, number uint16, to sender) *producer {
	return &producer{l: l, signal: s, number: number, sender: to}
}

// next begins a request: its number and items, consecutive and without holes. False when there are no more.
func (p *producer) next() (Batch, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.l.o.Stop: // nil: never
		return Batch{}, false
	default:
	}
	if p.request >= uint64(p.l.o.Requests) || !p.l.until.IsZero() && !time.Now().Before(p.l.until) {
		return Batch{}, false
	}
	p.request++
	n := uint64(p.l.o.Items)
	return Batch{Signal: p.signal, Producer: p.number, Request: p.request, First: (p.request-1)*n + 1, Last: p.request * n}, true
}

// run is one of the producer's senders.
func (p *producer) run(ctx context.Context) {
	o := p.l.o
	m := &Maker{Run: o.Run, BaseMicro: o.Base.UnixMicro(), ItemBytes: o.ItemBytes, PoisonEvery: o.PoisonEvery}
	var body body
	for p.l.pace.wait(ctx, o.Rate, o.Items) {
		q, ok := p.next()
		if !ok {
			return
		}
		body.raw = p.sender.Make(m, body.raw[:0], q)
		body.sent = p.sender.Encode(&body)
		end := p.deliver(ctx, q, body.sent)
		p.l.count(q, end)
		if end.State != ledger.Acked {
			// A connection may still hold the bytes of an attempt that was given up.
			body.raw, body.packed = nil, nil
		}
	}
}

// body is a request as it was made and as it is sent; both are reused.
type body struct {
	raw, packed, sent []byte
}

// deliver sends a request until it has its end, and returns its best answer.
func (p *producer) deliver(ctx context.Context, q Batch, sent []byte) ledger.Result {
	best := ledger.Result{State: ledger.Refused}
	began, wait := time.Now(), firstWait
	for n := uint32(1); ; n++ {
		a := ledger.Attempt{Signal: q.Signal, Producer: q.Producer, Request: q.Request, Attempt: n, First: q.First, Last: q.Last}
		answer := p.attempt(ctx, a, sent)
		if n == 1 || better(answer.State, best.State) {
			best = answer.Result
		}
		if answer.State == ledger.Acked || answer.State == ledger.Partial || answer.final {
			return best
		}
		if p.l.o.OnUnknown == ledger.ModeDrop || time.Since(began) > retryFor {
			return best
		}
		pause := max(wait/2+rand.N(wait/2), min(answer.retryAfter, maxHint)) //nolint:gosec // jitter
		if !sleep(ctx, pause) {
			return best
		}
		wait = min(2*wait, maxWait)
	}
}

func better(a, b ledger.State) bool {
	rank := map[ledger.State]int{ledger.Acked: 3, ledger.Partial: 2, ledger.Unknown: 1}
	return rank[a] > rank[b]
}

// attempt notes, sends once, and notes the answer.
func (p *producer) attempt(ctx context.Context, a ledger.Attempt, sent []byte) answer {
	l := p.l
	l.notes.Invoked(a)
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	began := time.Now()
	out := p.sender.Send(ctx, a.Signal, sent)
	took := time.Since(began)
	l.notes.Ended(a, out.Result)
	l.mu.Lock()
	l.sum.Attempts++
	if out.State == ledger.Acked || out.State == ledger.Partial {
		l.times.add(took)
	}
	l.mu.Unlock()
	if l.o.Timed != nil && (out.State == ledger.Acked || out.State == ledger.Partial) {
		l.o.Timed(began, took)
	}
	if l.o.Progress != nil {
		l.o.Progress(a, out.Result)
	}
	return out
}

// count adds a request that has its end.
func (l *load) count(q Batch, r ledger.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	items := q.Last - q.First + 1
	l.sum.Requests++
	l.sum.Items += items
	switch r.State {
	case ledger.Acked:
		l.sum.Acked += items
	case ledger.Partial:
		l.sum.Partial += items
	case ledger.Refused:
		l.sum.Refused += items
	default:
		l.sum.Unknown += items
	}
}
