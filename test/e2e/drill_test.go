// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
)

// drilled is a gateway with two backends and a file, addresses of nobody.
const drilled = `
extensions: {file_storage: {directory: /var/lib/nobody/queue}}
receivers: {otlp: {protocols: {grpc: {endpoint: 192.0.2.1:4317}, http: {endpoint: 192.0.2.1:4318}}}}
processors: {batch: {timeout: 200ms, send_batch_size: 500}}
exporters:
  otlp/primary: {endpoint: primary.invalid:4317, timeout: 2s, sending_queue: {STORAGE}}
  otlphttp/secondary: {endpoint: "https://secondary.invalid", timeout: 2s}
  file/last: {path: /var/lib/nobody/last/telemetry.jsonl}
connectors: {failover: {priority_levels: [[otlp/primary], [otlphttp/secondary], [file/last]]}}
service:
  extensions: [file_storage]
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [failover]}
    metrics: {receivers: [otlp], processors: [batch], exporters: [failover]}
    logs: {receivers: [otlp], processors: [batch], exporters: [failover]}
`

// startDrill starts a drill whose private directories are below tmp.
func startDrill(t *testing.T, tmp, storage string, args ...string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(drilled, "STORAGE", storage, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return startWith(t, []string{"TMPDIR=" + tmp}, append([]string{"drill", "--config", file}, args...)...)
}

// drillEnds waits for the end of a drill, which bounds itself, and returns its exit code.
func drillEnds(t *testing.T, p *process) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(5 * time.Minute):
		t.Fatal("the drill does not end")
	}
	return -1
}

func readReport(t *testing.T, dir string) *report.Report {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func left(t *testing.T, tmp string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(tmp, "holdfast-drill-*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func TestADrillPlaysTheUsersOwnConfigurationAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	tmp, dir := t.TempDir(), t.TempDir()
	p := startDrill(t, tmp, "storage: file_storage", "--report", dir, "--scenario", "control", "--scenario", "refused:*",
		"--scenario", "all-down:*", "--scenario", "kill", "--scenario", "reload-broken")
	if code := drillEnds(t, p); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
	r := readReport(t, dir)
	if len(r.Scenarios) != 6 {
		t.Errorf("%d scenarios:\n%s", len(r.Scenarios), p.output())
	}
	for _, s := range r.Scenarios {
		if s.Outcome != report.Passed || s.Acked == 0 || len(s.Samples) < 5 {
			t.Errorf("%s: %s, %d acknowledged, %d samples", s.Name, s.Outcome, s.Acked, len(s.Samples))
		}
	}
	for _, name := range []string{"report.html", "junit.xml"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if dirs := left(t, tmp); len(dirs) > 0 {
		t.Errorf("left behind: %s", dirs)
	}
}

func TestADrillNamesThePromiseThatAQueueInMemoryCannotKeep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startDrill(t, t.TempDir(), "queue_size: 1000", "--report", dir, "--scenario", "control", "--scenario", "kill")
	if code := drillEnds(t, p); code != 1 {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
	for _, words := range []string{"nothing acknowledged is lost", "in memory is the queue of", "producer 1, ", "kill -9 costs", "FAILED"} {
		if !strings.Contains(p.output(), words) {
			t.Errorf("%q is not said:\n%s", words, p.output())
		}
	}
}

func TestAKilledDrillIsCleanedUpByTheNext(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	p := startDrill(t, tmp, "storage: file_storage", "--scenario", "kill")
	p.await("kill +begins")
	eventually(t, "a collector of the drill runs", func() bool { return len(collectors(tmp)) > 0 })
	p.signal(os.Kill)
	eventually(t, "the collector dies with it", func() bool { return len(collectors(tmp)) == 0 })
	if len(left(t, tmp)) != 1 {
		t.Fatalf("a killed drill leaves its directory: %s", left(t, tmp))
	}
	if code := drillEnds(t, startDrill(t, tmp, "storage: file_storage", "--scenario", "control")); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if dirs := left(t, tmp); len(dirs) > 0 {
		t.Errorf("left behind: %s", dirs)
	}
}

func TestAnInterruptedDrillLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	p := startDrill(t, tmp, "storage: file_storage", "--scenario", "kill")
	eventually(t, "a collector of the drill runs", func() bool { return len(collectors(tmp)) > 0 })
	p.signal(os.Interrupt)
	if code := drillEnds(t, p); code != 3 {
		t.Errorf("exit code %d", code)
	}
	if dirs, still := left(t, tmp), collectors(tmp); len(dirs)+len(still) > 0 {
		t.Errorf("left behind: %s %s", dirs, still)
	}
}

// collectors are the processes that were told to work below a directory.
func collectors(dir string) (pids []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		if text, err := os.ReadFile(l); err == nil && strings.Contains(string(text), "\x00run\x00") && strings.Contains(string(text), dir) {
			pids = append(pids, l)
		}
	}
	return pids
}
