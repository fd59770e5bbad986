// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A memory cgroup of the test's own stands below the one the test runs in, so that whatever bounds the test bounds what
// is in it, too. A watchdog removes it (cgroup_roles_test.go).

// cgroup is a memory cgroup of version 1 or 2.
type cgroup struct {
	t   *testing.T
	dir string
	v2  bool
}

// newCgroup makes one that lasts as long as the test. Where there can be none the test is skipped.
func newCgroup(t *testing.T) *cgroup {
	t.Helper()
	c := &cgroup{t: t}
	if err := c.create(); err != nil {
		line := "SKIP oom: missing memory cgroup: " + err.Error()
		if os.Getenv("HOLDFAST_NO_SKIP") == "1" {
			t.Fatal(line)
		}
		t.Skip(line)
	}
	return c
}

func (c *cgroup) create() error {
	parent, err := memoryCgroup()
	if err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp(parent, fmt.Sprintf("holdfast-e2e-%d-", os.Getpid())); err != nil {
		return err
	}
	c.v2 = isV2(c.dir)
	if err := c.watch(); err != nil {
		return errors.Join(err, os.Remove(c.dir))
	}
	// Swap would put off what is waited for. Version 2 has no such file where there is no swap.
	if c.v2 {
		_ = c.write("memory.swap.max", "0")
	} else {
		_ = c.write("memory.swappiness", "0")
	}
	if err := c.setLimit(1 << 30); err != nil {
		return err
	}
	if _, err := c.kills(); err != nil {
		return err
	}
	// sh is what puts processes into it, and must be let.
	if out, err := c.command("true").CombinedOutput(); err != nil {
		return fmt.Errorf("a process in %s: %w: %s", c.dir, err, out)
	}
	return nil
}

// memoryCgroup is where a child can be made: the own cgroup of version 1, or the lowest one of version 2 on the way up
// that gives its children the memory controller.
func memoryCgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	own := "" // of version 2
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if strings.Contains(","+fields[1]+",", ",memory,") {
			dir := filepath.Join("/sys/fs/cgroup/memory", fields[2])
			if _, err := os.Stat(dir); err != nil {
				dir = "/sys/fs/cgroup/memory" // in a container the path is the host's
			}
			return dir, nil
		}
		if fields[0] == "0" {
			own = fields[2]
		}
	}
	for dir := filepath.Join("/", own); own != ""; dir = filepath.Dir(dir) {
		full := filepath.Join("/sys/fs/cgroup", dir)
		if given, err := os.ReadFile(filepath.Join(full, "cgroup.subtree_control")); err == nil &&
			strings.Contains(" "+strings.TrimSpace(string(given))+" ", " memory ") {
			return full, nil
		}
		if dir == "/" {
			break
		}
	}
	return "", fmt.Errorf("/proc/self/cgroup names none of version 1, and none above us gives it to its children: %q", text)
}

// isV2 says whether a cgroup is one of version 2, by a file that only these have.
func isV2(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.controllers"))
	return err == nil
}

// command is a program that is in the cgroup from its first byte on, and there the first to be killed.
func (c *cgroup) command(args ...string) *exec.Cmd {
	const enter = `echo 1000 >/proc/self/oom_score_adj && echo 0 >"$0" && exec "$@"`
	return exec.Command("/bin/sh", append([]string{"-c", enter, filepath.Join(c.dir, "cgroup.procs")}, args...)...)
}

// start runs the product inside, as start does outside.
func (c *cgroup) start(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := c.command(append([]string{binary}, args...)...)
	cmd.Env = append(os.Environ(), "HOLDFAST_STATE_DIR="+t.TempDir())
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "GOMEMLIMIT=") })
	p := &process{t: t, cmd: cmd, done: make(chan struct{}), lines: make(chan struct{})}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", strings.Join(args, " "), p.output())
		}
	})
	return p
}

// setLimit bounds what everything in it uses, the system's page cache for it included. Version 1 refuses (EBUSY) a limit
// that is below what cannot be reclaimed, version 2 kills for it.
func (c *cgroup) setLimit(bytes int64) error {
	name := "memory.limit_in_bytes"
	if c.v2 {
		name = "memory.max"
	}
	return c.write(name, strconv.FormatInt(bytes, 10))
}

// kills is how many processes the system has killed in it because memory was short.
func (c *cgroup) kills() (int64, error) {
	if c.v2 {
		return c.field("memory.events", "oom_kill")
	}
	return c.field("memory.oom_control", "oom_kill")
}

// pressed is how often something had to be reclaimed because the limit was met.
func (c *cgroup) pressed() int64 {
	if c.v2 {
		return c.number(c.field("memory.events", "max"))
	}
	return c.number(c.field("memory.failcnt", ""))
}

// used is what counts against the limit, kept the part of it that belongs to processes, in bytes.
func (c *cgroup) used() int64 {
	if c.v2 {
		return c.number(c.field("memory.current", ""))
	}
	return c.number(c.field("memory.usage_in_bytes", ""))
}

func (c *cgroup) kept() int64 {
	if c.v2 {
		return c.number(c.field("memory.stat", "anon"))
	}
	return c.number(c.field("memory.stat", "rss"))
}

func (c *cgroup) number(n int64, err error) int64 {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// field reads the number behind a word, or the only one.
func (c *cgroup) field(name, word string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		key, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" && !found {
			return strconv.ParseInt(key, 10, 64)
		}
		if word != "" && key == word {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no number %q: %q", name, word, text)
}

func (c *cgroup) write(name, text string) error {
	return os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0)
}
