// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
)

// dropLog writes and counts the drop records of one pipeline's queue in memory.
type dropLog struct {
	lines    *lines
	pipeline string
	shutdown *atomic.Int64 // items dropped because the process stops
	mu       struct {
		sync.Mutex
		totals map[[2]string]journal.Tally // by destination and reason
	}
}

func newDropLog(to *lines, pipeline string, shutdown *atomic.Int64) *dropLog {
	d := &dropLog{lines: to, pipeline: pipeline, shutdown: shutdown}
	d.mu.totals = map[[2]string]journal.Tally{}
	return d
}

func (l *dropLog) note(d memory.Drop) {
	if d.Reason == memory.ReasonShutdown {
		l.shutdown.Add(int64(d.Items))
	}
	l.mu.Lock()
	t := l.mu.totals[[2]string{d.Destination, d.Reason}]
	t.Records, t.Items = t.Records+d.Records, t.Items+d.Items
	l.mu.totals[[2]string{d.Destination, d.Reason}] = t
	l.mu.Unlock()
	l.lines.note(subject{wordsDropped, l.pipeline, d.Destination, d.Reason}, gathered{
		level: zapcore.ErrorLevel, records: d.Records, items: d.Items, first: d.First, last: d.Last,
	})
}

// total is what a destination lost under a reason since start.
func (l *dropLog) total(destination, reason string) journal.Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.totals[[2]string{destination, reason}]
}
