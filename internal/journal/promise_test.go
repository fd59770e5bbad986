// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

var dest = queue.Destination{Name: "a", Stored: true, Exporters: []string{"a"}}

// What was refused in whatever way stays away once a later record was accepted: after a kill, a power cut, an orderly
// restart, and when the cursor is lost and everything is repeated.
//
// Fault: D2 P1
func TestRefusedRecordDoesNotComeBack(t *testing.T) {
	ways := map[string][]vfs.Rule{
		"a write fails": {{Call: "write *.seg*", Err: syscall.EIO}},
		"a write fails half way": {
			{Call: "write *.seg", Room: 9000, Err: syscall.EIO}, {Call: "create *.seg*", Err: syscall.EMFILE},
			{Call: "rename *.seg", Err: syscall.EIO},
		},
		"the sync fails":     {{Call: "datasync *.seg*", Err: syscall.EIO}},
		"no segment is left": {{Call: "datasync *.seg", Err: syscall.EIO}, {Call: "*.seg.tmp", Err: syscall.ENOSPC}, {Call: "allocate *", Err: syscall.ENOSPC}},
		"the rescue is not renamed": {
			{Call: "datasync *.seg", Times: 1, Err: syscall.EIO}, {Call: "rename *.seg.tmp", Err: syscall.EIO},
		},
		"the rescue's name is not synced": {
			{Call: "datasync *.seg", Times: 1, Err: syscall.EIO}, {Call: "syncdir *seg", Err: syscall.EIO},
		},
	}
	for way, rules := range ways {
		for _, deleted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/what follows is deleted %v", way, deleted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { refuseAndRestart(t, rules, deleted) })
			})
		}
	}
}

func refuseAndRestart(t *testing.T, rules []vfs.Rule, deleted bool) {
	mem := vfs.NewMem(1 << 40)
	disk := vfs.NewFaulty(mem)
	store := openStore(t, disk, small)
	defer store.Close(context.Background())
	j := head(t, store, dest)
	s := newStory(t)
	a := s.attach(j, "a")
	for range 3 {
		if err := s.append(j, 3000); err != nil {
			t.Fatal(err)
		}
	}
	pinned := s.take(a, 3000)
	disk.Plan(rules...)
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() { s.append(j, 5000) })
	}
	wait.Wait()
	if disk.Hits() == 0 || len(s.refused) == 0 {
		t.Fatalf("%d calls failed, %d records were refused", disk.Hits(), len(s.refused))
	}
	disk.Plan()
	pass(3 * time.Second)
	for range 30 { // two segments of them
		if err := s.append(j, 5000); err != nil {
			t.Fatal(err)
		}
	}
	if deleted {
		for a.Fill().Records > a.Fill().Leased {
			s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, s.take(a, 0)...)
		}
		pass(3 * time.Second)
		if n, _ := disk.Count("remove *.seg"); n == 0 {
			t.Error("no segment was deleted")
		}
	}
	s.resolve(a, "a", queue.Outcome{Kind: queue.Release}, pinned...)
	look := func(how string, left *vfs.Mem, was chapter) {
		again := openStore(t, left, small)
		defer again.Close(context.Background())
		j := head(t, again, dest)
		got, wrong := drain(j.Attach("a"))
		if wrong == "" {
			wrong = unbalanced(j)
		}
		if wrong != "" {
			t.Errorf("%s: %s", how, wrong)
		}
		for n := range got {
			if was.refused[n] {
				t.Errorf("%s: record %d was refused and comes", how, n)
			}
		}
		for n := range was.owed["a"] {
			if !got[n] {
				t.Errorf("%s: record %d does not come", how, n)
			}
		}
	}
	was := s.now()
	look("killed", mem.KillClone(), was)
	for seed := range uint64(5) {
		look(fmt.Sprintf("power cut %d", seed), mem.CrashClone(seed), was)
	}
	lost := mem.KillClone()
	if err := lost.Remove(directory + "/pipelines/traces/cur/a.cur"); err != nil {
		t.Fatal(err)
	}
	look("without the cursor", lost, was)
	store.Close(context.Background())
	look("closed", mem.KillClone(), was)
}

