// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Two roles this binary plays beside a test with a cgroup. The watchdog, in a process group of its own, ends what is in
// the cgroup and removes it: when it is told to, when the test has died, or when it has been there for too long. The
// neighbour lives in the cgroup and eats its memory.

const (
	// The roles are asked for by the environment, with the cgroup's directory as the value, and looked at before
	// TestMain, which builds the product.
	watchdogMark = "HOLDFAST_E2E_CGROUP"
	eaterMark    = "HOLDFAST_E2E_EAT"

	cgroupTime  = 15 * time.Minute // how long a cgroup may be there
	removalTime = 10 * time.Second // how long the dead may take to leave it
	maxEaten    = 1 << 30          // bytes; more than any limit here
)

func init() {
	if dir := os.Getenv(watchdogMark); dir != "" {
		os.Exit(guardCgroup(dir))
	}
	if dir := os.Getenv(eaterMark); dir != "" {
		os.Exit(eatMemory(&cgroup{dir: dir, v2: isV2(dir)}))
	}
}

// watch starts the watchdog, and has it remove the cgroup at the end of the test.
func (c *cgroup) watch() error {
	dog := exec.Command(os.Args[0])
	dog.Env = append(os.Environ(), watchdogMark+"="+c.dir)
	dog.Stderr = os.Stderr
	dog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := dog.StdinPipe()
	if err != nil {
		return err
	}
	if err := dog.Start(); err != nil {
		return err
	}
	c.t.Cleanup(func() {
		_ = in.Close()
		if err := dog.Wait(); err != nil {
			c.t.Errorf("the watchdog of %s: %v", c.dir, err)
		}
	})
	return nil
}

// guardCgroup is the watchdog's main.
func guardCgroup(dir string) int {
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, os.Stdin) // to its end: the test says so, or is dead
	}()
	select {
	case <-end:
	case <-time.After(cgroupTime):
		fmt.Fprintf(os.Stderr, "watchdog: %s is older than %s\n", dir, cgroupTime)
	}
	var err error
	tick := time.NewTicker(20 * time.Millisecond)
	for until := time.Now().Add(removalTime); time.Now().Before(until); <-tick.C {
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if err = syscall.Rmdir(dir); err == nil {
			return 0
		}
	}
	fmt.Fprintf(os.Stderr, "watchdog: remove %s: %v\n", dir, err)
	return 1
}

// eat starts a neighbour in the cgroup that takes memory until somebody is killed for it, and keeps what it has until the
// function it returns is called. The killer prefers whoever came through command; where the memory of the dead is slow to
// come back it may take the neighbour, too, and that is what the function returns.
func (c *cgroup) eat() (full func() (killed bool)) {
	c.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `echo 0 >"$0" && exec "$@"`, filepath.Join(c.dir, "cgroup.procs"), os.Args[0])
	cmd.Env = append(os.Environ(), eaterMark+"="+c.dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return func() bool {
		c.t.Helper()
		_ = in.Close()
		if err := cmd.Wait(); err == nil {
			return false
		} else if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			c.t.Fatalf("the neighbour that ate the memory: %v", err)
		}
		return true
	}
}

// eatMemory is that neighbour's main.
func eatMemory(c *cgroup) int {
	before, err := c.kills()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, err := unix.Mmap(-1, 0, maxEaten, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for at := 0; at < len(b); at += os.Getpagesize() {
		b[at] = 1
		// Looked at often: more than the dead leave behind would be the neighbour's own end.
		if at%(256<<10) == 0 {
			if now, err := c.kills(); err != nil || now > before {
				break
			}
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}
