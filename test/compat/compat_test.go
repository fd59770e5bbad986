// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package compat holds Holdfast to the configurations people have: every snippet of the two documents it implements
// loads as it is written, and what is said about it is exactly what the documentation lists (compat, section 5).
//
// The snippets are in seeds/, unchanged. What they leave to their reader is in deploy/seeds.
package compat

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/cli"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
)

// The snippets that are Collector configurations.
const (
	a02 = "000-02-pod-crash-recovery-with-persistent-queues"
	a05 = "000-05-multi-backend-failover"
	a06 = "000-06-multi-backend-failover"
	a08 = "000-08-recovery-sequence-after-an-outage"
	a10 = "000-10-health-monitoring-for-failover-decisions"
	b01 = "001-01-configuring-dual-exporters"
	b02 = "001-02-using-the-failover-connector"
	b03 = "001-03-alternative-fan-out-with-load-balancing"
)

// openToAll is said of the documents' receivers: they listen on 0.0.0.0 without TLS.
const openToAll = "warning: receivers/otlp: " + plan.OpenToAll

func seed(name string) string { return filepath.Join("seeds", name+".yaml") }
func complement(name string) string {
	return filepath.Join("../../deploy/seeds", name+".complement.yaml")
}

// validate runs the command as a person would, under any of its names.
func validate(t *testing.T, program string, args ...string) (code int, said []string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Main(append([]string{program, "validate"}, args...), strings.NewReader(""), &out, &errs)
	if out.Len() > 0 {
		t.Errorf("validate prints to stdout: %s", out.String())
	}
	for line := range strings.Lines(errs.String()) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "writable by this user") {
			continue // about whoever runs the test, not about the snippet
		}
		// Directories are this checkout's, not the snippet's.
		file, rest, _ := strings.Cut(line, ".yaml:")
		said = append(said, filepath.Base(file)+":"+rest)
	}
	return code, said
}

// loads checks that files are valid together and that exactly want is said: a snippet's short name, line, finding.
func loads(t *testing.T, files []string, want ...string) {
	t.Helper()
	var args []string
	for _, f := range files {
		args = append(args, "--config", f)
	}
	code, said := validate(t, "holdfast", args...)
	compare(t, code, said, want)
}

// fragment checks that a snippet is valid by itself for what it is.
func fragment(t *testing.T, name string, want ...string) {
	t.Helper()
	code, said := validate(t, "holdfast", "--fragment", "--config", seed(name))
	compare(t, code, said, want)
}

func compare(t *testing.T, code int, said, want []string) {
	t.Helper()
	if got, expected := strings.Join(said, "\n"), strings.Join(want, "\n"); code != 0 || got != expected {
		t.Errorf("exit %d\ngot:\n%s\nwant:\n%s", code, got, expected)
	}
}

// in prefixes findings with the file they are about.
func in(name string, findings ...string) []string {
	out := make([]string, len(findings))
	for i, f := range findings {
		out[i] = name + ":" + f
	}
	return out
}

func TestA02CrashRecoveryLoadsVerbatim(t *testing.T) {
	want := in(a02,
		"9: note: extensions/file_storage/queue: max_file_size_mib caps everything under /var/lib/otel/queue at 4096 MiB",
		"11: note: extensions/file_storage/queue: timeout bounds the wait for the lock; a stalled disk refuses new data after 5s",
		"21: "+openToAll,
		"40: note: exporters/otlp: after 10m0s data moves on or waits, it is not deleted",
		"53: note: processors/batch: batches are made behind the queue of traces",
		"57: note: processors/batch: batches are made behind the queue of metrics",
		"61: note: processors/batch: batches are made behind the queue of logs",
	)
	loads(t, []string{seed(a02)}, want...)
	fragment(t, a02, want...)
}

func TestA05GatewayLoadsVerbatim(t *testing.T) {
	want := in(a05,
		"6: "+openToAll,
		"27: note: exporters/otlp/primary: after 30s data moves on or waits, it is not deleted",
		"40: note: exporters/otlp/secondary: after 5m0s data moves on or waits, it is not deleted",
		"63: note: processors/batch: batches are made behind the queue of traces",
		"66: note: exporters/otlp/primary: otlp/primary shares the journal of traces; it gives way first when the disk is full",
		"66: note: exporters/file/emergency: file/emergency shares the journal of traces; it gives way first when the disk is full",
	)
	loads(t, []string{seed(a05)}, want...)
	fragment(t, a05, want...)
}

