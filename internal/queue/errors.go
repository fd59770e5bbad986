// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"errors"
	"fmt"
)

// Appending.
var (
	// ErrTooLarge is final: the record fits no queue of this kind.
	ErrTooLarge = errors.New("record too large for the queue")
	// ErrBusy is retryable: no room among the records waiting for the commit.
	ErrBusy = errors.New("queue busy")
	// ErrDisk is retryable: the record could not be made safe.
	ErrDisk = errors.New("queue storage unavailable")
	// ErrClosed is retryable by the sender: this queue takes nothing any more.
	ErrClosed = errors.New("queue closed")
)

// FullError refuses an append because a limit is reached. It is retryable.
type FullError struct {
	Limit     string // queue_size, max_file_size_mib, max_size, min_free_mib, disk
	Used, Max int64  // in the limit's unit
}

func (e *FullError) Error() string {
	return fmt.Sprintf("queue full: %s %d of %d", e.Limit, e.Used, e.Max)
}