// A power cut costs what was accepted in the last 200 ms, and what the sync that runs was to save.
//
// Fault: P1
func TestUnsyncedModeLosesOnlyTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := luck(t)
		lost, told := 0, uint64(0)
		for round := range 40 {
			mem := vfs.NewMem(1 << 40)
			disk := vfs.NewFaulty(mem)
			store := openStore(t, disk, small, unsynced)
			j := head(t, store, dest)
			s := newStory(t)
			s.attach(j, "a")
			at := map[int]time.Time{}
			hold, slow := vfs.NewHold(), time.Duration(0)
			cut := 20 + rng.IntN(60)
			for n := range cut {
				if n == cut/2 && round%2 == 0 {
					disk.Plan(vfs.Rule{Call: "datasync *.seg", Hold: hold})
				}
				if err := s.append(j, rng.IntN(4000)); err != nil {
					t.Fatal(err)
				}
				at[s.tried] = time.Now()
				select {
				case <-hold.Reached():
					if slow == 0 {
						disk.Plan()
						slow = time.Duration(rng.IntN(400)) * time.Millisecond
						time.AfterFunc(slow, hold.Release)
					}
				default:
				}
				pass(time.Duration(rng.IntN(30)) * time.Millisecond)
			}
			now := time.Now()
			left := mem.CrashClone(rng.Uint64())
			hold.Release()
			store.Close(context.Background())
			again := openStore(t, left, small, unsynced)
			j2 := head(t, again, dest)
			got, wrong := drain(j2.Attach("a"))
			if wrong != "" {
				t.Fatal(wrong)
			}
			for n := range s.accepted {
				if got[n] {
					continue
				}
				lost++
				if age := now.Sub(at[n]); age > 200*time.Millisecond+slow {
					t.Errorf("record %d was accepted %s before the power cut, with a sync of %s, and is lost", n, age, slow)
				}
			}
			counts, _ := j2.Counts("a")
			told += counts.Dropped["unsynced"]
			if wrong := unbalanced(j2); wrong != "" {
				t.Error(wrong)
			}
			again.Close(context.Background())
		}
		if lost == 0 || told == 0 {
			t.Errorf("%d records were lost, %d items told", lost, told)
		}
	})
}

// A number is given out once, whatever is lost between two processes: records, files, cursors.
//
// Fault: P1 D7
func TestSequenceNumbersAreNeverReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := luck(t)
		mem := vfs.NewMem(1 << 40)
		seen := map[queue.Seq]int{}
		s := newStory(t)
		highest := queue.Seq(0)
		for life := 0; life < 60 && !t.Failed(); life++ {
			disk := vfs.NewFaulty(mem)
			store := openStore(t, disk, small)
			j := head(t, store, dest)
			a := s.attach(j, "a")
			if rng.IntN(3) == 0 { // numbers that are given out and never used
				disk.Plan(vfs.Rule{Call: "datasync *.seg*", Err: syscall.EIO})
				s.append(j, 100)
				disk.Plan()
				pass(3 * time.Second)
			}
			first := s.tried
			for range 1 + rng.IntN(5) {
				if err := s.append(j, rng.IntN(30<<10)); err != nil {
					t.Fatal(err)
				}
			}
			for range 1 + rng.IntN(3) {
				if a.Fill().Records == a.Fill().Leased {
					break
				}
				got := s.take(a, 0)
				for _, d := range got {
					n, _ := numberOf(d.Body)
					if was, ok := seen[d.Seq]; ok && was != n {
						t.Errorf("life %d: number %d is record %d, and was record %d", life, d.Seq, n, was)
					}
					if n > first && d.Seq <= highest {
						t.Errorf("life %d: new record %d has number %d; %d was given out before", life, n, d.Seq, highest)
					}
					seen[d.Seq] = n
				}
				s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, got...)
			}
			for seq := range seen {
				highest = max(highest, seq)
			}
			pass(time.Duration(rng.IntN(4)) * time.Second)
			var gone string
			switch rng.IntN(6) {
			case 0:
				gone = "seg"
			case 1:
				gone = "cur"
			}
			if gone != "" {
				pass(2 * time.Second) // each knows what the other does
			}
			switch rng.IntN(3) {
			case 0:
				mem = mem.KillClone()
			case 1:
				mem = mem.CrashClone(rng.Uint64())
			}
			store.Close(context.Background())
			if gone != "" {
				dir := directory + "/pipelines/traces/" + gone
				entries, err := mem.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				// Whoever takes away both, or the only one that knows, takes away the journal.
				if other, err := mem.ReadDir(directory + "/pipelines/traces/seg"); gone == "seg" || err == nil && len(other) > 0 {
					for _, e := range entries {
						if err := mem.Remove(dir + "/" + e.Name); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
		if len(seen) < 50 {
			t.Errorf("only %d numbers were seen", len(seen))
		}
	})
}

