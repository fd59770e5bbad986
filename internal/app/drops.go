// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
)

// dropEvery is how often one destination's overflow is a line of its own; what comes between is summed up in the
// next. The metric counts every item when it happens.
const dropEvery = 10 * time.Second

// dropLog writes drop records of one pipeline's queue.
type dropLog struct {
	log      *zap.Logger
	shutdown *atomic.Int64 // items dropped because the process stops
	mu       struct {
		sync.Mutex
		sums map[string]*dropSum // by destination
	}
}

// dropSum is what was dropped since the last line.
type dropSum struct {
	items, records uint64
	first, last    queue.Seq
	said           time.Time
}

func newDropLog(log *zap.Logger, shutdown *atomic.Int64) *dropLog {
	d := &dropLog{log: log, shutdown: shutdown}
	d.mu.sums = map[string]*dropSum{}
	return d
}

func (l *dropLog) note(d memory.Drop) {
	if d.Reason == memory.ReasonShutdown {
		l.shutdown.Add(int64(d.Items))
		l.say(d.Destination, d.Reason, dropSum{items: d.Items, records: d.Records, first: d.First, last: d.Last})
		return
	}
	l.mu.Lock()
	sum := l.mu.sums[d.Destination]
	if sum == nil {
		sum = &dropSum{}
		l.mu.sums[d.Destination] = sum
	}
	if sum.records == 0 {
		sum.first = d.First
	}
	sum.items, sum.records, sum.last = sum.items+d.Items, sum.records+d.Records, d.Last
	due := time.Since(sum.said) >= dropEvery
	line := *sum
	if due {
		*sum = dropSum{said: time.Now()}
	}
	l.mu.Unlock()
	if due {
		l.say(d.Destination, d.Reason, line)
	}
}

func (l *dropLog) say(destination, reason string, s dropSum) {
	l.log.Error("Queue: records dropped", zap.String("destination", destination), zap.String("reason", reason),
		zap.Uint64("items", s.items), zap.Uint64("records", s.records),
		zap.Uint64("first", uint64(s.first)), zap.Uint64("last", uint64(s.last)))
}
