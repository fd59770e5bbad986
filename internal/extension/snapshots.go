// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"context"
	"sync"
	"time"
)

// snapshotTimeout is how long a probe waits for a snapshot; an answer never takes longer than 1 s (compat, 8).
const snapshotTimeout = 800 * time.Millisecond

// Snapshots takes snapshots so that whoever asks is answered in time even if the snapshot never comes. At most one
// is being taken; those who ask meanwhile share it. Its methods may be called from any goroutine.
type Snapshots struct {
	read func() Health
	mu   struct {
		sync.Mutex
		last   Health
		taking chan struct{} // closed when the one being taken is there; nil = none is
		began  time.Time
	}
}

// NewSnapshots returns snapshots of what read copies.
func NewSnapshots(read func() Health) *Snapshots { return &Snapshots{read: read} }

// Take returns a snapshot, or the last one there was and for how long the next has been waited for. Before the first
// there is the zero one, of a process that is starting.
func (s *Snapshots) Take() (Health, time.Duration) {
	s.mu.Lock()
	if s.mu.taking == nil {
		s.mu.taking, s.mu.began = make(chan struct{}), time.Now()
		go s.take() // Wait waits for it
	}
	taking := s.mu.taking
	s.mu.Unlock()

	timer := time.NewTimer(snapshotTimeout)
	defer timer.Stop()
	select {
	case <-taking:
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.taking == taking {
		return s.mu.last, time.Since(s.mu.began)
	}
	return s.mu.last, 0
}

func (s *Snapshots) take() {
	h := s.read()
	s.mu.Lock()
	taking := s.mu.taking
	s.mu.last, s.mu.taking = h, nil
	s.mu.Unlock()
	close(taking)
}

// Wait waits for the snapshot being taken, or until ctx ends.
func (s *Snapshots) Wait(ctx context.Context) error {
	s.mu.Lock()
	taking := s.mu.taking
	s.mu.Unlock()
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
