// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const seeds = 600

func contents(t *testing.T, d vfs.FS, name string) string {
	t.Helper()
	f, err := d.OpenFile(name, vfs.Read, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, info.Size)
	if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return string(p)
}

// mem is a memory disk with short words for the calls that cannot fail in a test.
type mem struct {
	*vfs.Mem
	t *testing.T
}

func newMem(t *testing.T, capacity int64) mem { return mem{vfs.NewMem(capacity), t} }

func (m mem) file(name string) vfs.File {
	m.t.Helper()
	f, err := m.OpenFile(name, vfs.Create, 0o600)
	m.ok(err)
	return f
}

func (m mem) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m mem) put(f vfs.File, off int64, text string) {
	m.t.Helper()
	_, err := f.WriteVAt([][]byte{[]byte(text)}, off)
	m.ok(err)
}

// names is what the root holds after a power cut.
func (m mem) names(seed uint64) string {
	m.t.Helper()
	entries, err := m.CrashClone(seed).ReadDir("/")
	m.ok(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return strings.Join(names, " ")
}

// outcomes runs look for every seed and counts its answers. Each of want must come, and nothing else.
func (m mem) outcomes(look func(seed uint64) string, want ...string) {
	m.t.Helper()
	seen := map[string]int{}
	for seed := range uint64(seeds) {
		seen[look(seed)]++
	}
	for _, w := range want {
		if seen[w] == 0 {
			m.t.Errorf("%q never came; came: %v", w, seen)
		}
		delete(seen, w)
	}
	for other := range seen {
		m.t.Errorf("%q came", other)
	}
}

func TestSyncedBytesSurviveEveryPowerCut(t *testing.T) {
	m := newMem(t, 0)
	f := m.file("/a")
	text := strings.Repeat("durable ", 2000)
	m.put(f, 0, text)
	m.ok(f.Datasync())
	m.ok(m.SyncDir("/"))
	m.put(f, int64(len(text)), strings.Repeat("later", 2000))
	for seed := range uint64(seeds) {
		if got := contents(t, m.CrashClone(seed), "/a"); len(got) < len(text) || got[:15872] != text[:15872] {
			t.Fatalf("seed %d: what was synced is gone", seed)
		}
	}
	if got := contents(t, m, "/a"); len(got) != len(text)+10000 {
		t.Error("the clones changed the original")
	}
}

func TestUnsyncedSectorsAreOldNewOrGarbageEachOnItsOwn(t *testing.T) {
	m := newMem(t, 0)
	f := m.file("/a")
	m.put(f, 0, strings.Repeat("o", 1024))
	m.ok(f.Datasync())
	m.ok(m.SyncDir("/"))
	m.put(f, 0, strings.Repeat("m", 1024))
	m.put(f, 0, strings.Repeat("n", 1024))
	m.outcomes(func(seed uint64) string {
		got := contents(t, m.CrashClone(seed), "/a")
		var states string
		for _, sector := range []string{got[:512], got[512:]} {
			switch c := sector[:1]; {
			case strings.Contains("omn", c) && sector == strings.Repeat(c, 512):
				states += c
			default:
				states += "?"
			}
		}
		return states
	}, "oo", "on", "no", "nn", "om", "mo", "mm", "mn", "nm", "o?", "?o", "n?", "?n", "??", "m?", "?m")
	if got := contents(t, mem{m.CrashClone(0), t}, "/a"); got != strings.Repeat("o", 1024) {
		t.Errorf("seed 0 kept %q", got)
	}
	if got := contents(t, mem{m.CrashClone(1), t}, "/a"); got != strings.Repeat("n", 1024) {
		t.Errorf("seed 1 lost %q", got)
	}
}

func TestSizesAreOldOrNew(t *testing.T) {
	m := newMem(t, 0)
	f := m.file("/a")
	m.put(f, 0, "0123456789")
	m.ok(f.Datasync())
	m.ok(m.SyncDir("/"))
	m.ok(f.Truncate(4))
	m.outcomes(func(seed uint64) string { return fmt.Sprint(len(contents(t, m.CrashClone(seed), "/a"))) }, "10", "4")
	m.ok(f.Datasync())
	m.outcomes(func(seed uint64) string { return contents(t, m.CrashClone(seed), "/a") }, "0123")
}

func TestWhatATruncateCutOffIsBackWithTheOldSize(t *testing.T) {
	m := newMem(t, 0)
	f := m.file("/a")
	text := strings.Repeat("0123456789abcdef", 1024)
	m.put(f, 0, text)
	m.ok(f.Datasync())
	m.ok(m.SyncDir("/"))
	m.ok(f.Truncate(4096))
	for seed := range uint64(seeds) {
		if got := contents(t, m.CrashClone(seed), "/a"); got != text && got != text[:4096] {
			t.Fatalf("seed %d: %d bytes, not the old ones", seed, len(got))
		}
	}
}

func TestAFailedSyncLosesWhatALaterOneCannotSave(t *testing.T) {
	m := newMem(t, 0)
	faulty := vfs.NewFaulty(m, vfs.Rule{Call: "datasync *", Times: 1, Err: syscall.EIO})
	f, err := faulty.OpenFile("/a", vfs.Create, 0o600)
	m.ok(err)
	m.ok(f.Allocate(8192))
	m.ok(m.SyncDir("/"))
	m.put(f, 0, "lost")
	if err := f.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the first sync: %v", err)
	}
	m.put(f, 4096, "kept")
	m.ok(f.Datasync()) // the trap: it succeeds
	lost := 0
	for seed := range uint64(seeds) {
		got := contents(t, m.CrashClone(seed), "/a")
		if got[4096:4100] != "kept" {
			t.Fatalf("seed %d: what was synced well is gone", seed)
		}
		if got[:4] != "lost" {
			lost++
		}
	}
	if lost < seeds/2 {
		t.Errorf("lost with %d of %d seeds only", lost, seeds)
	}
	for _, seed := range []uint64{0, 1} {
		if got := contents(t, m.CrashClone(seed), "/a"); got[:4] == "lost" {
			t.Errorf("seed %d kept it", seed)
		}
	}
	if got := contents(t, m, "/a"); got[:4] != "lost" {
		t.Error("the page is not readable")
	}
	m.DropCaches()
	if got := contents(t, m, "/a"); got[:4] == "lost" || got[4096:4100] != "kept" {
		t.Error("without its cache the disk shows what it does not hold")
	}
	m.put(f, 0, "back") // written again it is dirty again
	m.ok(f.Datasync())
	if got := contents(t, mem{m.CrashClone(0), t}, "/a"); got[:4] != "back" {
		t.Error("what was written and synced again is gone")
	}
}