// Closing ends leases, delays and waiting, and resolves nothing: all of it comes after the restart.
func TestShutdownResolvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 40)
		store := openStore(t, mem, small)
		limited := dest
		limited.Limit = queue.Limit{Max: 50, Block: true}
		j := head(t, store, limited)
		s := newStory(t)
		a, second := s.attach(j, "a"), s.attach(j, "a")
		for i := range 50 {
			if err := s.append(j, i*200); err != nil {
				t.Fatal(err)
			}
		}
		leased := s.take(a, 20_000)
		late := s.take(second, 30_000)
		s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, leased[0])
		s.resolve(a, "a", queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, leased[1:5]...)
		s.append(j, 100) // the place of the one that was acked
		var wait sync.WaitGroup
		blocked := 0
		var mu sync.Mutex
		for range 3 {
			wait.Go(func() {
				if err := s.append(j, 100); errors.Is(err, queue.ErrClosed) {
					mu.Lock()
					defer mu.Unlock()
					blocked++
				}
			})
		}
		idle := s.attach(j, "a")
		wait.Go(func() {
			_, err := idle.Take(context.Background(), queue.Want{Sizer: queue.Items, Min: 1 << 30, Linger: time.Hour, Joins: func(_, _ *queue.Record) bool { return true }})
			if !errors.Is(err, queue.ErrClosed) {
				t.Errorf("a Take that waits ends with %v", err)
			}
		})
		pass(time.Second)
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
		wait.Wait()
		if blocked != 3 {
			t.Errorf("%d of 3 appends that waited for room were told that the queue is closed", blocked)
		}
		for _, d := range append(slices.Clone(leased[5:]), late...) {
			if _, ok := numberOf(d.Body); !ok {
				t.Errorf("the bytes of number %d changed with the end of the queue", d.Seq)
			}
		}
		for _, k := range []queue.Kind{queue.Ack, queue.Dead, queue.Drop, queue.Nack, queue.Release} { // all come too late
			second.Resolve(queue.Outcome{Kind: k}, late[(int(k)-1)%len(late)].Seq)
		}
		if err := s.append(j, 100); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("append on a closed queue: %v", err)
		}
		again := openStore(t, mem, small)
		defer again.Close(context.Background())
		j2 := head(t, again, dest)
		got, wrong := drain(j2.Attach("a"))
		if wrong != "" || len(got) != len(s.accepted)-1 {
			t.Errorf("%d of %d records come after the restart: %s", len(got), len(s.accepted)-1, wrong)
		}
		if wrong := unbalanced(j2); wrong != "" {
			t.Error(wrong)
		}
	})
}

