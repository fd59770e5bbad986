// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"errors"
	"fmt"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Writing.
var (
	// ErrNoRoom says that the group does not fit what is left of the segment. Nothing was written.
	ErrNoRoom = errors.New("no room in the segment")
	// ErrTooLarge says that a record is above MaxRecordBytes or a header above MaxCursors. Nothing was written.
	ErrTooLarge = errors.New("too large for a segment")
	// ErrCondemned says that a write or sync of this file failed, now or earlier; its cause is wrapped beside it.
	ErrCondemned = errors.New("segment condemned")
	// ErrSealed says that the segment is complete.
	ErrSealed = errors.New("segment sealed")
)

// Reading.
var (
	// ErrMissing says that the record is not in the segment, or not any more.
	ErrMissing = errors.New("record not in the segment")

	errNoHeader = errors.New("no valid header")
	errNoSeal   = errors.New("no valid seal")
	errBody     = errors.New("checksum of the body does not hold")
	errHeader   = errors.New("no valid frame")
)

// NewerError says that the file is of a format this program does not know. It is to be left untouched.
type NewerError struct {
	Version uint16
	Flags   uint32 // those that must be understood and are not
}

func (e *NewerError) Error() string {
	if e.Version > version {
		return fmt.Sprintf("segment of format %d, newer than %d", e.Version, version)
	}
	return fmt.Sprintf("segment needs features %#x this version does not have", e.Flags)
}

// CorruptError says that numbers cannot be read. Reading goes on behind them.
type CorruptError struct {
	Path  string
	Gap   Gap
	Cause error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: damaged at offset %d: records %d to %d: %v", e.Path, e.Gap.Off, e.Gap.First, e.Gap.Last, e.Cause)
}

func (e *CorruptError) Unwrap() error { return e.Cause }

// ReadError says that the disk did not give the bytes, asked twice. The next call asks again.
type ReadError struct {
	Path string
	Off  Offset
	Err  error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("%s: read at offset %d: %v", e.Path, e.Off, e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }

// Gap is a stretch of a segment without a readable frame, and the numbers that should be there.
type Gap struct {
	Off, End    Offset
	First, Last queue.Seq // Last is 0 if nobody can tell
	Items       uint64    // of these numbers, if Counted
	Counted     bool
}

// Records is how many numbers the gap holds, as far as known.
func (g Gap) Records() uint64 {
	if g.Last < g.First {
		return 0
	}
	return uint64(g.Last-g.First) + 1
}
