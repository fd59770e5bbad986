// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// crashRecovery is the seeds' collector with persistent queues, as it is written.
const crashRecovery = "../compat/seeds/000-02-pod-crash-recovery-with-persistent-queues.yaml"

// stage is one collector with a queue on disk between a load and a sink, over any number of lives of its process.
type stage struct {
	t        *testing.T
	host     string // doors are at its usual ports
	dir      string // of the ledger's notes
	storage  string // the queue's directory
	args     []string
	sink     *mockbackend.Backend
	others   []*mockbackend.Backend // further sinks
	files    string                 // what a file exporter writes; empty: there is none
	sinkAddr string
	p        *process
	lives    int
}

// newStage prepares the seeds' file with the addresses and paths of this machine, and what sets say on top. Nothing
// runs yet but the sink.
func newStage(t *testing.T, sets ...string) *stage {
	t.Helper()
	s := &stage{t: t, host: ownHost(t), dir: t.TempDir()}
	s.storage = filepath.Join(t.TempDir(), "otel", "queue")
	s.sinkAddr = s.host + ":14317"
	s.args = []string{"--config", crashRecovery, "--implicit-health", s.host + ":13133"}
	for _, set := range append([]string{
		"extensions::file_storage/queue::directory=" + s.storage,
		"receivers::otlp::protocols::grpc::endpoint=" + s.host + ":4317",
		"exporters::otlp::endpoint=" + s.sinkAddr,
		"exporters::otlp::tls::insecure=true",
		"service::telemetry::metrics::address=" + s.host + ":8888",
	}, sets...) {
		s.args = append(s.args, "--set", set)
	}
	s.sink = startSink(t, s.dir, "backend", s.sinkAddr)
	return s
}

func startSink(t *testing.T, dir, name, addr string) *mockbackend.Backend {
	t.Helper()
	b, err := mockbackend.Start(mockbackend.Options{Name: name, GRPC: addr, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop() })
	return b
}

// start begins one more life and waits until it is ready.
func (s *stage) start() {
	s.t.Helper()
	s.begin()
	s.p.await("Everything is ready")
}

// begin begins one more life.
func (s *stage) begin() {
	s.t.Helper()
	s.p = start(s.t, s.args...)
	s.lives++
}

// kill ends the process as kill -9 does.
func (s *stage) kill() {
	s.t.Helper()
	s.p.signal(syscall.SIGKILL)
	s.p.exit()
}

// faulty makes the sink do wrong until the function it returns is called.
func (s *stage) faulty(text string) func() {
	s.t.Helper()
	return faultyAt(s.t, s.sink, text)
}

func faultyAt(t *testing.T, sink *mockbackend.Backend, text string) func() {
	t.Helper()
	id, err := sink.AddFault(text)
	if err != nil {
		t.Fatal(err)
	}
	return func() { sink.RemoveFault(id) }
}

// load sends in the background until the function it returns is called, which waits for the answers and says what was
// sent. What got no answer is sent again, over restarts.
func (s *stage) load(o loadgen.Options) func() loadgen.Summary {
	s.t.Helper()
	o.Dir = s.dir
	if o.Want == "" {
		o.Want = "each:backend"
	}
	if o.To == nil {
		o.To = []string{"grpc://" + s.host + ":4317"}
	}
	if o.Requests == 0 {
		o.For = time.Hour // until it is stopped
	}
	ctx, cancel := context.WithCancel(context.Background())
	var sum loadgen.Summary
	var err error
	var done sync.WaitGroup
	done.Go(func() { sum, err = loadgen.Run(ctx, o) })
	s.t.Cleanup(func() { cancel(); done.Wait() })
	return func() loadgen.Summary {
		s.t.Helper()
		if o.Requests == 0 {
			cancel()
		}
		done.Wait()
		if err != nil {
			s.t.Fatalf("load: %v", err)
		}
		return sum
	}
}

// books are what the process says of itself.
func (s *stage) books() map[string]float64 { return scrapeAt(s.t, s.host+":8888") }

func (s *stage) ledger(word string) float64 { return value(s.t, s.books(), "holdfast_ledger_"+word) }

// drained waits until nothing is owed and the sink has been quiet.
func (s *stage) drained() {
	s.t.Helper()
	var since time.Time
	stored := s.stored()
	eventuallyWithin(s.t, 4*patience, "nothing is queued, and the sink is quiet for 3 s", func() bool {
		if now := s.stored(); s.ledger("queued_items") > 0 || now != stored || since.IsZero() {
			since, stored = time.Now(), now
		}
		return time.Since(since) > 3*time.Second
	})
}

// stored is how many items the sink has.
func (s *stage) stored() uint64 {
	sum := uint64(0)
	for _, sink := range append(s.others[:len(s.others):len(s.others)], s.sink) {
		for _, n := range sink.State().Stored {
			sum += n
		}
	}
	return sum
}

// judge asks the ledger. The process must be drained and still run; it is ended in order here.
func (s *stage) judge(o ledger.Options) *ledger.Verdict {
	s.t.Helper()
	resp, err := http.Get("http://" + s.host + ":8888/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if o.Metrics, err = ledger.ParseMetrics(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	if code := s.p.stop(); code != 0 {
		s.t.Errorf("exit code %d", code)
	}
	for _, sink := range append(s.others[:len(s.others):len(s.others)], s.sink) {
		if err := sink.Stop(); err != nil {
			s.t.Fatal(err)
		}
	}
	notes, err := ledger.Read(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.files != "" {
		if err := notes.AddRecords(notes.AddPlace(ledger.InFile, "file"), s.files); err != nil {
			s.t.Fatal(err)
		}
	}
	o.QuietFor = 3 * time.Second
	o.NoControl = o.Control == nil
	v, err := ledger.Verify(notes, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// pass is judge with the only verdict that will do.
func (s *stage) pass(o ledger.Options) *ledger.Verdict {
	s.t.Helper()
	v := s.judge(o)
	s.t.Logf("%d lives of the process\n%s", s.lives, v.Text())
	if v.Outcome != ledger.Pass {
		s.t.Fatal("the ledger does not pass")
	}
	return v
}

// control is a short run without a fault, which must pass: else a run with one proves nothing.
func control(t *testing.T, sets ...string) *ledger.Verdict {
	t.Helper()
	s := newStage(t, sets...)
	s.start()
	s.load(loadgen.Options{Run: "control", Requests: 5, Producers: 1, Items: 200, ItemBytes: 100})()
	s.drained()
	v := s.judge(ledger.Options{})
	if v.Outcome != ledger.Pass {
		t.Fatalf("control run:\n%s", v.Text())
	}
	return v
}

// allocated sums the blocks of everything below dir, as du does.
func allocated(t *testing.T, dir string) int64 {
	t.Helper()
	sum := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && d.Type().IsRegular() {
			sum += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// eventuallyWithin is eventually with another patience.
func eventuallyWithin(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// said counts the lines of the log that hold words.
func (p *process) said(words string) int {
	n := 0
	for line := range strings.Lines(p.output()) {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}

// env reads a number a person may set, to make a test longer or to repeat it.
func env(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n := uint64(0)
	for _, r := range text {
		if r < '0' || r > '9' {
			t.Fatalf("%s=%q is no number", name, text)
		}
		n = n*10 + uint64(r-'0')
	}
	return n
}
