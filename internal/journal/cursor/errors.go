// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor

import (
	"errors"
	"fmt"
)

// Writing.
var (
	// ErrTooLarge says that a slot has more names, ranges or drops than fit. Nothing was written.
	ErrTooLarge = errors.New("too large for a slot")

	errOutOfBounds = errors.New("out of bounds")
)

// Reading. Each says why bytes are no slot.
var (
	errNoSlot   = errors.New("no slot was written here")
	errCut      = errors.New("the slot is cut off")
	errMagic    = errors.New("no slot begins here")
	errCRC      = errors.New("its checksum does not hold")
	errFields   = errors.New("its fields contradict each other")
	errNames    = errors.New("its names do not fit their length")
	errRanges   = errors.New("its ranges are not in order")
	errPlace    = errors.New("its generation belongs into the other slot")
	errFileSize = errors.New("not the size of a cursor file")
)

// NewerError says that the file is of a format this program does not know. It is to be left untouched.
type NewerError struct {
	Path    string // empty from ParseSlot
	Version uint16
	Flags   uint16 // those that must be understood and are not
}

func (e *NewerError) Error() string {
	what := "slot"
	if e.Path != "" {
		what = e.Path + ": cursor"
	}
	if e.Version > version {
		return fmt.Sprintf("%s of format %d, newer than %d", what, e.Version, version)
	}
	return fmt.Sprintf("%s needs features %#x this version does not have", what, e.Flags)
}

// CorruptError says that neither slot of a file holds: the cursor is lost.
type CorruptError struct {
	Path  string
	Cause error // of both slots
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: cursor damaged: %v", e.Path, e.Cause)
}

func (e *CorruptError) Unwrap() error { return e.Cause }
