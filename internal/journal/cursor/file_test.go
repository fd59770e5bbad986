// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// holds checks what the file says.
func holds(t testing.TB, disk vfs.FS, want *cursor.Slot) {
	t.Helper()
	if got, err := cursor.Read(disk, name); err != nil || !same(&got, want) {
		t.Errorf("%v\n%+v\nwant\n%+v", err, got, want)
	}
}

// noTemp checks that only the cursor is in its directory.
func noTemp(t testing.TB, disk vfs.FS) {
	t.Helper()
	entries, err := disk.ReadDir(dir)
	if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name != "otlp.cur" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestACursorOnARealDisk(t *testing.T) {
	at := t.TempDir() + "/otlp.cur"
	f, err := cursor.Create(vfs.OS(), at, small(1))
	ok(t, err)
	for k := 2; k < 9; k++ {
		ok(t, f.Write(small(k)))
		if got, err := cursor.Read(vfs.OS(), at); err != nil || !same(&got, small(k)) || got.Generation != uint64(k) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	ok(t, f.Close())
	info, err := vfs.OS().Stat(at)
	if err != nil || info.Size != cursor.FileBytes || info.Mode != 0o600 || info.Allocated < cursor.FileBytes {
		t.Errorf("%+v, %v", info, err)
	}
	f, got, err := cursor.Open(vfs.OS(), at)
	if err != nil || !same(&got, small(8)) {
		t.Fatalf("%+v, %v", got, err)
	}
	ok(t, f.Write(many(4096)))
	ok(t, f.Write(many(4000)))
	ok(t, f.Close())
	if got, err := cursor.Read(vfs.OS(), at); err != nil || !same(&got, many(4000)) || got.Generation != 10 {
		t.Errorf("generation %d, %v", got.Generation, err)
	}
	entries, err := vfs.OS().ReadDir(at[:strings.LastIndex(at, "/")])
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestASlotIsOneWriteAndOneSync counts at the border.
func TestASlotIsOneWriteAndOneSync(t *testing.T) {
	disk := vfs.NewFaulty(newDisk(t))
	f, err := cursor.Create(disk, name, small(1))
	ok(t, err)
	for _, c := range []struct {
		s     *cursor.Slot
		bytes int64
	}{{small(2), 4096}, {many(4096), 4 * 4096}, {small(3), 4096}} {
		before := len(disk.Calls(""))
		ok(t, f.Write(c.s))
		calls := disk.Calls("")[before:]
		if len(calls) != 2 || !strings.HasPrefix(calls[0].Name, "write ") || calls[0].Bytes != c.bytes ||
			!strings.HasPrefix(calls[1].Name, "datasync ") {
			t.Errorf("%+v, want one write of %d bytes and a sync", calls, c.bytes)
		}
		holds(t, disk, c.s)
	}
	ok(t, f.Close())
	ok(t, f.Close())
	if err := f.Write(small(4)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("written after Close: %v", err)
	}
}

func TestWriteKeepsNothingAndChangesNothing(t *testing.T) {
	disk := newDisk(t)
	s := small(1)
	f, err := cursor.Create(disk, name, s)
	ok(t, err)
	copied := *s
	ok(t, f.Write(&copied))
	if !same(s, small(1)) || s.Generation != 0 || copied.Generation != 0 {
		t.Errorf("%+v", s)
	}
	s.Resolved.Add(1, 500)
	s.Drops[0].At, s.Exporters[0] = 5, "changed"
	holds(t, disk, small(1))
}

func TestASlotThatDoesNotFitIsNotWritten(t *testing.T) {
	disk := vfs.NewFaulty(newDisk(t))
	large := small(1)
	large.Drops = make([]cursor.Drop, cursor.MaxDrops+1)
	if _, err := cursor.Create(disk, name, large); !errors.Is(err, cursor.ErrTooLarge) {
		t.Error(err)
	}
	if _, err := disk.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	f, err := cursor.Create(disk, name, small(1))
	ok(t, err)
	before, _ := disk.Count("write *")
	if err := f.Write(large); !errors.Is(err, cursor.ErrTooLarge) || f.Err() != nil {
		t.Errorf("%v, %v", err, f.Err())
	}
	if after, _ := disk.Count("write *"); after != before {
		t.Error("something was written")
	}
	holds(t, disk, small(1))
	ok(t, f.Write(small(2)))
	holds(t, disk, small(2))
}

func TestAFileIsNeverMadeOverAnother(t *testing.T) {
	stranger, neighbour, newer := small(1), small(1), encoded(small(1))
	stranger.Journal[0], neighbour.Name = 9, "failover/logs"
	newer[16] = 2
	for what, p := range map[string][]byte{
		"garbage": []byte("not ours"), "empty": nil, "another journal's": encoded(stranger), "another name's": encoded(neighbour),
		"newer": signed(newer),
	} {
		disk := newDisk(t)
		write(t, disk, p)
		var tooNew *cursor.NewerError
		if _, err := cursor.Create(disk, name, small(2)); !errors.Is(err, fs.ErrExist) && (what != "newer" || !errors.As(err, &tooNew)) {
			t.Errorf("%s: %v", what, err)
		}
		if string(bytesOf(t, disk)) != string(p) {
			t.Errorf("%s: it was changed", what)
		}
	}
}

// TestAFileThatCouldNotBeFinishedIsMadeAgain: Create fails after the rename and cannot remove the file. The next Create
// replaces it; if that fails, the file that is there stays.
func TestAFileThatCouldNotBeFinishedIsMadeAgain(t *testing.T) {
	mem := newDisk(t)
	disk := vfs.NewFaulty(mem, vfs.Rule{Call: "syncdir *", Err: syscall.EIO}, vfs.Rule{Call: "remove *", Err: syscall.EIO})
	for k := 1; k < 4; k++ {
		if _, err := cursor.Create(disk, name, small(k)); !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
		holds(t, mem, small(k))
	}
	disk.Plan(vfs.Rule{Call: "syncdir *", Err: syscall.EIO})
	if _, err := cursor.Create(disk, name, small(4)); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	holds(t, mem, small(4))
	disk.Plan()
	create(t, disk, small(5), small(6))
	for seed := range uint64(20) {
		holds(t, mem.CrashClone(seed), small(6))
	}
	noTemp(t, mem)
}

func TestAMissingCursorIsNotDamaged(t *testing.T) {
	disk := newDisk(t)
	if _, err := cursor.Read(disk, name); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, _, err := cursor.Open(disk, name); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestAReaderBesideTheWriterSeesAWholeState reads at every call of a writer.
func TestAReaderBesideTheWriterSeesAWholeState(t *testing.T) {
	mem := newDisk(t)
	disk := vfs.NewFaulty(mem)
	f, err := cursor.Create(disk, name, small(1))
	ok(t, err)
	k := 1
	disk.Watch(vfs.Watch{Before: func(vfs.Call) {
		if got, err := cursor.Read(mem, name); err != nil || !same(&got, small(k)) && !same(&got, small(k-1)) {
			t.Errorf("while %d is written: %v, %+v", k, err, got)
		}
	}})
	for k = 2; k < 20; k++ {
		if k == 10 {
			disk.Plan(vfs.Rule{Call: "datasync *", Times: 1, Err: syscall.EIO})
		}
		ok(t, f.Write(small(k)))
	}
	if f.Condemned() != 1 || f.Err() != nil {
		t.Errorf("condemned %d times, %v", f.Condemned(), f.Err())
	}
}

// watched is a disk on which a file must not be touched after a write or sync on it failed.
type watched struct {
	vfs.FS
	t        testing.TB
	failures *int
}

type watchedFile struct {
	vfs.File
	disk   watched
	failed error
}

func (d watched) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, how, perm)
	if err != nil {
		return nil, err
	}
	return &watchedFile{File: f, disk: d}, nil
}

func (f *watchedFile) note(what string, err error) error {
	if f.failed != nil {
		f.disk.t.Errorf("%s on a file on which a call failed with %v", what, f.failed)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		f.failed = err
		*f.disk.failures++
	}
	return err
}

func (f *watchedFile) WriteVAt(parts [][]byte, off int64) (int64, error) {
	n, err := f.File.WriteVAt(parts, off)
	return n, f.note("write", err)
}

func (f *watchedFile) Datasync() error { return f.note("sync", f.File.Datasync()) }

func (f *watchedFile) Allocate(n int64) error { return f.note("allocate", f.File.Allocate(n)) }

func (f *watchedFile) Truncate(n int64) error { return f.note("truncate", f.File.Truncate(n)) }

// TestFailedSyncIsNeverTrusted: after a call on the file failed, it is never written again, and a Write returns nil
// only when the state is durable in another file.
func TestFailedSyncIsNeverTrusted(t *testing.T) {
	for _, call := range []string{"datasync *", "write *"} {
		for times := 1; times <= 4; times++ {
			mem, failures := newDisk(t), 0
			disk := vfs.NewFaulty(mem)
			f, err := cursor.Create(watched{disk, t, &failures}, name, small(1))
			ok(t, err)
			ok(t, f.Write(small(2)))
			disk.Plan(vfs.Rule{Call: call, Times: times, Err: syscall.EIO})
			last := 2
			for k := 3; k < 8; k++ {
				err := f.Write(small(k))
				if want := k-3 < times-1; (err != nil) != want || (f.Err() != nil) != want || err != nil && !errors.Is(err, syscall.EIO) {
					t.Errorf("%s fails %d times, write %d: %v, %v", call, times, k, err, f.Err())
				}
				if err == nil {
					last = k
				}
				for seed := range uint64(20) {
					got, err := cursor.Read(mem.CrashClone(seed), name)
					if err != nil || got.Delivered.Records < uint64(last) || !same(&got, small(int(got.Delivered.Records))) {
						t.Errorf("%s fails %d times, after write %d, seed %d: %+v, %v", call, times, k, seed, got, err)
					}
				}
			}
			if failures != times || f.Condemned() != 1 || disk.Hits() != times {
				t.Errorf("%s: %d calls failed, %d planned, condemned %d times", call, failures, times, f.Condemned())
			}
			noTemp(t, mem)
			ok(t, f.Close())
		}
	}
}

// TestResolvingGoesOnOnAFullDisk: neither a file that was opened nor one that was made needs room to be written; one
// that is condemned waits for it, and takes nothing meanwhile.
func TestResolvingGoesOnOnAFullDisk(t *testing.T) {
	mem := newDisk(t)
	create(t, mem, small(1))
	usage, err := mem.Usage("/")
	ok(t, err)
	used := usage.Total - usage.Free
	full := func() { mem.SetCapacity(used + 4096) }
	full()
	if _, err := cursor.Create(mem, dir+"/other.cur", small(1)); !vfs.IsFull(err) {
		t.Errorf("made without room: %v", err)
	}
	noTemp(t, mem)
	disk := vfs.NewFaulty(mem)
	f, _, err := cursor.Open(disk, name)
	ok(t, err)
	for k := 2; k < 6; k++ {
		ok(t, f.Write(many(100*k)))
		holds(t, mem.CrashClone(0), many(100*k))
	}
	noTemp(t, mem)

	disk.Plan(vfs.Rule{Call: "datasync *", Times: 1, Err: syscall.EIO})
	for k := 6; k < 9; k++ {
		if err := f.Write(small(k)); !vfs.IsFull(err) || f.Err() == nil || k == 6 != errors.Is(err, syscall.EIO) {
			t.Errorf("written without room: %v, %v", err, f.Err())
		}
		noTemp(t, mem)
	}
	mem.SetCapacity(0)
	ok(t, f.Write(small(9)))
	holds(t, mem.CrashClone(0), small(9))
	if f.Err() != nil || f.Condemned() != 1 {
		t.Errorf("%v, condemned %d times", f.Err(), f.Condemned())
	}
	ok(t, f.Close())
	if usage, err := mem.Usage("/"); err != nil || usage.Total-usage.Free != used {
		t.Errorf("%d bytes used, %d before", usage.Total-usage.Free, used)
	}
}

// TestAReadOnlyDiskIsOpenedAndComesBack: what is there can be delivered from, and is written when that works again.
func TestAReadOnlyDiskIsOpenedAndComesBack(t *testing.T) {
	mem := newDisk(t)
	create(t, mem, small(1), small(2))
	disk := vfs.NewFaulty(readOnly{mem})
	f, got, err := cursor.Open(disk, name)
	if err != nil || !same(&got, small(2)) || !errors.Is(f.Err(), syscall.EROFS) {
		t.Fatalf("%+v, %v", got, err)
	}
	for k := 3; k < 6; k++ {
		if err := f.Write(small(k)); !errors.Is(err, syscall.EROFS) {
			t.Errorf("written: %v", err)
		}
	}
	ok(t, f.Close())

	comesBack := vfs.NewFaulty(mem, vfs.Rule{Call: "datasync *", Times: 1, Err: syscall.EROFS})
	f, got, err = cursor.Open(comesBack, name)
	if err != nil || !same(&got, small(2)) || !errors.Is(f.Err(), syscall.EROFS) {
		t.Fatalf("%+v, %v", got, err)
	}
	ok(t, f.Write(small(6)))
	if f.Err() != nil {
		t.Error(f.Err())
	}
	holds(t, mem.CrashClone(0), small(6))
}

// readOnly is a disk mounted for reading.
type readOnly struct{ vfs.FS }

func (d readOnly) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	if how != vfs.Read {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	return d.FS.OpenFile(name, how, perm)
}

func (d readOnly) Remove(name string) error {
	return &fs.PathError{Op: "remove", Path: name, Err: syscall.EROFS}
}

// TestAFailedCallLeavesNothingBehind fails each call of Create, and of a Write that replaces a file.
func TestAFailedCallLeavesNothingBehind(t *testing.T) {
	for n := 1; ; n++ {
		mem := newDisk(t)
		disk := vfs.NewFaulty(mem, vfs.Rule{N: n, Err: syscall.EIO})
		_, err := cursor.Create(disk, name, small(1))
		if disk.Hits() == 0 {
			if n < 8 {
				t.Errorf("only %d calls", n-1)
			}
			break
		}
		entries, _ := mem.ReadDir(dir)
		if !errors.Is(err, syscall.EIO) || len(entries) > 0 {
			t.Errorf("call %d of Create failed: %v, left %v", n, err, entries)
		}
		create(t, disk, small(2))
		holds(t, mem.CrashClone(0), small(2))
	}
	for n := 1; ; n++ {
		mem := newDisk(t)
		disk := vfs.NewFaulty(mem)
		f, err := cursor.Create(disk, name, small(1))
		ok(t, err)
		disk.Plan(vfs.Rule{Call: "write *", Err: syscall.EIO, Times: 1}, vfs.Rule{N: len(disk.Calls("")) + 1 + n, Err: syscall.EIO})
		err = f.Write(small(2))
		if disk.Hits() == 1 {
			if n < 8 {
				t.Errorf("only %d calls", n-1)
			}
			break
		}
		if (err == nil) != (f.Err() == nil) {
			t.Errorf("call %d of Write failed: %v, %v", n, err, f.Err())
		}
		noTemp(t, mem)
		ok(t, f.Write(small(3)))
		holds(t, mem.CrashClone(0), small(3))
	}
}

func TestALeftoverIsReplaced(t *testing.T) {
	disk := newDisk(t)
	leave := func() {
		file, err := disk.OpenFile(tmp, vfs.Create, 0o600)
		ok(t, err)
		_, err = file.WriteVAt([][]byte{pattern(3 * cursor.FileBytes)}, 0)
		ok(t, errors.Join(err, file.Close()))
	}
	leave()
	create(t, disk, small(1), small(2))
	noTemp(t, disk)
	leave()
	f, _, err := cursor.Open(disk, name)
	ok(t, err)
	ok(t, f.Write(small(3)))
	noTemp(t, disk)
	holds(t, disk.CrashClone(0), small(3))
	if p := bytesOf(t, disk); len(p) != cursor.FileBytes {
		t.Errorf("%d bytes", len(p))
	}
	ok(t, f.Close())
}

func TestAFileIsExtendedWhereNothingCanBeAllocated(t *testing.T) {
	mem := newDisk(t)
	disk := vfs.NewFaulty(mem, vfs.Rule{Call: "allocate *", Err: vfs.ErrUnsupported})
	create(t, disk, small(1), small(2))
	if disk.Hits() != 1 || len(bytesOf(t, mem)) != cursor.FileBytes {
		t.Error("the file does not have its size")
	}
	holds(t, mem.CrashClone(0), small(2))
}
