// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// beat is how often a stalls looks.
const beat = 20 * time.Millisecond

// stalls notes how long the threads of one process were ready to run and had no processor, as the kernel counts it: what
// a bound of milliseconds cannot be held against that process. Its methods may be called by several goroutines.
type stalls struct {
	cancel  context.CancelFunc
	done    sync.WaitGroup
	mu      sync.Mutex
	samples []sample
}

// sample is the sum over all threads at one moment.
type sample struct {
	at     time.Time
	waited time.Duration
}

func watchStalls(pid int) *stalls {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stalls{cancel: cancel}
	s.done.Go(func() { s.run(ctx, pid) })
	return s
}

func (s *stalls) run(ctx context.Context, pid int) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		p := sample{time.Now(), waited(pid)}
		s.mu.Lock()
		s.samples = append(s.samples, p)
		s.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *stalls) stop() {
	s.cancel()
	s.done.Wait()
}

// within is what the process waited between two moments, and a beat before and behind.
func (s *stalls) within(from, to time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := time.Duration(0)
	for i := 1; i < len(s.samples); i++ {
		a, b := &s.samples[i-1], &s.samples[i]
		if b.at.After(from) && a.at.Before(to) {
			sum += max(0, b.waited-a.waited) // a thread that ended takes its part with it
		}
	}
	return sum
}

// waited reads what the kernel says: the second number of each thread's schedstat, in nanoseconds. Where there is no such
// thing it is 0.
func waited(pid int) time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is good
	sum := int64(0)
	for _, f := range files {
		text, err := os.ReadFile(f) //nolint:gosec // of the kernel
		if err != nil {
			continue // the thread has ended
		}
		if fields := bytes.Fields(text); len(fields) > 1 {
			n, _ := strconv.ParseInt(string(fields[1]), 10, 64) // the kernel's
			sum += n
		}
	}
	return time.Duration(sum)
}
