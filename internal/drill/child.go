// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bufio"
	"context"
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

const (
	readyTimeout = 60 * time.Second
	stopTimeout  = 40 * time.Second
	// readyLine is what a collector says when every port is open.
	readyLine = "Everything is ready"
	// maxTail is how many lines of a log are shown with a failure.
	maxTail = 20
)

// child is one life of the collector.
type child struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed with the line that says so
	done  chan struct{} // closed when it has ended and its log is read

	mu   sync.Mutex
	tail []string
}

// start begins a life and waits until it is ready. What it logs goes to the given file and, line by line, to heard.
// Variables are added to those of this process.
func start(ctx context.Context, binary string, args, vars []string, log io.Writer, heard func(logLine)) (*child, error) {
	c := &child{ready: make(chan struct{}), done: make(chan struct{})}
	c.cmd = exec.Command(binary, args...) //nolint:gosec // this program itself
	// Whoever manages this process is not told of the child, nor is the child to put its state there.
	c.cmd.Env = append(without(os.Environ(), "NOTIFY_SOCKET", "STATE_DIRECTORY", "HOLDFAST_STATE_DIR"), vars...)
	// A child that outlived a killed drill would hold its ports for ever; an interrupt at the terminal is the drill's.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stdout = c.cmd.Stderr
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	go c.read(out, log, heard) // ends with the process; kill and stop wait for it
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-c.ready:
		return c, nil
	case <-c.done:
		err = errors.New("holdfast ended before it was ready")
	case <-timer.C:
		err = fmt.Errorf("holdfast is not ready after %s", readyTimeout)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.kill()
	return nil, fmt.Errorf("%w\n%s", err, c.last())
}

func without(env []string, names ...string) []string {
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		keep := true
		for _, n := range names {
			keep = keep && n != name
		}
		if keep {
			out = append(out, v)
		}
	}
	return out
}

func (c *child) read(out io.Reader, log io.Writer, heard func(logLine)) {
	defer close(c.done)
	s := bufio.NewScanner(out)
	s.Buffer(nil, maxLine)
	isReady := false
	for s.Scan() {
		text := s.Text()
		_, _ = io.WriteString(log, text+"\n") // a log that cannot be kept changes no verdict
		c.mu.Lock()
		if c.tail = append(c.tail, text); len(c.tail) > maxTail {
			c.tail = c.tail[1:]
		}
		c.mu.Unlock()
		l, ok := parseLine(text)
		if !ok {
			continue
		}
		if !isReady && strings.HasPrefix(l.text, readyLine) {
			isReady = true
			close(c.ready)
		}
		heard(l)
	}
	_, _ = io.Copy(io.Discard, out) // behind a line that is too long
	_ = c.cmd.Wait()                // the state says how
}

// last are the last lines of the log.
func (c *child) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.tail, "\n")
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// running reports whether the process has not ended.
func (c *child) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// stop asks the process to end and returns its exit code; -1 = by a signal.
func (c *child) stop(ctx context.Context) (int, error) {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop holdfast: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-c.done:
		return c.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("stop holdfast: %w", context.Cause(ctx))
	}
}

// kill is kill -9, and waits for the end. A process that has ended already is left alone.
func (c *child) kill() {
	if c.running() {
		_ = c.cmd.Process.Kill() // it may have ended this moment
		<-c.done
	}
}