func TestAFailedSyncLosesNothingThatWasWrittenAfterItBegan(t *testing.T) {
	m := newMem(t, 0)
	hold := vfs.NewHold()
	faulty := vfs.NewFaulty(m, vfs.Rule{Call: "datasync *", Times: 1, Err: syscall.EIO, Hold: hold})
	f, err := faulty.OpenFile("/a", vfs.Create, 0o600)
	m.ok(err)
	m.ok(f.Allocate(8192))
	m.ok(m.SyncDir("/"))
	m.put(f, 0, "early")
	done := make(chan error)
	go func() { done <- f.Datasync() }()
	<-hold.Reached()
	m.put(f, 4096, "later")
	hold.Release()
	if err := <-done; !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	m.ok(f.Datasync())
	for seed := range uint64(seeds) {
		if got := contents(t, m.CrashClone(seed), "/a"); got[4096:4101] != "later" {
			t.Fatalf("seed %d: what the second sync covered is gone", seed)
		}
	}
	if got := contents(t, m.CrashClone(0), "/a"); got[:5] == "early" {
		t.Error("what the first sync failed on is there")
	}
}

func TestNamesAreKeptOrLostAndRenamesNeverHalf(t *testing.T) {
	m := newMem(t, 0)
	m.file("/old")
	m.file("/goes")
	m.ok(m.SyncDir("/"))
	m.ok(m.Rename("/old", "/new"))
	m.ok(m.Remove("/goes"))
	m.file("/comes")
	m.outcomes(m.names, "goes old", "goes new", "comes goes old", "comes goes new",
		"old", "new", "comes old", "comes new")
	m.ok(m.SyncDir("/"))
	m.outcomes(m.names, "comes new")
}

func TestChangesOfOneNameKeepTheirOrder(t *testing.T) {
	m := newMem(t, 0)
	m.put(m.file("/a"), 0, "first")
	m.ok(m.SyncDir("/"))
	f := m.file("/a.tmp")
	m.put(f, 0, "second")
	m.ok(f.Datasync())
	m.ok(m.Rename("/a.tmp", "/a"))
	m.file("/a.tmp")
	m.outcomes(m.names, "a", "a a.tmp")
	m.outcomes(func(seed uint64) string {
		clone := m.CrashClone(seed)
		_, err := clone.Stat("/a.tmp")
		return fmt.Sprint(len(contents(t, clone, "/a")), err == nil)
	}, "0 false", "0 true", "5 false", "5 true", "6 false", "6 true") // "first" was never synced
}

