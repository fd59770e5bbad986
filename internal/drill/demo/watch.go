// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

const (
	// lookEvery is how often the child is asked how it is.
	lookEvery = 100 * time.Millisecond
	// askTime bounds a question.
	askTime = 5 * time.Second
)

// snapshot is how everything is at one moment.
type snapshot struct {
	at                 time.Time
	status             *status.Status // what the collector says; nil: it does not answer
	primary, secondary uint64         // items that the backends have stored
	acked              uint64         // items that the load was told are safe
}

// watch looks again and again, and lets the timeline go on, until ctx ends.
func (s *stage) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		next := s.look(ctx)
		s.mu.Lock()
		before, _ := s.seen.Latest()
		s.compare(before, next)
		s.mu.events.advance(time.Now())
		err := s.mu.events.err
		s.mu.Unlock()
		s.seen.See(next)
		if err != nil {
			s.fail(fmt.Errorf("tell what happens: %w", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks everybody. It may be called by several goroutines.
func (s *stage) look(ctx context.Context) *snapshot {
	n := &snapshot{acked: s.acked.Load(), primary: stored(s.primary), secondary: stored(s.secondary)}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var st status.Status
	if s.admin.Get(ctx, fmt.Sprint("/status?events=", pageEvents), &st) == nil { // no answer is what a dead process gives
		n.status = &st
	}
	n.at = time.Now()
	return n
}

func stored(b *mockbackend.Backend) (sum uint64) {
	for _, n := range b.State().Stored {
		sum += n
	}
	return sum
}

// compare tells what nobody logs.
func (s *stage) compare(before, now *snapshot) {
	if now.status == nil || before.status == nil || before.status.PID != now.status.PID {
		return
	}
	say := func(format string, args ...any) {
		s.mu.events.add(event{at: now.at, who: "stat", text: fmt.Sprintf(format, args...)})
	}
	was, is := before.status.Books.Parked, now.status.Books.Parked
	switch {
	case was == 0 && is > 0:
		say("emergency file in use: %s items are parked in it, the client has its answers", words.Count(is))
	case was > 0 && is == 0:
		say("emergency file repaid: nothing is parked any more")
	}
}

// until waits for a snapshot that is as wanted. That it does not come in time is an error, and so is a collector that
// ends.
func (s *stage) until(ctx context.Context, limit time.Duration, what string, ok func(*snapshot) bool) error {
	return s.seen.Until(ctx, s.child, limit, what, ok)
}

// allAt reports whether the new data of every signal goes to the level.
func (n *snapshot) allAt(level int) bool {
	if n.status == nil || len(n.status.Failover) == 0 {
		return false
	}
	for i := range n.status.Failover {
		if n.status.Failover[i].ActiveLevel != level {
			return false
		}
	}
	return true
}

// books are the collector's own, empty if it does not answer.
func (n *snapshot) books() status.Books {
	if n.status == nil {
		return status.Books{}
	}
	return n.status.Books
}
