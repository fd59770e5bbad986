// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// live runs the script on a disk with a fault. Then the disk is good for a while, and what is there is killed, cut off
// its power and looked at.
func liveThrough(t *testing.T, what string, mode []func(*journal.Options), rules ...vfs.Rule) *vfs.Faulty {
	t.Helper()
	mem := vfs.NewMem(1 << 40)
	disk := vfs.NewFaulty(mem, rules...)
	s := newStory(t)
	var left []wreck
	s.end = func() {
		pass(4 * time.Second)
		was := s.now()
		was.done = nil // a slot may have been late
		left = append(left, wreck{mem.KillClone(), was, "killed"})
		mem.DropCaches()
		for seed := range uint64(3) {
			left = append(left, wreck{mem.CrashClone(seed), was, fmt.Sprintf("power cut %d", seed)})
		}
	}
	script(s, disk, mode...)
	was := s.now()
	was.done = nil
	left = append(left, wreck{mem.KillClone(), was, "closed"})
	for _, w := range left {
		if wrong := survivors(w.disk, w.was, mode...); wrong != "" {
			t.Fatalf("%s, then %s: %s", what, w.how, wrong)
		}
	}
	return disk
}

// untouched says which file was used on although a call on it had failed.
func untouched(disk *vfs.Faulty, failed vfs.Call) string {
	_, file, _ := strings.Cut(failed.Name, " ")
	for _, c := range disk.Calls("*" + file) {
		if c.N <= failed.N {
			continue
		}
		switch op, _, _ := strings.Cut(c.Name, " "); op {
		case "create", "rename", "remove":
			return "" // another file has that name from here on
		case "write", "datasync", "truncate", "allocate":
			return fmt.Sprintf("%s comes after %s (call %d) had failed", c.Name, failed.Name, failed.N)
		}
	}
	return ""
}

// Whichever sync fails, alone or with the next one: its file is not used on, and what was answered with nil is safe.
//
// Fault: D2 D3
func TestFailedSyncIsNeverTrusted(t *testing.T) {
	for name, mode := range map[string][]func(*journal.Options){"synced": {small}, "unsynced": {small, unsynced}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const syncs = "datasync *pipelines*"
				n, _ := liveThrough(t, "no fault", mode).Count(syncs)
				step := 1
				if !long() {
					step = 2
				}
				tried := 0
				for times := 1; times <= 2; times++ {
					for k := times % step; k < n; k += step {
						disk := liveThrough(t, fmt.Sprintf("sync %d fails %d times", k, times), mode,
							vfs.Rule{Call: syncs, Skip: k, Times: times, Err: syscall.EIO})
						if hits := disk.Hits(); hits == 0 || hits != times && k < n-1 {
							continue // with the fault there are fewer
						}
						tried++
						for _, c := range disk.Calls(syncs)[k:min(k+times, len(disk.Calls(syncs)))] {
							if wrong := untouched(disk, c); wrong != "" {
								t.Errorf("sync %d, %d times: %s", k, times, wrong)
							}
						}
					}
				}
				t.Logf("%d syncs failed, of %d", tried, n)
				if tried < n/2 {
					t.Errorf("only %d of %d syncs failed", tried, n)
				}
			})
		})
	}
}

// Whatever call runs out of space, for however long: nothing that was accepted goes, and it goes on by itself.
//
// Fault: D1
func TestNoSpaceAtAnyStepLosesNothing(t *testing.T) {
	calls := []string{
		"allocate *", "write *.seg*", "write *.cur*", "truncate *", "rename *", "create *", "mkdir *", "syncdir *",
		"datasync *", "* *dead*", "create *.tmp",
	}
	synctest.Test(t, func(t *testing.T) {
		healthy := liveThrough(t, "no fault", []func(*journal.Options){small})
		hits := 0
		for i, call := range calls {
			n, _ := healthy.Count(call)
			step := max(1, n/6)
			if long() {
				step = 1
			}
			for k := i % step; k <= n; k += step {
				for _, times := range []int{1, 4} {
					mode := []func(*journal.Options){small}
					if (k+times)%3 == 0 {
						mode = append(mode, unsynced)
					}
					disk := liveThrough(t, fmt.Sprintf("%q fails %d times after %d", call, times, k), mode,
						vfs.Rule{Call: call, Skip: k, Times: times, Err: []error{syscall.ENOSPC, syscall.EDQUOT}[k%2]})
					hits += disk.Hits()
				}
			}
		}
		t.Logf("%d calls failed", hits)
		if hits < 100 {
			t.Errorf("only %d calls failed", hits)
		}
	})
}

// A disk that is full in the middle of a group refuses the group, whatever part of it it took, and nothing of it comes.
//
// Fault: D1
func TestNoSpaceWithinAGroupRefusesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed, accepted := 0, 0
		for room := int64(0); room < 24<<10; room += 512 {
			disk := vfs.NewFaulty(vfs.NewMem(1 << 40))
			store := openStore(t, disk, small)
			j := head(t, store, queue.Destination{Name: "a", Stored: true})
			s := newStory(t)
			a := s.attach(j, "a")
			for range 3 {
				if err := s.append(j, 700); err != nil {
					t.Fatal(err)
				}
			}
			disk.Plan(vfs.Rule{Call: "write *.seg*", Room: room, Err: syscall.ENOSPC})
			var wait sync.WaitGroup
			for i := range 6 {
				wait.Go(func() {
					var full *queue.FullError
					if err := s.append(j, 500+i*700); err != nil && !errors.As(err, &full) {
						t.Errorf("room for %d bytes: refused with %v", room, err)
					}
				})
			}
			wait.Wait()
			failed += disk.Hits()
			accepted += len(s.accepted)
			disk.Plan()
			pass(3 * time.Second)
			if err := s.append(j, 700); err != nil {
				t.Fatalf("room for %d bytes, then for all: %v", room, err)
			}
			got, wrong := drain(a)
			for n := range got {
				if s.refused[n] {
					t.Errorf("room for %d bytes: record %d was refused and comes", room, n)
				}
			}
			if wrong != "" || len(got) != len(s.accepted) {
				t.Errorf("room for %d bytes: %d of %d accepted records come: %s", room, len(got), len(s.accepted), wrong)
			}
			store.Close(context.Background())
		}
		if failed == 0 || accepted < 48*4+10 {
			t.Errorf("%d writes failed, %d records were accepted", failed, accepted)
		}
	})
}

