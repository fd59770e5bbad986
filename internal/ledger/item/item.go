// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package item is the identity of one numbered item of telemetry: how it is written into a span, a log record or a
// data point, and how it is found there again.
//
// It stands in the proving ground, outside the product: producers number what they send with it, sinks and the ledger
// recognise what arrived. An item carries its identity twice, in an attribute and in fields that survive the removal of
// attributes, and a padding text that can be computed from the identity; so a reader proves content, not only presence
// (spec faults.md 2).
//
// The package reads OTLP with protowire and encoding/json and shares no line with the product's scanner, so that the
// checker cannot make the product's mistakes. It knows no files, no network and no clock.
package item

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
)

const (
	// MaxProducer is the highest producer number; they count from 1.
	MaxProducer = 65535
	// MaxRunName is the longest name of a run, in bytes.
	MaxRunName = 32
	// MaxMeanPad bounds --item-bytes, in bytes.
	MaxMeanPad = 1 << 20

	// Keys of the attributes: the first, second and last on the item, the third on the resource.
	KeyID      = "holdfast.id"
	KeyPad     = "holdfast.pad"
	KeyRequest = "holdfast.request"
	KeyPoison  = "holdfast.poison"
	// Service is the service.name of what producers send.
	Service = "holdfast-ledger"
)

// Signal is the letter that stands for a signal in identities and notes.
type Signal byte

// The signals.
const (
	Traces  Signal = 's'
	Logs    Signal = 'l'
	Metrics Signal = 'm'
)

// Signals lists all signals in the order in which they are reported.
var Signals = [...]Signal{Traces, Logs, Metrics}

// String is the word pipelines use.
func (s Signal) String() string {
	switch s {
	case Traces:
		return "traces"
	case Logs:
		return "logs"
	case Metrics:
		return "metrics"
	}
	return fmt.Sprintf("signal(%d)", byte(s))
}

// Index is the place of s in Signals; -1 if it is none.
func (s Signal) Index() int {
	switch s {
	case Traces:
		return 0
	case Logs:
		return 1
	case Metrics:
		return 2
	}
	return -1
}

// ParseSignal reads the word or the letter of a signal.
func ParseSignal(word string) (Signal, bool) {
	for _, s := range Signals {
		if word == s.String() || word == string(rune(s)) {
			return s, true
		}
	}
	return 0, false
}

// ID is the identity of an item within a run.
type ID struct {
	Signal   Signal
	Producer uint16
	Seq      uint64
}

// Tag is the part of a run's name that fits into a trace ID.
type Tag [6]byte

// TagOf is the first 6 bytes of SHA-256 of the run's name.
func TagOf(run string) Tag {
	sum := sha256.Sum256([]byte(run))
	return Tag(sum[:6])
}

// ValidRun says what is wrong with a run's name: it must match [a-z0-9-]{1,32}.
func ValidRun(run string) error {
	if validRun([]byte(run)) {
		return nil
	}
	return fmt.Errorf("run %q: 1 to %d characters of a-z, 0-9 and - are needed", run, MaxRunName)
}

func validRun(run []byte) bool {
	if len(run) == 0 || len(run) > MaxRunName {
		return false
	}
	for _, c := range run {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// AppendID appends the text of an identity: RUN/s/PRODUCER/SEQ. Requests are named in the same way, with the number of
// the request in place of the item's.
func AppendID(b []byte, run string, id ID) []byte {
	b = append(b, run...)
	b = append(b, '/', byte(id.Signal), '/')
	b = strconv.AppendUint(b, uint64(id.Producer), 10)
	b = append(b, '/')
	return strconv.AppendUint(b, id.Seq, 10)
}

// String is the text of id without its run.
func (id ID) String() string { return fmt.Sprintf("%c/%d/%d", byte(id.Signal), id.Producer, id.Seq) }

// ParseID reads what AppendID wrote. Leading zeros and signs are refused: an identity has one spelling.
func ParseID(text []byte) (run []byte, id ID, ok bool) {
	run, rest, found := bytes.Cut(text, []byte{'/'})
	if !found || !validRun(run) || len(rest) < 2 || rest[1] != '/' {
		return nil, ID{}, false
	}
	id.Signal = Signal(rest[0])
	if id.Signal.Index() < 0 {
		return nil, ID{}, false
	}
	p, s, found := bytes.Cut(rest[2:], []byte{'/'})
	if !found {
		return nil, ID{}, false
	}
	producer, ok := parseNumber(p)
	if !ok || producer > MaxProducer {
		return nil, ID{}, false
	}
	id.Producer = uint16(producer)
	id.Seq, ok = parseNumber(s)
	return run, id, ok
}

// parseNumber reads a positive decimal number without leading zeros.
func parseNumber(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 || b[0] == '0' {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// TraceID is tag, producer and sequence number, big-endian.
func TraceID(tag Tag, producer uint16, seq uint64) (id [16]byte) {
	copy(id[:], tag[:])
	binary.BigEndian.PutUint16(id[6:], producer)
	binary.BigEndian.PutUint64(id[8:], seq)
	return id
}

// SpanID is the sequence number, big-endian.
func SpanID(seq uint64) (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], seq)
	return id
}

// Nanos is the time an item bears: base plus seq microseconds, data points base plus seq milliseconds. base is in
// microseconds since 1970; the result wraps where a damaged number is beyond time.
func Nanos(base int64, id ID) uint64 {
	if id.Signal == Metrics {
		return uint64(base)*1000 + id.Seq*1_000_000
	}
	return uint64(base)*1000 + id.Seq*1000
}
