// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package lookout waits for what is seen of a room in which an outage is played.
//
// It stands between whoever looks again and again, and the steps of a play, which go on when they see what they want. It
// promises that no look is missed by somebody who waits, and that every wait ends: with its limit, with the collector, or
// with its context. It does not know what is looked at.
package lookout

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
)

// Lookout holds what was seen last. It may be used from any goroutine.
type Lookout[T any] struct {
	mu struct {
		sync.Mutex
		now     T
		changed chan struct{} // closed and replaced with every look
	}
}

// New begins with what is there before the first look.
func New[T any](first T) *Lookout[T] {
	l := &Lookout[T]{}
	l.mu.now, l.mu.changed = first, make(chan struct{})
	return l
}

// See puts a look in place of the one before, and wakes all that wait.
func (l *Lookout[T]) See(now T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.now = now
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
}

// Latest is the last look, and a channel that is closed with the next.
func (l *Lookout[T]) Latest() (now T, next <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.now, l.mu.changed
}

// Until waits for a look after this one that is as wanted. That it does not come in time is a *LateError, and that the
// collector ends meanwhile an *EndedError; the end of the context is its cause.
func (l *Lookout[T]) Until(ctx context.Context, c *child.Child, limit time.Duration, what string, ok func(T) bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	_, next := l.Latest()
	for {
		select {
		case <-next:
		case <-c.Done:
			return &EndedError{What: what, Tail: c.Last()}
		case <-timer.C:
			return &LateError{What: what, Limit: limit}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var now T
		if now, next = l.Latest(); ok(now) {
			return nil
		}
	}
}

// Rest waits for a while, or for the context, whose cause it returns.
func Rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// LateError says that something did not happen in time.
type LateError struct {
	What  string
	Limit time.Duration
}

func (e *LateError) Error() string { return fmt.Sprintf("not within %s: %s", e.Limit, e.What) }

// EndedError says that the collector ended by itself.
type EndedError struct{ What, Tail string }

func (e *EndedError) Error() string {
	return "holdfast ended by itself while this was waited for: " + e.What + "\n" + e.Tail
}
