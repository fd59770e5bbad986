// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// fill appends until it is refused, and says why. The keeper tends, when all that goes on by itself has come to rest: what
// is synced can be sealed, and what sealing cuts off is room.
func (r *rig) fill() error {
	for range 1000 {
		synctest.Wait()
		r.log.Tend()
		if err := r.add(5000); err != nil {
			return err
		}
	}
	r.Fatal("it never got full")
	return nil
}

// refusesAtOnce says that appends fail without waiting, with the error that made the state.
func (r *rig) refusesAtOnce(want commit.State) {
	r.Helper()
	synctest.Wait()
	state, cause := r.log.State()
	if state != want {
		r.Fatalf("%v: %v, want %v", state, cause, want)
	}
	start, calls := time.Now(), len(r.disk.Calls(""))
	if err := r.add(10); err != cause || time.Since(start) > 0 || len(r.disk.Calls("")) > calls {
		r.Errorf("append: %v after %v, the state's is %v", err, time.Since(start), cause)
	}
}

func TestFullDiskRefusesAndGoesOn(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.mem.SetCapacity(300 << 10)
		err := r.fill()
		if full := (*queue.FullError)(nil); !errors.As(err, &full) || full.Limit != "disk" || full.Max != 300<<10 || full.Used == 0 {
			t.Errorf("append: %v", err)
		}
		r.refusesAtOnce(commit.Full)
		before := r.last()
		pass(time.Second)
		r.log.Tend() // in vain
		r.refusesAtOnce(commit.Full)
		r.mem.SetCapacity(600 << 10)
		r.log.Tend()
		r.must(r.add(5000))
		if r.last() != before+1 {
			t.Errorf("number %d after %d", r.last(), before)
		}
		if err := r.fill(); !isFull(err) {
			t.Errorf("append: %v", err)
		}
		// What is removed by others makes room too.
		first := r.names()[0]
		info, err := r.disk.Stat(dir + "/" + first)
		r.must(err)
		r.must(r.disk.Remove(dir + "/" + first))
		r.Gave(info.Allocated)
		r.mem.SetCapacity(700 << 10)
		r.log.Tend()
		r.must(r.add(10))
		gone := func(rec *record) bool { return r.place[rec.entry.Seq] != 1 }
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", gone))
		r.balanced()
	})
}

func TestALimitRefusesAndGoesOn(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.max = 300 << 10
		err := r.fill()
		if full := (*queue.FullError)(nil); !errors.As(err, &full) || full.Limit != "max_size" || full.Max != r.max {
			t.Errorf("append: %v", err)
		}
		r.refusesAtOnce(commit.Full)
		r.max *= 2
		r.log.Tend()
		r.must(r.add(5000))
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", every))
		r.balanced()
	})
}

func TestALogThatFindsNoSpaceAtAllIsFullUntilThereIs(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := newRig(t, synced)
		r.max = 10
		r.open().log.Tend()
		r.refusesAtOnce(commit.Full)
		r.max = 0
		r.log.Tend()
		r.must(r.add(1))
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
	})
}

func TestOneLargeRecordIsRefusedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := opened(t, true)
		r.max = 200 << 10
		if err := r.add(1 << 20); !isFull(err) {
			t.Errorf("append: %v", err)
		}
		if s, err := r.log.State(); s != commit.OK {
			t.Errorf("%v: %v", s, err)
		}
		r.must(r.add(100))
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", every))
	})
}

// Not every volume can allocate: then any write may find it full, in the middle.
func TestEveryWriteMayFindTheDiskFull(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		unsupported := vfs.Rule{Call: "allocate *", Err: vfs.ErrUnsupported}
		for first := int64(0); first < 26<<10; first += 512 {
			for _, lasting := range []bool{false, true} {
				r := newRig(t, synced, unsupported).open()
				r.log.Tend()
				r.must(r.add(100))
				times := 1
				if lasting {
					times = 0
				}
				r.disk.Plan(unsupported, vfs.Rule{Call: "write *", Room: first, Times: times, Err: syscall.ENOSPC})
				err := r.add(25 << 10)
				switch what := fmt.Sprintf("%d bytes of room, lasting: %v", first, lasting); {
				case !lasting && err != nil, lasting && first < 25<<10 && !isFull(err):
					t.Fatalf("%s: %v", what, err)
				case lasting && err != nil && r.squeezed != 1:
					t.Fatalf("%s: squeezed %d times", what, r.squeezed)
				default:
					r.disk.Plan(unsupported)
					r.log.Tend()
					synctest.Wait()
					r.log.Tend()
					r.must(r.add(3))
					r.close()
					r.untouched()
					r.refusedAreGone(r.holds(r.mem.CrashClone(2), what, every))
				}
			}
		}
	})
}