// TestANameTakenAnewCostsNoFile gives the name of a moved file to another before anything is synced, or with one of the
// two directories synced: whatever a power cut takes, the moved file has one name.
func TestANameTakenAnewCostsNoFile(t *testing.T) {
	for _, synced := range []string{"", "/from", "/to"} {
		m := newMem(t, 0)
		m.ok(m.Mkdir("/from", 0o700))
		m.ok(m.Mkdir("/to", 0o700))
		m.ok(m.SyncDir("/"))
		f := m.file("/from/a")
		m.put(f, 0, "moved")
		m.ok(f.Datasync())
		m.ok(m.SyncDir("/from"))
		m.ok(m.Rename("/from/a", "/to/b"))
		m.file("/from/a")
		if synced != "" {
			m.ok(m.SyncDir(synced))
		}
		m.outcomes(func(seed uint64) string {
			clone, at := m.CrashClone(seed), ""
			for _, name := range []string{"/from/a", "/to/b"} {
				if _, err := clone.Stat(name); err == nil && contents(t, clone, name) == "moved" {
					at += name
				}
			}
			return at
		}, map[string][]string{"": {"/from/a", "/to/b"}, "/from": {"/to/b"}, "/to": {"/from/a", "/to/b"}}[synced]...)
	}
}

func TestAMoveBetweenDirectoriesNeedsBothSynced(t *testing.T) {
	m := newMem(t, 0)
	m.ok(m.Mkdir("/from", 0o700))
	m.ok(m.Mkdir("/to", 0o700))
	m.ok(m.SyncDir("/"))
	m.file("/from/a")
	m.ok(m.SyncDir("/from"))
	m.ok(m.Rename("/from/a", "/to/b"))
	where := func(seed uint64) (at string) {
		clone := m.CrashClone(seed)
		for _, name := range []string{"/from/a", "/to/b"} {
			if _, err := clone.Stat(name); err == nil {
				at += name
			}
		}
		return at
	}
	m.outcomes(where, "/from/a", "/to/b")
	m.ok(m.SyncDir("/to"))
	m.outcomes(where, "/from/a", "/to/b")
	m.ok(m.SyncDir("/from"))
	m.outcomes(where, "/to/b")
}

func TestADirectoryNobodySyncedTakesItsFilesAlong(t *testing.T) {
	m := newMem(t, 0)
	m.ok(m.Mkdir("/d", 0o700))
	f := m.file("/d/a")
	m.put(f, 0, "x")
	m.ok(f.Datasync())
	m.ok(m.SyncDir("/d"))
	if _, err := m.CrashClone(0).Stat("/d/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	m.ok(m.SyncDir("/"))
	if got := contents(t, m.CrashClone(0), "/d/a"); got != "x" {
		t.Errorf("the file holds %q", got)
	}
}

func TestAKilledProcessLeavesAllItWrote(t *testing.T) {
	m := newMem(t, 0)
	lock, err := m.Lock("/LOCK")
	m.ok(err)
	f := m.file("/a")
	m.put(f, 0, "written")
	m.file("/gone")
	m.ok(m.SyncDir("/"))
	m.ok(m.Remove("/gone"))
	clone := mem{m.KillClone(), t}
	if got := contents(t, clone, "/a"); got != "written" {
		t.Errorf("read %q", got)
	}
	_, err = clone.Lock("/LOCK")
	clone.ok(err)
	clone.outcomes(clone.names, "LOCK a", "LOCK a gone") // the machine may still lose its power
	clone.outcomes(func(seed uint64) string { return fmt.Sprint(len(contents(t, clone.CrashClone(seed), "/a"))) }, "0", "7")
	m.put(f, 0, "changed")
	if got := contents(t, clone, "/a"); got != "written" {
		t.Error("the clone sees what the original does")
	}
	m.ok(lock.Close())
}

func TestEqualSeedsChooseEqually(t *testing.T) {
	build := func() *vfs.Mem {
		m := newMem(t, 0)
		for i := range 20 {
			f := m.file(fmt.Sprint("/", i))
			m.put(f, 0, strings.Repeat("x", 3000))
			if i%3 == 0 {
				m.ok(f.Datasync())
			}
			m.put(f, 1000, strings.Repeat("y", 3000))
		}
		return m.Mem
	}
	show := func(m *vfs.Mem) (all string) {
		entries, err := m.ReadDir("/")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all += e.Name + "=" + contents(t, m, "/"+e.Name) + "\n"
		}
		return all
	}
	a, b := build(), build()
	different := false
	for seed := range uint64(20) {
		first := show(a.CrashClone(seed))
		if first != show(a.CrashClone(seed)) || first != show(b.CrashClone(seed)) {
			t.Errorf("seed %d chose twice", seed)
		}
		different = different || first != show(a.CrashClone(seed+1))
	}
	if !different {
		t.Error("all seeds choose the same")
	}
}

