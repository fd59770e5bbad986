// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func TestStoragesOnOneDirectoryAreOneAndTheStricterSettingsHold(t *testing.T) {
	p, said := build(t, `receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:0"}}}}
exporters:
  otlp/a: {endpoint: "b:1", sending_queue: {storage: file_storage/a}}
  otlp/b: {endpoint: "b:1", sending_queue: {storage: file_storage/b}}
extensions:
  file_storage/a: {directory: ./q/, fsync: false, max_file_size_mib: 4096}
  file_storage/b: {directory: ./q, max_file_size_mib: 31}
  file_storage/idle: {directory: ./idle}
service:
  extensions: [file_storage/a, file_storage/b, file_storage/idle]
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp/a]}
    logs: {receivers: [otlp], exporters: [otlp/b]}
`)
	if len(p.Storages) != 2 {
		t.Fatalf("storages %+v", p.Storages)
	}
	s := p.Storages[0]
	if s.Directory != "q" || s.MaxBytes != 31<<20 || !s.Synced || !slices.Equal(s.IDs, []string{"file_storage/a", "file_storage/b"}) ||
		!slices.Equal(s.Heads, []string{"traces", "logs"}) {
		t.Errorf("shared: %+v", s)
	}
	if s := p.Storages[1]; s.Directory != "idle" || len(s.Heads) != 0 {
		t.Errorf("idle: %+v", s)
	}
	for _, pl := range p.Pipelines {
		if !pl.Synced || pl.Directory != "q" {
			t.Errorf("%s answers before the sync although its directory is synced: %+v", pl.ID, pl)
		}
	}
	says(t, said, "7: note: extensions/file_storage/b: file_storage/a and file_storage/b share q: the stricter settings hold")
	says(t, said, "7: error: extensions/file_storage/b: max_file_size_mib is 31; 2 journals need at least 32")
}

func TestEveryDestinationOfADurablePipelineHasACursorUnlessTheAnswerIsToWaitForIt(t *testing.T) {
	p, said := one(t, "", "otlp, debug, debug/off, otlp/waits", `
  otlp: {endpoint: "b:1", sending_queue: {storage: file_storage}}
  debug:
  debug/off: {sending_queue: {enabled: false}}
  otlp/waits: {endpoint: "b:1", sending_queue: {wait_for_result: true}}
extensions: {file_storage: {directory: ./q}}
`)
	for i, waits := range []bool{false, false, true, true} {
		if d := p.Destinations[i]; d.Wait != waits {
			t.Errorf("%s: waits %v", d.Label, d.Wait)
		}
	}
	if d := p.Destinations[1]; d.Workers != 1 || d.Limit.Max != 1000 || d.Stored {
		t.Errorf("debug: %+v", d)
	}
	says(t, said, "2: note: exporters/debug: debug shares the journal of traces; it gives way first when the disk is full")
}

func TestTheHeirIsTheFirstDestinationOfTheSignalWithOneOfTheExporters(t *testing.T) {
	p, _ := build(t, `receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:0"}}}}
exporters:
  otlp/a: {endpoint: "b:1"}
  otlp_grpc/b: {endpoint: "b:1"}
  otlp/direct: {endpoint: "b:1", sending_queue: {enabled: false}}
connectors: {failover: {priority_levels: [[otlp/a], [otlp_grpc/b]]}}
service:
  pipelines:
    logs: {receivers: [otlp], exporters: [otlp/a]}
    traces: {receivers: [otlp], exporters: [otlp/direct]}
    traces/in: {receivers: [otlp], exporters: [failover]}
    traces/plain: {receivers: [otlp], exporters: [otlp/a]}
`)
	check := func(signal otlp.Signal, pipeline, destination string, exporters ...string) {
		t.Helper()
		got := ""
		if pl, d, ok := p.Heir(signal, exporters); ok {
			got = pl.ID + ":" + d.Name
		}
		if want := pipeline + ":" + destination; got != want && (pipeline != "" || got != "") {
			t.Errorf("%s %v: got %q, want %q", signal, exporters, got, want)
		}
	}
	check(otlp.Traces, "traces/in", "failover", "otlp_grpc/a")
	check(otlp.Traces, "traces/in", "failover", "otlp_grpc/gone", "otlp_grpc/b")
	check(otlp.Logs, "logs", "otlp_grpc/a", "otlp_grpc/a")
	check(otlp.Metrics, "", "", "otlp_grpc/a")
	check(otlp.Logs, "", "", "otlp_grpc/b")
	check(otlp.Traces, "", "", "otlp_grpc/direct")
}
