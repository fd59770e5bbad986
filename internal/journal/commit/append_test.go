// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// slowSyncs makes every sync of a segment take so long. It covers what was written before it began.
func (r *rig) slowSyncs(took time.Duration) {
	hold := vfs.NewHold()
	r.disk.Plan(vfs.Rule{Call: "datasync *", Hold: hold})
	go func() {
		for {
			select {
			case <-hold.Reached():
			case <-r.Context().Done():
				hold.Release()
				return
			}
			<-time.After(took)
			next := vfs.NewHold()
			r.disk.Plan(vfs.Rule{Call: "datasync *", Hold: next})
			hold.Release()
			hold = next
		}
	}()
}

func TestAppendersShareOneSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const appenders, each = 64, 40
		r := newRig(t, true)
		r.set.SegmentBytes = 4 << 20
		r.open().log.Tend()
		r.slowSyncs(5 * time.Millisecond)
		before, _ := r.disk.Count("datasync *")
		start := time.Now()
		var wg sync.WaitGroup
		for range appenders {
			wg.Go(func() {
				for range each {
					r.must(r.add(500))
				}
			})
		}
		wg.Wait()
		syncs, _ := r.disk.Count("datasync *")
		if syncs -= before; syncs > appenders*each/8 {
			t.Errorf("%d syncs for %d appends", syncs, appenders*each)
		}
		if took := time.Since(start); took > 2*each*5*time.Millisecond+time.Second/10 {
			t.Errorf("took %v", took)
		}
		if s := r.log.Stats(); s.Syncs != uint64(syncs) || s.Groups != s.Syncs || s.Records != appenders*each {
			t.Errorf("%+v", s)
		}
		r.close()
		r.holds(r.mem.CrashClone(0), "after close", every)
	})
}

// stalled is a rig with a group whose sync does not end before the hold is released. Its append is the channel's.
func stalled(t *testing.T, synced bool) (*rig, *vfs.Hold, <-chan error) {
	r := opened(t, synced)
	hold := vfs.NewHold()
	r.disk.Plan(vfs.Rule{Call: "datasync *", Hold: hold})
	first := r.background(context.Background(), 1000)
	if synced {
		<-hold.Reached()
	}
	synctest.Wait()
	return r, hold, first
}

func TestAnEndedContextTakesTheRecordBackBeforeTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, hold, first := stalled(t, true)
		ended, cancel := context.WithCancel(context.Background())
		inGroup := first
		a, b := r.background(ended, 10), r.background(context.Background(), 10)
		synctest.Wait()
		cancel()
		if err := <-a; !errors.Is(err, context.Canceled) {
			t.Errorf("append: %v", err)
		}
		if err := r.addCtx(ended, 10); !errors.Is(err, context.Canceled) {
			t.Errorf("append after the end: %v", err)
		}
		if s := r.log.Stats(); s.Waiting != segment.FrameBytes(0, 12) || s.SyncAge != 0 {
			t.Errorf("%+v", s)
		}
		hold.Release()
		r.must(<-inGroup)
		r.must(<-b)
		r.close()
		r.refusedAreGone(r.holds(r.mem, "after close", every))
	})
}

func TestAnEndedContextIsNotHeededInAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := opened(t, true)
		hold := vfs.NewHold()
		r.disk.Plan(vfs.Rule{Call: "datasync *", Hold: hold})
		ctx, cancel := context.WithCancel(context.Background())
		a := r.background(ctx, 100)
		<-hold.Reached()
		cancel()
		time.Sleep(time.Minute)
		select {
		case err := <-a:
			t.Fatalf("answered before the sync: %v", err)
		default:
		}
		if age := r.log.Stats().SyncAge; age != time.Minute {
			t.Errorf("the sync runs for %v", age)
		}
		hold.Release()
		r.must(<-a)
		r.close()
		r.holds(r.mem.CrashClone(0), "after close", every)
	})
}