// The gateway's file with this snippet's connectors and service in place of its own.
func TestA06FailoverRunsAsTheGatewaysFile(t *testing.T) {
	gateway, err := os.ReadFile(seed(a05))
	if err != nil {
		t.Fatal(err)
	}
	connector, err := os.ReadFile(seed(a06))
	if err != nil {
		t.Fatal(err)
	}
	components, _, ok := strings.Cut(string(gateway), "\nservice:")
	if !ok {
		t.Fatal("the gateway has no service")
	}
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(path, []byte(components+"\n"+string(connector)), 0o600); err != nil {
		t.Fatal(err)
	}
	loads(t, []string{path}, in("gateway",
		"6: "+openToAll,
		"27: note: exporters/otlp/primary: after 30s data moves on or waits, it is not deleted",
		"28: note: exporters/otlp/primary: queue and retry settings of otlp/primary belong to failover/traces",
		"40: note: exporters/otlp/secondary: after 5m0s data moves on or waits, it is not deleted",
		"41: note: exporters/otlp/secondary: queue and retry settings of otlp/secondary belong to failover/traces",
		"55: note: extensions/file_storage: file_storage is not in service::extensions: enabled, a queue names it",
		"64: note: connectors/failover/traces: level 0: otlp/primary is served by pipeline traces/primary",
		"65: note: connectors/failover/traces: level 1: otlp/secondary is served by pipeline traces/secondary",
		"66: note: connectors/failover/traces: level 2: file/emergency is served by pipeline traces/emergency",
		"67: note: connectors/failover/traces: retry_gap is 7.5s: 15s / 2 ordinary levels",
		"69: note: connectors/failover/traces: 5 failed probes every 15s, then one every 2m30s; no level is ever given up",
		"75: note: processors/batch: batches are made behind the queue of traces/input",
	)...)
}

func TestA06BesideTheGatewayAsItStandsWarnsOfDoubleDelivery(t *testing.T) {
	var want []string
	want = append(want, in(a05,
		"6: "+openToAll,
		"27: note: exporters/otlp/primary: after 30s data moves on or waits, it is not deleted",
		"28: note: exporters/otlp/primary: queue and retry settings of otlp/primary belong to failover/traces",
		"40: note: exporters/otlp/secondary: after 5m0s data moves on or waits, it is not deleted",
		"41: note: exporters/otlp/secondary: queue and retry settings of otlp/secondary belong to failover/traces",
		"63: note: processors/batch: batches are made behind the queue of traces",
		"66: note: exporters/otlp/primary: otlp/primary shares the journal of traces; it gives way first when the disk is full",
		"66: note: exporters/file/emergency: file/emergency shares the journal of traces; it gives way first when the disk is full",
	)...)
	want = append(want, in(a06, append(a06Notes[:len(a06Notes)-1:len(a06Notes)-1],
		"16: warning: exporters/file/emergency: each span of otlp reaches file/emergency twice: by traces and by traces/input",
		"16: warning: exporters/otlp/primary: each span of otlp reaches otlp/primary twice: by traces and by traces/input",
		"16: warning: exporters/otlp/secondary: each span of otlp reaches otlp/secondary twice: by traces and by traces/input",
		a06Notes[len(a06Notes)-1],
	)...)...)
	loads(t, []string{seed(a05), seed(a06)}, want...)
}

// a06Notes are said of the connector whatever stands beside it; the last one is about its input.
var a06Notes = []string{
	"7: note: connectors/failover/traces: level 0: otlp/primary is served by pipeline traces/primary",
	"8: note: connectors/failover/traces: level 1: otlp/secondary is served by pipeline traces/secondary",
	"9: note: connectors/failover/traces: level 2: file/emergency is served by pipeline traces/emergency",
	"10: note: connectors/failover/traces: retry_gap is 7.5s: 15s / 2 ordinary levels",
	"12: note: connectors/failover/traces: 5 failed probes every 15s, then one every 2m30s; no level is ever given up",
	"18: note: processors/batch: batches are made behind the queue of traces/input",
}

