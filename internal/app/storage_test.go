// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/app/components"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// running is an App in this process.
type running struct {
	*app.App
	tel   *telemetry.Telemetry
	lines *observer.ObservedLogs
}

func load(t *testing.T, doc string) (*config.Config, *plan.Plan) {
	t.Helper()
	cfg, err := config.Load(t.Context(), config.Options{
		URIs: []string{"-"}, Stdin: strings.NewReader(doc), Registry: components.Registry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p, findings := plan.Build(cfg, components.ExporterQueue)
	for _, f := range findings {
		if f.Severity == config.Error {
			t.Fatal(f)
		}
	}
	return cfg, p
}

func build(t *testing.T, doc string) *running {
	t.Helper()
	cfg, p := load(t, doc)
	core, lines := observer.New(zap.InfoLevel)
	r := &running{tel: telemetry.Nop(), lines: lines}
	r.tel.Logger = zap.New(core)
	a, err := app.New(app.Options{
		Config: cfg, Plan: p, Version: "test", Telemetry: r.tel, ShutdownTimeout: 20 * time.Second, ImplicitHealth: "off",
		StateDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.App = a
	a.ReloadBy(reload.New(reload.DriverSettings{Telemetry: r.tel})) // which is not started: its series are there
	return r
}

func start(t *testing.T, doc string) *running {
	t.Helper()
	r := build(t, doc)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	if report := r.Stop(context.Background()); report.Err != nil || report.Stuck != "" || report.Dropped != 0 {
		t.Errorf("stop: %+v", report)
	}
}

// house has a durable pipeline to two destinations, a pipeline in memory, and one that waits.
func house(dir string) string {
	return fmt.Sprintf(`
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
exporters:
  otlp/a: {endpoint: "127.0.0.1:1", sending_queue: {storage: file_storage}}
  otlp/b: {endpoint: "127.0.0.1:1"}
  debug: {}
extensions: {file_storage: {directory: %q, max_file_size_mib: 64}}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp/a, otlp/b]}
    logs: {receivers: [otlp], exporters: [otlp/b]}
    metrics: {receivers: [otlp], exporters: [debug]}
`, dir)
}

// The names of section 15 of the journal's specification, by whom they are shown.
var (
	everyQueue = []string{
		"appended_records_total", "appended_items_total", "refused_items_total", "state", "resolved_records_total",
		"resolved_items_total", "redelivered_records_total", "queued_records", "queued_items", "queued_bytes",
		"parked_records", "parked_items", "parked_bytes", "oldest_seconds", "in_flight_records", "imbalance_items",
	}
	everyJournal = []string{
		"unsynced_seconds", "sync_age_seconds", "segments", "cache_bytes", "cache_hits_total", "cache_misses_total",
		"condemned_segments_total", "damaged_ranges_total", "dead_evicted_items_total", "recovery_seconds",
		"recovery_scanned_bytes", "alarms_total",
	}
	everyStorage = []string{"disk_bytes", "disk_limit_bytes", "disk_free_bytes", "seconds_until_full"}
)

func TestEverySeriesOfEveryQueueIsThereBeforeTheFirstRequest(t *testing.T) {
	r := start(t, house(filepath.Join(t.TempDir(), "queue")))
	defer r.stop(t)
	shown := map[string]float64{}
	for _, s := range r.tel.Metrics.Snapshot() {
		shown[s.Name+" "+strings.Join(s.Labels, " ")] = s.Value
	}
	has := func(name string, labels ...string) {
		t.Helper()
		for key := range shown {
			words := strings.Fields(key)
			ok := words[0] == name
			for i := 0; i+1 < len(labels); i += 2 {
				at := slices.Index(words, labels[i])
				ok = ok && at > 0 && at+1 < len(words) && words[at+1] == labels[i+1]
			}
			if ok {
				return
			}
		}
		t.Errorf("no series %s with %q", name, labels)
	}
	for _, name := range everyQueue {
		has("holdfast_journal_"+name, "pipeline", "traces")
		has("holdfast_journal_"+name, "pipeline", "logs")
	}
	for _, name := range everyQueue[4:] {
		has("holdfast_journal_"+name, "pipeline", "traces", "destination", "otlp/a")
		has("holdfast_journal_"+name, "pipeline", "traces", "destination", "otlp/b")
		has("holdfast_journal_"+name, "pipeline", "logs", "destination", "otlp/b")
	}
	for _, name := range everyJournal {
		has("holdfast_journal_"+name, "pipeline", "traces")
	}
	for _, name := range everyStorage {
		has("holdfast_journal_"+name, "storage", "file_storage")
	}
	for _, kind := range []string{"segments", "cursors", "dead", "bad", "reserve", "foreign"} {
		has("holdfast_journal_disk_bytes", "kind", kind)
	}
	for _, limit := range []string{"queue_size", "max_file_size_mib", "max_size", "min_free_mib", "disk", "busy", "closed"} {
		has("holdfast_journal_refused_items_total", "pipeline", "traces", "limit", limit)
	}
	for _, reason := range []string{"overflow", "corrupt", "missing", "unsynced", "operator", "parked", "drop_oldest"} {
		has("holdfast_ledger_dropped_items_total", "pipeline", "traces", "destination", "otlp/a", "reason", reason)
		has("holdfast_journal_resolved_items_total", "pipeline", "traces", "outcome", "dropped", "reason", reason)
	}
	for _, reason := range []string{"overflow", "shutdown"} {
		has("holdfast_ledger_dropped_items_total", "pipeline", "logs", "reason", reason)
	}
	for _, destination := range []string{"otlp/a", "otlp/b"} {
		has("otelcol_exporter_queue_size", "exporter", destination, "data_type", "traces")
		has("otelcol_exporter_queue_capacity", "exporter", destination, "data_type", "traces")
	}
	has("holdfast_ledger_accepted_items_total", "pipeline", "metrics", "destination", "debug")
	for key, v := range shown {
		zero := strings.HasPrefix(key, "holdfast_ledger_") || strings.HasPrefix(key, "holdfast_journal_") &&
			strings.Contains(key, "_total ")
		if zero && v != 0 {
			t.Errorf("%s is %v before the first request", key, v)
		}
	}
	if v := shown["holdfast_journal_state pipeline traces state ok"]; v != 1 {
		t.Errorf("state ok is %v", v)
	}
	if v := shown["otelcol_exporter_queue_capacity data_type traces exporter otlp/a"]; v != 1000 {
		t.Errorf("capacity %v, want 1000", v)
	}
}

func TestOpeningAQueueIsSaidOncePerJournal(t *testing.T) {
	r := start(t, house(filepath.Join(t.TempDir(), "queue")))
	defer r.stop(t)
	lines := r.lines.FilterMessage("Queue: opened").All()
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1", len(lines))
	}
	fields := lines[0].ContextMap()
	for _, name := range []string{"otelcol.pipeline.id", "items", "bytes", "oldest", "recovered", "took"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("the line does not say %s: %v", name, fields)
		}
	}
}

func TestTheBoundsOfAStorageAreSaidAtTheStart(t *testing.T) {
	r := start(t, house(filepath.Join(t.TempDir(), "queue")))
	defer r.stop(t)
	for _, line := range r.lines.FilterMessage("Limits in force").All() {
		if m := line.ContextMap(); m["otelcol.component.id"] == "file_storage" {
			if m["directory_bytes"] != int64(64<<20) || m["memory_bytes"].(int64) < 64<<20 || m["fsync"] != true {
				t.Errorf("fields %v", m)
			}
			return
		}
	}
	t.Error("not said")
}

// What New builds touches no directory: a configuration can be looked at on any machine.
func TestBuildingTouchesNoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	build(t, house(dir))
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is there: %v", err)
	}
}

