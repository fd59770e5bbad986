// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/cli/instance"
	"github.com/holdfast-telemetry/holdfast/internal/cli/queues"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// owed runs an instance whose backend is away, and which therefore writes to an emergency file: 20 requests of 10 spans.
func owed(t *testing.T, format string) (s *stored, emergency string) {
	t.Helper()
	tmp := t.TempDir()
	s = &stored{t: t, notes: filepath.Join(tmp, "run"), config: filepath.Join(tmp, "c.yaml"), addr: freePort(t), primary: freePort(t)}
	emergency = filepath.Join(tmp, "emergency", "out.data")
	text := fmt.Sprintf(`
receivers: {otlp: {protocols: {grpc: {endpoint: %q}}}}
exporters:
  otlp: {endpoint: %q, tls: {insecure: true}, sending_queue: {storage: file_storage}}
  file: {path: %q, %s}
connectors: {failover: {priority_levels: [[otlp], [file]], backfill: {enabled: false}}}
extensions: {file_storage: {directory: %q, max_file_size_mib: 512}}
service:
  extensions: [file_storage]
  pipelines: {traces: {receivers: [otlp], exporters: [failover]}}
  telemetry: {metrics: {level: none}, logs: {output_paths: [%q]}}
`, s.addr, s.primary, emergency, format, filepath.Join(tmp, "store"), s.config+".log")
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run()
	s.load("owed")
	s.parked(200)
	return s, emergency
}

// parked waits until so many items lie in the emergency file: what was acknowledged is on its way there still.
func (s *stored) parked(items uint64) {
	s.t.Helper()
	var now status.Status
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		out, _, err := execute(s.t.Context(), instance.NewStatus(), io.Discard, "--json", "--state-dir", filepath.Join(filepath.Dir(s.config), "state"))
		if json.Unmarshal([]byte(out), &now) != nil {
			s.t.Fatalf("status: %v: %s", err, out)
		}
		if now.Books.Parked == items {
			return
		}
	}
	s.t.Fatalf("%d items are not in the emergency file: %+v", items, now.Books)
}

// replay runs the command and checks its exit code.
func (s *stored) replay(code int, args ...string) (doc queues.FileReplayDocument, stdout, stderr string) {
	s.t.Helper()
	var errs bytes.Buffer
	out, got, err := execute(s.t.Context(), queues.NewReplay(), &errs, args...)
	if err != nil {
		fmt.Fprint(&errs, err)
	}
	if got != code {
		s.t.Errorf("%q: exit %d, want %d\n%s%s", args, got, code, out, errs.String())
	}
	if strings.HasPrefix(out, "{") {
		if err := json.Unmarshal([]byte(out), &doc); err != nil {
			s.t.Error(err)
		}
	}
	return doc, out, errs.String()
}

// ready waits until the instance has been ready so many times: a stop before that is one of a start.
func (s *stored) ready(times int) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if log, err := os.ReadFile(s.config + ".log"); err == nil && bytes.Count(log, []byte("Everything is ready")) >= times {
			return
		}
	}
	s.t.Fatalf("the instance was not ready %d times", times)
}

func receive(t *testing.T, faults ...string) *mockbackend.Backend {
	t.Helper()
	b, err := mockbackend.Start(mockbackend.Options{Name: "b", GRPC: "127.0.0.1:0", CountOnly: true, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop() })
	return b
}

