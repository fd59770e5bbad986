// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Fault: D2. Writes go well and syncs fail, as the disk below the file system says. Nothing that was not synced is
// acknowledged, no file whose sync failed is synced again (that would succeed), and what was acknowledged is there.
func TestSyncErrorFromARealDisk(t *testing.T) {
	needDisks(t, "sync error")
	t.Run("the disk dies", dyingDisk)
	t.Run("the disk is smaller than it says", smallDisk)
}

// dyingDisk puts the file system on an image in another one, and cuts that one off: from then on each write to the
// device is an error.
func dyingDisk(t *testing.T) {
	outer := newVolume(t, 256)
	image := filepath.Join(outer.at, "image")
	outer.mount()
	inner := volumeIn(t, place(t), image, 128)
	if err := command("fallocate", "-l", "128MiB", image); err != nil {
		t.Fatal(err)
	}
	o := working(filepath.Join(inner.at, "queue"), true)
	o.Syncs, o.Inventory, o.Consumers["far"] = true, true, "most"
	s := newStory(o)
	rounds, condemned := often(t, "HOLDFAST_CUTS", 3, 1), 0
	for range rounds {
		inner.mount("errors=continue")
		p := launch(t, o, s)
		p.await("told ")
		p.acks(100)
		p.tell("consume off")
		p.acks(200)
		mark := p.mark()
		s.unplug() // no sync that begins now says anything
		outer.cut()
		p.refusals(20)
		p.await("event 2 state ", mark)
		if _, at := p.heard("event 2 condemned ", mark); at >= 0 {
			condemned++ // else it was just between two segments
		}
		if state, _ := p.show(); !strings.HasPrefix(state, "broken ") {
			t.Errorf("state %s", state)
		}
		p.tell("consume on")
		p.resolves(100) // from memory
		_, sum := p.show()
		for _, wrong := range append(unbalanced(sum.Books, s.forgiven()...), p.complaints()...) {
			t.Error(wrong)
		}
		if again := p.syncedAgain(); len(again) > 0 {
			t.Errorf("synced again after a failure: %v", again)
		}
		p.kill()
		s.ended(crash{refused: true, power: true})
		inner.unmount()
		outer.unmount()
		outer.mount()
		inner.check()
		s.report(t)
	}
	inner.mount()
	settle(t, o, s)
	s.report(t)
	inner.unmount()
	t.Logf("a sync or write of a segment failed in %d of %d rounds; %s", condemned, rounds, s.count())
	if rounds >= 3 && condemned == 0 {
		t.Error("this run shows nothing: no sync failed")
	}
}

// smallDisk puts the image on a tmpfs that has no room for all of it: blocks that the file system has allocated cannot be
// written, which shows at the sync, if at all. When the tmpfs has no page left, this disk lies: a write that gets half of
// its pages is a good one to the loop driver. So what is acknowledged from then on may be lost, and only that.
func smallDisk(t *testing.T) {
	dir := place(t)
	small := filepath.Join(dir, "tmpfs")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountTmpfs(small, 24); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmountWithin(small, unmountTime); err != nil {
			t.Error(err)
		}
	})
	v := volumeIn(t, dir, filepath.Join(small, "image"), 128)
	v.mount("errors=continue")
	o := working(filepath.Join(v.at, "queue"), true)
	o.Syncs, o.Consumers, o.Backlog = true, map[string]string{"near": "all"}, 0
	s := newStory(o)
	p := launch(t, o, s)
	p.opened()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for free := int64(1); free > 0; <-tick.C { // one page is enough for half of a write
		var st unix.Statfs_t
		if err := unix.Statfs(small, &st); err != nil {
			t.Fatal(err)
		}
		free = int64(st.Bfree)*st.Bsize/mib - 1
	}
	s.unplug()
	p.await("event 2 condemned ")
	p.refusals(20)
	if state, _ := p.show(); strings.HasPrefix(state, "ok ") {
		t.Errorf("state %s", state)
	}
	for _, line := range p.complaints() {
		t.Error(line)
	}
	p.kill()
	if again := p.syncedAgain(); len(again) > 0 {
		t.Errorf("synced again after a failure: %v", again)
	}
	s.ended(crash{refused: true, power: true, lies: true})
	v.unmount()
	// The disk gets what it promised.
	if err := unix.Mount("", small, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", 256*mib)); err != nil {
		t.Fatal(err)
	}
	v.check()
	v.mount()
	inventory(t, o, s)
	s.report(t)
	v.unmount()
	t.Log(s.count())
}

// ended says how the last life ended.
func (s *story) ended(how crash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes[s.life] = how
}

// check repairs a file system that is not mounted, as a start after a crash does.
func (v *volume) check() {
	v.t.Helper()
	if err := command("sh", "-c", `e2fsck -p "$1" || [ $? = 1 ]`, "sh", v.image); err != nil { // 1: corrected
		v.t.Fatal(err)
	}
}

// syncedAgain lists the segments of which a sync succeeded after one had failed.
func (p *process) syncedAgain() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	failed := map[string]int64{}
	for _, s := range p.syncs {
		if at, ok := failed[s.file]; ok && s.end > 0 && s.start > at {
			names = append(names, s.file)
		}
		if s.end > 0 && !s.ok {
			failed[s.file] = s.end
		}
	}
	return names
}