func TestTheReserveServesARescue(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(100))
		r.mem.SetCapacity(66 << 10)
		r.disk.Plan(vfs.Rule{Call: "write *1.seg", Times: 1, Err: syscall.EIO})
		r.squeeze = func() bool {
			r.mem.SetCapacity(200 << 10)
			return true
		}
		r.must(r.add(100))
		if s := r.log.Stats(); s.Rescues != 1 || r.squeezed != 1 {
			t.Errorf("%+v, squeezed %d times", s, r.squeezed)
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "closed", every)
		r.balanced()
	})
}

// What was answered and no rescue could save stays in memory, is tried again with each Tend, and keeps its numbers.
func TestWhatIsStrandedIsRescuedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := opened(t, false)
		for range 3 {
			r.must(r.add(1000))
		}
		r.disk.Plan(vfs.Rule{Call: "datasync *", Err: syscall.EIO})
		time.Sleep(time.Second)
		r.refusesAtOnce(commit.Broken)
		for range 5 {
			time.Sleep(time.Second)
			r.log.Tend()
			synctest.Wait()
			r.refusesAtOnce(commit.Broken)
		}
		if s := r.log.Stats(); s.Condemned != 1 || s.Rescues != 0 || s.Unsynced < 5*time.Second || r.safe() != 0 {
			t.Errorf("%+v, durable %d", s, r.safe())
		}
		if syncs, _ := r.disk.Count("datasync *1.seg"); syncs != 2 { // of the empty file, and the one that failed
			t.Errorf("%d syncs of the condemned segment", syncs)
		}
		if names := r.names(); len(names) != 1 {
			t.Errorf("left: %v", names)
		}
		r.disk.Plan()
		r.log.Tend()
		synctest.Wait()
		if r.safe() != 3 || r.placed(1) != r.placed(3) || r.placed(1) == 1 {
			t.Errorf("durable %d, placed %v", r.safe(), r.place)
		}
		r.holds(r.mem.CrashClone(0), "rescued", every)
		r.must(r.add(10))
		r.close()
		r.untouched()
		r.mem.DropCaches()
		r.refusedAreGone(r.holds(r.mem, "closed", every))
		r.balanced()
	})
}

// What everybody has by then is not rescued: the log goes on without writing it again, behind its numbers.
func TestWhatNobodyIsOwedIsNotRescued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := opened(t, false)
		for range 3 {
			r.must(r.add(1000))
		}
		r.disk.Plan(vfs.Rule{Call: "datasync *", Err: syscall.EIO})
		time.Sleep(time.Second)
		r.refusesAtOnce(commit.Broken)
		r.disk.Plan(vfs.Rule{Call: "allocate *", Err: syscall.ENOSPC, Times: 1}) // of a rescue, if one is tried
		r.mu.Lock()
		r.delivered = true
		r.mu.Unlock()
		for range 2 {
			r.log.Tend()
			synctest.Wait()
		}
		if s := r.log.Stats(); s.Rescues != 0 || s.UnsyncedBytes != 0 || r.safe() != 3 || r.disk.Hits() > 1 {
			t.Errorf("%+v, durable %d", s, r.safe())
		}
		r.mu.Lock()
		r.delivered = false
		r.mu.Unlock()
		r.comesBack()
		r.must(r.add(10))
		if r.last() < 4 || r.placed(r.last()) == 1 {
			t.Errorf("the last record is %d in segment %d", r.last(), r.placed(r.last()))
		}
		r.close()
		r.untouched()
		r.balanced()
	})
}

// A failed group's numbers are void: the next segment says so and begins above them, also behind a rescue of what was
// there before.
func TestNumbersOfAFailedGroupAreVoid(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(1000))
		r.must(r.add(1000))
		r.disk.Plan(vfs.Rule{Call: "write *", Err: syscall.EIO, Room: 500})
		if err := r.add(1000); !errors.Is(err, queue.ErrDisk) {
			t.Errorf("append: %v", err)
		}
		r.refusesAtOnce(commit.Broken)
		r.comesBack()
		h := r.header(r.placed(r.last()))
		if r.voided != 1 || h.BaseSeq != 4 || h.PrevLastSeq != 2 || h.BaseItems != 3 {
			t.Errorf("%+v, void was said %d times", h, r.voided)
		}
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", every))
		r.balanced()
	})
}

func TestCloseSaysWhatItCouldNotSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := opened(t, false)
		r.must(r.add(1000))
		r.disk.Plan(vfs.Rule{Call: "datasync *", Err: syscall.EIO})
		if err := r.log.Close(context.Background()); !errors.Is(err, queue.ErrDisk) {
			t.Errorf("close: %v", err)
		}
		r.holds(r.mem.KillClone(), "closed", every)
	})
}

func TestCloseWaitsForTheDiskOnlyAsLongAsItMay(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r, hold, first := stalled(t, synced)
		waiting := r.background(context.Background(), 100)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if err := r.log.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("close: %v after %v", err, time.Since(start))
		}
		if err := <-waiting; synced && !errors.Is(err, queue.ErrClosed) || !synced && err != nil {
			t.Errorf("append: %v", err)
		}
		hold.Release()
		r.must(<-first)
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "closed", every))
		r.balanced()
	})
}