// stepped is t as a clock shows it that was set by d: the wall clock jumps, the monotonic one does not. In a bubble of
// synctest the time has no monotonic reading, so it is given one: 1 bit that says so, 33 of seconds since 1885, 30 of
// nanoseconds, then the reading.
func stepped(t time.Time, d time.Duration) time.Time {
	since1885 := t.Unix() + int64(d/time.Second) - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	reading := t.UnixNano()
	words := (*[2]uint64)(unsafe.Pointer(&t))
	words[0] = 1<<63 | uint64(since1885)<<30 | uint64(t.Nanosecond())
	words[1] = uint64(reading)
	return t
}

func TestTheTestsClockJumpsAsARealOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, d := range []time.Duration{time.Hour, -time.Hour, 10 * 365 * 24 * time.Hour} {
			if then := stepped(now, d); then.Unix()-now.Unix() != int64(d/time.Second) ||
				then.Sub(stepped(now, 0)) != 0 || !strings.Contains(then.String(), " m=") {
				t.Errorf("%v stepped by %v is %v", now, d, then)
			}
		}
	})
}

// A wall clock that is set changes nothing but what people read: neither order nor delays, neither books nor ages.
//
// Fault: P6
func TestClockJumpsChangeNothing(t *testing.T) {
	life := func(jump func(step int) time.Duration) (lines []string) {
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewMem(1 << 40)
			var mu sync.Mutex
			off := time.Duration(0)
			clock := func(o *journal.Options) {
				o.Now = func() time.Time {
					mu.Lock()
					defer mu.Unlock()
					return stepped(time.Now(), off)
				}
			}
			start := time.Now()
			rng := rand.New(rand.NewPCG(1, 1))
			s := newStory(t)
			var store *journal.Store
			var j *journal.Journal
			var a queue.Cursor
			for step := range 400 {
				if step%100 == 0 {
					if store != nil {
						store.Close(context.Background())
					}
					store = openStore(t, mem, small, clock)
					j = head(t, store, dest)
					a = s.attach(j, "a")
				}
				mu.Lock()
				off = jump(step)
				mu.Unlock()
				switch n := rng.IntN(10); {
				case n < 4:
					if err := s.append(j, rng.IntN(4000)); err != nil {
						t.Fatal(err)
					}
				case n < 8:
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
					got, err := a.Take(ctx, queue.Want{Sizer: queue.Items, Min: int64(rng.IntN(12)), Max: 30,
						Linger: time.Duration(rng.IntN(1500)) * time.Millisecond, Joins: func(_, _ *queue.Record) bool { return true }})
					cancel()
					var seqs []queue.Seq
					for _, d := range got {
						seqs = append(seqs, d.Seq)
						o := queue.Outcome{Kind: queue.Ack}
						if rng.IntN(3) == 0 {
							o = queue.Outcome{Kind: queue.Nack, Delay: time.Duration(rng.IntN(3000)) * time.Millisecond}
						}
						s.resolve(a, "a", o, d)
					}
					lines = append(lines, fmt.Sprintf("%v: %v %v", time.Since(start), seqs, err))
				default:
					pass(time.Duration(rng.IntN(700)) * time.Millisecond)
				}
				if f := a.Fill(); f.Oldest < 0 {
					t.Errorf("step %d: the oldest record is %v old", step, f.Oldest)
				}
				if wrong := unbalanced(j); wrong != "" {
					t.Errorf("step %d: %s", step, wrong)
				}
			}
			store.Close(context.Background())
		})
		return lines
	}
	steady := life(func(int) time.Duration { return 0 })
	rng := rand.New(rand.NewPCG(5, 6))
	jumping := life(func(int) time.Duration {
		return time.Duration(rng.Int64N(int64(40*365*24*time.Hour))) - 20*365*24*time.Hour
	})
	for i := range min(len(steady), len(jumping)) {
		if steady[i] != jumping[i] {
			t.Fatalf("take %d: %s; with a clock that jumps %s", i, steady[i], jumping[i])
		}
	}
	if len(steady) != len(jumping) || len(steady) < 100 {
		t.Errorf("%d takes, %d with a clock that jumps", len(steady), len(jumping))
	}
}
