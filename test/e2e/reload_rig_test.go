// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// shift is one process whose configuration changes while it runs, between a load and its sinks, over any number of
// lives. $HOST, $DIR and what values say stand in its texts.
type shift struct {
	t           *testing.T
	host, dir   string // dir: of the ledger's notes
	config      string // the file
	state, base string
	values      map[string]string
	args        []string
	sinks       []*mockbackend.Backend
	p           *process
}

func newShift(t *testing.T) *shift {
	t.Helper()
	base, err := os.MkdirTemp("", "holdfast-reload-*") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	s := &shift{t: t, host: ownHost(t), dir: t.TempDir(), base: base, state: filepath.Join(base, "state"),
		config: filepath.Join(base, "config.yaml"), values: map[string]string{}}
	s.values["HOST"], s.values["DIR"] = s.host, base
	return s
}

// write puts a text where the process looks for it, in one step.
func (s *shift) write(text string) {
	s.t.Helper()
	text = os.Expand(text, func(key string) string {
		v, ok := s.values[key]
		if !ok {
			s.t.Fatalf("the configuration wants $%s", key)
		}
		return v
	})
	replace(s.t, s.config, []byte(text))
}

// begin starts one more life of the process.
func (s *shift) begin(args ...string) *process {
	s.t.Helper()
	all := []string{"--config", s.config, "--state-dir", s.state, "--implicit-health=off"}
	s.p = start(s.t, append(append(all, s.args...), args...)...)
	return s.p
}

// start is begin with a text, and waits until it is ready.
func (s *shift) start(text string) *process {
	s.t.Helper()
	s.write(text)
	s.begin()
	s.p.await("Everything is ready")
	return s.p
}

// sink starts a backend with notes at a port.
func (s *shift) sink(name, port string) *mockbackend.Backend {
	s.t.Helper()
	b := startSink(s.t, s.dir, name, s.host+":"+port)
	s.sinks = append(s.sinks, b)
	return b
}

// tell runs a command about the process.
func (s *shift) tell(args ...string) outcome {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "--state-dir", s.state)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// reload offers a text and waits for what comes of it.
func (s *shift) reload(text string) outcome {
	s.t.Helper()
	s.write(text)
	return s.tell("reload", "--wait", "--timeout", "100s")
}

// becomes is reload with one end that will do: its exit code, and words of its answer.
func (s *shift) becomes(text string, code int, words string) {
	s.t.Helper()
	o := s.reload(text)
	if o.code != code || !regexp.MustCompile(words).MatchString(o.stdout+o.stderr) {
		s.t.Fatalf("reload: exit code %d, want %d with %q: %s%s", o.code, code, words, o.stdout, o.stderr)
	}
}

func (s *shift) value(name string, labels ...string) float64 {
	s.t.Helper()
	return value(s.t, scrapeAt(s.t, s.host+":8888"), name, labels...)
}

// owed is what the books have as not delivered yet; series may come and go with destinations.
func (s *shift) owed() float64 {
	sum := 0.0
	for key, v := range scrapeAt(s.t, s.host+":8888") {
		if strings.HasPrefix(key, "holdfast_ledger_queued_items") {
			sum += v
		}
	}
	return sum
}

func (s *shift) stored() (n uint64) {
	for _, b := range s.sinks {
		for _, items := range b.State().Stored {
			n += items
		}
	}
	return n
}

// send runs a load until the function it returns is called; every answer but a good one is counted.
func (s *shift) send(o loadgen.Options) (stop func() (loadgen.Summary, []string)) {
	s.t.Helper()
	o.Dir = s.dir
	if o.To == nil {
		o.To = []string{"grpc://" + s.host + ":4317", "http://" + s.host + ":4318"}
	}
	if o.Requests == 0 {
		o.For = time.Hour
	}
	var mu sync.Mutex
	var failed []string
	o.Progress = func(_ ledger.Attempt, r ledger.Result) {
		if r.State != ledger.Acked {
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, string(r.State)+" "+r.Code)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	var sum loadgen.Summary
	var err error
	done.Go(func() { sum, err = loadgen.Run(ctx, o) })
	s.t.Cleanup(func() { cancel(); done.Wait() })
	return func() (loadgen.Summary, []string) {
		s.t.Helper()
		mu.Lock()
		seen := append([]string{}, failed...) // what is cut by the end of the load is no failure
		mu.Unlock()
		if o.Requests == 0 {
			cancel()
		}
		done.Wait()
		if err != nil {
			s.t.Fatalf("load: %v", err)
		}
		return sum, seen
	}
}

// passes waits until nothing is owed, ends the process, and asks the ledger.
func (s *shift) passes(o ledger.Options) *ledger.Verdict {
	s.t.Helper()
	return s.judged(s.ends(), o)
}

// ends waits until nothing is owed, ends the process and the sinks, and returns what they noted.
func (s *shift) ends() *ledger.Notes {
	s.t.Helper()
	var since time.Time
	stored := s.stored()
	eventuallyWithin(s.t, 4*patience, "nothing is queued, and the sinks are quiet for 3 s", func() bool {
		if now := s.stored(); s.owed() > 0 || now != stored || since.IsZero() {
			since, stored = time.Now(), now
		}
		return time.Since(since) > 3*time.Second
	})
	scrapeBalanced(s.t, s.host+":8888")
	if code := s.p.stop(); code != 0 {
		s.t.Errorf("exit code %d", code)
	}
	for _, b := range s.sinks {
		if err := b.Stop(); err != nil {
			s.t.Fatal(err)
		}
	}
	notes, err := ledger.Read(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	return notes
}

// judged asks the ledger.
func (s *shift) judged(notes *ledger.Notes, o ledger.Options) *ledger.Verdict {
	s.t.Helper()
	o.QuietFor, o.NoControl = 3*time.Second, true
	v, err := ledger.Verify(notes, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("\n%s", v.Text())
	if v.Outcome != ledger.Pass {
		s.t.Error("the ledger does not pass")
	}
	return v
}
