// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// fill takes pieces of n bytes until that is denied, and says how many.
func fill(t *testing.T, h *space.Share, n int64) (pieces int64, err error) {
	t.Helper()
	for ; pieces < 1<<16; pieces++ {
		if err := h.Room(n); err != nil {
			return pieces, err
		}
	}
	t.Fatal("no limit holds")
	return 0, nil
}

// With a cap of 4 MiB, 64 KiB of RESERVE, 4 KiB of LOCK and two heads a share is 1 MiB.
const (
	share   = mib
	small   = 4 * kib
	ballast = 64 * kib
)

func TestSharesKeepHealthyPipelinesOpen(t *testing.T) {
	s := open(t, settings(vfs.NewMem(0), dir))
	logs, traces, tail := s.Share("logs", true), s.Share("traces", true), s.Share("gone", false)
	must(t, traces.Room(small))
	n, err := fill(t, logs, small) // its backend is dead
	taken := n * small
	equal(t, "what the dead one gets", taken, 4*mib-small-ballast-share)
	full(t, err, "max_file_size_mib", 4*mib, 4*mib)
	if err := tail.Room(small); err == nil {
		t.Error("a tail takes the healthy one's share")
	}
	equal(t, "the dead one's excess", logs.Over(), taken-share)
	equal(t, "the healthy one's", traces.Over(), small-share)

	n, _ = fill(t, traces, small)
	equal(t, "what the healthy one gets", small+n*small, share)
	full(t, traces.Room(small), "max_file_size_mib", 4*mib, 4*mib)

	traces.Gave(share) // delivered; its share is kept for it
	if err := logs.Room(small); err == nil {
		t.Error("the dead one takes what the healthy one gave")
	}
	logs.Gave(small)
	must(t, logs.Room(small))
	idle := s.Share("idle", true)
	if err := logs.Room(small); err == nil {
		t.Error("the dead one takes what is kept for an idle one")
	}
	idle.Close() // nothing is kept for it any more
	logs.Gave(small)
	must(t, logs.Room(small))
	logs.Close() // it was removed by a reload: nothing is kept for it, what it has counts
	must(t, traces.Room(share))
	if err := traces.Room(small); err == nil {
		t.Error("what a closed journal left on disk does not count")
	}
}

func TestOneJournalMayHaveAllThatIsNotKeptForOthers(t *testing.T) {
	s := open(t, settings(vfs.NewMem(0), dir))
	only := s.Share("traces", true)
	n, err := fill(t, only, small)
	equal(t, "what one gets", n*small, 4*mib-small-ballast)
	full(t, err, "max_file_size_mib", 4*mib, 4*mib)
	equal(t, "its excess", only.Over(), n*small-share)
	only.Gave(n * small)
	s.Share("logs", true)
	n, _ = fill(t, only, small)
	equal(t, "beside another head", n*small, 4*mib-small-ballast-share)
	equal(t, "what is used", only.Used(), n*small)
	if again := s.Share("logs", false); again.Over() != 0 { // a reload made a tail of it
		t.Errorf("a tail without data is %d above its share", again.Over())
	}
	n, _ = fill(t, only, small)
	equal(t, "more beside a tail", n*small, share)
}

func TestLargeSegmentsMakeLargeShares(t *testing.T) {
	set := settings(vfs.NewMem(0), dir)
	set.SegmentBytes, set.CapBytes = mib, 8*mib
	set.Heads = 2
	s := open(t, set)
	hog := s.Share("logs", true)
	s.Share("traces", true)
	n, _ := fill(t, hog, small)
	// cap / (2 * heads) is 2 MiB, and so are two segments; with a third head two segments are more.
	equal(t, "beside one", n*small, 8*mib-small-512*kib-2*mib)
	s.Share("metrics", true)
	full(t, hog.Room(small), "max_file_size_mib", 10*mib, 8*mib)
}

func TestOneJournalIsBoundedOnItsOwn(t *testing.T) {
	set := settings(vfs.NewMem(0), dir)
	set.MaxJournalBytes = mib
	s := open(t, set)
	h := s.Share("traces", true)
	must(t, h.Room(mib-small))
	must(t, h.Room(small))
	full(t, h.Room(1), "max_size", mib, mib)
	must(t, s.Share("logs", true).Room(mib))
	h.Gave(small)
	must(t, h.Room(small))
}

// A bound on one journal that is below what a segment would be makes smaller segments: else it would take nothing.
func TestSegmentsFitIntoAJournalsOwnBound(t *testing.T) {
	for bound, want := range map[int64]int64{0: 64 * mib, 16 * mib: 4 * mib, 64 * mib: 16 * mib, 1024 * mib: 64 * mib} {
		set := settings(vfs.NewMem(1<<40), dir)
		set.SegmentBytes, set.CapBytes, set.MaxJournalBytes = 0, 0, bound
		equal(t, "segments of a journal of "+fmt.Sprint(bound/mib)+" MiB", open(t, set).SegmentBytes(), want)
	}
}

func TestFreeSpaceOnTheVolumeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(2 * mib)
		set := settings(disk, "/s")
		set.MinFreeBytes = mib
		s := open(t, set)
		h := s.Share("traces", true)
		j := journal(t, disk, "/s", "traces")
		left := int64(mib - small - ballast)
		// Granted and on disk, granted and not yet on disk: both are gone.
		must(t, h.Room(8*small))
		put(t, disk, j+"/seg/0000000001.seg", 8*small)
		must(t, h.Room(left-8*small-small))
		full(t, h.Room(2*small), "min_free_mib", mib-small, mib)
		must(t, h.Room(small))
		full(t, h.Room(1), "min_free_mib", mib, mib)
		h.Gave(left - 8*small) // the allocation failed
		put(t, disk, "/others", left-8*small)
		time.Sleep(time.Second) // virtual: what was granted shows by now
		full(t, h.Room(1), "min_free_mib", mib, mib)
		must(t, disk.Remove("/others"))
		must(t, h.Room(small))
		put(t, disk, "/others", mib) // in one go, into what is to be kept
		time.Sleep(time.Second)
		full(t, h.Room(1), "min_free_mib", ballast+9*small+mib, mib)
	})
}

func TestWhatWasFreedJustNowMayBeTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes
		mem := vfs.NewMem(mib)
		disk := vfs.NewFaulty(mem)
		s := open(t, settings(disk, "/s"))
		h := s.Share("traces", true)
		must(t, h.Room(mib-small-ballast-1))
		put(t, mem, "/segments", mib-small-ballast)
		if err := h.Room(small); err == nil {
			t.Fatal("a full volume has room")
		}
		equal(t, "squeezed", s.Squeeze(), true)
		must(t, h.Room(ballast-1)) // for what could not be written
		h.Gave(ballast - 1)
		disk.Plan(vfs.Rule{Call: "allocate */RESERVE", Err: syscall.ENOSPC})
		must(t, mem.Remove("/segments"))
		h.Gave(mib - small - ballast - 1)
		must(t, h.Room(mib-small-ballast-2))
		equal(t, "restored", s.Restore(), false)
		equal(t, "faults", disk.Hits(), 1)
		must(t, h.Room(ballast)) // nothing is set aside for what failed
	})
}

func TestALoweredCapDeniesAndDeletesNothing(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, "/s"))
	j := journal(t, disk, "/s", "traces")
	h := s.Share("traces", true)
	for i := range 30 {
		must(t, h.Room(64*kib))
		put(t, disk, fmt.Sprintf("%s/seg/%010d.seg", j, i+1), 64*kib)
	}
	must(t, s.Adjust(space.Limits{CapBytes: mib, SegmentBytes: 64 * kib, MinFreeBytes: 1, Heads: 1}))
	must(t, s.Warden())
	equal(t, "what is used", h.Used(), 30*64*kib)
	equal(t, "what is there", allocated(t, disk, j), 30*64*kib)
	full(t, h.Room(1), "max_file_size_mib", 30*64*kib+ballast+small, mib)
	must(t, s.Adjust(space.Limits{CapBytes: 4 * mib, SegmentBytes: 64 * kib, MinFreeBytes: 1, Heads: 1}))
	must(t, h.Room(1))
}

func TestWhatMustBeWrittenIsBookedAboveTheLimits(t *testing.T) {
	s := open(t, settings(vfs.NewMem(0), dir))
	h := s.Share("traces", true)
	n, _ := fill(t, h, small)
	h.Book(mib)
	equal(t, "used", h.Used(), n*small+mib)
	h.Gave(mib)
	full(t, h.Room(1), "max_file_size_mib", 4*mib, 4*mib)
}

func TestNothingIsGrantedWhenTheDiskDoesNotAnswer(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(0))
	s := open(t, settings(disk, dir))
	h := s.Share("traces", true)
	for _, call := range []string{"usage *", "stat *LOCK", "stat *pipelines", "stat " + dir} {
		disk.Plan(vfs.Rule{Call: call, Err: syscall.EIO})
		err := h.Room(small)
		if !errors.Is(err, syscall.EIO) || errors.Is(err, space.ErrDetached) {
			t.Errorf("%s fails: %v", call, err)
		}
		disk.Plan()
		must(t, h.Room(small)) // it passed
	}
	equal(t, "used", h.Used(), 4*small)
	must(t, s.Close())
	if err := h.Room(1); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("room after Close: %v", err)
	}
	if err := s.Warden(); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("the warden after Close: %v", err)
	}
	if s.Squeeze() || s.Restore() {
		t.Error("RESERVE is touched after Close")
	}
}

func TestJournalsThatAskAtOnceStayUnderTheCapTogether(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, dir))
	var wg sync.WaitGroup
	var held, most atomic.Int64
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.Snapshot()
				s.Warnings()
				s.Squeeze()
				s.Restore()
			}
		}
	})
	var work sync.WaitGroup
	for i := range 4 {
		h := s.Share(fmt.Sprint("traces/", i), i < 2)
		work.Go(func() {
			mine := int64(0)
			for range 2000 {
				if h.Room(100*kib) == nil {
					mine += 100 * kib
					if now := held.Add(100 * kib); now > most.Load() {
						most.Store(now)
					}
					continue
				}
				held.Add(-mine)
				h.Gave(mine)
				mine = 0
				h.Over()
			}
			held.Add(-mine)
			h.Gave(mine)
		})
	}
	work.Wait()
	close(stop)
	wg.Wait()
	if most.Load() > 4*mib || most.Load() < 2*mib {
		t.Errorf("%d bytes were granted at once under a cap of 4 MiB", most.Load())
	}
	equal(t, "RESERVE", s.Restore(), true)
	for range 3 {
		must(t, s.Warden())
	}
	equal(t, "what is used in the end", s.Snapshot().Total(), allocated(t, disk, dir))
}