func TestA06IsAValidFragment(t *testing.T) {
	fragment(t, a06, in(a06,
		a06Notes[0], a06Notes[1], a06Notes[2], a06Notes[3], a06Notes[4],
		"17: note: assumed: receiver otlp",
		"18: note: assumed: processor memory_limiter",
		"18: note: assumed: processor batch",
		a06Notes[5],
		"22: note: assumed: exporter otlp/primary",
		"25: note: assumed: exporter otlp/secondary",
		"28: note: assumed: exporter file/emergency",
	)...)
}

func TestA08LoadsWithAPipelineAndASuppliedStorage(t *testing.T) {
	loads(t, []string{seed(a08), complement(a08)}, in(a08,
		"12: note: exporters/otlp: file_storage is not defined: supplied with its defaults, in /var/lib/otelcol/file_storage",
	)...)
	fragment(t, a08, in(a08, "12: note: exporters/otlp: assumed: extension file_storage")...)
}

// A bad file stops the script before it deploys, with one line per finding; a good one passes on a machine that has
// neither its directories nor its ports. The script calls the Collector by its own name.
func TestA09ScriptsCheckTellsGoodFromBad(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("exporters: {otlp: {endpoit: x}}\nservice: {pipelines: {traces: {receivers: [a], exporters: [otlp]}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, said := validate(t, "otelcol-contrib", "--config="+bad); code == 0 || len(said) != 2 {
		t.Errorf("bad: exit %d, said %s", code, said)
	}
	if code, said := validate(t, "otelcol-contrib", "--config="+seed(a02)); code != 0 {
		t.Errorf("good: exit %d, said %s", code, said)
	}
}

const a10Note = "18: note: address is read as readers: [{pull: {exporter: {prometheus: {host: 0.0.0.0, port: 8888}}}}]"

func TestA10HealthLoadsWithAPipeline(t *testing.T) {
	loads(t, []string{seed(a10), complement(a10)}, in(a10, a10Note)...)
	fragment(t, a10, in(a10, a10Note)...)
}

// Its list of extensions replaces the earlier one, and the storage is enabled all the same.
func TestA10HealthLoadsAfterA02(t *testing.T) {
	want := in(a02,
		"6: note: extensions/file_storage/queue: file_storage/queue is not in service::extensions: enabled, a queue names it",
		"9: note: extensions/file_storage/queue: max_file_size_mib caps everything under /var/lib/otel/queue at 4096 MiB",
		"11: note: extensions/file_storage/queue: timeout bounds the wait for the lock; a stalled disk refuses new data after 5s",
		"21: "+openToAll,
		"40: note: exporters/otlp: after 10m0s data moves on or waits, it is not deleted",
		"53: note: processors/batch: batches are made behind the queue of traces",
		"57: note: processors/batch: batches are made behind the queue of metrics",
		"61: note: processors/batch: batches are made behind the queue of logs",
	)
	loads(t, []string{seed(a02), seed(a10)}, append(want, in(a10, a10Note)...)...)
}

const (
	b01Patience = "15: note: exporters/otlp/primary: after 5m0s data moves on or waits, it is not deleted"
	b01Supplied = "20: note: exporters/otlp/primary: file_storage/primary_queue is not defined: supplied with its defaults, in /var/lib/otelcol/file_storage"
	b01Other    = "30: note: exporters/otlp/secondary: after 1m0s data moves on or waits, it is not deleted"
)

func TestB01DualExportersLoadWithAPipeline(t *testing.T) {
	want := in(b01, b01Patience, b01Supplied, b01Other)
	loads(t, []string{seed(b01), complement(b01)}, append(want, b01+".complement:13: note: exporters/otlp/secondary: "+
		"otlp/secondary shares the journal of traces; it gives way first when the disk is full")...)
	fragment(t, b01, in(b01, "20: note: exporters/otlp/primary: assumed: extension file_storage/primary_queue")...)
}

