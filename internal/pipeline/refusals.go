// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// words is what to say of an append that the queue did not take.
type words struct {
	limit  string // of the series: a limit of the queue, or disk, busy, closed, too_large
	reason string // of the door's series
	text   string // to the client: which limit, how far, nothing about payload
	hint   time.Duration
}

const limitQueueSize = "queue_size"

// wordsOf turns a queue's refusal into an answer. All of them but too_large are retryable.
func wordsOf(err error) words {
	var full *queue.FullError
	switch {
	case errors.As(err, &full) && full.Limit == limitQueueSize:
		return words{full.Limit, receiver.ReasonQueueFull,
			fmt.Sprintf("sending queue is full: queue_size %d of %d", full.Used, full.Max), queueHint}
	case errors.As(err, &full) && full.Max > 0: // bytes
		return words{full.Limit, receiver.ReasonDisk, fmt.Sprintf("storage is full: %s, %d of %d MiB used", full.Limit,
			(full.Used+1<<20-1)>>20, full.Max>>20), queueHint}
	case errors.As(err, &full):
		return words{full.Limit, receiver.ReasonDisk, "storage is full: no space left on the device", queueHint}
	case errors.Is(err, queue.ErrTooLarge):
		return words{"too_large", receiver.ReasonTooLarge, err.Error(), 0}
	case errors.Is(err, queue.ErrClosed):
		return words{"closed", receiver.ReasonStopping, "shutting down", stoppingHint}
	case errors.Is(err, queue.ErrBusy):
		return words{"busy", receiver.ReasonQueueFull, err.Error(), busyHint}
	case errors.Is(err, queue.ErrDisk):
		return words{"disk", receiver.ReasonDisk, err.Error(), queueHint}
	}
	return words{"disk", receiver.ReasonDisk, fmt.Sprintf("append: %v", err), queueHint}
}

// quietTime is how long nothing must be refused before that is said: a queue at its limit takes and refuses in turns.
const quietTime = 2 * time.Second

// refusals counts what the queue did not take, and says so: when it begins, every ten seconds while it lasts, and when
// it is over.
type refusals struct {
	log *zap.Logger
	mu  struct {
		sync.Mutex
		items    map[string]uint64 // by limit, since start
		said     bool              // that it refuses, and not yet that it accepts again
		began    time.Time         // of what is said
		last     time.Time         // refusal
		line     time.Time
		requests int64 // since the last line
		lost     int64 // their items
	}
}

func (r *refusals) note(w words, items uint32) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.items[w.limit] += uint64(items)
	if w.limit == "closed" || w.limit == "too_large" {
		return // the end of the process has lines of its own; what is too large says nothing of the queue
	}
	r.mu.last = now
	r.mu.requests++
	r.mu.lost += int64(items)
	if now.Sub(r.mu.line) < logEvery {
		return
	}
	if !r.mu.said {
		r.mu.said, r.mu.began = true, now
	}
	r.mu.line = now
	r.log.Warn("Queue: sending queue is full, refusing", zap.String("limit", w.limit), zap.String("reason", w.text),
		zap.Int64("requests", r.mu.requests), zap.Int64("items", r.mu.lost))
	r.mu.requests, r.mu.lost = 0, 0
}

// quiet says that data is taken again, if it is and that is not said yet.
func (r *refusals) quiet(now time.Time, accepting bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mu.said || !accepting || now.Sub(r.mu.last) < quietTime {
		return
	}
	r.mu.said = false
	r.log.Info("Queue: accepting again", zap.Duration("refused_for", r.mu.last.Sub(r.mu.began).Round(time.Millisecond)),
		zap.Int64("requests", r.mu.requests), zap.Int64("items", r.mu.lost))
	r.mu.requests, r.mu.lost = 0, 0
}

// byLimit is a copy of what was refused since start, in items.
func (r *refusals) byLimit() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.mu.items)
}
