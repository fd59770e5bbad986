// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// hold locks a directory as another process does.
func hold(t *testing.T, disk vfs.FS, at, text string) vfs.File {
	t.Helper()
	f, err := disk.Lock(at + "/LOCK")
	must(t, err)
	_, err = f.WriteVAt([][]byte{[]byte(text)}, 0)
	must(t, err)
	return f
}

func TestWhoWaitsForTheLockIsToldWhoHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		must(t, disk.Mkdir("/s", 0o750))
		text := "pid 7 on other-host\x1b[31m\nsince " + time.Now().Add(-90*time.Minute).UTC().Format(time.RFC3339) + "\n"
		hold(t, disk, "/s", text)
		set := settings(disk, "/s")
		set.Timeout = 10*time.Second + 20*time.Millisecond
		start := time.Now()
		_, err := space.Open(t.Context(), set)
		var locked *space.LockedError
		if !errors.As(err, &locked) || !errors.Is(err, vfs.ErrLocked) {
			t.Fatalf("opened what another has locked: %v", err)
		}
		equal(t, "the wait", time.Since(start), set.Timeout)
		equal(t, "the error", err.Error(), `directory "/s" is in use by pid 7 on other-host[31m, for 1h30m10s`)
	})
}

func TestTheLockIsTakenAsSoonAsItIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		must(t, disk.Mkdir("/s", 0o750))
		other := hold(t, disk, "/s", "")
		time.AfterFunc(975*time.Millisecond, func() { other.Close() })
		set := settings(disk, "/s")
		set.Timeout = 10 * time.Second
		start := time.Now()
		open(t, set)
		equal(t, "the wait", time.Since(start), time.Second)
	})
}

func TestWaitingForTheLockEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		must(t, disk.Mkdir("/s", 0o750))
		other := hold(t, disk, "/s", "no line that says since when")
		set := settings(disk, "/s")
		set.Timeout = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 70*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := space.Open(ctx, set)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("gave up with %v", err)
		}
		contains(t, err.Error(), "no line that says since when")
		equal(t, "the wait", time.Since(start), 70*time.Millisecond)
		must(t, other.Close())
		open(t, set) // nothing is left behind
	})
}

func TestOneProcessOpensADirectoryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		first := open(t, settings(disk, dir))
		set := settings(disk, "/var/../var/lib//store/")
		_, err := space.Open(t.Context(), set) // Timeout 0: one try
		var locked *space.LockedError
		if !errors.As(err, &locked) || !locked.Here {
			t.Fatalf("opened twice: %v", err)
		}
		contains(t, err.Error(), "this process already")
		if id, err := space.Identify(disk, set.Directory); err != nil || id != first.Identity() {
			t.Errorf("%v, %v is not %v", id, err, first.Identity())
		}
		set.Timeout = time.Minute
		time.AfterFunc(975*time.Millisecond, func() { first.Close() })
		start := time.Now()
		second := open(t, set)
		equal(t, "the wait", time.Since(start), time.Second)
		must(t, first.Close()) // again: does not unlock for the second
		if _, err := space.Open(t.Context(), settings(disk, dir)); !errors.As(err, &locked) || !locked.Here {
			t.Errorf("closing twice unlocks the next: %v", err)
		}
		must(t, second.Close())
		open(t, settings(disk, dir))
	})
}

func TestDisksWithTheSameNumbersAreNotOneDirectory(t *testing.T) {
	one, two := vfs.NewMem(0), vfs.NewMem(0)
	open(t, settings(one, dir))
	open(t, settings(two, dir))
	open(t, settings(one.KillClone(), dir)) // a killed process holds nothing
}

func TestLockSaysWhoHoldsIt(t *testing.T) {
	disk := vfs.NewMem(0)
	set := settings(disk, "/s")
	set.Owner = "pid 1 on a-host-with-a-long-name"
	set.Now = func() time.Time { return time.Unix(1_000_000_000, 0) }
	must(t, open(t, set).Close())
	set.Owner = "pid 2"
	open(t, set)
	f, err := disk.OpenFile("/s/"+layout.LockFile, vfs.Read, 0)
	must(t, err)
	text := make([]byte, 100)
	n, _ := f.ReadAt(text, 0)
	equal(t, "LOCK", string(text[:n]), "pid 2\nsince 2001-09-09T01:46:40Z\n")
}

func TestALockThatLostItsNameIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(0)
		disk := vfs.NewFaulty(mem)
		removed := false
		disk.Watch(vfs.Watch{After: func(c vfs.Call) {
			if c.Name == "lock /s/LOCK" && !removed { // by hand, at the worst moment
				removed = true
				must(t, mem.Remove("/s/LOCK"))
			}
		}})
		set := settings(disk, "/s")
		set.Timeout = time.Second
		s := open(t, set)
		must(t, s.Share("traces", true).Room(1))
		if _, err := mem.Lock("/s/LOCK"); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("LOCK can be locked by another: %v", err)
		}
	})
}

// Whatever call of Open fails: the next Open succeeds, what it made is durable, and what was there still is.
func TestAFaultInOpenDoesNotStopTheNext(t *testing.T) {
	prepare := func() *vfs.Mem {
		mem := vfs.NewMem(0)
		must(t, mem.Mkdir("/var", 0o755))
		must(t, mem.SyncDir("/"))
		return mem
	}
	reopen := prepare()
	open(t, settings(reopen, dir)).Close()
	journal(t, reopen, dir, "traces")
	put(t, reopen, layout.Pipeline(dir, "traces")+"/seg/0000000001.seg", 64*kib)
	put(t, reopen, dir+"/probe", 4096)
	put(t, reopen, dir+"/pipelines/probe.tmp", 4096)
	for what, disk := range map[string]func() *vfs.Mem{"first": prepare, "later": reopen.KillClone} {
		for _, fault := range []error{syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.EACCES} {
			tolerated, failed := 0, 0
			for n := 1; ; n++ {
				mem := disk()
				faulty := vfs.NewFaulty(mem, vfs.Rule{N: n, Err: fault})
				s, err := space.Open(t.Context(), settings(faulty, dir))
				if faulty.Hits() == 0 {
					if err != nil {
						t.Fatal(err)
					}
					faulty.Plan()
					must(t, s.Close())
					break
				}
				call := faulty.Calls("")[n-1].Name
				killed, cut := mem.KillClone(), mem.CrashClone(uint64(n))
				if err == nil {
					tolerated++
					must(t, s.Close())
				} else {
					failed++
				}
				for how, next := range map[string]*vfs.Mem{"the same disk": mem, "a kill": killed, "a power cut": cut} {
					s, err := space.Open(t.Context(), settings(next, dir))
					if err != nil {
						t.Fatalf("%s open, %v at call %d (%s), then %s: %v", what, fault, n, call, how, err)
					}
					if _, err := next.CrashClone(0).Stat(dir + "/pipelines"); err != nil {
						t.Errorf("%s open, %v at call %d (%s), then %s: not durable: %v", what, fault, n, call, how, err)
					}
					equal(t, "what the books say after "+call, s.Snapshot().Total(), allocated(t, next, dir))
					equal(t, "RESERVE after "+call, s.Snapshot().Reserve, 64*kib)
					must(t, s.Close())
				}
			}
			if tolerated == 0 || failed == 0 {
				t.Errorf("%s open, %v: %d calls may fail, %d must not", what, fault, tolerated, failed)
			}
		}
	}
}