func TestAFullDiskTakesWhatFitsAndFreesWhatIsDeleted(t *testing.T) {
	m := newMem(t, 5*4096)
	a := m.file("/a")
	m.ok(a.Allocate(3 * 4096))
	b := m.file("/b")
	n, err := b.WriteVAt([][]byte{make([]byte, 3*4096)}, 100)
	if !vfs.IsFull(err) || n != 2*4096-100 {
		t.Errorf("wrote %d, %v", n, err)
	}
	m.put(a, 0, strings.Repeat("x", 3*4096)) // what was allocated needs no room
	if err := b.Allocate(3 * 4096); !vfs.IsFull(err) {
		t.Errorf("allocated: %v", err)
	}
	u, err := m.Usage("/")
	if err != nil || u.Free != 0 || u.Total != 5*4096 {
		t.Errorf("usage %+v, %v", u, err)
	}
	m.ok(m.Remove("/a"))
	if u, _ := m.Usage("/"); u.Free != 0 {
		t.Error("a file that is open was freed")
	}
	m.ok(a.Close())
	if u, _ := m.Usage("/"); u.Free != 3*4096 {
		t.Errorf("free %d", u.Free)
	}
	m.ok(b.Truncate(1))
	m.SetCapacity(2 * 4096)
	if u, _ := m.Usage("/"); u.Free != 4096 {
		t.Errorf("free %d", u.Free)
	}
	for seed := range uint64(seeds) {
		if u, err := m.CrashClone(seed).Usage("/"); err != nil || u.Total != 2*4096 {
			t.Fatalf("seed %d: usage %+v, %v", seed, u, err)
		}
	}
}

// TestTheMemoryDiskAnswersLikeARealOne makes the same random calls on both.
func TestTheMemoryDiskAnswersLikeARealOne(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		a, b := disk{vfs.OS(), t, t.TempDir()}, disk{vfs.NewMem(0), t, "/"}
		var left, right []vfs.File
		for step := range 300 {
			name := fmt.Sprint(random.IntN(4))
			if random.IntN(3) == 0 {
				name = filepath.Join("d", name)
			}
			other := fmt.Sprint(random.IntN(4))
			what := random.IntN(10)
			names := func(d disk) error {
				switch what {
				case 0:
					return d.Mkdir(d.path("d"), 0o700)
				case 1:
					return d.Rename(d.path(name), d.path(other))
				case 2:
					return d.Remove(d.path(name))
				case 3:
					return d.SyncDir(d.path("d"))
				}
				return nil
			}
			if what < 4 {
				same(t, seed, step, names(a), names(b))
				continue
			}
			if what == 4 {
				how := vfs.Access(random.IntN(3))
				f, errA := a.OpenFile(a.path(name), how, 0o600)
				g, errB := b.OpenFile(b.path(name), how, 0o600)
				same(t, seed, step, errA, errB)
				if errA == nil && errB == nil {
					left, right = append(left, f), append(right, g)
				}
				continue
			}
			if len(left) == 0 {
				continue
			}
			i := random.IntN(len(left))
			off, size := random.Int64N(20000), random.Int64N(20000)
			data := bytes.Repeat([]byte{byte(step)}, int(size))
			files := func(f vfs.File) (string, error) {
				switch what {
				case 5, 6:
					n, err := f.WriteVAt([][]byte{data[:size/2], data[size/2:]}, off)
					return fmt.Sprint(n), err
				case 7:
					return "", f.Truncate(size)
				case 8:
					err := f.Allocate(size + 1)
					return "", err
				}
				p := make([]byte, size)
				n, err := f.ReadAt(p, off)
				return fmt.Sprint(n, string(p[:n])), err
			}
			gotA, errA := files(left[i])
			gotB, errB := files(right[i])
			same(t, seed, step, errA, errB)
			infoA, _ := left[i].Stat()
			infoB, _ := right[i].Stat()
			if gotA != gotB || infoA.Size != infoB.Size {
				t.Fatalf("seed %d step %d: call %d gives %.60q size %d and %.60q size %d",
					seed, step, what, gotA, infoA.Size, gotB, infoB.Size)
			}
		}
		for i := range left {
			same(t, seed, -1, left[i].Close(), right[i].Close())
		}
	}
}

func same(t *testing.T, seed uint64, step int, a, b error) {
	t.Helper()
	if (a == nil) != (b == nil) {
		t.Fatalf("seed %d step %d: %v on the real disk, %v in memory", seed, step, a, b)
	}
	for _, class := range []error{fs.ErrExist, fs.ErrNotExist, fs.ErrClosed, io.EOF} {
		if errors.Is(a, class) != errors.Is(b, class) {
			t.Fatalf("seed %d step %d: %v on the real disk, %v in memory", seed, step, a, b)
		}
	}
}
