// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package admission bounds the memory of requests that are being read, decoded or waiting for a commit.
//
// One Gate serves the process. A door asks before it reads a body; the grant grows with what is read and with what
// a decoder yields, and is given back when the queue has answered. The gate never waits, it refuses: waiting would
// hold memory.
package admission

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"
)

// MinLimit is the smallest budget a gate is made with, in bytes (faults, part C).
const MinLimit = 32 << 20

// smallRequest is what a grant may hold and still draw on the reserve: an eighth of the budget that large requests
// leave to small ones, so that a few huge bodies do not shut out everybody else.
const smallRequest = 256 << 10

// maxDecoderWait is how long a request waits for a decoder before it is refused like one that found no memory.
const maxDecoderWait = 5 * time.Second

// Why a gate refuses.
var (
	// ErrExhausted: the budget is spent.
	ErrExhausted = errors.New("admission budget exhausted")
	// ErrNoDecoder: all decoders were busy for too long.
	ErrNoDecoder = errors.New("all decoders are busy")
)

// Gate is a budget of bytes, and of decoders. Its methods may be called from any goroutine.
type Gate struct {
	limit    atomic.Int64
	used     atomic.Int64
	decoders chan struct{} // a place per decoder that may run; full = wait
}

// New returns a gate of at least MinLimit bytes and GOMAXPROCS decoders: decoding is all CPU and waits for nothing, so
// that more at once would only take turns.
func New(limit int64) *Gate {
	g := &Gate{decoders: make(chan struct{}, runtime.GOMAXPROCS(0))}
	g.SetLimit(limit)
	return g
}

// SetLimit changes the budget to at least MinLimit bytes. What is granted stays granted.
func (g *Gate) SetLimit(limit int64) { g.limit.Store(max(limit, MinLimit)) }

// Limit and Used are in bytes.
func (g *Gate) Limit() int64 { return g.limit.Load() }

// Used is what is granted now, in bytes.
func (g *Gate) Used() int64 { return g.used.Load() }

// Admit grants n bytes or refuses. A request larger than the whole budget is admitted while nothing else is.
func (g *Gate) Admit(n int64) (*Grant, error) {
	if !g.take(n) {
		return nil, ErrExhausted
	}
	return &Grant{gate: g, bytes: n}, nil
}

func (g *Gate) take(n int64) bool {
	limit := g.limitFor(n)
	for {
		used := g.used.Load()
		if used > 0 && used+n > limit {
			return false
		}
		if g.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// limitFor is the use up to which a grant that comes to n bytes may be given.
func (g *Gate) limitFor(n int64) int64 {
	if n > smallRequest {
		return g.limit.Load() - g.limit.Load()/8
	}
	return g.limit.Load()
}

// AcquireDecoder waits for the right to run a decoder, a few seconds at most; nil obliges to ReleaseDecoder. It
// returns ErrNoDecoder, or ctx's error. Who waits should hold compressed bytes only.
func (g *Gate) AcquireDecoder(ctx context.Context) error {
	select {
	case g.decoders <- struct{}{}:
		return nil
	default:
	}
	patience := time.NewTimer(maxDecoderWait)
	defer patience.Stop()
	select {
	case g.decoders <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		return ErrNoDecoder
	}
}

// ReleaseDecoder ends what AcquireDecoder began.
func (g *Gate) ReleaseDecoder() { <-g.decoders }

// Grant is one request's share. It belongs to the goroutine that serves the request.
type Grant struct {
	gate  *Gate
	bytes int64
}

// Grow adds n bytes to the grant or refuses; a refused grant keeps what it had. A grant that holds the whole use of
// the gate may always grow, so that one large request is served alone.
func (a *Grant) Grow(n int64) error {
	if n <= 0 {
		return nil
	}
	g := a.gate
	limit := g.limitFor(a.bytes + n)
	for {
		used := g.used.Load()
		if used > a.bytes && used+n > limit {
			return ErrExhausted
		}
		if g.used.CompareAndSwap(used, used+n) {
			a.bytes += n
			return nil
		}
	}
}

// Bytes is what the grant holds.
func (a *Grant) Bytes() int64 { return a.bytes }

// Release gives everything back. It may be called more than once, and on nil.
func (a *Grant) Release() {
	if a == nil || a.bytes == 0 {
		return
	}
	a.gate.used.Add(-a.bytes)
	a.bytes = 0
}
