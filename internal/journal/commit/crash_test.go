// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// crashes watches every call: the disks a kill or a power cut before it leaves hold what was answered by then. What one
// after it leaves is what one before the next call does, when less may have been answered.
func (r *rig) crashes() *atomic.Int64 {
	var count atomic.Int64
	look := func(c vfs.Call) {
		if r.log == nil || r.Failed() {
			return
		}
		what := fmt.Sprintf("before call %d, %s", c.N, c.Name)
		v := r.view() // the Log goes on meanwhile
		r.holdsView(v, r.mem.KillClone(), what+", killed", every)
		for _, seed := range []uint64{0, uint64(1 + c.N%2), uint64(3 + c.N)} {
			r.holdsView(v, r.mem.CrashClone(seed), fmt.Sprintf("%s, power cut %d", what, seed), func(rec *record) bool {
				return rec.entry.Seq <= v.durable
			})
		}
		count.Add(1)
	}
	r.disk.Watch(vfs.Watch{Before: look})
	return &count
}

func TestWhatWasAnsweredSurvivesACrashAtEveryCall(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		plans := [][]vfs.Rule{
			nil,
			{{Call: "datasync *2.seg", Skip: 2, Times: 1, Err: syscall.EIO}},
			{{Call: "datasync *1.seg", Skip: 2, Times: 1, Err: syscall.EIO}, {Call: "datasync *.tmp", Times: 1, Err: syscall.EIO}},
			{{Call: "write *", Skip: 3, Times: 1, Err: syscall.EIO, Room: 30000}},
			{{Call: "write *", Skip: 5, Times: 2, Err: syscall.ENOSPC, Room: 60000}},
			{{Call: "datasync *1.seg", Skip: 2, Times: 1, Err: syscall.EIO}, {Call: "create *.tmp", Times: 2, Err: syscall.EIO}},
			{{Call: "syncdir *", Skip: 2, Times: 3, Err: syscall.EIO}, {Call: "datasync *1.seg", Skip: 1, Times: 1, Err: syscall.EIO}},
		}
		for i, plan := range plans {
			r := newRig(t, synced, plan...)
			count := r.crashes()
			r.play()
			r.comesBack()
			r.close()
			if r.Failed() {
				t.Fatalf("with %+v", plan)
			}
			r.untouched()
			r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", every))
			if count.Load() < 60 || i > 0 && len(r.condemned) == 0 {
				t.Errorf("%d crashes, condemned %v with %+v", count.Load(), r.condemned, plan)
			}
		}
	})
}

// A power cut costs, in unsynced mode, what was accepted in the last 200 ms and what the running sync covers.
func TestUnsyncedModeLosesOnlyTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const took = 60 * time.Millisecond
		r := opened(t, false)
		r.slowSyncs(took)
		rng := rand.New(rand.NewPCG(7, 7))
		lost := 0
		var oldest time.Duration
		for i := range 3000 {
			time.Sleep(time.Duration(rng.IntN(13)) * time.Millisecond)
			r.must(r.add(rng.IntN(2000)))
			if i%64 == 0 {
				r.log.Tend()
			}
			if i%16 != 0 {
				continue
			}
			synctest.Wait()
			running := r.log.Stats().SyncAge
			gone := 0
			r.holds(r.mem.CrashClone(uint64(i%3)), "power cut", func(rec *record) bool {
				age := time.Since(rec.entry.Accepted)
				if age <= 200*time.Millisecond+running {
					gone++
					oldest = max(oldest, age)
					return false
				}
				return true
			})
			lost += gone
			if s := r.log.Stats(); s.Unsynced > 200*time.Millisecond+took {
				t.Errorf("the oldest unsynced record is %v old", s.Unsynced)
			}
		}
		if lost == 0 || oldest < 50*time.Millisecond {
			t.Errorf("%d were lost, the oldest of %v: the test cuts too softly", lost, oldest)
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
	})
}

