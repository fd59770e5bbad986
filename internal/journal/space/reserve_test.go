// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func TestTheReserveIsThereWhenTheVolumeIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(mib)
		s := open(t, settings(disk, "/s"))
		put(t, disk, "/others", mib-small-ballast)
		f, err := disk.OpenFile("/slot", vfs.Create, 0o600)
		must(t, err)
		if err := f.Allocate(ballast); !vfs.IsFull(err) {
			t.Fatalf("the volume is not full: %v", err)
		}
		equal(t, "squeezed", s.Squeeze(), true)
		must(t, f.Allocate(ballast))
		equal(t, "RESERVE in the books", s.Snapshot().Reserve, 0)
		equal(t, "squeezed again", s.Squeeze(), false)
		equal(t, "restored on a full volume", s.Restore(), false)
		contains(t, strings.Join(s.Warnings(), "\n"), "/s/RESERVE has not its 65536 bytes yet", "min_free_mib")
		must(t, disk.Remove("/slot"))
		must(t, f.Close())
		put(t, disk, "/more", small)
		equal(t, "restored where a part is free", s.Restore(), false)
		equal(t, "what is left of the attempt", s.Snapshot().Reserve, 0)
		must(t, disk.Remove("/others"))
		must(t, s.Warden())
		time.Sleep(time.Second) // virtual: what was promised for the attempt shows by now
		equal(t, "restored where there is room", s.Restore(), true)
		equal(t, "RESERVE in the books", s.Snapshot().Reserve, ballast)
		equal(t, "warnings", len(s.Warnings()), 0)
		equal(t, "all", s.Snapshot().Total(), allocated(t, disk, "/s"))
	})
}

func TestTheReserveStaysUnderTheCap(t *testing.T) {
	s := open(t, settings(vfs.NewMem(0), "/s"))
	h := s.Share("traces", true)
	fill(t, h, small)
	equal(t, "squeezed", s.Squeeze(), true)
	n, _ := fill(t, h, small)
	equal(t, "what RESERVE left", n*small, ballast)
	equal(t, "restored under a full cap", s.Restore(), false)
	contains(t, strings.Join(s.Warnings(), "\n"), "RESERVE", "max_file_size_mib 4194304 of 4194304")
	h.Gave(ballast)
	equal(t, "restored", s.Restore(), true)
}

func TestTheReserveFollowsItsSize(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, "/s"))
	size := func(want int64) {
		t.Helper()
		info, err := disk.Stat("/s/RESERVE")
		must(t, err)
		equal(t, "RESERVE", info.Allocated, want)
		equal(t, "RESERVE in the books", s.Snapshot().Reserve, want)
	}
	adjust := func(segment int64) {
		t.Helper()
		must(t, s.Adjust(space.Limits{CapBytes: 4 * mib, MinFreeBytes: 1, SegmentBytes: segment, Heads: 1}))
		equal(t, "restored", s.Restore(), true)
	}
	adjust(128 * kib)
	size(128 * kib)
	adjust(512 * kib) // cap/16 is less
	size(256 * kib)
	adjust(16 * kib)
	size(16 * kib)
	must(t, s.Close())
	s = open(t, settings(disk, "/s")) // another size after a restart
	size(ballast)
	must(t, disk.Remove("/s/RESERVE")) // by hand
	must(t, s.Warden())
	equal(t, "RESERVE in the books", s.Snapshot().Reserve, 0)
	equal(t, "restored", s.Restore(), true)
	size(ballast)
}

func TestAReserveThatIsThereCostsNothing(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(0))
	s := open(t, settings(disk, "/s"))
	before, _ := disk.Count("")
	equal(t, "restored", s.Restore(), true)
	if after, _ := disk.Count(""); after != before {
		t.Errorf("%d calls for a RESERVE that is there", after-before)
	}
}

