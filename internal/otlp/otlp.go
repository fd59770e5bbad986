// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlp is the cargo: one OTLP export request as wire bytes.
//
// A payload is received, scanned once (whole structure checked, items counted), and from then on carried, joined
// and split without being decoded. The package knows the shape of the four export requests and nothing of queues,
// networks or configuration. It uses the standard library only.
package otlp

import "fmt"

// Signal names one of the four kinds of telemetry. The zero value is no signal.
type Signal uint8

// The signals, in the order in which they are listed everywhere.
const (
	Traces Signal = 1 + iota
	Metrics
	Logs
	Profiles
)

// Signals lists every signal once.
var Signals = [...]Signal{Traces, Metrics, Logs, Profiles}

// String is the word pipelines use: traces, metrics, logs, profiles.
func (s Signal) String() string {
	switch s {
	case Traces:
		return "traces"
	case Metrics:
		return "metrics"
	case Logs:
		return "logs"
	case Profiles:
		return "profiles"
	}
	return fmt.Sprintf("signal(%d)", uint8(s))
}

// ItemName is the word metric names use for the items of a signal: spans, metric_points, log_records,
// profile_samples.
func (s Signal) ItemName() string {
	switch s {
	case Traces:
		return "spans"
	case Metrics:
		return "metric_points"
	case Logs:
		return "log_records"
	case Profiles:
		return "profile_samples"
	}
	return "items"
}

// ParseSignal is the inverse of Signal.String.
func ParseSignal(word string) (Signal, bool) {
	for _, s := range Signals {
		if s.String() == word {
			return s, true
		}
	}
	return 0, false
}

// Encoding is the compression of a payload's bytes. Members of each encoding concatenate: gzip members and zstd
// frames as their formats allow, identity because protobuf messages of one type do.
type Encoding uint8

// The encodings a payload may travel in. Whatever else arrives is decoded at the door.
const (
	Identity Encoding = iota
	Gzip
	Zstd
)

// String is the encoding's name on the wire; identity is "identity".
func (e Encoding) String() string {
	switch e {
	case Identity:
		return "identity"
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("encoding(%d)", uint8(e))
}

// Metadata is the request metadata kept with a payload: only keys a component asked for, lower case, sorted by key,
// never credentials. It is immutable once it left the door.
type Metadata []MetadataEntry

// MetadataEntry is one key with its values in the order received.
type MetadataEntry struct {
	Key    string
	Values []string
}

// Get returns the values of key, which must be lower case; nil if there are none.
func (m Metadata) Get(key string) []string {
	for i := range m {
		if m[i].Key == key {
			return m[i].Values
		}
	}
	return nil
}

// Equal reports whether both hold the same keys and values.
func (m Metadata) Equal(o Metadata) bool {
	if len(m) != len(o) {
		return false
	}
	for i := range m {
		if m[i].Key != o[i].Key || len(m[i].Values) != len(o[i].Values) {
			return false
		}
		for j := range m[i].Values {
			if m[i].Values[j] != o[i].Values[j] {
				return false
			}
		}
	}
	return true
}

// Payload is one scanned export request on its way from a door to a queue.
//
// Body is immutable from the moment the payload is made. Free, if set, gives the body's memory back to whoever
// allocated it; it is called exactly once, by the last holder, and the body is not touched afterwards. Keep, if set, may
// be called before that, by whoever cannot rule out that the body is read later still: Free then leaves the memory to
// the garbage collector.
type Payload struct {
	Signal   Signal
	Encoding Encoding
	Items    uint32 // spans, data points, log records or samples
	Size     uint32 // bytes of the request without its encoding
	Body     []byte
	Metadata Metadata
	Free     func()
	Keep     func()
}

// Release calls Free if there is one. The payload must not be used afterwards.
func (p *Payload) Release() {
	if f := p.Free; f != nil {
		p.Free = nil
		f()
	}
}
