// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stored is one pipeline with a queue on disk, in as little room as there may be.
const stored = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp_grpc:
    endpoint: "$HOST:14317"
    tls: {insecure: true}
    compression: none
    retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}
    sending_queue: {storage: file_storage, queue_size: 100000}
extensions:
  file_storage: {directory: "$DIR", max_file_size_mib: 16, timeout: 500ms}
  health_check: {endpoint: "$HOST:13133"}
service:
  extensions: [file_storage, health_check]
  telemetry: {metrics: {address: "$HOST:8888"}}
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}
`

const storedCap = 16 << 20

// long are n names of about a kilobyte.
func long(prefix string, n int) []string {
	names := numbered(prefix, n)
	for i := range names {
		names[i] += strings.Repeat("x", 1000)
	}
	return names
}

// fill sends requests of 64 KiB until one is refused, and returns the names of what was acknowledged.
func fill(t *testing.T, host, dir, prefix string) []string {
	t.Helper()
	var acked []string
	for i := range 1000 {
		names := long(fmt.Sprint(prefix, "-", i), 64)
		a, err := post(t.Context(), nil, "http://"+host+":4318/v1/traces", protobufType, bytes.NewReader(wire(t, spans(names))))
		if err != nil {
			t.Fatal(err)
		}
		if used := allocated(t, dir); used > storedCap {
			t.Fatalf("%d bytes below the directory, the cap is %d", used, storedCap)
		}
		switch a.status {
		case http.StatusOK:
			acked = append(acked, names...)
		case http.StatusServiceUnavailable:
			after, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || after < 1 || after > 30 {
				t.Errorf("Retry-After is %q, want 1 to 30", a.header.Get("Retry-After"))
			}
			if !strings.Contains(string(a.body), "max_file_size_mib") {
				t.Errorf("the refusal does not name its limit: %q", a.body)
			}
			return acked
		default:
			t.Fatalf("answered %d %s", a.status, a.body)
		}
	}
	t.Fatal("never full")
	return nil
}

// offer sends one small request over HTTP.
func offer(t *testing.T, host string, names []string) int {
	t.Helper()
	a, err := post(t.Context(), nil, "http://"+host+":4318/v1/traces", protobufType, bytes.NewReader(wire(t, spans(names))))
	if err != nil {
		t.Fatal(err)
	}
	return a.status
}

// Fault: D1. At its cap the directory grows no further, senders are told when to come back, and with room everything
// goes on by itself.
func TestAFullDirectoryRefusesWithAHintAndRecoversByItself(t *testing.T) {
	t.Parallel()
	host, dir := ownHost(t), filepath.Join(t.TempDir(), "queue")
	p := collector(t, stored, map[string]string{"HOST": host, "DIR": dir})
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o750 {
		t.Fatalf("directory %v, %v; want it made with 0750", info, err)
	}
	acked := fill(t, host, dir, "full")
	t.Logf("%d items in %d bytes", len(acked), allocated(t, dir))
	if len(acked) < 4*64 {
		t.Errorf("only %d items fit into %d bytes", len(acked), storedCap)
	}
	p.await(`warn\t.*Queue: sending queue is full, refusing\t.*"limit": "max_file_size_mib"`)
	p.await(`Queue: 80 percent full`)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := export(ctx, dial(t, host+":4317", nil), long("grpc", 64))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC answers %v, want UNAVAILABLE", err)
	}
	hinted := false
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			hinted = info.RetryDelay.AsDuration() >= time.Second/2
		}
	}
	if !hinted {
		t.Errorf("gRPC refuses without a delay: %v", status.Convert(err).Details())
	}

	m := scrapeBalanced(t, host+":8888")
	if v := value(t, m, "holdfast_journal_refused_items_total", "pipeline", "traces", "limit", "max_file_size_mib"); v < 128 {
		t.Errorf("%v items counted as refused, want 128 or more", v)
	}
	if v := value(t, m, "holdfast_journal_disk_limit_bytes", "storage", "file_storage"); v != storedCap {
		t.Errorf("disk_limit_bytes is %v", v)
	}
	if v := value(t, m, "holdfast_ledger_queued_items"); v != float64(len(acked)) {
		t.Errorf("%v items are queued, %d were acknowledged", v, len(acked))
	}
	eventually(t, "/readyz is 503 after 10 s of refusing", func() bool {
		_ = offer(t, host, long("more", 64))
		return getStatus(t, "http://"+host+":13133/readyz") == http.StatusServiceUnavailable
	})
	if got := getStatus(t, "http://"+host+":13133/livez"); got != http.StatusOK {
		t.Errorf("/livez is %d with a full disk", got)
	}

	b := startBackend(t, host+":14317", nil)
	b.await(t, acked)
	eventually(t, "it is ready again, without a request", func() bool {
		return getStatus(t, "http://"+host+":13133/readyz") == http.StatusOK
	})
	p.await(`info\t.*Queue: accepting again`)
	names := long("after", 64)
	if got := offer(t, host, names); got != http.StatusOK {
		t.Errorf("answered %d with room again", got)
	}
	b.await(t, names)
	scrapeBalanced(t, host+":8888")
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Fault: D1, P1. Whoever is killed while full opens without room, goes on refusing and delivering, and loses nothing.
func TestAProcessKilledWhileFullStartsFullAndLosesNothing(t *testing.T) {
	t.Parallel()
	host, dir := ownHost(t), filepath.Join(t.TempDir(), "queue")
	values := map[string]string{"HOST": host, "DIR": dir}
	p := collector(t, stored, values)
	acked := fill(t, host, dir, "kept")
	for range 3 {
		p.signal(syscall.SIGKILL)
		p.exit()
		p = collector(t, stored, values)
		p.await(`Queue: opened\t.*"items": ` + strconv.Itoa(len(acked)) + `,`)
		acked = append(acked, fill(t, host, dir, fmt.Sprint("again-", len(acked)))...)
	}
	if v := value(t, scrapeBalanced(t, host+":8888"), "holdfast_ledger_queued_items"); v != float64(len(acked)) {
		t.Errorf("%v items are queued, %d were acknowledged", v, len(acked))
	}
	b := startBackend(t, host+":14317", nil)
	b.await(t, acked)
	eventually(t, "it accepts again", func() bool { return offer(t, host, numbered("after", 3)) == http.StatusOK })
	b.await(t, numbered("after", 3))
	scrapeBalanced(t, host+":8888")
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Fault: D11. The second waits for the lock as long as it is told to, and then names who has it. A killed owner owns
// nothing.
func TestTwoProcessesOnOneDirectory(t *testing.T) {
	t.Parallel()
	host, dir := ownHost(t), filepath.Join(t.TempDir(), "queue")
	p := collector(t, stored, map[string]string{"HOST": host, "DIR": dir})
	second := writeConfig(t, stored, map[string]string{"HOST": ownHost(t), "DIR": dir})
	began := time.Now()
	o := runOnce(t, "", nil, "--config", second, "--implicit-health=off")
	refused(t, o, `^Error: \S+config\.yaml:\d+: extensions/file_storage: .*`+regexpQuote(dir)+`.* in use by .*\b`+strconv.Itoa(p.cmd.Process.Pid)+`\b`)
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("gave up after %s, timeout is 500ms", took)
	}
	mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(numbered("s", 3))))
	p.signal(syscall.SIGKILL)
	p.exit()
	q := start(t, "--config", second, "--implicit-health=off")
	q.await(`Queue: opened\t.*"items": 3,`)
	q.await("Everything is ready")
	if code := q.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Fault: D14. Nothing is stored in memory instead.
func TestAStorageThatCannotBeUsedIsNamedWithTheWayOut(t *testing.T) {
	t.Parallel()
	host := ownHost(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, runOnce(t, "", nil, "--config", writeConfig(t, stored, map[string]string{"HOST": host, "DIR": file})),
		`^Error: \S+config\.yaml:\d+: extensions/file_storage: .*`+regexpQuote(file))
	missing := filepath.Join(t.TempDir(), "not", "there")
	refused(t, runOnce(t, "", nil, "--config", writeConfig(t, stored, map[string]string{"HOST": host, "DIR": missing}),
		"--set", "extensions::file_storage::create_directory=false"),
		`^Error: \S+config\.yaml:\d+: extensions/file_storage: .*`+regexpQuote(missing))
	refused(t, runOnce(t, "", nil, "--config", writeConfig(t, stored, map[string]string{"HOST": host, "DIR": missing}),
		"--set", "extensions::file_storage::max_file_size_mib=15"), `error: extensions/file_storage: max_file_size_mib is 15; 1 journals need at least 16`)
}
