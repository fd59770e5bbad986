// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// toBackendAndFile sends every signal to a backend and to a file each.
const toBackendAndFile = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp_grpc: {endpoint: "$HOST:14317", tls: {insecure: true}}
  file/traces: {path: "$DIR/traces.json"}
  file/metrics: {path: "$DIR/metrics.json"}
  file/logs: {path: "$DIR/logs.json"}
service:
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: "$HOST", port: 8888}}}}]}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp_grpc, file/traces]}
    metrics: {receivers: [otlp], exporters: [otlp_grpc, file/metrics]}
    logs: {receivers: [otlp], exporters: [otlp_grpc, file/logs]}
`

// kinds are the kinds of items with the file that has them.
var kinds = map[string]string{"spans": "traces.json", "points": "metrics.json", "records": "logs.json"}

// itemsInFile counts the items of a file of the file exporter with the reference decoder.
func itemsInFile(t *testing.T, path, kind string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		switch kind {
		case "spans":
			td, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(s.Bytes())
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			n += td.SpanCount()
		case "points":
			md, err := new(pmetric.JSONUnmarshaler).UnmarshalMetrics(s.Bytes())
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			n += md.DataPointCount()
		case "records":
			ld, err := new(plog.JSONUnmarshaler).UnmarshalLogs(s.Bytes())
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			n += ld.LogRecordCount()
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestApplicationsWithTheSDKDeliverEverythingOverBothProtocols(t *testing.T) {
	t.Parallel()
	client := filepath.Join(t.TempDir(), "clients")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", client, ".")
	build.Dir = filepath.Join("..", "clients")
	build.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: test/clients does not build offline: %v\n%s", err, out)
	}
	host, dir := ownHost(t), t.TempDir()
	b := startBackend(t, host+":14317", nil)
	p := collector(t, toBackendAndFile, map[string]string{"HOST": host, "DIR": dir})

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	run := exec.CommandContext(ctx, client, "--grpc", host+":4317", "--http", host+":4318", "-n", "200")
	var stderr bytes.Buffer
	run.Stderr = &stderr
	out, err := run.Output()
	if err != nil {
		t.Fatalf("clients: %v\n%s", err, stderr.String())
	}
	var sent struct {
		Spans   int `json:"spans"`
		Points  int `json:"metric_points"`
		Records int `json:"log_records"`
	}
	if err := json.Unmarshal(out, &sent); err != nil || sent.Spans != 400 {
		t.Fatalf("clients printed %q (%v)", out, err)
	}
	want := map[string]int{"spans": sent.Spans, "points": sent.Points, "records": sent.Records}
	b.awaitItems(t, want)
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lastLine(t, p)
	for kind, file := range kinds {
		if got := b.items(kind); got != want[kind] {
			t.Errorf("the backend has %d %s, want %d", got, kind, want[kind])
		}
		if got := itemsInFile(t, filepath.Join(dir, file), kind); got != want[kind] {
			t.Errorf("%s has %d %s, want %d", file, got, kind, want[kind])
		}
	}
}

// What people type into curl, from the OTLP specification's examples: hex IDs, camel case, numbers as strings, a field
// nobody knows.
const (
	curlTraces = `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"my.service"}}]},
"scopeSpans":[{"scope":{"name":"my.library","version":"1.0.0"},"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C",
"spanId":"EEE19B7EC3C1B174","parentSpanId":"EEE19B7EC3C1B173","name":"curl-span","startTimeUnixNano":"1544712660000000000",
"endTimeUnixNano":"1544712661000000000","kind":2,"futureField":{"a":[1]},
"attributes":[{"key":"my.span.attr","value":{"stringValue":"some value"}}]}]}]}]}`
	curlMetrics = `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"my.counter","unit":"1","sum":{"aggregationTemporality":1,
"isMonotonic":true,"dataPoints":[{"asDouble":5,"startTimeUnixNano":"1544712660300000000","timeUnixNano":"1544712660300000000"}]}},
{"name":"my.gauge","gauge":{"dataPoints":[{"asInt":"10","timeUnixNano":1544712660300000000}]}}]}]}]}`
	curlLogs = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1544712660300000000","severityNumber":10,
"severityText":"Information","traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
"body":{"stringValue":"curl-record"}}]}]}]}`
)

func TestJSONFromCurlArrivesPlainAndCompressed(t *testing.T) {
	t.Parallel()
	host, dir := ownHost(t), t.TempDir()
	b := startBackend(t, host+":14317", nil)
	p := collector(t, toBackendAndFile, map[string]string{"HOST": host, "DIR": dir})
	for path, text := range map[string]string{"traces": curlTraces, "metrics": curlMetrics, "logs": curlLogs} {
		url := "http://" + host + ":4318/v1/" + path
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		a, err := post(ctx, nil, url, jsonType, strings.NewReader(text))
		cancel()
		if err != nil || a.status != 200 || string(a.body) != "{}" || a.header.Get("Content-Type") != jsonType {
			t.Errorf("POST %s: %v, %d %v %q; want 200, JSON {}", path, err, a.status, a.header, a.body)
		}
		mustPost(t, url, jsonType+"; charset=utf-8", gzipped(t, []byte(text)), "Content-Encoding", "gzip")
	}
	want := map[string]int{"spans": 2, "points": 4, "records": 2}
	b.awaitItems(t, want)
	b.await(t, []string{"curl-span", "curl-record"})
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for kind, file := range kinds {
		if got := itemsInFile(t, filepath.Join(dir, file), kind); got != want[kind] {
			t.Errorf("%s has %d %s, want %d", file, got, kind, want[kind])
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "traces.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"traceId":"5b8efff798038103d269b633813fc60c"`, `"name":"curl-span"`, `"my.span.attr"`} {
		if strings.Count(string(text), part) != 2 {
			t.Errorf("traces.json does not have %s twice:\n%s", part, text)
		}
	}
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
