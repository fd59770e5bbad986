// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Fault: D9. The directory is mounted read-only under a running process, as far as a system does that while files are
// open for writing: what is open can be written, nothing new can be made. It refuses and says why, delivers, and comes
// back by itself.
func TestRemountReadOnly(t *testing.T) {
	needDisks(t, "read-only disk")
	modes(t, func(t *testing.T, synced bool) {
		v := newVolume(t, 96)
		v.mount()
		o := working(filepath.Join(v.at, "queue"), synced)
		o.Consumers["far"] = "most"
		s := newStory(o)
		p := launch(t, o, s)
		p.opened()
		if err := command("mount", "-o", "remount,ro", v.at); err == nil {
			t.Error("the system remounts a busy disk read-only; then this test can be simpler")
		}
		for range 2 {
			p.tell("consume off")
			p.acks(300)
			mark := p.mark()
			back := v.readOnly(o.Dir)
			p.refusals(50)
			if line := p.await("event 2 state ", mark); !strings.Contains(line, "read-only file system") {
				t.Errorf("the alarm does not say why: %s", line)
			}
			p.tell("consume on")
			p.resolves(100)
			back()
			began := time.Now()
			p.acks(50)
			t.Logf("50 records were acknowledged %s after it could be written again", time.Since(began).Round(time.Millisecond))
			p.await("event 0 state ", mark)
		}
		_, sum := p.show()
		for _, wrong := range append(unbalanced(sum.Books, s.forgiven()...), p.complaints()...) {
			t.Error(wrong)
		}
		p.kill()
		v.unmount()
		v.mount()
		settle(t, o, s)
		s.report(t)
		t.Log(s.count())
	})
}

// readOnly mounts the directory over itself, read-only. Files that are open stay as they are.
func (v *volume) readOnly(dir string) (back func()) {
	v.t.Helper()
	tellWatchdog("mounted", dir)
	if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""),
		unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")); err != nil {
		v.t.Fatal(err)
	}
	over := false
	back = func() {
		v.t.Helper()
		if over {
			return
		}
		over = true
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // it reads through it
			v.t.Fatal(err)
		}
		tellWatchdog("gone", dir)
	}
	v.t.Cleanup(back)
	return back
}

// Fault: D9. The file system meets an error and makes itself read-only, which is how a disk becomes so under a process.
// Nothing can be written any more, open or not, until it is repaired: what was acknowledged is there then.
func TestFileSystemErrorMakesItReadOnly(t *testing.T) {
	needDisks(t, "file system error")
	v := newVolume(t, 96)
	o := working(filepath.Join(v.at, "queue"), true)
	o.Consumers["far"] = "most"
	s := newStory(o)
	for round := range often(t, "HOLDFAST_CUTS", 3, 1) {
		v.mount("errors=remount-ro")
		o.Inventory = true
		p := launch(t, o, s)
		p.await("told ")
		p.tell("consume off")
		p.acks(200)
		mark := p.mark()
		s.unplug() // what it has written and not synced goes nowhere
		v.breakIt()
		p.refusals(30)
		p.await("event 2 state ", mark)
		if state, _ := p.show(); !strings.HasPrefix(state, "broken ") {
			t.Errorf("round %d: state %s", round, state)
		}
		p.tell("consume on")
		p.resolves(30)
		_, sum := p.show()
		for _, wrong := range append(unbalanced(sum.Books, s.forgiven()...), p.complaints()...) {
			t.Error(wrong)
		}
		p.kill()
		s.ended(crash{refused: true, power: true})
		v.unmount()
		v.check()
		s.report(t)
		if round%5 == 4 { // nothing is resolved for good on a disk that is gone: it would wait until nobody appends any more
			v.mount()
			settle(t, o, s)
			v.unmount()
		}
	}
	v.mount()
	settle(t, o, s)
	s.report(t)
	t.Log(s.count())
}

// breakIt makes the file system find an error in itself.
func (v *volume) breakIt() {
	v.t.Helper()
	device := v.device()
	if !strings.HasPrefix(device, "loop") { // nobody else's
		v.t.Fatalf("%s is on %s", v.at, device)
	}
	name := filepath.Join("/sys/fs/ext4", device, "trigger_fs_error")
	if err := os.WriteFile(name, []byte("test"), 0); err != nil {
		skip(v.t, "file system error", "a file system that can be told to have one: "+err.Error())
	}
}
