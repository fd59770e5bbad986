// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the real binary: real processes, real sockets, judged by what the backends received.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the generous limit of every wait for an event.
const patience = 30 * time.Second

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "holdfast-e2e-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "holdfast")
	args := []string{"build", "-tags", "grpcnotrace", "-o", binary}
	build := exec.Command("go", append(args, "../../cmd/holdfast")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// process is one run of the binary.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed

	mu    sync.Mutex
	log   bytes.Buffer
	lines chan struct{} // closed and replaced with every line
}

// start runs the binary; its output is shown when the test fails, and it is killed when the test ends.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startWith(t, nil, args...)
}

// startWith is start with more environment variables.
func startWith(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{}), lines: make(chan struct{})}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Env = append(append(os.Environ(), "HOLDFAST_STATE_DIR="+t.TempDir()), env...)
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = p.cmd.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", strings.Join(args, " "), p.output())
		}
	})
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.done)
	s := bufio.NewScanner(out)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.mu.Lock()
		p.log.Write(s.Bytes())
		p.log.WriteByte('\n')
		close(p.lines)
		p.lines = make(chan struct{})
		p.mu.Unlock()
	}
	p.err = p.cmd.Wait()
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// await waits until the output matches and returns the match's groups.
func (p *process) await(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(patience)
	for {
		p.mu.Lock()
		found, more := re.FindStringSubmatch(p.log.String()), p.lines
		p.mu.Unlock()
		if found != nil {
			return found
		}
		select {
		case <-more:
		case <-p.done:
			if found := re.FindStringSubmatch(p.output()); found != nil {
				return found
			}
			p.t.Fatalf("the process ended (%v) without printing %q:\n%s", p.err, pattern, p.output())
		case <-limit:
			p.t.Fatalf("%q was not printed within %s:\n%s", pattern, patience, p.output())
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end of the process and returns its exit code; −1 = by a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("still running after %s:\n%s", patience, p.output())
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	if p.err != nil {
		p.t.Fatal(p.err)
	}
	return 0
}

// stop ends the process in order and returns its exit code.
func (p *process) stop() int {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	return p.exit()
}

// ports picks free ports of the loopback.
func ports(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at once at the end, so that no port comes twice
		out = append(out, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return out
}

// collector runs a configuration in which $NAME stands for a value, and waits until it is ready.
func collector(t *testing.T, config string, values map[string]string, args ...string) *process {
	t.Helper()
	p := start(t, append([]string{"--config", writeConfig(t, config, values), "--implicit-health=off"}, args...)...)
	p.await("Everything is ready")
	return p
}

func writeConfig(t *testing.T, config string, values map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := os.Expand(config, func(key string) string {
		v, ok := values[key]
		if !ok {
			t.Fatalf("the configuration wants $%s", key)
		}
		return v
	})
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// scrape reads the own metrics: series with labels as printed → value.
func scrape(t *testing.T, port string) map[string]float64 {
	t.Helper()
	return scrapeAt(t, "127.0.0.1:"+port)
}

// scrapeAt is scrape at another address.
func scrapeAt(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		line := s.Text()
		cut := strings.LastIndexByte(line, ' ')
		if cut < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(line[cut+1:], 64); err == nil {
			out[line[:cut]] = v
		}
	}
	return out
}

// value sums the series of a name that have the given labels, in pairs. A series that is not there fails the test.
func value(t *testing.T, m map[string]float64, name string, labels ...string) float64 {
	t.Helper()
	sum, found := 0.0, false
	for key, v := range m {
		bare, rest, _ := strings.Cut(key, "{")
		matches := bare == name
		for i := 0; i+1 < len(labels); i += 2 {
			matches = matches && strings.Contains(","+strings.TrimSuffix(rest, "}")+",", ","+labels[i]+"="+strconv.Quote(labels[i+1])+",")
		}
		if matches {
			sum, found = sum+v, true
		}
	}
	if !found {
		t.Fatalf("no series %s with %q", name, labels)
	}
	return sum
}

// eventually polls a condition that no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
