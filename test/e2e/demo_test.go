// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// The whole demo, short: everything it is there to show happens, in its order, the ledger passes, and what was kept can
// be judged again.
func TestTheDemoPlaysAnOutageAndTheLedgerCloses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "outage")
	p := start(t, "demo", "--seconds", "10", "--dir", dir, "--keep", "--status", "127.0.0.1:0")
	url := p.await(`the page: (http://127\.0\.0\.1:\d+)/`)[1]
	p.await("load: 6,000 items/s")
	eventually(t, "the picture and the status are served", func() bool { return servesStatus(url) })
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	rest := p.output()
	for _, words := range []string{
		"control run without an outage: pass",
		"-- 1 of 6: all well", "=> primary        healthy",
		"-- 2 of 6", "the secondary has its first items", "level is down, data goes to the next level", "=> secondary ",
		"-- 3 of 6: kill -9", "is dead", "is ready", "data flows again",
		"-- 4 of 6", "data goes to the emergency file", "=> emergency file",
		"-- 5 of 6", "level is back", "all signals are home",
		"-- 6 of 6", "queue empty, nothing parked", "=> primary ",
		"lost 0 ", "difference 0", "holdfast restart", "primary refuse", "secondary refuse", "PASS",
	} {
		_, after, found := strings.Cut(rest, words)
		if !found {
			t.Errorf("%q is not said, or not in its turn", words)
			continue
		}
		rest = after
	}
	// These come when they come.
	for _, words := range []string{"emergency file in use: ", "backfill begins: ", "backfill ends: ", "emergency file repaid",
		"queue opened again: "} {
		if !strings.Contains(p.output(), words) {
			t.Errorf("%q is not said", words)
		}
	}
	for _, words := range []string{"DOUBT", " FAIL"} {
		if strings.Contains(p.output(), words) {
			t.Errorf("%q is said", words)
		}
	}
	again := runOnce(t, "", nil, "ledger", "verify", filepath.Join(dir, "outage", "notes"), "--metrics",
		filepath.Join(dir, "outage", "metrics.txt"), "--control-run", filepath.Join(dir, "control", "notes"), "--max-duplicates", "10000")
	if again.code != 0 {
		t.Errorf("judged again: exit code %d\n%s%s", again.code, again.stdout, again.stderr)
	}
	noChildren(t, p.output())
}

func servesStatus(url string) bool {
	for path, holds := range map[string]string{"/": "<title>Holdfast</title>", "/status.json": ""} {
		resp, err := http.Get(url + path)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var text strings.Builder
		var s status.Status
		if holds == "" {
			if json.NewDecoder(resp.Body).Decode(&s) != nil || len(s.Failover) != 3 {
				return false
			}
		} else if resp.Write(&text) != nil || !strings.Contains(text.String(), holds) {
			return false
		}
	}
	return true
}

// noChildren checks that every collector the demo named has ended.
func noChildren(t *testing.T, output string) {
	t.Helper()
	found := 0
	for line := range strings.Lines(output) {
		_, rest, named := strings.Cut(line, "holdfast is process ")
		if !named {
			if _, rest, named = strings.Cut(line, "  process "); !named {
				continue
			}
		}
		pid, err := strconv.Atoi(rest[:strings.IndexAny(rest, "; ")])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		found++
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
	if found == 0 {
		t.Error("the demo names no process")
	}
}

func TestADemoThatIsInterruptedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	p := startWith(t, []string{"TMPDIR=" + tmp}, "demo", "--seconds", "60")
	p.await("-- 1 of 6")
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 3 {
		t.Errorf("exit code %d", code)
	}
	p.await("interrupted")
	noChildren(t, p.output())
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestADemoNeedsTimeAndADirectoryOfItsOwn(t *testing.T) {
	t.Parallel()
	if o := runOnce(t, "", nil, "demo", "--seconds", "3"); o.code != 1 || !strings.Contains(o.stderr, "too short") {
		t.Errorf("3 seconds: %+v", o)
	}
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := runOnce(t, "", nil, "demo", "--dir", dir); o.code != 3 || !strings.Contains(o.stderr, "not empty") {
		t.Errorf("somebody's directory: %+v", o)
	}
	if _, err := os.Stat(mine); errors.Is(err, fs.ErrNotExist) {
		t.Error("a file of somebody else is gone")
	}
}