func TestAStalledSyncMakesAppendsBusyAfterFiveSeconds(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		const size = 1 << 20
		r := newRig(t, synced)
		r.set.SegmentBytes = 64 << 20
		r.open().log.Tend()
		hold := vfs.NewHold()
		r.disk.Plan(vfs.Rule{Call: "datasync *", Hold: hold})
		var in []<-chan error
		for r.log.Stats().Waiting+segment.FrameBytes(0, size) <= 32<<20 {
			in = append(in, r.background(context.Background(), size))
			synctest.Wait()
		}
		full := r.log.Stats()
		if bound := int64(32+8) << 20; full.UnsyncedBytes > bound || full.Waiting > 32<<20 {
			t.Errorf("%+v", full)
		}
		start := time.Now()
		if err := r.add(size); !errors.Is(err, queue.ErrBusy) || time.Since(start) != 5*time.Second {
			t.Errorf("append: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start = time.Now()
		if err := r.addCtx(ctx, size); !errors.Is(err, queue.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(start) != time.Second {
			t.Errorf("append: %v after %v", err, time.Since(start))
		}
		late := r.background(context.Background(), size)
		time.Sleep(4 * time.Second)
		hold.Release()
		r.must(<-late)
		for _, a := range in {
			r.must(<-a)
		}
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "after close", every))
		if now := r.log.Stats(); now.Waiting != 0 || now.UnsyncedBytes != 0 {
			t.Errorf("%+v", now)
		}
	})
}

func TestOneRecordLargerThanTheLineWaitsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, hold, first := stalled(t, true)
		large := r.background(context.Background(), 40<<20)
		synctest.Wait()
		small := r.background(context.Background(), 10)
		synctest.Wait()
		if w := r.log.Stats().Waiting; w < 40<<20 || w > 41<<20 {
			t.Errorf("%d bytes wait", w)
		}
		hold.Release()
		r.must(<-first)
		r.must(<-large)
		r.must(<-small)
		r.close()
		r.holds(r.mem.CrashClone(0), "after close", every)
		r.balanced()
	})
}

// Such a segment is complete as soon as its record is durable: it may go before anything else comes.
func TestARecordLargerThanASegmentGetsOneOfItsOwn(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := opened(t, synced)
		r.must(r.add(100))
		r.must(r.add(1 << 20))
		<-time.After(time.Second)
		r.log.Tend()
		if sum, ok := r.sealed[r.placed(2)]; !ok || sum.Last != 2 {
			t.Errorf("sealed are %v, the large record is in %d", r.sealed, r.placed(2))
		}
		r.must(r.add(100))
		r.log.Tend()
		r.close()
		r.holds(r.mem.CrashClone(0), "after close", every)
		in := r.inspect(r.placed(2))
		if in.Header.BaseSeq != 2 || in.Header.FileBytes != segment.FileBytes(segment.FrameBytes(0, 1<<20)) {
			t.Errorf("%+v", in.Header)
		}
		if r.placed(1) == r.placed(2) || r.placed(2) == r.placed(3) && in.Seal.Records != 2 {
			t.Errorf("placed %v", r.place)
		}
		r.balanced()
	})
}

// Appenders come and go while the disk is slow: whoever is answered nil is there, whoever is not is not.
func TestACrowdWithShortPatience(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		r := newRig(t, synced)
		r.set.SegmentBytes = 4 << 20
		r.open().log.Tend()
		r.slowSyncs(20 * time.Millisecond)
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-r.log.Wanted():
					r.log.Tend()
				case <-stop:
					return
				}
			}
		}()
		var wg sync.WaitGroup
		var mu sync.Mutex
		answers := map[bool]int{}
		for i := range 64 {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			wg.Go(func() {
				for range 30 {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(60))*time.Millisecond)
					size := rng.IntN(2000)
					if rng.IntN(20) == 0 {
						size = 2 << 20
					}
					err := r.addCtx(ctx, size)
					cancel()
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("append: %v", err)
					}
					mu.Lock()
					answers[err == nil]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		close(stop)
		if answers[true] < 100 || answers[false] < 100 {
			t.Errorf("the crowd was answered %v", answers)
		}
		r.close()
		r.refusedAreGone(r.holds(r.mem.CrashClone(0), "after close", every))
		r.balanced()
	})
}

func TestWhoLeavesMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, hold, first := stalled(t, true)
		ctx, cancel := context.WithCancel(context.Background())
		large := r.background(ctx, 30<<20)
		synctest.Wait()
		other := r.background(context.Background(), 5<<20)
		synctest.Wait()
		if w := r.log.Stats().Waiting; w > 31<<20 {
			t.Errorf("%d bytes wait", w)
		}
		cancel()
		if err := <-large; !errors.Is(err, context.Canceled) {
			t.Errorf("append: %v", err)
		}
		if w := r.log.Stats().Waiting; w != segment.FrameBytes(0, 5<<20) {
			t.Errorf("%d bytes wait", w)
		}
		time.Sleep(time.Hour) // who got in is not refused as busy
		hold.Release()
		r.must(<-first)
		r.must(<-other)
		r.close()
	})
}