func TestTheReserveHasBlocksWhereTheVolumeCannotAllocate(t *testing.T) {
	for what, rule := range map[string]vfs.Rule{
		"refuses": {Call: "allocate */RESERVE", Err: vfs.ErrUnsupported}, "pretends": {Call: "allocate */RESERVE", Lie: true},
	} {
		mem := vfs.NewMem(0)
		disk := vfs.NewFaulty(mem, rule)
		set := settings(disk, "/s")
		set.SegmentBytes, set.CapBytes = 3*mib/2, 64*mib
		open(t, set)
		info, err := mem.Stat("/s/RESERVE")
		must(t, err)
		if disk.Hits() != 1 || info.Size != 3*mib/2 || info.Allocated != 3*mib/2 {
			t.Errorf("a volume that %s: %d bytes with %d allocated, %d faults", what, info.Size, info.Allocated, disk.Hits())
		}
	}
}

func TestHalfAReserveIsNotKept(t *testing.T) {
	mem := vfs.NewMem(0)
	disk := vfs.NewFaulty(mem, vfs.Rule{Call: "allocate */RESERVE", Err: vfs.ErrUnsupported},
		vfs.Rule{Call: "write */RESERVE", Err: syscall.ENOSPC, Room: 2 * mib})
	set := settings(disk, "/s")
	set.SegmentBytes, set.CapBytes = 4*mib, 64*mib
	s := open(t, set)
	info, err := mem.Stat("/s/RESERVE")
	if err != nil || info.Allocated != 0 || disk.Hits() != 2 {
		t.Errorf("%d bytes are kept, %v, %d faults", info.Allocated, err, disk.Hits())
	}
	equal(t, "RESERVE in the books", s.Snapshot().Reserve, 0)
}

func TestAFaultAtTheReserveIsTriedAgain(t *testing.T) {
	for _, call := range []string{"create */RESERVE", "allocate */RESERVE", "fstat */RESERVE", "usage /s", "stat /s/LOCK"} {
		mem := vfs.NewMem(0)
		must(t, open(t, settings(mem, "/s")).Close())
		must(t, mem.Remove("/s/RESERVE"))
		disk := vfs.NewFaulty(mem)
		s := open(t, settings(disk, "/s"))
		must(t, mem.Remove("/s/RESERVE"))
		must(t, s.Warden())
		disk.Plan(vfs.Rule{Call: call, Err: syscall.EIO})
		if s.Restore() || disk.Hits() == 0 || len(s.Warnings()) != 1 {
			t.Errorf("%s fails: restored, or not told: %q", call, s.Warnings())
		}
		equal(t, "what a failed attempt leaves", s.Snapshot().Total(), allocated(t, mem, "/s"))
		disk.Plan()
		equal(t, "restored", s.Restore(), true)
		equal(t, "warnings", len(s.Warnings()), 0)
		equal(t, "all", s.Snapshot().Total(), allocated(t, mem, "/s"))
	}
	mem := vfs.NewMem(0)
	disk := vfs.NewFaulty(mem)
	s := open(t, settings(disk, "/s"))
	for _, call := range []string{"open */RESERVE", "fstat */RESERVE", "truncate */RESERVE"} {
		disk.Plan(vfs.Rule{Call: call, Err: syscall.EIO})
		equal(t, "squeezed although "+call+" fails", s.Squeeze(), false)
		equal(t, "RESERVE", s.Snapshot().Reserve, ballast)
	}
	disk.Plan(vfs.Rule{Call: "datasync */RESERVE", Err: syscall.ENOSPC})
	equal(t, "squeezed", s.Squeeze(), true)
}

func TestADirectoryNamedReserveIsNotOurs(t *testing.T) {
	disk := vfs.NewMem(0)
	must(t, disk.Mkdir("/s", 0o750))
	must(t, disk.Mkdir("/s/RESERVE", 0o750))
	put(t, disk, "/s/RESERVE/file", 64*kib)
	s := open(t, settings(disk, "/s"))
	equal(t, "foreign", s.Snapshot().Foreign, 64*kib)
	equal(t, "RESERVE", s.Snapshot().Reserve, 0)
	equal(t, "warnings", len(s.Warnings()), 1)
	equal(t, "squeezed", s.Squeeze(), false)
}