func TestFailedSyncIsNeverTrusted(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		clean := newRig(t, synced)
		clean.play()
		syncs, _ := clean.disk.Count("datasync *")
		condemned, failed := 0, 0
		for k := range syncs {
			for times := 1; times <= 3; times++ {
				r := newRig(t, synced, vfs.Rule{Call: "datasync *", Skip: k, Times: times, Err: syscall.EIO})
				r.play()
				what := fmt.Sprintf("sync %d failed %d times", k, times)
				if r.disk.Hits() > 0 { // appends that meet share a sync: some lives have fewer
					failed++
				}
				r.comesBack() // the next segment makes void what was refused
				r.close()
				r.untouched()
				condemned += len(r.condemned)
				r.mem.DropCaches() // now the disk shows what it never wrote
				r.refusedAreGone(r.holds(r.mem, what, every))
				r.refusedAreGone(r.holds(r.mem.CrashClone(2), what+", power cut", every))
				r.balanced()
				if r.Failed() {
					t.Fatal(what)
				}
			}
		}
		if failed < 2*syncs || condemned < syncs {
			t.Errorf("%d times a sync failed, %d segments were condemned; %d syncs", failed, condemned, syncs)
		}
	})
}

// The rescue of the active segment goes on where it was, under a header that says so.
func TestARescueTakesOverWithItsOwnNumbers(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(17 << 10))
		r.must(r.add(17 << 10))
		pass(time.Second) // these are durable
		r.log.Tend()      // and the next segment is prepared
		if !synced {
			r.must(r.add(300))
		}
		durable := r.dataEnd(1, 2)
		r.disk.Plan(vfs.Rule{Call: "datasync *1.seg", Times: 1, Err: syscall.EIO})
		r.must(r.add(400))
		pass(time.Second)
		if s := r.log.Stats(); s.Condemned != 1 || s.Rescues != 1 {
			t.Fatalf("%+v", s)
		}
		r.must(r.add(500))
		h := r.header(2)
		if h.Flags&2 == 0 || h.PrevID != 1 || h.BaseSeq != 3 || h.PrevLastSeq != 2 || h.BaseItems != 3 ||
			h.PrevDurable != durable || h.Salt == r.header(1).Salt {
			t.Errorf("%+v, durable were %d", h, durable)
		}
		last := r.last()
		if r.placed(last) != 2 || r.placed(3) != 2 || r.placed(2) != 1 {
			t.Errorf("placed %v", r.place)
		}
		r.close()
		if !slices.Equal(r.names(), []string{"0000000001.seg", "0000000002.seg"}) {
			t.Errorf("left: %v", r.names())
		}
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", every))
		r.untouched()
	})
}

// Under its final name a rescue speaks for what it took over: it has to be complete there, whatever a power cut leaves.
func TestARescueThatCanBeSeenIsComplete(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(17 << 10))
		r.must(r.add(17 << 10))
		pass(time.Second)
		r.log.Tend() // the next segment is prepared
		r.disk.Plan(vfs.Rule{Call: "datasync *1.seg", Times: 1, Err: syscall.EIO})
		seen, whole := 0, 2
		if synced {
			whole = 1 // the first group
		}
		r.disk.Watch(vfs.Watch{Before: func(c vfs.Call) {
			for seed := range uint64(50) {
				all, err := read(r.mem.CrashClone(seed))
				r.must(err)
				rescued := 0
				for _, f := range all {
					if f.header.Flags&segment.FlagRescue != 0 {
						rescued++
					}
				}
				visible := headers(r.mem.CrashClone(seed), segment.FlagRescue) > 0
				if visible && rescued < whole && !t.Failed() {
					t.Errorf("before %s, power cut %d: a rescue with %d records", c.Name, seed, rescued)
				}
				seen += rescued
			}
		}})
		a, b := r.background(context.Background(), 3000), r.background(context.Background(), 3000)
		r.must(<-a)
		r.must(<-b)
		pass(time.Second)
		r.close()
		if s := r.log.Stats(); s.Rescues != 1 || seen == 0 || r.placed(3) != 2 {
			t.Errorf("%+v, seen %d", s, seen)
		}
	})
}