// b02Notes are said of the connectors whatever stands beside them.
var b02Notes = []string{
	"9: note: connectors/failover/traces: level 0: otlp/primary is served by pipeline traces/primary",
	"10: note: connectors/failover/traces: level 1: otlp/secondary is served by pipeline traces/secondary",
	"17: note: connectors/failover/metrics: level 0: otlp/primary is served by pipeline metrics/primary",
	"18: note: connectors/failover/metrics: level 1: otlp/secondary is served by pipeline metrics/secondary",
}

func TestB02FailoverLoadsBesideB01(t *testing.T) {
	want := in(b01, b01Patience,
		"16: note: exporters/otlp/primary: queue and retry settings of otlp/primary belong to failover/metrics",
		"16: note: exporters/otlp/primary: queue and retry settings of otlp/primary belong to failover/traces",
		b01Supplied, b01Other,
		"31: note: exporters/otlp/secondary: queue and retry settings of otlp/secondary belong to failover/metrics",
		"31: note: exporters/otlp/secondary: queue and retry settings of otlp/secondary belong to failover/traces",
	)
	want = append(want, in(b02, b02Notes...)...)
	want = append(want, in(b02,
		"26: note: receiver otlp is not defined: supplied with its defaults",
		"27: note: processor batch is not defined: supplied with its defaults",
		"27: note: processors/batch: batches are made behind the queue of traces/ingress",
		"38: note: processors/batch: batches are made behind the queue of metrics/ingress",
	)...)
	loads(t, []string{seed(b01), seed(b02)}, want...)
}

func TestB02IsAValidFragment(t *testing.T) {
	fragment(t, b02, append(in(b02, b02Notes...), in(b02,
		"26: note: assumed: receiver otlp",
		"27: note: assumed: processor batch",
		"27: note: processors/batch: batches are made behind the queue of traces/ingress",
		"31: note: assumed: exporter otlp/primary",
		"34: note: assumed: exporter otlp/secondary",
		"38: note: processors/batch: batches are made behind the queue of metrics/ingress",
	)...)...)
}

func TestB03FanOutLoadsBesideB01(t *testing.T) {
	shares := func(line, pipeline string) string {
		return line + ": note: exporters/otlp/secondary: otlp/secondary shares the journal of " + pipeline +
			"; it gives way first when the disk is full"
	}
	want := in(b01, b01Patience, b01Supplied, b01Other)
	loads(t, []string{seed(b01), seed(b03)}, append(want, in(b03,
		"9: note: receiver otlp is not defined: supplied with its defaults",
		"10: note: processor batch is not defined: supplied with its defaults",
		"10: note: processors/batch: batches are made behind the queue of traces",
		shares("11", "traces"),
		"14: note: processors/batch: batches are made behind the queue of metrics",
		shares("15", "metrics"),
		"18: note: processors/batch: batches are made behind the queue of logs",
		shares("19", "logs"),
	)...)...)
	fragment(t, b03, in(b03,
		"9: note: assumed: receiver otlp",
		"10: note: assumed: processor batch",
		"10: note: processors/batch: batches are made behind the queue of traces",
		"11: note: assumed: exporter otlp/primary",
		"11: note: assumed: exporter otlp/secondary",
		"14: note: processors/batch: batches are made behind the queue of metrics",
		"18: note: processors/batch: batches are made behind the queue of logs",
	)...)
}

// Every file in deploy/seeds belongs to a snippet.
func TestComplementsBelongToSnippets(t *testing.T) {
	files, err := filepath.Glob("../../deploy/seeds/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no complements: %v", err)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(filepath.Base(f), ".complement.yaml")
		if _, err := os.Stat(seed(name)); !ok || err != nil {
			t.Errorf("%s belongs to no snippet: %v", f, err)
		}
	}
}

// Every sample is valid, and warns of nothing.
func TestSamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../../deploy/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, f := range files {
		code, said := validate(t, "holdfast", "--config", f)
		if code != 0 || strings.Contains(strings.Join(said, "\n"), ": warning: ") {
			t.Errorf("%s: exit %d, said %s", f, code, said)
		}
	}
}
