// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package child is the collector as a process of a drill: its start and its ends, what it logs, its metrics, and a loopback
// address of its own.
//
// It stands below the rooms in which outages are played. It promises that no child outlives this process, and that an
// address is used by one room only. It knows neither faults nor verdicts.
package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
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

// Child is one life of the collector.
type Child struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed with the line that says so
	Done  chan struct{} // closed when it has ended and its log is read

	mu   sync.Mutex
	tail []string
}

// Thread runs something on a thread that stays until every child that was started on it has ended.
type Thread func(func())

// Start begins a life and waits until it is ready. What it logs goes to the given file and, line by line, to heard.
// Variables are added to those of this process. The process is started on the given thread; nil = on one of its own.
func Start(ctx context.Context, binary string, args, vars []string, log io.Writer, heard func(Line), on Thread) (*Child, error) {
	c := &Child{ready: make(chan struct{}), Done: make(chan struct{})}
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
	if on == nil {
		on = c.keep
	}
	if on(func() { err = c.cmd.Start() }); err != nil {
		close(c.Done)
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	go c.read(out, log, heard) // ends with the process; Kill and Stop wait for it
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-c.ready:
		return c, nil
	case <-c.Done:
		err = errors.New("holdfast ended before it was ready")
	case <-timer.C:
		err = fmt.Errorf("holdfast is not ready after %s", readyTimeout)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.Kill()
	return nil, fmt.Errorf("%w\n%s", err, c.Last())
}

// keep runs f on a thread that waits for the end of the process: the kernel sends Pdeathsig when the thread ends that
// started it, and threads of this program do end (package disk).
func (c *Child) keep(f func()) {
	done := make(chan struct{})
	go func() { // ends with the process
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		f()
		close(done)
		<-c.Done
	}()
	<-done
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

func (c *Child) read(out io.Reader, log io.Writer, heard func(Line)) {
	defer close(c.Done)
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
		l, ok := Parse(text)
		if !ok {
			continue
		}
		if !isReady && strings.HasPrefix(l.Text, readyLine) {
			isReady = true
			close(c.ready)
		}
		heard(l)
	}
	_, _ = io.Copy(io.Discard, out) // behind a line that is too long
	_ = c.cmd.Wait()                // the state says how
}

// Last are the last lines of the log.
func (c *Child) Last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.tail, "\n")
}

func (c *Child) PID() int { return c.cmd.Process.Pid }

// Running reports whether the process has not ended.
func (c *Child) Running() bool {
	select {
	case <-c.Done:
		return false
	default:
		return true
	}
}

// Stop asks the process to end and returns its exit code; -1 = by a signal.
func (c *Child) Stop(ctx context.Context) (int, error) {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop holdfast: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-c.Done:
		return c.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("stop holdfast: %w", context.Cause(ctx))
	}
}

// Kill is kill -9, and waits for the end. A process that has ended already is left alone.
func (c *Child) Kill() {
	if c.Running() {
		_ = c.cmd.Process.Kill() // it may have ended this moment
		<-c.Done
	}
}

// Signal sends the process a signal.
func (c *Child) Signal(s syscall.Signal) error { return c.cmd.Process.Signal(s) }
