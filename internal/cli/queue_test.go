// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/cli/proving"
	"github.com/holdfast-telemetry/holdfast/internal/cli/queues"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// stored is a storage directory that an instance filled whose backends were away.
type stored struct {
	t       *testing.T
	dir     string // of the store
	notes   string // of the load
	config  string
	primary string // where the backend would be
	addr    string
	stop    func()
}

// fill runs an instance with two destinations nobody listens for, and loads it; it is still running when fill returns.
func fill(t *testing.T) *stored {
	t.Helper()
	tmp := t.TempDir()
	s := &stored{t: t, dir: filepath.Join(tmp, "store"), notes: filepath.Join(tmp, "run"), config: filepath.Join(tmp, "c.yaml")}
	s.addr, s.primary = freePort(t), freePort(t)
	s.write("otlp/primary, otlp/old")
	s.run()
	s.load("fill")
	return s
}

func (s *stored) load(run string) {
	s.t.Helper()
	out, code, err := execute(s.t.Context(), proving.NewLoad(), io.Discard, "--run", run, "--out", s.notes, "--to", "grpc://"+s.addr,
		"--signals", "traces", "--requests", "5", "--producers", "4", "--items", "10", "--compression", "gzip",
		"--header", "x-tenant=blue", "--header", "x-access-token=s3cret")
	if code != 0 {
		s.t.Fatalf("load: exit %d, %v: %s", code, err, out)
	}
}

// write writes the configuration with these exporters in the pipeline.
func (s *stored) write(exporters string) {
	s.t.Helper()
	text := fmt.Sprintf(`
receivers:
  otlp: {protocols: {grpc: {endpoint: %q, include_metadata: true}}}
processors:
  batch: {metadata_keys: [x-tenant, x-access-token], timeout: 10ms}
exporters:
  otlp/primary: {endpoint: %q, tls: {insecure: true}, sending_queue: {storage: file_storage/q}}
  otlp/old: {endpoint: "127.0.0.1:1", tls: {insecure: true}, sending_queue: {storage: file_storage/q}}
extensions:
  file_storage/q: {directory: %q, max_file_size_mib: 512}
service:
  extensions: [file_storage/q]
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [%s]}
  telemetry: {metrics: {level: none}, logs: {output_paths: [%q]}}
`, s.addr, s.primary, s.dir, exporters, s.config+".log")
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run starts an instance and waits for its port.
func (s *stored) run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, _, err := execute(ctx, newRunCommand(), io.Discard, "--config", s.config, "--implicit-health", "off",
			"--state-dir", filepath.Join(filepath.Dir(s.config), "state"))
		done <- err
	}()
	ended := false
	s.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("run: %v", err)
		}
	}
	s.t.Cleanup(s.stop)
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-done:
			ended = true
			log, _ := os.ReadFile(s.config + ".log")
			s.t.Fatalf("run: %v\n%s", err, log)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.t.Fatal("the instance does not listen")
		}
	}
}

// do runs a queue command and checks its exit code.
func (s *stored) do(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var errs bytes.Buffer
	out, got, err := execute(s.t.Context(), queues.New(), &errs, args...)
	if err != nil {
		fmt.Fprint(&errs, err)
	}
	if got != code {
		s.t.Errorf("%q: exit %d, want %d: %v\n%s%s", args, got, code, err, out, errs.String())
	}
	return out, errs.String()
}

func (s *stored) has(text string, wants ...string) {
	s.t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			s.t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

func TestQueueLsShowsARunningInstanceAndAStoppedOne(t *testing.T) {
	s := fill(t)
	out, _ := s.do(0, "ls", "--config", s.config)
	s.has(out, s.dir+"  (file_storage/q)  in use by holdfast", "of 512 MiB on disk", "traces  200 items accepted in 20 records; 1 segment, ",
		"\n  otlp_grpc/primary  live   20       200    ", "\n  otlp_grpc/old      live   20       200    ")
	s.stop()
	out, _ = s.do(0, "ls", "--dir", s.dir)
	if strings.Contains(out, "in use") || strings.Contains(out, "not closed") {
		t.Errorf("stopped:\n%s", out)
	}
	out, _ = s.do(0, "ls", "--dir", s.dir, "--json")
	var doc queues.QueuesDocument
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Stores) != 1 || len(doc.Stores[0].Journals) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	j := doc.Stores[0].Journals[0]
	if j.Pipeline != "traces" || j.State != "closed" || j.AcceptedItems != 200 || j.LastSeq != 20 || len(j.ID) != 32 || len(j.Cursors) != 2 ||
		j.Cursors[1].Name != "otlp_grpc/primary" || j.Cursors[1].Queued.Items != 200 || j.Cursors[1].Oldest == "" ||
		doc.Stores[0].Bytes["segments"] == 0 || doc.Stores[0].Held {
		t.Errorf("document %+v", doc)
	}
}

