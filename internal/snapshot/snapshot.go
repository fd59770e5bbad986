// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package snapshot takes copies of what goes on for those who ask, so that what is looked at never holds up who looks.
//
// It stands beside the path of data, under the health endpoints, the status and the commands. A copy may have to wait for
// a disk that hangs or for a room that is busy. The package promises that whoever asks is answered in time all the same,
// with the last copy there was and its age; that at most one copy is being taken, however many ask; and that the
// goroutine that takes it can be waited for. It refuses to know what is copied.
package snapshot

import (
	"context"
	"sync"
	"time"
)

// Desk hands out copies. It owns at most one goroutine, which takes the copy that all who ask meanwhile share. Its methods
// may be called from any goroutine. What a copy points to is shared by all who get it, and is read only.
type Desk[T any] struct {
	read func() T
	mu   struct {
		sync.Mutex
		last   T
		taking chan struct{} // closed when the one being taken is there; nil = none is
		began  time.Time
	}
}

// NewDesk returns a desk for what read copies; first is shown until the first copy is there.
func NewDesk[T any](first T, read func() T) *Desk[T] {
	d := &Desk[T]{read: read}
	d.mu.last = first
	return d
}

// Take returns a fresh copy and 0; or, if none comes within patience or before ctx ends, the last one there was and for how
// long the next has been waited for, which is more than 0.
func (d *Desk[T]) Take(ctx context.Context, patience time.Duration) (T, time.Duration) {
	d.mu.Lock()
	if d.mu.taking == nil {
		d.mu.taking, d.mu.began = make(chan struct{}), time.Now()
		go d.take() // Wait waits for it
	}
	taking := d.mu.taking
	d.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-taking:
	case <-timer.C:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.taking == taking {
		return d.mu.last, max(time.Since(d.mu.began), 1)
	}
	return d.mu.last, 0
}

func (d *Desk[T]) take() {
	got := d.read()
	d.mu.Lock()
	taking := d.mu.taking
	d.mu.last, d.mu.taking = got, nil
	d.mu.Unlock()
	close(taking)
}

// Wait waits for the copy being taken, or until ctx ends.
func (d *Desk[T]) Wait(ctx context.Context) error {
	d.mu.Lock()
	taking := d.mu.taking
	d.mu.Unlock()
	if taking == nil {
		return nil
	}
	select {
	case <-taking: // closed last: the goroutine has nothing left to do but end
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
