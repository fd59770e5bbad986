// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuelog

import (
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue/memory"
)

// Drops writes and counts the drop records of one pipeline's queue in memory.
type Drops struct {
	lines    *Lines
	pipeline string
	shutdown *atomic.Int64 // items dropped because the process stops
	mu       struct {
		sync.Mutex
		totals map[[2]string]journal.Tally // by destination and reason
	}
}

// NewDrops writes to lines; what is dropped because the process stops is added to shutdown, in items.
func NewDrops(to *Lines, pipeline string, shutdown *atomic.Int64) *Drops {
	d := &Drops{lines: to, pipeline: pipeline, shutdown: shutdown}
	d.mu.totals = map[[2]string]journal.Tally{}
	return d
}

// Note tells of one drop; it is what a queue in memory calls.
func (d *Drops) Note(one memory.Drop) {
	if one.Reason == memory.ReasonShutdown {
		d.shutdown.Add(int64(one.Items))
	}
	d.mu.Lock()
	t := d.mu.totals[[2]string{one.Destination, one.Reason}]
	t.Records, t.Items = t.Records+one.Records, t.Items+one.Items
	d.mu.totals[[2]string{one.Destination, one.Reason}] = t
	d.mu.Unlock()
	d.lines.note(subject{wordsDropped, d.pipeline, one.Destination, one.Reason}, gathered{
		level: zapcore.ErrorLevel, records: one.Records, items: one.Items, first: one.First, last: one.Last,
	})
}

// Total is what a destination lost under a reason since start.
func (d *Drops) Total(destination, reason string) journal.Tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.totals[[2]string{destination, reason}]
}
