// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package debug_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/debug"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func start(t *testing.T, change func(*debug.Config)) (exporter.Exporter, *observer.ObservedLogs) {
	t.Helper()
	cfg := debug.Default()
	if change != nil {
		change(cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	tel := telemetry.Nop()
	tel.Logger = zap.New(core)
	e, err := debug.Factory().New(exporter.Settings{ID: "debug", Telemetry: tel}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e, logs
}

func must(t testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func traces(t testing.TB) []byte {
	d := ptrace.NewTraces()
	r := d.ResourceSpans().AppendEmpty()
	r.SetSchemaUrl("https://schema")
	r.Resource().Attributes().PutStr("service.name", "check\x1b[31mout")
	sc := r.ScopeSpans().AppendEmpty()
	sc.Scope().SetName("lib")
	s := sc.Spans().AppendEmpty()
	s.SetName("GET /")
	s.SetTraceID([16]byte{0xab})
	s.SetSpanID([8]byte{0xcd})
	s.SetParentSpanID([8]byte{0xef})
	s.SetKind(ptrace.SpanKindServer)
	s.SetStartTimestamp(1_000_000_000)
	s.SetEndTimestamp(1_012_000_000)
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage("no")
	s.Attributes().PutInt("http.status", 500)
	s.Attributes().PutEmptySlice("list").AppendEmpty().SetStr("x")
	e := s.Events().AppendEmpty()
	e.SetName("exception")
	e.Attributes().PutStr("why", strings.Repeat("y", 3000))
	s.Links().AppendEmpty().SetTraceID([16]byte{0x11})
	s.SetDroppedEventsCount(3)
	return must(t)((&ptrace.ProtoMarshaler{}).MarshalTraces(d))
}

func metrics(t testing.TB) []byte {
	d := pmetric.NewMetrics()
	ms := d.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
	g := ms.AppendEmpty()
	g.SetName("g")
	g.SetUnit("By")
	g.SetDescription("what")
	g.SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(1.5)
	g.Gauge().DataPoints().AppendEmpty()
	c := ms.AppendEmpty()
	c.SetName("c")
	c.SetEmptySum().SetIsMonotonic(true)
	p := c.Sum().DataPoints().AppendEmpty()
	p.SetIntValue(-7)
	p.SetStartTimestamp(1)
	p.Attributes().PutStr("k", "v")
	h := ms.AppendEmpty()
	h.SetName("h")
	hp := h.SetEmptyHistogram().DataPoints().AppendEmpty()
	hp.SetCount(5)
	hp.SetSum(9)
	hp.ExplicitBounds().Append(1)
	hp.BucketCounts().Append(3, 2)
	x := ms.AppendEmpty()
	x.SetName("x")
	xp := x.SetEmptyExponentialHistogram().DataPoints().AppendEmpty()
	xp.SetScale(2)
	xp.SetSum(1)
	xp.Positive().BucketCounts().Append(1, 2)
	q := ms.AppendEmpty()
	q.SetName("q")
	qv := q.SetEmptySummary().DataPoints().AppendEmpty().QuantileValues().AppendEmpty()
	qv.SetQuantile(0.5)
	qv.SetValue(4)
	ms.AppendEmpty().SetName("empty")
	return must(t)((&pmetric.ProtoMarshaler{}).MarshalMetrics(d))
}

func logs(t testing.TB) []byte {
	d := plog.NewLogs()
	l := d.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	l.Body().SetStr("hello\nworld")
	l.SetSeverityNumber(plog.SeverityNumberWarn)
	l.SetEventName("ev")
	l.SetTraceID([16]byte{0xab})
	l.Attributes().PutBool("ok", true)
	return must(t)((&plog.ProtoMarshaler{}).MarshalLogs(d))
}

func profiles(t testing.TB) []byte {
	d := pprofile.NewProfiles()
	p := d.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty()
	p.SetProfileID([16]byte{0x42})
	p.Samples().AppendEmpty()
	return must(t)((&pprofile.ProtoMarshaler{}).MarshalProfiles(d))
}

func all(t testing.TB) map[otlp.Signal][]byte {
	return map[otlp.Signal][]byte{
		otlp.Traces: traces(t), otlp.Metrics: metrics(t), otlp.Logs: logs(t), otlp.Profiles: profiles(t),
	}
}

func deliver(t *testing.T, e exporter.Exporter, s otlp.Signal, b []byte) {
	t.Helper()
	r := &exporter.Request{Signal: s, Items: 1, Size: int64(len(b)), Parts: [][]byte{b}}
	if v := e.Send(context.Background(), r); v != exporter.Deliver() {
		t.Fatalf("%s: verdict %+v", s, v)
	}
}

func TestBasicCountsAndDecodesNothing(t *testing.T) {
	e, seen := start(t, nil)
	r := &exporter.Request{Signal: otlp.Logs, Encoding: otlp.Gzip, Items: 7, Size: 9, Parts: [][]byte{{1}, {2}}}
	if v := e.Send(context.Background(), r); v != exporter.Deliver() {
		t.Fatalf("verdict %+v", v)
	}
	line := seen.All()[0]
	if m := line.ContextMap(); line.Message != "Logs" || m["log records"] != uint32(7) || m["requests"] != int64(2) || m["bytes"] != int64(9) {
		t.Errorf("line %q %v", line.Message, m)
	}
	if v := e.Send(context.Background(), &exporter.Request{}); v.Kind != exporter.Rejected {
		t.Errorf("no signal: %+v", v)
	}
}

func TestNormalShowsALineForEachItemAndDetailedShowsAll(t *testing.T) {
	want := map[string]map[otlp.Signal][]string{
		"normal": {
			otlp.Traces:   {`resource service.name="check\x1b[31mout"`, `span "GET /" trace=ab00`, `Server took=12ms status=Error no http.status=500 list=["x"]`},
			otlp.Metrics:  {`metric "g" Gauge unit=By`, "point - 1.5", "point - no value", `point - -7 k="v"`, "count=5 sum=9", "scale=2", "q0.5=4", `metric "empty" Empty`},
			otlp.Logs:     {`log - Warn event="ev" "hello\nworld" ok=true`},
			otlp.Profiles: {"profile id=42", "samples=1"},
		},
		"detailed": {
			otlp.Traces: {"schema=https://schema", "\n  service.name = ", "\n      http.status = 500", "start 1970-01-01T00:00:01Z", `event "exception"`, "why = \"yyy",
				"link trace=11", "0 attributes, 3 events, 0 links"},
			otlp.Metrics:  {`"what"`, "buckets ≤1: 3, more: 2", "positive from 0 [1 2]", "since 1970"},
			otlp.Logs:     {"observed -", "trace=ab00"},
			otlp.Profiles: {"profile id=42"},
		},
	}
	for verbosity, bySignal := range want {
		e, seen := start(t, func(c *debug.Config) { c.Verbosity = verbosity })
		for s, b := range all(t) {
			deliver(t, e, s, b)
			lines := seen.TakeAll()
			if len(lines) != 2 {
				t.Fatalf("%d lines", len(lines))
			}
			text := lines[1].Message
			for _, w := range bySignal[s] {
				if !strings.Contains(text, w) {
					t.Errorf("%s %s: no %q in\n%s", verbosity, s, w, text)
				}
			}
			if strings.ContainsAny(text, "\x1b\r") || strings.Contains(text, strings.Repeat("y", 1100)) {
				t.Errorf("%s %s: foreign text is neither escaped nor cut", verbosity, s)
			}
		}
	}
}

func TestCompressedRequestsAreDecodedToBeShown(t *testing.T) {
	e, seen := start(t, func(c *debug.Config) { c.Verbosity = "normal" })
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	b := logs(t)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal("gzip")
	}
	r := &exporter.Request{Signal: otlp.Logs, Encoding: otlp.Gzip, Items: 1, Size: int64(len(b)), Parts: [][]byte{z.Bytes()}}
	if v := e.Send(context.Background(), r); v != exporter.Deliver() {
		t.Fatalf("verdict %+v", v)
	}
	if n := seen.FilterMessageSnippet("hello").Len(); n != 1 {
		t.Errorf("%d lines with the body", n)
	}
	r.Parts[0] = r.Parts[0][:20]
	if v := e.Send(context.Background(), r); v.Kind != exporter.Rejected {
		t.Errorf("damaged: %+v", v)
	}
	r.Encoding, r.Parts[0], r.Size = otlp.Identity, []byte("\x0a\xff"), 2
	if v := e.Send(context.Background(), r); v.Kind != exporter.Rejected {
		t.Errorf("no protobuf: %+v", v)
	}
}

func TestLinesAreSampled(t *testing.T) {
	e, seen := start(t, func(c *debug.Config) { c.SamplingInitial, c.SamplingThereafter = 3, 0 })
	for range 1000 {
		deliver(t, e, otlp.Logs, nil)
	}
	// A second may begin in the middle, not more.
	if n := seen.Len(); n != 3 && n != 6 {
		t.Errorf("%d lines of 1000, want 3", n)
	}
}

func TestWithoutTheInternalLoggerLinesGoToTheOutputs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	e, seen := start(t, func(c *debug.Config) { c.UseInternalLogger, c.OutputPaths = false, []string{path} })
	deliver(t, e, otlp.Traces, traces(t))
	if err := e.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(b), "Traces\t{") || seen.Len() != 0 {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAQueueStandsThereOnlyIfItIsWritten(t *testing.T) {
	f := debug.Factory()
	if f.Queue != exporter.QueueIfWritten {
		t.Error("queue mode")
	}
	c := f.Default().(*debug.Config)
	if c.Delivery().Queue != nil {
		t.Error("a queue by default")
	}
	m := map[string]any{"verbosity": "Detailed", "sending_queue": map[string]any{"queue_size": 5}}
	if err := confmap.NewFromStringMap(m).Unmarshal(c); err != nil {
		t.Fatal(err)
	}
	q := c.Delivery().Queue
	if q == nil || q.QueueSize != 5 || !q.Enabled || q.NumConsumers != 10 || c.Verbosity != "detailed" {
		t.Errorf("config %+v, queue %+v", c, q)
	}
	if err := confmap.NewFromStringMap(map[string]any{"verbose": 1}).Unmarshal(debug.Default()); err == nil {
		t.Error("an unknown key is taken")
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*debug.Config){
		"`verbosity`":                  func(c *debug.Config) { c.Verbosity = "loud" },
		"`sampling_initial`":           func(c *debug.Config) { c.SamplingInitial = -1 },
		"needs `use_internal_logger":   func(c *debug.Config) { c.OutputPaths = []string{"x"} },
		"`output_paths` must not be e": func(c *debug.Config) { c.UseInternalLogger, c.OutputPaths = false, []string{} },
	} {
		c := debug.Default()
		change(c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