// readOnly is a volume that was remounted.
func readOnly() (rules []vfs.Rule) {
	for _, op := range []string{"create", "write", "allocate", "truncate", "rename", "remove", "mkdir", "datasync", "syncdir"} {
		rules = append(rules, vfs.Rule{Call: op + " *", Err: syscall.EROFS})
	}
	return rules
}

// Fault: D6
func TestReadOnlyDiskComesBack(t *testing.T) {
	for name, mode := range map[string]func(*journal.Options){"synced": func(*journal.Options) {}, "unsynced": unsynced} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := vfs.NewMem(1 << 40)
				disk := vfs.NewFaulty(mem)
				events := &eventLog{}
				store := openStore(t, disk, small, uncached, mode, func(o *journal.Options) { o.OnEvent = events.note })
				defer store.Close(context.Background())
				j := head(t, store, queue.Destination{Name: "a", Stored: true})
				s := newStory(t)
				a := s.attach(j, "a")
				for i := range 60 {
					if err := s.append(j, i*100); err != nil {
						t.Fatal(err)
					}
				}
				pass(time.Second)
				disk.Plan(readOnly()...)
				for range 20 {
					if err := s.append(j, 1000); err != nil && !errors.Is(err, queue.ErrDisk) {
						t.Errorf("a disk that cannot be written refuses with %v", err)
					}
					pass(time.Second)
				}
				if snap := j.Snapshot(); snap.State != "broken" || snap.Err == nil {
					t.Errorf("it is %s: %v", snap.State, snap.Err)
				}
				got, wrong := drain(a)
				if wrong != "" || len(got) != len(s.accepted) {
					t.Errorf("%d of %d records were delivered meanwhile: %s", len(got), len(s.accepted), wrong)
				}
				hits := disk.Hits()
				disk.Plan()
				pass(3 * time.Second)
				if err := s.append(j, 1000); err != nil {
					t.Errorf("on a good disk again: %v", err)
				}
				if hits < 20 || len(s.refused) < 19 {
					t.Errorf("%d calls failed, %d records were refused", hits, len(s.refused))
				}
				var states []string
				for _, e := range events.of(journal.Changed) {
					states = append(states, e.Reason)
				}
				if got := strings.Join(states, " "); got != "broken ok" {
					t.Errorf("people were told of the states %q", got)
				}
				again := openStore(t, mem.KillClone(), small)
				defer again.Close(context.Background())
				j2 := head(t, again, queue.Destination{Name: "a", Stored: true})
				if got, wrong := drain(j2.Attach("a")); wrong != "" || len(got) != 1 {
					t.Errorf("%d records come after a restart, not the one that is left: %s", len(got), wrong)
				}
			})
		})
	}
}

// A journal that was full when its process died opens without room, says so, delivers, and takes records again when
// that has made room.
//
// Fault: D1 P1
func TestRestartWhileFullLosesNothing(t *testing.T) {
	for _, how := range []string{"closed", "killed", "cut off"} {
		t.Run(how, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { restartWhileFull(t, how) }) })
	}
}

func restartWhileFull(t *testing.T, how string) {
	disk := vfs.NewMem(8 << 20)
	mode := capped(1<<20, &eventLog{}, func(o *journal.Options) { o.MinFreeMiB = 1 })
	wanted := queue.Destination{Name: "a", Stored: true}
	store := openStore(t, disk, mode...)
	j := head(t, store, wanted)
	s := newStory(t)
	s.attach(j, "a")
	var full *queue.FullError
	if err := fillUp(t, s, j); !errors.As(err, &full) {
		t.Fatalf("refused with %v", err)
	}
	left := disk
	switch how {
	case "killed":
		left = disk.KillClone()
	case "cut off":
		left = disk.CrashClone(5)
	}
	if err := store.Close(context.Background()); err != nil {
		t.Error(err)
	}
	usage, err := left.Usage("/")
	if err != nil {
		t.Fatal(err)
	}
	left.SetCapacity(usage.Total - usage.Free) // not a byte is left
	store = openStore(t, left, mode...)
	defer store.Close(context.Background())
	j = head(t, store, wanted)
	a := j.Attach("a")
	pass(2 * time.Second)
	if err := s.append(j, 100<<10); !errors.As(err, &full) {
		t.Errorf("on a full disk: %v", err)
	}
	got, wrong := drain(a)
	if wrong != "" {
		t.Error(wrong)
	}
	for n := range s.accepted {
		if !got[n] {
			t.Errorf("record %d was accepted and does not come", n)
		}
	}
	pass(3 * time.Second)
	left.SetCapacity(8 << 20)
	pass(3 * time.Second)
	if err := s.append(j, 1000); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if wrong := unbalanced(j); wrong != "" {
		t.Error(wrong)
	}
}
