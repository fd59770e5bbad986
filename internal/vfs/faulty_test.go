// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// script makes a few calls of each kind and stops at the first error.
func script(d vfs.FS) error {
	if err := d.Mkdir("/d", 0o700); err != nil {
		return err
	}
	f, err := d.OpenFile("/d/a", vfs.Create, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteVAt([][]byte{[]byte("0123"), []byte("4567")}, 0)
	p := make([]byte, 8)
	return firstOf(err,
		func() error { return f.Allocate(8192) },
		func() error { return f.Datasync() },
		func() error { _, err := f.ReadAt(p, 0); return err },
		func() error { return f.Truncate(8) },
		func() error { _, err := f.Stat(); return err },
		f.Close,
		func() error { return d.Rename("/d/a", "/d/b") },
		func() error { return d.SyncDir("/d") },
		func() error { _, err := d.Stat("/d/b"); return err },
		func() error { _, err := d.ReadDir("/d"); return err },
		func() error { _, err := d.Usage("/d"); return err },
		func() error { _, err := d.Resolve("/d"); return err },
		func() error { _, err := d.Lock("/d/LOCK"); return err },
		func() error { _, err := d.OpenFile("/d/b", vfs.Read, 0); return err },
		func() error { return d.Remove("/d/b") },
	)
}

func firstOf(err error, steps ...func() error) error {
	for _, step := range steps {
		if err != nil {
			return err
		}
		err = step()
	}
	return err
}

func TestEveryCallCanFail(t *testing.T) {
	clean := vfs.NewFaulty(vfs.NewMem(0))
	if err := script(clean); err != nil {
		t.Fatal(err)
	}
	all := clean.Calls("")
	kinds := map[string]bool{}
	for n, c := range all {
		op, _, _ := strings.Cut(c.Name, " ")
		kinds[op] = true
		f := vfs.NewFaulty(vfs.NewMem(0), vfs.Rule{N: n + 1, Err: syscall.EIO})
		err := script(f)
		if !errors.Is(err, syscall.EIO) || f.Hits() != 1 {
			t.Errorf("call %d, %s: %v, %d hits", n+1, c.Name, err, f.Hits())
		}
		if got := f.Calls(""); len(got) != n+1 || got[n] != c {
			t.Errorf("call %d, %s: went on to %v", n+1, c.Name, got)
		}
	}
	if len(kinds) != 18 {
		t.Errorf("the script makes calls of %d kinds", len(kinds))
	}
}

func TestRulesFitByNameAndCount(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem(0))
	try := func(pattern string, rule vfs.Rule, want ...bool) {
		t.Helper()
		rule.Call, rule.Err = pattern, syscall.EROFS
		f.Plan(rule)
		for i, fails := range want {
			if _, err := f.Stat("/"); errors.Is(err, syscall.EROFS) != fails {
				t.Errorf("%q %+v: call %d: %v", pattern, rule, i, err)
			}
		}
	}
	try("stat /", vfs.Rule{}, true, true)
	try("stat *", vfs.Rule{Skip: 1}, false, true, true)
	try("*at*", vfs.Rule{Skip: 1, Times: 1}, false, true, false)
	try("*a*/", vfs.Rule{Times: 2}, true, true, false)
	try("", vfs.Rule{Times: 1}, true, false)
	try("stat /x", vfs.Rule{}, false)
	try("lstat*", vfs.Rule{}, false)
	try("*sta", vfs.Rule{}, false)
	if calls, _ := f.Count("stat *"); calls != 16 {
		t.Errorf("counted %d", calls)
	}
}

func TestSpaceEndsAtEveryByte(t *testing.T) {
	for room := range int64(21) {
		mem := vfs.NewMem(0)
		f := vfs.NewFaulty(mem, vfs.Rule{Call: "write *", Err: syscall.ENOSPC, Room: room})
		file, err := f.OpenFile("/a", vfs.Create, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		var written int64
		for range 4 {
			n, err := file.WriteVAt([][]byte{[]byte("012"), []byte("34")}, written)
			written += n
			if full := vfs.IsFull(err); full != (n < 5) {
				t.Errorf("room %d: wrote %d, %v", room, n, err)
			}
			if err != nil {
				break
			}
		}
		info, _ := file.Stat()
		if want := min(room, 20); written != want || info.Size != want {
			t.Errorf("room %d: wrote %d, size %d", room, written, info.Size)
		}
	}
}

func TestALiarSaysYesAndDoesNothing(t *testing.T) {
	mem := vfs.NewMem(0)
	f := vfs.NewFaulty(mem, vfs.Rule{Lie: true, Call: "datasync *"}, vfs.Rule{Lie: true, Call: "syncdir *"})
	file, err := f.OpenFile("/a", vfs.Create, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteVAt([][]byte{[]byte("x")}, 0)
	if err := firstOf(err, file.Datasync, func() error { return f.SyncDir("/") }); err != nil {
		t.Fatal(err)
	}
	if _, err := mem.CrashClone(0).Stat("/a"); err == nil {
		t.Error("the name is durable")
	}
	if err := mem.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	if info, err := mem.CrashClone(0).Stat("/a"); err != nil || info.Size != 0 {
		t.Errorf("the bytes are durable: %+v, %v", info, err)
	}
}

func TestACallIsHeldUntilReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sized := newMem(t, 0)
		mem := sized.Mem
		hold := vfs.NewHold()
		f := vfs.NewFaulty(mem, vfs.Rule{Call: "datasync *", Hold: hold})
		file, err := f.OpenFile("/a", vfs.Create, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		write := func(text string, off int64) {
			t.Helper()
			if _, err := file.WriteVAt([][]byte{[]byte(text)}, off); err != nil {
				t.Fatal(err)
			}
		}
		write("early", 0)
		if err := mem.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- file.Datasync() }()
		<-hold.Reached()
		write("later", 4096)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("the sync ended: %v", err)
		default:
		}
		hold.Release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		got := contents(t, mem.CrashClone(0), "/a")
		if got[:5] != "early" || strings.Contains(got, "later") {
			t.Errorf("the sync covered %q: it must cover what was written before it was called, no more", got)
		}
		sized.outcomes(func(seed uint64) string { return fmt.Sprint(len(contents(t, mem.CrashClone(seed), "/a"))) }, "5", "4101")
	})
}

func TestWatchersSeeEveryCallFromOutside(t *testing.T) {
	mem := vfs.NewMem(0)
	f := vfs.NewFaulty(mem)
	var seen []string
	f.Watch(vfs.Watch{
		Before: func(c vfs.Call) { seen = append(seen, fmt.Sprint("<", c.N)); mem.KillClone() },
		After:  func(c vfs.Call) { seen = append(seen, fmt.Sprint(">", c.N)); mem.CrashClone(7) },
	})
	if err := script(f); err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range f.Calls("") {
		want = append(want, fmt.Sprint("<", n+1), fmt.Sprint(">", n+1))
	}
	if !slices.Equal(seen, want) {
		t.Errorf("saw %v", seen)
	}
}
