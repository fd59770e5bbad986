// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	// clockTick is the unit of CPU time in /proc; the kernel's interface fixes it on every platform Go runs on.
	clockTick = 10 * time.Millisecond
	// logTail is how much of a collector's log is kept to show when it goes wrong.
	logTail = 4 << 10
)

// A process is one collector that runs.
type process struct {
	cmd     *exec.Cmd
	in      string // where it listens
	metrics string // where its own metrics are
	log     *tail
	done    chan struct{}
	err     error // of its end; read after done
}

// launch starts a system with a configuration in dir and waits until it accepts connections.
func launch(ctx context.Context, s system, configuration []byte, dir string, sinks []string, logs bool) (*process, error) {
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, configuration, 0o600); err != nil {
		return nil, err
	}
	in, err := freeAddr()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(metrics)

	p := &process{in: in, metrics: metrics, log: &tail{through: logs}, done: make(chan struct{})}
	p.cmd = exec.Command(s.binary, append([]string{"--config", file}, s.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), "BENCH_IN="+in, "BENCH_METRICS_PORT="+port, "BENCH_DIR="+dir,
		"HOLDFAST_STATE_DIR="+filepath.Join(dir, "state"))
	for i, a := range sinks {
		p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("BENCH_SINK_%d=%s", i+1, a))
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing outlives the driver
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("%w\n%s", err, p.log)
	}
	return p, nil
}

// ready waits for the port: both systems open their receivers last.
func (p *process) ready(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", p.in); err == nil {
			return c.Close()
		}
		select {
		case <-limit.Done():
			return fmt.Errorf("does not listen on %s: %w", p.in, limit.Err())
		case <-p.done:
			return fmt.Errorf("ended before it listened: %w", errors.Join(p.err))
		case <-tick.C:
		}
	}
}

// usage is what the process has used since it started.
type usage struct {
	cpu      time.Duration // user and system
	resident int64         // bytes, now
	peak     int64         // bytes, the most there was
	written  int64         // bytes, to storage
	read     int64         // bytes, from storage
}

func (p *process) usage() (usage, error) {
	var u usage
	dir := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, err
	}
	// The second field is a name in parentheses and may hold anything; fields 14 and 15 are user and system time.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return u, fmt.Errorf("%sstat: %d fields", dir, len(fields))
	}
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("%sstat: %w", dir, err)
		}
		u.cpu += time.Duration(ticks) * clockTick
	}
	values := map[string]int64{}
	for _, name := range []string{"status", "io"} {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			return u, err
		}
		for line := range strings.Lines(string(text)) {
			key, rest, _ := strings.Cut(line, ":")
			if w := strings.Fields(rest); len(w) > 0 {
				values[key], _ = strconv.ParseInt(w[0], 10, 64)
			}
		}
	}
	u.resident, u.peak = values["VmRSS"]<<10, values["VmHWM"]<<10
	u.written, u.read = values["write_bytes"], values["read_bytes"]
	if u.resident == 0 || u.peak == 0 {
		return u, fmt.Errorf("%sstatus tells no memory", dir)
	}
	return u, nil
}

// stop ends the process as an operator would, and waits for its end.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself; then done is closed
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("did not stop within %s\n%s", stopTimeout, p.log)
	}
}

// freeAddr is a loopback address nobody listened on a moment ago.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// tail keeps the end of a log.
type tail struct {
	through bool
	mu      struct {
		sync.Mutex
		text []byte
	}
}

func (t *tail) Write(b []byte) (int, error) {
	if t.through {
		os.Stderr.Write(b)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.text = append(t.mu.text, b...)
	if over := len(t.mu.text) - logTail; over > 0 {
		t.mu.text = t.mu.text[over:]
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.mu.text)
}