// Extensions that reach one directory by different names share it; the second lock would never be had.
func TestStoragesOnOneDirectoryByDifferentNamesShareIt(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	r := start(t, fmt.Sprintf(`
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
exporters:
  otlp/a: {endpoint: "127.0.0.1:1", sending_queue: {storage: file_storage/a}}
  otlp/b: {endpoint: "127.0.0.1:1", sending_queue: {storage: file_storage/b}}
extensions:
  file_storage/a: {directory: %q, max_file_size_mib: 64, timeout: 1s}
  file_storage/b: {directory: %q, max_file_size_mib: 128, timeout: 1s}
service:
  extensions: [file_storage/a, file_storage/b]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp/a]}
    logs: {receivers: [otlp], exporters: [otlp/b]}
`, dir, filepath.Join(link, ".")))
	defer r.stop(t)
	for _, s := range r.tel.Metrics.Snapshot() {
		if s.Name == "holdfast_journal_disk_limit_bytes" && (s.Value != 64<<20 || s.Labels[1] != "file_storage/a") {
			t.Errorf("limit %v of %v, want the stricter one under the first name", s.Value, s.Labels)
		}
	}
	if n := r.lines.FilterMessage("Queue: opened").Len(); n != 2 {
		t.Errorf("%d journals opened, want 2", n)
	}
}

// After a start that fails, and after a stop, the directory is nobody's.
func TestADirectoryIsFreeAfterAStopAndAfterAStartThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	start(t, house(dir)).stop(t)
	broken := build(t, strings.Replace(house(dir), "127.0.0.1:0", "203.0.113.1:1", 1))
	if err := broken.Start(t.Context()); err == nil {
		t.Fatal("started on an address of another host")
	}
	start(t, house(dir)).stop(t)
}
