// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package debug

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// show renders one request. A panic of the decoder is an error: the bytes may be older than the scan that would refuse
// them today.
func show(s otlp.Signal, b []byte, all bool) (out string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder panicked: %v", p)
		}
	}()
	t := &text{all: all}
	switch s {
	case otlp.Traces:
		d, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
		if err != nil {
			return "", err
		}
		t.traces(d)
	case otlp.Metrics:
		d, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(b)
		if err != nil {
			return "", err
		}
		t.metrics(d)
	case otlp.Logs:
		d, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(b)
		if err != nil {
			return "", err
		}
		t.logs(d)
	case otlp.Profiles:
		d, err := (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles(b)
		if err != nil {
			return "", err
		}
		t.profiles(d)
	}
	return strings.TrimSuffix(t.b.String(), "\n"), nil
}

// text is an indented outline. At normal verbosity attributes stand in the line of what they belong to; at detailed
// each has its own.
type text struct {
	b     strings.Builder
	all   bool
	depth int
}

// line begins a line, writes words and, at normal verbosity, attrs into it, and ends it.
func (t *text) line(attrs pcommon.Map, words ...string) {
	t.b.WriteString(strings.Repeat("  ", t.depth))
	t.b.WriteString(strings.Join(words, " "))
	if !t.all {
		for k, v := range attrs.All() {
			t.b.WriteString(" " + wire.Clip(k) + "=" + value(v))
		}
	}
	t.b.WriteByte('\n')
	if t.all {
		for k, v := range attrs.All() {
			t.note(wire.Clip(k) + " = " + value(v))
		}
	}
}

// note writes a line below the last one.
func (t *text) note(words ...string) {
	t.b.WriteString(strings.Repeat("  ", t.depth+1))
	t.b.WriteString(strings.Join(words, " "))
	t.b.WriteByte('\n')
}

// in writes what body writes one step deeper.
func (t *text) in(body func()) {
	t.depth++
	body()
	t.depth--
}

// value is an attribute's value: strings quoted, others as OTLP JSON has them.
func value(v pcommon.Value) string {
	if v.Type() == pcommon.ValueTypeStr {
		return quote(v.Str())
	}
	return wire.Clip(v.AsString())
}

func quote(s string) string { return `"` + wire.Clip(s) + `"` }

func stamp(ts pcommon.Timestamp) string {
	if ts == 0 {
		return "-"
	}
	return ts.AsTime().UTC().Format(time.RFC3339Nano)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

func float(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func (t *text) resource(r pcommon.Resource, schema string) {
	words := []string{"resource"}
	if schema != "" && t.all {
		words = append(words, "schema="+wire.Clip(schema))
	}
	t.line(r.Attributes(), words...)
}

func (t *text) scope(s pcommon.InstrumentationScope) {
	t.line(s.Attributes(), "scope", quote(s.Name()), wire.Clip(s.Version()))
}

func (t *text) traces(d ptrace.Traces) {
	for _, r := range d.ResourceSpans().All() {
		t.resource(r.Resource(), r.SchemaUrl())
		for _, s := range r.ScopeSpans().All() {
			t.in(func() {
				t.scope(s.Scope())
				t.in(func() {
					for _, span := range s.Spans().All() {
						t.span(span)
					}
				})
			})
		}
	}
}

func (t *text) span(s ptrace.Span) {
	words := []string{"span", quote(s.Name()), "trace=" + s.TraceID().String(), "id=" + s.SpanID().String()}
	if !s.ParentSpanID().IsEmpty() {
		words = append(words, "parent="+s.ParentSpanID().String())
	}
	words = append(words, s.Kind().String(), "took="+took(s.StartTimestamp(), s.EndTimestamp()))
	if s.Status().Code() != ptrace.StatusCodeUnset {
		words = append(words, "status="+s.Status().Code().String(), wire.Clip(s.Status().Message()))
	}
	t.line(s.Attributes(), words...)
	if !t.all {
		return
	}
	t.note("start", stamp(s.StartTimestamp()), "end", stamp(s.EndTimestamp()))
	if state := s.TraceState().AsRaw(); state != "" {
		t.note("trace state", quote(state))
	}
	t.in(func() {
		for _, e := range s.Events().All() {
			t.line(e.Attributes(), "event", quote(e.Name()), "at", stamp(e.Timestamp()))
		}
		for _, l := range s.Links().All() {
			t.line(l.Attributes(), "link", "trace="+l.TraceID().String(), "id="+l.SpanID().String())
		}
		t.dropped(s.DroppedAttributesCount(), s.DroppedEventsCount(), s.DroppedLinksCount())
	})
}

// dropped says what the sender left out, if anything.
func (t *text) dropped(attributes, events, links uint32) {
	if attributes+events+links > 0 {
		t.line(pcommon.NewMap(), fmt.Sprintf("dropped by the sender: %d attributes, %d events, %d links", attributes, events, links))
	}
}

func took(from, to pcommon.Timestamp) string {
	if to < from {
		return "-" + time.Duration(from-to).String() //nolint:gosec // shown, not computed with
	}
	return time.Duration(to - from).String() //nolint:gosec // shown, not computed with
}

func (t *text) logs(d plog.Logs) {
	for _, r := range d.ResourceLogs().All() {
		t.resource(r.Resource(), r.SchemaUrl())
		for _, s := range r.ScopeLogs().All() {
			t.in(func() {
				t.scope(s.Scope())
				t.in(func() {
					for _, l := range s.LogRecords().All() {
						t.log(l)
					}
				})
			})
		}
	}
}

func (t *text) log(l plog.LogRecord) {
	words := []string{"log", stamp(l.Timestamp()), l.SeverityNumber().String()}
	if l.EventName() != "" {
		words = append(words, "event="+quote(l.EventName()))
	}
	t.line(l.Attributes(), append(words, value(l.Body()))...)
	if !t.all {
		return
	}
	t.note("observed", stamp(l.ObservedTimestamp()), "severity text", quote(l.SeverityText()))
	if !l.TraceID().IsEmpty() {
		t.note("trace="+l.TraceID().String(), "span="+l.SpanID().String())
	}
	t.in(func() { t.dropped(l.DroppedAttributesCount(), 0, 0) })
}

func (t *text) profiles(d pprofile.Profiles) {
	for _, r := range d.ResourceProfiles().All() {
		t.resource(r.Resource(), r.SchemaUrl())
		for _, s := range r.ScopeProfiles().All() {
			t.in(func() {
				t.scope(s.Scope())
				t.in(func() {
					for _, p := range s.Profiles().All() {
						id := p.ProfileID()
						t.line(pcommon.NewMap(), "profile", fmt.Sprintf("id=%x", id[:]), "at", stamp(p.Time()),
							"samples="+strconv.Itoa(p.Samples().Len()))
					}
				})
			})
		}
	}
}
