// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"
	"time"
)

// beat is how often the driver looks whether it is late itself.
const beat = 5 * time.Millisecond

// minStall is the least lateness that is remembered.
const minStall = 2 * beat

// stalls notes when this machine let a process wait that wanted to run: what a bound of milliseconds cannot be blamed
// for. Its methods may be called by several goroutines.
type stalls struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	list   []stall
}

// stall is a span of time in which nothing ran that should have.
type stall struct{ from, to time.Time }

func watchStalls() *stalls {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stalls{cancel: cancel}
	s.done.Go(func() { s.run(ctx) })
	return s
}

func (s *stalls) run(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(last) > beat+minStall {
			s.mu.Lock()
			s.list = append(s.list, stall{last.Add(beat), now})
			s.mu.Unlock()
		}
		last = now
	}
}

func (s *stalls) stop() {
	s.cancel()
	s.done.Wait()
}

// within sums what was lost between two moments.
func (s *stalls) within(from, to time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := time.Duration(0)
	for _, l := range s.list {
		begin, end := l.from, l.to
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		sum += max(0, end.Sub(begin))
	}
	return sum
}