func TestQueuePeekShowsTheRequestAndMasksCredentials(t *testing.T) {
	s := fill(t)
	out, _ := s.do(0, "peek", "traces:otlp_grpc/primary", "--config", s.config, "--count", "1")
	s.has(out, "traces:otlp_grpc/primary  record 1  accepted 20", "  frame     10 items, ", "  request   traces, gzip\n",
		"  metadata  x-tenant: blue\n", "  metadata  x-access-token: ****  (--show-secrets shows it)\n",
		`"stringValue": "holdfast-ledger"`)
	if strings.Contains(out, "s3cret") || strings.Contains(out, "record 2") {
		t.Errorf("peek:\n%s", out)
	}
	out, _ = s.do(0, "peek", "otlp_grpc/old", "--config", s.config, "--seq", "19", "--show-secrets", "--json")
	var doc struct {
		Pipeline, Destination string
		Records               []queues.RecordDocument
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Records) != 2 || doc.Records[0].Seq != 19 {
		t.Fatalf("%v: %s", err, out)
	}
	r := doc.Records[1]
	var payload struct{ ResourceSpans []any }
	if err := json.Unmarshal(r.Payload, &payload); err != nil || len(payload.ResourceSpans) == 0 || r.Items != 10 ||
		r.Encoding != "gzip" || r.Signal != "traces" || len(r.Metadata) != 2 || r.Metadata[0].Values[0] != "s3cret" {
		t.Errorf("record %+v, %v", r, err)
	}
	_, errs := s.do(2, "peek", "otlp_grpc/nobody", "--config", s.config)
	s.has(errs, `no destination "otlp_grpc/nobody": there are traces:otlp_grpc/old, traces:otlp_grpc/primary`)
	_, errs = s.do(0, "peek", "otlp_grpc/old", "--config", s.config, "--dead")
	s.has(errs, "nothing waits")
}

func TestQueueVerifyCountsEveryBalanceAndFindsDamage(t *testing.T) {
	s := fill(t)
	out, _ := s.do(0, "verify", "--config", s.config) // beside it
	s.has(out, "20 records, 200 items", "\n  OK\n")
	s.stop()
	out, _ = s.do(0, "verify", "traces", "--dir", s.dir)
	s.has(out, "otlp_grpc/primary: 200 accepted - 0 not owed = 0 delivered + 0 rejected + 0 dropped + 200 queued; difference 0\n", "\n  OK\n")
	s.do(2, "verify", "logs", "--dir", s.dir)

	name := layout.Segment(filepath.Join(layout.Pipeline(s.dir, "traces"), layout.Segments), 1)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text[4096+100] ^= 1
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = s.do(1, "verify", "--dir", s.dir)
	s.has(out, name, "damage: ", "number 1 ", "\n  DAMAGED\n")
	out, _ = s.do(1, "verify", "--dir", s.dir, "--json")
	var doc struct{ Journals []queues.VerifyDocument }
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Journals) != 1 || !doc.Journals[0].Damaged {
		t.Errorf("%v: %s", err, out)
	}
	_, errs := s.do(1, "peek", "otlp_grpc/old", "--dir", s.dir, "--count", "1")
	s.has(errs, name)
	file := filepath.Join(t.TempDir(), "rest.bin")
	out, _ = s.do(1, "export", "otlp_grpc/old", "--dir", s.dir, "--to", file, "--format", "proto")
	s.has(out, "19 records, 190 items")
}

