// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// endTime is how long a process has to end when it is asked to.
	endTime = 40 * time.Second
	// Of a log the last tailLines are shown when something went wrong, each cut at lineBytes.
	tailLines, lineBytes = 8, 240
)

// A child is one process of a run. Its log goes to a file.
type child struct {
	cmd  *exec.Cmd
	name string
	log  string
	out  bytes.Buffer // what it printed; read after done
	done chan struct{}
	err  error // of its end; read after done
}

// spawn starts a process; env is added to the environment.
func spawn(dir, name, binary string, args, env []string) (*child, error) {
	c := &child{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	c.cmd = exec.Command(binary, args...)
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, log
	// Nothing outlives the driver, and an interrupt at the terminal is the driver's alone.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(c.done)
		c.err = c.cmd.Wait()
	}()
	return c, nil
}

// end sends a signal and waits until the process has ended. Who does not end in time is killed.
func (c *child) end(ctx context.Context, s syscall.Signal) error {
	_ = c.cmd.Process.Signal(s) // it may have ended by itself; then done is closed
	limit, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	select {
	case <-c.done:
		return nil
	case <-limit.Done():
		c.kill()
		return fmt.Errorf("%s did not end within %s", c.name, endTime)
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	<-c.done
}

// ended reports whether the process has ended.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
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

// tail is the end of a file.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	for i, l := range lines {
		lines[i] = l[:min(len(l), lineBytes)]
	}
	return strings.Join(lines, "\n")
}

// guarded is a list of children that are killed when a run ends, however it ends.
type guarded struct {
	mu   sync.Mutex
	list []*child
}

func (g *guarded) add(c *child) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, c)
}

func (g *guarded) killAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.list {
		c.kill()
	}
}
