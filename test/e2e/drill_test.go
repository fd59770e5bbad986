// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
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
	p := startDrill(t, tmp, "storage: file_storage", "--scenario", "kill", "--scenario", "disk-full", "--scenario", "slow-disk")
	p.await("kill +begins")
	// Also those on disks of their own, where the machine lets us have them.
	eventually(t, "collectors of the drill run", func() bool { return len(collectors(tmp)) > 1 || len(collectors(tmp)) > 0 && os.Getuid() != 0 })
	p.signal(os.Kill)
	eventually(t, "the collectors die with it", func() bool { return len(collectors(tmp)) == 0 })
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), tmp) {
		t.Errorf("a mount is left: %v\n%s", err, mounts)
	}
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

func TestADrillPlaysAScenarioOfSomebodysOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startDrill(t, t.TempDir(), "storage: file_storage", "--report", dir, "--scenario", "../../deploy/drills/rolling-outage.drill")
	if code := drillEnds(t, p); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
	r := readReport(t, dir)
	if len(r.Scenarios) != 2 || r.Scenarios[1].Name != "rolling-outage" || len(r.Scenarios[1].Faults) != 3 {
		t.Errorf("%+v", r.Scenarios[len(r.Scenarios)-1])
	}
	// An expectation that does not come true is named with its line, and what comes after it is played all the same.
	wrong := filepath.Join(t.TempDir(), "wrong.drill")
	text := "at 1s primary refuse\nexpect delivered primary 100 within 2s\nexpect delivered secondary within 20s\nrestore\nexpect home\n"
	if err := os.WriteFile(wrong, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p = startDrill(t, t.TempDir(), "storage: file_storage", "--scenario", wrong)
	if code := drillEnds(t, p); code != 1 || !strings.Contains(p.output(), "what wrong.drill expects: wrong.drill:2: not within 2s: 100 more items at otlp/primary") {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
}

func TestADrillPlaysDisksAndMemoryThatRunOutAndAReloadThatDeliversNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startDrill(t, t.TempDir(), "storage: file_storage", "--report", dir, "--scenario", "disk*", "--scenario", "slow-disk", "--scenario",
		"memory", "--scenario", "kill-full", "--scenario", "reload-undelivering", "--scenario", "recovery:*")
	if code := drillEnds(t, p); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
	for _, s := range readReport(t, dir).Scenarios {
		// A machine may not let us have a disk of our own; whatever else is not played was not asked for.
		own := s.Name == "disk-full" || s.Name == "slow-disk"
		if s.Outcome != report.Passed && (!own || s.Outcome != report.NotApplicable || s.Why == "") {
			t.Errorf("%s: %s %s", s.Name, s.Outcome, s.Why)
		}
		said := map[string]string{"disk-full": "the door refuses, clients are told to come back: ", "slow-disk": "syncs had to wait",
			"disk-cap": "max_file_size_mib", "reload-undelivering": "rolled back"}[s.Name]
		if s.Outcome == report.Passed && !slices.ContainsFunc(s.Events, func(e report.Event) bool { return strings.Contains(e.Text, said) }) {
			t.Errorf("%s: %q is not told: %v", s.Name, said, s.Events)
		}
	}
}

func TestADrillSpeaksTLSToTheUsersDoors(t *testing.T) {
	t.Parallel()
	own, err := mockbackend.NewCertificates("collector.example.com")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"own.pem": own.Cert, "own.key": own.Key, "ca.pem": own.CA} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const grpc, http = "grpc: {endpoint: 192.0.2.1:4317", "http: {endpoint: 192.0.2.1:4318"
	secured := strings.Replace(drilled, grpc, grpc+", tls: {cert_file: /nobody/has.pem, key_file: /nobody/has.key, client_ca_file: "+
		filepath.Join(dir, "ca.pem")+"}", 1)
	secured = strings.Replace(secured, http, http+", tls: {cert_file: "+dir+"/own.pem, key_file: "+dir+"/own.key}", 1)
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(secured, "STORAGE", "storage: file_storage", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startWith(t, []string{"TMPDIR=" + t.TempDir()}, "drill", "--config", file, "--scenario", "control")
	if code := drillEnds(t, p); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, words := range []string{"shows a certificate of the drill's", "client certificates of the drill's authority",
		"its certificate is used and not checked"} {
		if !strings.Contains(p.output(), words) {
			t.Errorf("%q is not said:\n%s", words, p.output())
		}
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
