// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package receivertest has what tests of receivers need: a sink that can be told what to answer, and requests of known
// size. It stands beside the path and is linked by tests only.
package receivertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Sink is a sink that keeps copies of what it accepts. Its fields are set before it is used.
type Sink struct {
	Gate *admission.Gate
	Keys []string
	// Answer, if set, is asked for every payload, after it was copied; an error leaves the payload the caller's.
	Answer func(ctx context.Context, p *otlp.Payload) (receiver.Result, error)
	// AdmitErr, if set, is what Admit answers.
	AdmitErr func() error
	// Discard keeps nothing.
	Discard bool

	mu sync.Mutex
	ps []otlp.Payload
}

// Admit implements receiver.Sink.
func (s *Sink) Admit(n int64) (*admission.Grant, error) {
	if s.AdmitErr != nil {
		if err := s.AdmitErr(); err != nil {
			return nil, err
		}
	}
	return s.Gate.Admit(n)
}

// Accept implements receiver.Sink.
func (s *Sink) Accept(ctx context.Context, p *otlp.Payload) (receiver.Result, error) {
	if !s.Discard {
		c := *p
		c.Body, c.Free = append([]byte(nil), p.Body...), nil
		s.mu.Lock()
		s.ps = append(s.ps, c)
		s.mu.Unlock()
	}
	var res receiver.Result
	if s.Answer != nil {
		var err error
		if res, err = s.Answer(ctx, p); err != nil {
			return res, err
		}
	}
	p.Release()
	return res, nil
}

// MetadataKeys implements receiver.Sink.
func (s *Sink) MetadataKeys() []string { return s.Keys }

// Payloads returns copies of all that was handed over so far.
func (s *Sink) Payloads() []otlp.Payload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]otlp.Payload(nil), s.ps...)
}

// Settings returns settings with one sink for every signal.
func Settings(s *Sink) receiver.Settings {
	if s.Gate == nil {
		s.Gate = admission.New(256 << 20)
	}
	set := receiver.Settings{
		ID: "otlp", Telemetry: telemetry.Nop(), Admission: s.Gate, Sinks: map[otlp.Signal]receiver.Sink{},
		Ready: func() bool { return true },
	}
	for _, signal := range otlp.Signals {
		set.Sinks[signal] = s
	}
	return set
}

// Value reads one counter or gauge of the registry; labels alternate name and value. A series that does not exist
// is -1.
func Value(m *telemetry.Registry, name string, labels ...string) float64 {
	for _, s := range m.Snapshot() {
		if s.Name == name && has(s.Labels, labels) {
			return s.Value
		}
	}
	return -1
}

func has(all, some []string) bool {
	for i := 0; i < len(some); i += 2 {
		found := false
		for j := 0; j < len(all); j += 2 {
			found = found || all[j] == some[i] && all[j+1] == some[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// Request returns one export request of n items, as protobuf and as JSON. Each item has an attribute of pad bytes.
func Request(signal otlp.Signal, n, pad int) (wire, text []byte) {
	var m interface {
		MarshalProto() ([]byte, error)
		MarshalJSON() ([]byte, error)
	}
	switch signal {
	case otlp.Traces:
		m = ptraceotlp.NewExportRequestFromTraces(Traces(n, pad))
	case otlp.Metrics:
		d := pmetric.NewMetrics()
		rm := d.ResourceMetrics().AppendEmpty()
		fill(rm.Resource().Attributes(), 0, 8)
		metric := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		metric.SetName("load")
		points := metric.SetEmptyGauge().DataPoints()
		for i := range n {
			dp := points.AppendEmpty()
			dp.SetIntValue(int64(i))
			fill(dp.Attributes(), i, pad)
		}
		m = pmetricotlp.NewExportRequestFromMetrics(d)
	case otlp.Logs:
		d := plog.NewLogs()
		records := d.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
		for i := range n {
			r := records.AppendEmpty()
			r.Body().SetStr("line")
			fill(r.Attributes(), i, pad)
		}
		m = plogotlp.NewExportRequestFromLogs(d)
	case otlp.Profiles:
		d := pprofile.NewProfiles()
		p := d.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty()
		for range n {
			p.Samples().AppendEmpty().Values().Append(1)
		}
		m = pprofileotlp.NewExportRequestFromProfiles(d)
	}
	wire, err := m.MarshalProto()
	if err != nil {
		panic(err)
	}
	if text, err = m.MarshalJSON(); err != nil {
		panic(err)
	}
	return wire, text
}

// Traces returns n spans, each with an attribute of pad bytes.
func Traces(n, pad int) ptrace.Traces {
	d := ptrace.NewTraces()
	rs := d.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "receivertest")
	spans := rs.ScopeSpans().AppendEmpty().Spans()
	for i := range n {
		s := spans.AppendEmpty()
		s.SetName("operation")
		s.SetTraceID([16]byte{1, 2, 3, byte(i >> 8), byte(i)})
		s.SetSpanID([8]byte{4, 5, 6, byte(i >> 8), byte(i)})
		s.SetStartTimestamp(1_700_000_000_000_000_000)
		s.SetEndTimestamp(1_700_000_000_100_000_000)
		fill(s.Attributes(), i, pad)
	}
	return d
}

// fill makes pad bytes that compress, though not to nothing.
func fill(m pcommon.Map, i, pad int) {
	b := make([]byte, 0, pad+16)
	for k := 0; len(b) < pad; k++ {
		b = fmt.Appendf(b, "%08x-", uint32(i*7919+k)*2654435761)
	}
	m.PutStr("pad", string(b[:pad]))
}

// Gzip compresses b.
func Gzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}
