// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// roster changes who is attached.
func (r *rig) roster(cursors ...uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	r.cursors = cursors
}

func TestAChangeOfRosterBeginsANewSegment(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(10))
		r.must(r.add(10))
		r.roster(5, 6)
		r.must(r.add(10))
		r.must(r.add(10))
		if r.placed(2) != 1 || r.placed(3) != 2 || r.placed(4) != 2 {
			t.Errorf("placed %v", r.place)
		}
		if h := r.header(2); !slices.Equal(h.Cursors, []uint64{5, 6}) || h.PrevID != 1 || h.PrevLastSeq != 2 {
			t.Errorf("%+v", h)
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
	})
}

func TestAChangeOfModeBeginsANewSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := opened(t, false)
		r.must(r.add(10))
		r.log.SetSynced(true)
		r.must(r.add(10))
		synctest.Wait()
		if f := r.header(2).Flags; f != 0 || r.safe() != 2 {
			t.Errorf("flags %d, durable %d", f, r.safe())
		}
		r.log.SetSynced(false)
		r.must(r.add(10))
		if f := r.header(3).Flags; f != segment.FlagUnsynced || r.safe() != 2 {
			t.Errorf("flags %d, durable %d", f, r.safe())
		}
		time.Sleep(time.Second)
		if r.safe() != 3 {
			t.Errorf("durable %d", r.safe())
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
	})
}

func TestRollBeginsANewSegmentOnce(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.log.Roll() // of nothing
		r.must(r.add(10))
		r.log.Roll()
		r.log.Roll()
		r.must(r.add(10))
		r.must(r.add(10))
		if r.placed(1) != 1 || r.placed(2) != 2 || r.placed(3) != 2 {
			t.Errorf("placed %v", r.place)
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
		r.balanced()
	})
}

func TestWithoutASegmentToBeHadTheOldOneIsUsedOn(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(10))
		r.max = 1
		r.roster(5, 6)
		before := r.asked
		for range 10 {
			r.must(r.add(10))
		}
		if s, err := r.log.State(); s != commit.OK || r.placed(11) != 1 || r.asked != before+1 {
			t.Errorf("%v: %v, placed %v, asked for room %d times", s, err, r.place, r.asked-before)
		}
		r.max = 0
		r.log.Tend()
		r.must(r.add(10))
		if r.placed(12) != 2 || !slices.Equal(r.header(2).Cursors, []uint64{5, 6}) {
			t.Errorf("placed %v, %+v", r.place, r.header(2))
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
	})
}

func TestARosterThatCannotBeMadeDurableFailsTheGroup(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		for range 2 {
			cause := fmt.Errorf("%w: slot", queue.ErrDisk)
			r.rosterErr = cause
			if err := r.add(10); !errors.Is(err, cause) {
				t.Errorf("append: %v", err)
			}
			if s, err := r.log.State(); s != commit.OK {
				t.Errorf("%v: %v", s, err)
			}
			r.rosterErr = nil
			r.must(r.add(10))
		}
		r.close()
		all := r.holds(r.mem.CrashClone(0), "closed", every)
		r.refusedAreGone(all)
		if len(all) != 2 || r.last() != 2 {
			t.Errorf("%d records, up to %d", len(all), r.last())
		}
		r.balanced()
	})
}

func TestTheNextSegmentIsPreparedWhenHalfOfThisOneIsUsed(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := newRig(t, synced)
		r.open()
		<-r.log.Wanted() // the first Tend, before any append
		r.log.Tend()
		if n := len(r.names()); n != 1 {
			t.Errorf("%d files", n)
		}
		r.must(r.add(20 << 10))
		r.log.Tend()
		if n := len(r.names()); n != 1 {
			t.Errorf("%d files before half of the first is used", n)
		}
		r.must(r.add(10 << 10))
		<-r.log.Wanted()
		r.log.Tend()
		if n := len(r.names()); n != 2 {
			t.Errorf("%d files", n)
		}
		before, _ := r.disk.Count("allocate *")
		r.must(r.add(20 << 10))
		pass(time.Second)
		if after, _ := r.disk.Count("allocate *"); after != before || r.placed(3) != 2 {
			t.Errorf("%d allocations in the way, placed %v", after-before, r.place)
		}
		<-r.log.Wanted()
		r.log.Tend()
		if in := r.inspect(1); in.Class != segment.Sealed || r.sealed[1].Last != 2 {
			t.Errorf("%v, sealed %+v", in.Class, r.sealed)
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
		r.balanced()
	})
}

func TestAnIdleLogWritesNothing(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(10))
		pass(time.Second)
		r.log.Tend()
		calls := len(r.disk.Calls(""))
		for range 10 {
			pass(time.Second)
			r.log.Tend()
		}
		if n := len(r.disk.Calls("")); n != calls {
			t.Errorf("%d calls", n-calls)
		}
		r.close()
	})
}

// No header has room for so many cursors. The numbers of the group are void, and nothing goes on behind them.
func TestARosterThatFitsNoHeaderFailsTheGroup(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(10))
		r.mu.Lock()
		before := r.cursors
		r.version, r.cursors = 1, make([]uint64, segment.MaxCursors+1)
		r.mu.Unlock()
		if err := r.add(10); !errors.Is(err, queue.ErrDisk) {
			t.Errorf("append: %v", err)
		}
		r.mu.Lock()
		r.version, r.cursors = 0, before
		r.mu.Unlock()
		r.must(r.add(10))
		if h := r.header(2); r.last() != 3 || h.BaseSeq != 3 || h.PrevLastSeq != 1 {
			t.Errorf("number %d, %+v", r.last(), h)
		}
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", every))
		r.balanced()
	})
}

// Another size holds for the segments that are made from then on.
func TestTheSizeOfSegmentsChanges(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(1000))
		r.log.SetSegmentBytes(3 * segmentBytes)
		for range 8 {
			r.must(r.add(20 << 10))
			r.log.Tend()
		}
		if in := r.inspect(r.placed(r.last())); in.Header.FileBytes != 3*segmentBytes {
			t.Errorf("%+v", in.Header)
		}
		r.log.SetSegmentBytes(segmentBytes)
		for range 12 {
			r.must(r.add(20 << 10))
			r.log.Tend()
		}
		if in := r.inspect(r.placed(r.last())); in.Header.FileBytes != segmentBytes {
			t.Errorf("%+v", in.Header)
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "after close", every)
		r.balanced()
	})
}
