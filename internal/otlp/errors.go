// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"strconv"
)

// Why Scan refuses a request. Each reaches the caller inside a *ScanError.
var (
	// ErrMalformed: the reference decoder refuses these bytes, too.
	ErrMalformed = errors.New("malformed")
	// ErrTooDeep: attribute values are nested deeper than MaxDepth.
	ErrTooDeep = errors.New("nested too deep")
	// ErrTooManyItems: the request holds more than MaxItems items.
	ErrTooManyItems = errors.New("too many items")
)

// ErrSignal says that a function was called with a Signal that is none of Signals.
var ErrSignal = errors.New("no such signal")

// ScanError says where a request stopped being one. Its text names places and causes, never payload, and may be
// shown to clients.
type ScanError struct {
	Signal  Signal
	Offset  int    // bytes from the start of the request
	Message string // the protobuf message that was being read
	Detail  string // what was wrong there; empty when Cause says it all
	Cause   error  // ErrMalformed, ErrTooDeep or ErrTooManyItems
}

func (e *ScanError) Error() string {
	text := "scan " + e.Signal.String() + ": " + e.Message + " at byte " + strconv.Itoa(e.Offset) + ": " + e.Cause.Error()
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap returns the cause.
func (e *ScanError) Unwrap() error { return e.Cause }
