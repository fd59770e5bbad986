// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// MaxItems is how many spans, data points, log records or samples one request may hold (faults, part C).
const MaxItems = 1_000_000

// MaxDepth is how many attribute values may be nested in one another: the value of an attribute is the first, a
// value in its list the second (faults, part C).
const MaxDepth = 100

// Scan checks the whole nested structure of one Export{Traces,Metrics,Logs,Profiles}ServiceRequest and counts its
// items. Verdict and count are those of the reference decoder (pdata's ExportRequest.UnmarshalProto and its SpanCount,
// DataPointCount, LogRecordCount, SampleCount), whatever the order of the fields, except for what lies beyond
// MaxDepth and MaxItems.
//
// The error is a *ScanError, or ErrSignal. Scan keeps nothing of b, allocates nothing unless it fails, and needs the
// same stack for every input.
func Scan(s Signal, b []byte) (items uint32, err error) {
	if s < Traces || s > Profiles {
		return 0, ErrSignal
	}
	sc := scanner{signal: s, room: cap(b)}
	ok := sc.request(b)
	if !ok {
		return 0, sc.err()
	}
	return uint32(sc.items), nil
}

// scanner is the state of one scan. Its methods take the bytes of one message and report whether it is sound; the
// first fault is kept. Messages are never resliced with a capacity, so that a message's place in the request follows
// from what is left of the request's capacity behind it.
type scanner struct {
	signal Signal
	room   int // capacity of the request's slice
	items  int // counted so far

	fault struct {
		offset  int
		message kind
		cause   error
		detail  int
	}

	stack [maxFrames]frame // of walk
}

// fail notes that message m, with bytes b, is broken at i for the reason given by bad, one of the bad… values.
func (s *scanner) fail(b []byte, i, bad int, m kind) bool {
	s.fault.offset = s.room - cap(b) + max(i, 0)
	s.fault.message = m
	s.fault.cause = ErrMalformed
	s.fault.detail = -bad
	return false
}

// refuse notes that message m, with bytes b, goes beyond a limit at i.
func (s *scanner) refuse(b []byte, i int, cause error, m kind) bool {
	s.fail(b, i, 0, m)
	s.fault.cause = cause
	return false
}

func (s *scanner) err() error {
	f := &s.fault
	return &ScanError{
		Signal: s.signal, Offset: f.offset, Message: kindWords[f.message], Detail: badDetails[f.detail], Cause: f.cause,
	}
}
