// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit

import (
	"context"

	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// Open starts a Log. It writes nothing yet: the first Tend prepares a segment.
func Open(set Settings) *Log { panic("not yet") }

// Append commits one record: after nil it is stored as safely as configured and was published. e.Seq and e.Accepted are
// set by then, and e and its bytes belong to the queue. After an error they stay the caller's. Final: queue.ErrTooLarge.
// Retryable: *queue.FullError, queue.ErrBusy, queue.ErrDisk, queue.ErrClosed. ctx is heeded until the record is in a
// group.
func (l *Log) Append(ctx context.Context, e *window.Entry) error { panic("not yet") }

// Tend prepares the next segment, seals those that are done, and tries to get out of full and broken. It is called
// when Wanted says so, after space was freed, and at least every second; by one goroutine at a time. It uses the disk.
func (l *Log) Tend() { panic("not yet") }

// Wanted receives when Tend has something to do.
func (l *Log) Wanted() <-chan struct{} { return l.wanted }

// Roll makes the next group begin a new segment, if one can be had.
func (l *Log) Roll() { panic("not yet") }

// SetSynced changes the mode with the next segment, which the next group begins, if one can be had.
func (l *Log) SetSynced(synced bool) { panic("not yet") }

// State is whether the Log takes records, and if not why: the error that Append returns.
func (l *Log) State() (State, error) { panic("not yet") }

// Stats is a copy of the counters.
func (l *Log) Stats() Stats { panic("not yet") }

// Close refuses records, finishes the running group, makes everything durable and seals. It waits until the Log's
// goroutines have ended, or until ctx ends: then they end when the disk lets them. An error means that something
// acknowledged may not be durable; a segment that could not be sealed is none.
func (l *Log) Close(ctx context.Context) error { panic("not yet") }
