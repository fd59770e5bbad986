// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package admission bounds the memory of requests that are being read, decoded or waiting for a commit.
//
// One Gate serves the process. A door asks before it reads a body; the grant grows with what is read and with what
// a decoder yields, and is given back when the queue has answered. The gate never waits, it refuses: waiting would
// hold memory.
package admission

import (
	"errors"
	"sync/atomic"
)

// MinLimit is the smallest budget a gate is made with, in bytes (faults, part C).
const MinLimit = 32 << 20

// ErrExhausted refuses a request because the budget is spent.
var ErrExhausted = errors.New("admission budget exhausted")

// Gate is a budget of bytes. Its methods may be called from any goroutine.
type Gate struct {
	limit int64
	used  atomic.Int64
}

// New returns a gate of at least MinLimit bytes.
func New(limit int64) *Gate { return &Gate{limit: max(limit, MinLimit)} }

// Limit and Used are in bytes.
func (g *Gate) Limit() int64 { return g.limit }

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
	for {
		used := g.used.Load()
		if used > 0 && used+n > g.limit {
			return false
		}
		if g.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

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
	for {
		used := g.used.Load()
		if used > a.bytes && used+n > g.limit {
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
