// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// descriptors sets how many more descriptors a running process may have: none, or as many as before.
func (p *process) descriptors(none bool) {
	p.t.Helper()
	var now unix.Rlimit
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &now); err != nil {
		p.t.Fatal(err)
	}
	now.Cur = now.Max
	if none {
		now.Cur = 0 // those that are open stay
	}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &now, nil); err != nil {
		p.t.Fatal(err)
	}
}

// Fault: P12. A process without descriptors goes on as far as its open files take it: then it refuses, and what is in
// memory is still delivered. Nothing that it could not open counts as lost. With descriptors again it goes on by itself.
func TestOutOfDescriptors(t *testing.T) {
	modes(t, func(t *testing.T, synced bool) {
		o := working(filepath.Join(place(t), "queue"), synced)
		s := newStory(o)
		p := launch(t, o, s)
		p.opened()
		for range often(t, "HOLDFAST_STARVED", 3, 1) {
			p.acks(300)
			mark := p.mark()
			p.descriptors(true)
			p.refusals(50)
			if line := p.await("event 2 state ", mark); !strings.Contains(line, "too many open files") {
				t.Errorf("the alarm does not say why: %s", line)
			}
			if state, _ := p.show(); !strings.HasPrefix(state, "broken ") || !strings.Contains(state, "too many open files") {
				t.Errorf("state %s", state)
			}
			pause(2500 * time.Millisecond) // what it cannot read it tries again, and again
			_, sum := p.show()
			for _, wrong := range unbalanced(sum.Books, s.forgiven()...) {
				t.Error(wrong)
			}
			mark = p.mark()
			p.descriptors(false)
			began := time.Now()
			p.acks(20)
			t.Logf("20 records were acknowledged %s after there were descriptors again", time.Since(began).Round(time.Millisecond))
			p.await("event 0 state ", mark)
			p.resolves(200)
		}
		for _, line := range p.complaints() {
			t.Error(line)
		}
		p.kill()
		settle(t, o, s)
		s.report(t)
		t.Log(s.count())
	})
}

// A process that is started with too few descriptors says so and loses nothing, whichever call it is that fails. One that
// just opened its journal with them works as any other once there are more.
func TestStartWithFewDescriptors(t *testing.T) {
	o := working(filepath.Join(place(t), "queue"), true)
	s := newStory(o)
	backlog(t, o, s, false)
	var refused, opened []int
	for files := 1; len(opened) < 8 && files < 100; files++ {
		few := o
		few.Files, few.Idle, few.Timeout = files, true, time.Second
		p := launch(t, few, s)
		if _, err := p.hope("open ", patience); err != nil {
			refused = append(refused, files)
			if failure, err := p.hope("failed ", patience); err != nil {
				t.Errorf("with %d descriptors: %v", files, err)
			} else if !strings.Contains(failure, "too many open files") {
				t.Errorf("with %d descriptors: %s", files, failure)
			}
			p.exit()
			continue
		}
		opened = append(opened, files)
		pause(300 * time.Millisecond) // it prepares a segment, or cannot
		p.descriptors(false)
		p.tell("append on")
		p.tell("consume on")
		p.acks(100)
		p.resolves(100)
		mark := p.mark()
		pause(1200 * time.Millisecond) // what could not be done before is tried again
		if state, sum := p.show(); !strings.HasPrefix(state, "ok ") {
			t.Errorf("opened with %d descriptors: state %s", files, state)
		} else {
			for _, wrong := range unbalanced(sum.Books, s.forgiven()...) {
				t.Errorf("opened with %d descriptors: %s", files, wrong)
			}
		}
		if line, at := p.heard("event 2 ", mark); at >= 0 {
			t.Errorf("opened with %d descriptors: %s", files, line)
		}
		if behind := s.unwritten(ticks() - int64(time.Second)); len(behind) > 0 {
			t.Errorf("opened with %d descriptors: no slot of %v was written for a second", files, behind)
		}
		p.kill()
	}
	t.Logf("refused with %v descriptors, opened with %v", refused, opened)
	if len(refused) == 0 || len(opened) == 0 {
		t.Error("this shows nothing")
	}
	settle(t, o, s)
	s.report(t)
}

// unwritten are the destinations that resolved something before that moment, in ticks, and have not written a slot since.
func (s *story) unwritten(before int64) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, name := range s.names {
		late := func(n int) bool {
			at := s.items[n].resolved[d]
			return at < before && at > s.slots[name]
		}
		if slices.ContainsFunc(s.doing[name], late) {
			names = append(names, name)
		}
	}
	return names
}
