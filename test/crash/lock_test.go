// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Fault: D11. A directory has one owner. Whoever comes second waits as long as it is told to, names the owner, and has
// touched nothing; when the owner is killed it is the next one's, and nothing is lost on the way.
func TestSecondProcessIsTurnedAway(t *testing.T) {
	o := working(filepath.Join(place(t), "queue"), true)
	s := newStory(o)
	first := launch(t, o, s)
	first.opened()
	first.acks(100)
	first.tell("append off")
	first.tell("consume off")

	second := o
	second.Timeout, second.Appenders, second.Consumers = 500*time.Millisecond, 0, nil
	eventually(t, "the owner is at rest", func() bool { // its slots are written, its segments are prepared
		before := state(t, o.Dir)
		pause(1500 * time.Millisecond) // a slot may be written a second later
		return equal(before, state(t, o.Dir))
	})
	before := state(t, o.Dir)
	began := time.Now()
	p := launch(t, second, nil)
	failure := p.await("failed ")
	took := time.Since(began)
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if pid := strconv.Itoa(first.cmd.Process.Pid); !strings.Contains(failure, o.Dir) || !strings.Contains(failure, "pid "+pid) {
		t.Errorf("it does not name the directory and pid %s: %s", pid, failure)
	}
	if took < 500*time.Millisecond || took > 20*time.Second {
		t.Errorf("it waited %s, 500 ms were asked for", took)
	}
	if _, err := reopen(second); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("opening it beside the owner says %v", err)
	}
	unchanged(t, "by those who were turned away", before, state(t, o.Dir))

	// A stopped owner is an owner.
	first.signal(syscall.SIGSTOP)
	p = launch(t, second, nil)
	if failure := p.await("failed "); !strings.Contains(failure, "in use by") {
		t.Errorf("beside a stopped owner: %s", failure)
	}
	p.exit()
	first.signal(syscall.SIGCONT)
	first.tell("append on")
	first.acks(50)

	// Three wait; the owner is killed; one gets it, and after it the next.
	second.Timeout = patience
	second.Appenders, second.Consumers, second.Inventory = 0, nil, true
	var queued []*process
	for range 3 {
		queued = append(queued, launch(t, second, nil))
	}
	pause(200 * time.Millisecond)
	first.kill()
	killed := time.Now()
	for i := range queued {
		var owner *process
		eventually(t, "one of them opens it", func() bool {
			for _, p := range queued {
				if _, at := p.heard("told ", 0); at >= 0 {
					owner = p
				}
			}
			return owner != nil
		})
		if i == 0 {
			t.Logf("the next owner had it open and read %s after the kill", time.Since(killed).Round(time.Millisecond))
			s.judge(owner.found)
		}
		for _, p := range queued {
			if _, at := p.heard("store", 0); at >= 0 && p != owner {
				t.Errorf("processes %d and %d both have it", owner.cmd.Process.Pid, p.cmd.Process.Pid)
			}
		}
		for _, line := range owner.complaints() {
			t.Error(line)
		}
		owner.kill()
		for at, p := range queued {
			if p == owner {
				queued = append(queued[:at:at], queued[at+1:]...)
				break
			}
		}
	}
	settle(t, o, s)
	s.report(t)
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// Fault: P6. A process that is stopped for a while goes on where it was: what it acknowledged before and after is there
// once, no append fails because of the gap, and its directory stays its own.
func TestStoppedProcessResumes(t *testing.T) {
	modes(t, func(t *testing.T, synced bool) {
		o := working(filepath.Join(place(t), "queue"), synced)
		s := newStory(o)
		p := launch(t, o, s)
		p.opened()
		stops := often(t, "HOLDFAST_STOPS", 5, 2)
		for n := range stops {
			p.acks(100)
			p.signal(syscall.SIGSTOP)
			pause(time.Duration(n+1) * 400 * time.Millisecond)
			before := s.count().acked
			if p.cmd.ProcessState != nil {
				t.Fatal("it ended")
			}
			p.signal(syscall.SIGCONT)
			began := time.Now()
			p.acks(50)
			t.Logf("stop %d: %d acknowledged before, 50 more %s after CONT", n+1, before, time.Since(began).Round(time.Millisecond))
		}
		if n := s.count().refused; n > 0 {
			t.Errorf("%d appends were refused", n)
		}
		for _, line := range append(p.alarms(), p.complaints()...) {
			t.Error(line)
		}
		p.signal(syscall.SIGSTOP)
		p.kill() // also while it is stopped
		if !p.killed() {
			t.Error(errNotKilled)
		}
		settle(t, o, s)
		s.report(t)
		t.Log(s.count())
	})
}