func TestQueueExportWritesWhatTheFileExporterWould(t *testing.T) {
	s := fill(t)
	tmp := t.TempDir()
	lines, framed := filepath.Join(tmp, "out.jsonl"), filepath.Join(tmp, "out.bin")
	out, _ := s.do(0, "export", "traces:otlp_grpc/old", "--config", s.config, "--to", lines)
	s.has(out, "traces:otlp_grpc/old: 20 records, 200 items, ", " written to "+lines)
	s.do(0, "export", "otlp_grpc/old", "--config", s.config, "--to", framed, "--format", "proto", "--json")
	_, errs := s.do(2, "export", "otlp_grpc/old", "--config", s.config, "--to", lines)
	s.has(errs, "it is there already (--force replaces it)")
	s.do(0, "export", "otlp_grpc/old", "--config", s.config, "--to", lines, "--force")
	if out, _ = s.do(0, "export", "otlp_grpc/old", "--config", s.config, "--to", "-"); strings.Count(out, "\n") != 20 {
		t.Errorf("to stdout: %d lines", strings.Count(out, "\n"))
	}
	text, err := os.ReadFile(lines)
	if err != nil || string(text) != out {
		t.Errorf("file and stdout differ, %v", err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		var request struct{ ResourceSpans []any }
		if err := json.Unmarshal([]byte(line), &request); err != nil || len(request.ResourceSpans) == 0 {
			t.Errorf("%v: %.80s", err, line)
		}
	}
	b, err := os.ReadFile(framed)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; len(b) > 4; n++ {
		size := binary.BigEndian.Uint32(b)
		b = b[4+size:]
	}
	if n != 20 || len(b) != 0 {
		t.Errorf("%d requests, %d bytes behind them", n, len(b))
	}
	entries, err := os.ReadDir(tmp)
	if err != nil || len(entries) != 2 {
		t.Errorf("files %v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	for _, args := range [][]string{
		{"--to", ""}, {"--to", "x", "--format", "xml"}, {"--to", "x", "--dead", "--bad"}, {"--to", filepath.Join(tmp, "no", "x")},
	} {
		s.do(2, append([]string{"export", "otlp_grpc/old", "--config", s.config}, args...)...)
	}
}

func TestQueueReplayIsACopyUnlessItResolves(t *testing.T) {
	s := fill(t)
	s.do(2, "replay", "otlp_grpc/primary", "--config", s.config, "--to", "grpc://"+s.primary, "--resolve") // it is in use
	addr, end := sinkProcess(t, "--out", filepath.Join(t.TempDir(), "copy"))
	out, _ := s.do(0, "replay", "otlp_grpc/primary", "--config", s.config, "--to", "grpc://"+addr, "--header", "x=y")
	s.has(out, "20 records, 200 items sent to grpc://"+addr+", up to record 20; a copy: the queue keeps them")
	if text := end(); !strings.Contains(text, `"traces":200`) {
		t.Errorf("sink: %s", text)
	}
	s.stop()
	_, errs := s.do(1, "replay", "otlp_grpc/primary", "--dir", s.dir, "--to", "grpc://"+addr, "--resolve") // nobody is there any more
	s.has(errs, "stopped at record 1: retry ", "(--from 1 goes on there)")
	out, _ = s.do(0, "ls", "--dir", s.dir)
	s.has(out, "otlp_grpc/primary  live   20 ")

	addr, end = sinkProcess(t, "--out", s.notes)
	out, _ = s.do(0, "replay", "otlp_grpc/primary", "--dir", s.dir, "--to", "grpc://"+addr, "--resolve", "--json")
	var doc queues.ReplayDocument
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.Records != 20 || doc.Items != 200 || !doc.Resolved || doc.Last != 20 {
		t.Errorf("%v: %s", err, out)
	}
	end()
	out, _ = s.do(0, "ls", "--dir", s.dir)
	s.has(out, "otlp_grpc/old      live   20 ", "otlp_grpc/primary  live   0        0      0 B      -       200 ")
	out, _ = s.do(0, "verify", "--dir", s.dir)
	s.has(out, "otlp_grpc/primary: 200 accepted - 0 not owed = 200 delivered + 0 rejected + 0 dropped + 0 queued; difference 0\n")
	for _, args := range [][]string{
		{"--to", ""}, {"--to", "nowhere"}, {"--to", "tcp://x:1"},
		{"--to", "grpc://x:1", "--ca", "y"}, {"--to", "grpcs://x:1", "--cert", "y"}, {"--to", "grpc://x:1", "--header", "nothing"},
		{"--to", "grpcs://x:1", "--ca", filepath.Join(s.dir, "none")}, {"--to", "grpc://x"},
	} {
		s.do(2, append([]string{"replay", "otlp_grpc/old", "--dir", s.dir}, args...)...)
	}
}

func TestQueueReplayStopsAtTheFirstRefusalAndBooksWhatWasTaken(t *testing.T) {
	s := fill(t)
	s.stop()
	addr, end := sinkProcess(t, "--count-only", "--fault", "capacity:70")
	defer end()
	out, errs := s.do(1, "replay", "otlp_grpc/old", "--dir", s.dir, "--to", "grpc://"+addr, "--resolve")
	s.has(errs, "stopped at record ", "goes on there)")
	var records, items int
	if _, err := fmt.Sscanf(strings.TrimPrefix(out, "traces:otlp_grpc/old: "), "%d records, %d items", &records, &items); err != nil || records == 0 || records == 20 {
		t.Errorf("%v: %s", err, out)
	}
	out, _ = s.do(0, "ls", "--dir", s.dir)
	s.has(out, fmt.Sprintf("otlp_grpc/old      live   %-7d  %-5d", 20-records, 200-items))
}

func TestQueueDropGivesUpOnlyWhatIsParked(t *testing.T) {
	s := fill(t)
	_, errs := s.do(2, "drop", "otlp_grpc/old", "--config", s.config, "--yes")
	s.has(errs, "traces:otlp_grpc/old is live, not parked")
	s.stop()
	s.park("otlp_grpc/old")
	out, _ := s.do(0, "ls", "--dir", s.dir)
	s.has(out, "otlp_grpc/old      parked  20 ", "parked since 20")
	s.write("otlp/primary")
	out, _ = s.do(0, "ls", "--config", s.config)
	s.has(out, "nobody inherits: no destination sends to otlp_grpc/old")
	_, errs = s.do(2, "drop", "otlp_grpc/old", "--dir", s.dir)
	s.has(errs, "20 records, 200 items would be given up for good; --yes does it")
	out, _ = s.do(0, "drop", "otlp_grpc/old", "--dir", s.dir, "--yes")
	s.has(out, "traces:otlp_grpc/old: dropped 20 records, 200 items")
	out, _ = s.do(0, "verify", "--dir", s.dir)
	s.has(out, "\n  OK\n")
	s.do(0, "drop", "otlp_grpc/primary", "--dead", "--yes", "--dir", s.dir) // there are none
}

// park does what a start without the destination would.
func (s *stored) park(name string) {
	s.t.Helper()
	f, slot, err := cursor.Open(vfs.OS(), layout.Cursor(layout.Pipeline(s.dir, "traces"), name))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	slot.State, slot.Until, slot.ParkedAt = queue.Parked, 20, time.Now().Unix()
	if err := f.Write(&slot); err != nil {
		s.t.Fatal(err)
	}
}

// bury makes the oldest n records of a destination dead letters, as an instance does whose backend rejects them.
func (s *stored) bury(name string, n int) {
	s.t.Helper()
	o := journal.Options{Config: *journal.Default().(*journal.Config), Heads: 1, Owner: "a test"}
	o.Directory, o.MaxFileSizeMiB = s.dir, 512
	store, err := journal.OpenStore(s.t.Context(), vfs.OS(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	j, err := store.Head("traces", 1, []queue.Destination{{Name: "otlp_grpc/primary"}, {Name: "otlp_grpc/old"}})
	if err != nil {
		s.t.Fatal(err)
	}
	c := j.Attach(name)
	for range n {
		got, err := c.Take(s.t.Context(), queue.Want{})
		if err == nil {
			err = c.Resolve(queue.Outcome{Kind: queue.Dead, Reason: "too\x1bold"}, got[0].Seq)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	c.Close()
	if err := errors.Join(j.Close(s.t.Context()), store.Close(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
}

func TestDeadLettersAreShownSavedSentAndDropped(t *testing.T) {
	s := fill(t)
	s.stop()
	s.bury("otlp_grpc/old", 5)
	s.bury("otlp_grpc/primary", 3)
	out, _ := s.do(0, "ls", "--dir", s.dir)
	s.has(out, "otlp_grpc/old  dead letters: 5 records, 50 items", "otlp_grpc/primary  dead letters: 3 records, 30 items")
	out, _ = s.do(0, "peek", "otlp_grpc/old", "--dead", "--dir", s.dir, "--count", "1")
	s.has(out, "dead letter 1  accepted", "record 1, by otlp_grpc/old: too\\u001bold", "x-tenant: blue", `"resourceSpans"`)
	out, _ = s.do(0, "export", "otlp_grpc/primary", "--dead", "--dir", s.dir, "--to", filepath.Join(t.TempDir(), "x"))
	s.has(out, "3 records, 30 items")
	_, errs := s.do(2, "drop", "otlp_grpc/old", "--dead", "--dir", s.dir)
	s.has(errs, "5 records, 50 items would be given up")

	addr, end := sinkProcess(t, "--count-only")
	out, _ = s.do(0, "replay", "otlp_grpc/primary", "--dead", "--dir", s.dir, "--to", "grpc://"+addr)
	s.has(out, "3 records, 30 items sent", "a copy")
	out, _ = s.do(0, "replay", "otlp_grpc/primary", "--dead", "--resolve", "--dir", s.dir, "--to", "grpc://"+addr)
	s.has(out, "3 records, 30 items sent", "booked as delivered")
	if text := end(); !strings.Contains(text, `"traces":60`) {
		t.Errorf("sink: %s", text)
	}
	out, _ = s.do(0, "ls", "--dir", s.dir)
	s.has(out, "otlp_grpc/primary  live   17       170", "170    ", "30         0         0\n", "otlp_grpc/old  dead letters: 5 records")
	if strings.Contains(out, "primary  dead letters") {
		t.Errorf("they are still there:\n%s", out)
	}
	out, _ = s.do(0, "drop", "otlp_grpc/old", "--dead", "--yes", "--dir", s.dir, "--json")
	if !strings.Contains(out, `"records": 5`) {
		t.Errorf("drop: %s", out)
	}
	out, _ = s.do(0, "verify", "--dir", s.dir)
	s.has(out, "otlp_grpc/old: 200 accepted - 0 not owed = 0 delivered + 50 rejected + 0 dropped + 150 queued; difference 0\n",
		"otlp_grpc/primary: 200 accepted - 0 not owed = 30 delivered + 0 rejected", "\n  OK\n")
}

func TestQueueExportSavesWhatIsInQuarantine(t *testing.T) {
	s := fill(t)
	s.stop()
	at := layout.Pipeline(s.dir, "traces")
	text, err := os.ReadFile(layout.Segment(filepath.Join(at, layout.Segments), 1))
	bad := filepath.Join(at, layout.Bad)
	if err = errors.Join(err, os.Mkdir(bad, 0o750), os.WriteFile(filepath.Join(bad, "0000000001.seg.2"), text, 0o600),
		os.WriteFile(filepath.Join(bad, "NOTES"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	out, _ := s.do(0, "export", "otlp_grpc/old", "--bad", "--dir", s.dir, "--to", filepath.Join(t.TempDir(), "x"))
	s.has(out, "20 records, 200 items")
	if err := os.WriteFile(filepath.Join(bad, "0000000001.seg.4096-8192"), text[8000:9000], 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs := s.do(1, "export", "otlp_grpc/old", "--bad", "--dir", s.dir, "--to", filepath.Join(t.TempDir(), "x"))
	s.has(out, "20 records, 200 items")
	s.has(errs, "0000000001.seg.4096-8192", "no record can be read of it")
}

func TestLedgerReadsWhatWaitsInTheQueues(t *testing.T) {
	s := fill(t)
	s.stop()
	verify := func(want int, text string, args ...string) {
		t.Helper()
		out, code, err := execute(t.Context(), proving.NewLedger(), io.Discard,
			append([]string{"verify", s.notes, "--control-run", "none", "--quiet-for", "0s"}, args...)...)
		if code != want || !strings.Contains(out, text) {
			t.Errorf("%q: exit %d, %v:\n%s", args, code, err, out)
		}
	}
	verify(0, "\nPASS\n", "--queue", s.dir)
	verify(1, "LOST", "--queue", "none")
	for _, name := range []string{"otlp_grpc/primary", "otlp_grpc/old"} {
		s.bury(name, 7)
	}
	s.park("otlp_grpc/old")
	verify(0, "queued 130   parked 130   dead 140", "--queue", s.dir)
	s.do(0, "drop", "otlp_grpc/old", "--dead", "--yes", "--dir", s.dir)
	s.do(0, "drop", "otlp_grpc/primary", "--dead", "--yes", "--dir", s.dir)
	verify(1, "lost 70 ", "--queue", s.dir)
	verify(3, "", "--queue", t.TempDir())
}

func TestQueueCommandsSayWhatTheyNeed(t *testing.T) {
	s := &stored{t: t}
	tmp := t.TempDir()
	for want, args := range map[string][]string{
		"--config CONFIG or --dir STORAGE_DIRECTORY is needed": {"ls"},
		"exclude each other":     {"ls", "--dir", tmp, "--config", "x"},
		"no storage directory":   {"ls", "--dir", tmp},
		"does not exist":         {"ls", "--dir", filepath.Join(tmp, "none")},
		"did you mean --dir?":    {"ls", "--dri", tmp},
		`did you mean "verify"?`: {"verfy"},
		"accepts 1 arg(s)":       {"peek", "--dir", tmp},
		"--count 0":              {"peek", "x", "--dir", tmp, "--count", "0"},
		"queues are in memory":   {"ls", "--config", "yaml:{receivers: {otlp: {protocols: {grpc: }}}, exporters: {nop: }, service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}}"},
	} {
		_, errs := s.do(2, args...)
		s.has(errs, want)
	}
	root := queues.New()
	for _, cmd := range append(root.Commands(), root) {
		if !strings.Contains(cmd.Example, "holdfast queue ") || !strings.Contains(cmd.Example, "Exit codes:") {
			t.Errorf("%s: %q", cmd.Name(), cmd.Example)
		}
	}
}