// What an emergency file owes is sent once, whatever its format is, and is not owed any more: neither the command nor the
// instance sends it again.
func TestReplaySettlesWhatAnEmergencyFileOwes(t *testing.T) {
	for _, format := range []string{"format: json", "format: proto, compression: zstd"} {
		t.Run(format, func(t *testing.T) {
			s, file := owed(t, format)
			b := receive(t)
			to := "grpc://" + b.GRPCAddr()
			_, _, said := s.replay(2, file, "--to", to, "--settle")
			s.has(said, "in use") // by the instance
			s.stop()

			// A backend that ends in the middle of it: what it took is settled, the rest is owed.
			some := receive(t)
			go func() {
				_ = some.Await(t.Context(), func(st mockbackend.State) bool { return st.Stored["traces"] > 0 })
				_ = some.SetFaults("status:Unavailable")
			}()
			doc, _, _ := s.replay(1, file, "--to", "grpc://"+some.GRPCAddr(), "--settle", "--json", "--rate", "300")
			if doc.StoppedFile != file || doc.Verdict != "retry" || !doc.Settled || doc.Items == 0 {
				t.Errorf("stopped: %+v", doc)
			}
			rest, _, _ := s.replay(0, file, "--to", to, "--settle", "--json")
			if doc.Items+rest.Items != 200 || rest.RejectedItems != 0 || rest.Damaged != 0 {
				t.Errorf("%d items, then %+v; want 200", doc.Items, rest)
			}
			if got := b.State().Stored["traces"]; got != rest.Items {
				t.Errorf("the backend has %d items of %d", got, rest.Items)
			}
			if again, _, _ := s.replay(0, file, "--to", to, "--settle", "--json"); again.Requests != 0 {
				t.Errorf("sent again: %+v", again)
			}
			s.run() // it opens the file as it is
			s.ready(2)
			s.stop()
		})
	}
}

// Without receipts it is a copy, which stops at the first request that is not taken and says where to go on.
func TestReplayCopiesFilesAndGoesOnWhereItStopped(t *testing.T) {
	s, file := owed(t, "format: json")
	s.stop()
	b := receive(t)
	to := "grpc://" + b.GRPCAddr()
	whole, _, _ := s.replay(0, file, "--to", to, "--json")
	if whole.Items != 200 || whole.Settled {
		t.Errorf("%+v; want 200 items", whole)
	}
	gone := receive(t, "status:InvalidArgument,count=1")
	_, out, said := s.replay(1, file, "--to", "grpc://"+gone.GRPCAddr())
	s.has(said, "rejected", "--from 0 goes on there")
	if out != file+" 0\n" {
		t.Errorf("stdout %q", out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.IndexByte(text, '\n') + 1
	lines := bytes.Count(text, []byte{'\n'})
	part, _, _ := s.replay(0, file, "--to", to, "--from", strconv.Itoa(second), "--json", "--rate", "100000")
	if part.Requests != uint64(lines-1) || part.Requests >= whole.Requests {
		t.Errorf("from the second line of %d: %+v; all: %+v", lines, part, whole)
	}
	_, _, said = s.replay(2, file, "--to", to, "--from", strconv.Itoa(second+1))
	s.has(said, "no line begins there")

	// A line that was cut is told, and what stands around it is sent.
	if err := os.WriteFile(file, append([]byte("{\"resourceSpans\": [{\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	cut, _, said := s.replay(1, file, "--to", to, "--json")
	if cut.Damaged != 1 || cut.Items != 200 {
		t.Errorf("with a damaged line: %+v\n%s", cut, said)
	}
}

func TestReplayRefusesWhatMakesNoSense(t *testing.T) {
	s := &stored{t: t}
	file := filepath.Join(t.TempDir(), "out.jsonl")
	if err := os.WriteFile(file, []byte("{\"resourceSpans\":[]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := "grpc://127.0.0.1:1"
	for _, c := range []struct {
		words string
		args  []string
	}{
		{"--to URL is needed", []string{file}},
		{"requires at least 1 arg", []string{"--to", to}},
		{"has no receipts", []string{file, "--to", to, "--settle"}},
		{"the one present file", []string{file, file, "--to", to, "--settle"}},
		{"none of traces", []string{file, "--to", to, "--signal", "spans"}},
		{"no such file", []string{file + ".none", "--to", to}},
		{"it has 21 bytes", []string{file, "--to", to, "--from", "99"}},
	} {
		_, _, said := s.replay(2, c.args...)
		s.has(said, c.words)
	}
}
