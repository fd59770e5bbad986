// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package seedbed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxLine bounds one line of a log, in bytes.
const maxLine = 1 << 20

// Line is one line of a collector's log.
type Line struct {
	Time   time.Time
	Level  string
	Text   string
	Fields map[string]any
}

// Field is a field as text, empty if there is none.
func (l *Line) Field(name string) string {
	if v, ok := l.Fields[name]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// Process is one life of the collector. Its methods may be called by several goroutines.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed

	mu    sync.Mutex
	log   bytes.Buffer
	lines []Line
	more  chan struct{} // closed and replaced with every line
}

// Start begins one more life and waits until it is ready.
func (b *Bed) Start(ctx context.Context) error {
	if err := b.Begin(); err != nil {
		return err
	}
	return b.p.Await(ctx, "Everything is ready")
}

// Begin begins one more life and does not wait for it.
func (b *Bed) Begin() error {
	p := &Process{done: make(chan struct{}), more: make(chan struct{})}
	p.cmd = exec.Command(b.o.Binary, b.args...) //nolint:gosec // the caller's binary
	p.cmd.Env = append(os.Environ(), "HOLDFAST_STATE_DIR="+b.state(), "SSL_CERT_FILE="+b.ca(), "SSL_CERT_DIR="+b.state())
	// Nothing outlives the test, and an interrupt at the terminal is the test's alone.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		return err
	}
	p.cmd.Stdout = p.cmd.Stderr
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go p.read(out)
	b.p = p
	b.Lives++
	return nil
}

// Process is the present life; nil before the first.
func (b *Bed) Process() *Process { return b.p }

// Stop ends the present life in order and returns its exit code; −1 = by a signal.
func (b *Bed) Stop(ctx context.Context) (int, error) {
	_ = b.p.cmd.Process.Signal(syscall.SIGTERM) // if it has ended, its code says how
	select {
	case <-b.p.done:
	case <-ctx.Done():
		return -1, fmt.Errorf("the collector does not end: %w", ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(b.p.err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, b.p.err
}

// Kill ends a life as kill -9 does and waits for that.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the life has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

func (p *Process) read(out io.Reader) {
	defer close(p.done)
	s := bufio.NewScanner(out)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		p.mu.Lock()
		p.log.Write(s.Bytes())
		p.log.WriteByte('\n')
		if l, ok := parseLine(s.Text()); ok {
			p.lines = append(p.lines, l)
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	p.err = p.cmd.Wait()
}

// parseLine reads a line of the console encoding: time, level, words, and fields as JSON, between tabs.
func parseLine(text string) (Line, bool) {
	parts := strings.Split(text, "\t")
	if len(parts) < 3 {
		return Line{}, false
	}
	t, err := time.Parse("2006-01-02T15:04:05.000Z0700", parts[0])
	if err != nil {
		return Line{}, false
	}
	l := Line{Time: t, Level: parts[1], Text: parts[2]}
	if last := parts[len(parts)-1]; len(parts) > 3 && strings.HasPrefix(last, "{") {
		if json.Unmarshal([]byte(last), &l.Fields) == nil {
			l.Text = parts[len(parts)-2]
		}
	}
	return l, true
}

// Output is everything the process printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Lines are the log's lines so far.
func (p *Process) Lines() []Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[:len(p.lines):len(p.lines)]
}

// Await waits until the output holds words.
func (p *Process) Await(ctx context.Context, words string) error {
	for {
		p.mu.Lock()
		found, more := bytes.Contains(p.log.Bytes(), []byte(words)), p.more
		p.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-more:
		case <-p.done:
			if strings.Contains(p.Output(), words) {
				return nil
			}
			return fmt.Errorf("the collector ended (%w) without saying %q:\n%s", p.err, words, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("%q was not said: %w\n%s", words, ctx.Err(), p.Output())
		}
	}
}
