// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const fifreeze = 0xc0045877 // FIFREEZE

// Fault: D3. The disk answers nothing for a while. Nothing is acknowledged meanwhile, memory stays bounded, whoever finds
// no room to wait in is told to come back; deliveries from memory go on. When the disk answers again, so do we.
func TestStalledDiskAcknowledgesNothing(t *testing.T) {
	needDisks(t, "stalled disk")
	modes(t, func(t *testing.T, synced bool) {
		v := newVolume(t, 512)
		v.mount()
		o := working(filepath.Join(v.at, "queue"), synced)
		o.SegmentKiB, o.CapMiB, o.CacheMiB, o.Size, o.Appenders, o.Backlog = 8<<10, 400, 64, 512<<10, 128, 100
		o.Consumers = map[string]string{"near": "all", "far": "all"}
		s := newStory(o)
		p := launch(t, o, s)
		p.opened()
		p.acks(100)
		thaw := v.freeze()
		// What was written is in memory, and what was synced before is answered yet.
		pause(2 * time.Second)
		from := ticks()
		p.refusals(10)
		if last := p.lastAnswer(); !strings.Contains(last, " busy ") {
			t.Errorf("refused with %s, want busy", last)
		}
		pause(3 * time.Second)
		to := ticks()
		if n := s.ackedBetween(from, to); n > 0 {
			t.Errorf("%d records were acknowledged by a disk that does nothing", n)
		}
		thaw()
		began := time.Now()
		p.acks(100)
		t.Logf("%s without the disk, 100 records %s after it came back; at most %d MiB of memory",
			time.Duration(to-from).Round(time.Second), time.Since(began).Round(time.Millisecond), p.memory()/mib)
		// 32 MiB that wait, 32 MiB that are not synced, a record for each appender, 64 MiB of cache; twice for the collector.
		if memory := p.memory(); memory > 2*(32+32+64+64)*mib && !raceDetector {
			t.Errorf("it took %d MiB of memory", memory/mib)
		}
		p.kill()
		settle(t, o, s)
		s.report(t)
		v.unmount()
		t.Log(s.count())
	})
}

// freeze stops all writing to the file system: who writes or syncs waits, and cannot even be killed until thaw.
func (v *volume) freeze() (thaw func()) {
	v.t.Helper()
	dir, err := os.Open(v.at)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(dir.Fd()), fifreeze, 0); err != nil {
		v.t.Fatal(err)
	}
	over := false
	thaw = func() {
		v.t.Helper()
		if over {
			return
		}
		over = true
		if err := unix.IoctlSetInt(int(dir.Fd()), fithaw, 0); err != nil {
			v.t.Error(err)
		}
		_ = dir.Close()
	}
	v.t.Cleanup(thaw)
	return thaw
}

// ackedBetween counts the acknowledgements of a stretch of time, in ticks.
func (s *story) ackedBetween(from, to int64) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.items {
		if at := s.items[i].acked; at >= from && at < to {
			n++
		}
	}
	return n
}
