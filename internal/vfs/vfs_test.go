// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// disk is one implementation with a directory to work in.
type disk struct {
	vfs.FS
	*testing.T
	dir string
}

// onEveryDisk runs a promise of the contract on the real disk, the one in memory and the one with faults and no plan.
func onEveryDisk(t *testing.T, promise func(d disk)) {
	t.Run("os", func(t *testing.T) { promise(disk{vfs.OS(), t, t.TempDir()}) })
	t.Run("mem", func(t *testing.T) { promise(disk{vfs.NewMem(0), t, "/"}) })
	t.Run("faulty", func(t *testing.T) { promise(disk{vfs.NewFaulty(vfs.NewMem(0)), t, "/"}) })
}

func (d disk) path(name string) string { return filepath.Join(d.dir, name) }

func (d disk) ok(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d disk) is(err, want error) {
	d.Helper()
	if !errors.Is(err, want) {
		d.Errorf("got %v, want %v", err, want)
	}
}

func (d disk) create(name string) vfs.File {
	d.Helper()
	f, err := d.OpenFile(d.path(name), vfs.Create, 0o600)
	d.ok(err)
	d.Cleanup(func() { _ = f.Close() })
	return f
}

func (d disk) write(f vfs.File, off int64, parts ...string) {
	d.Helper()
	var all [][]byte
	total := 0
	for _, p := range parts {
		all, total = append(all, []byte(p)), total+len(p)
	}
	n, err := f.WriteVAt(all, off)
	if err != nil || n != int64(total) {
		d.Fatalf("wrote %d of %d: %v", n, total, err)
	}
}

func (d disk) reads(f vfs.File, want string) {
	d.Helper()
	info, err := f.Stat()
	d.ok(err)
	got := make([]byte, info.Size)
	_, err = f.ReadAt(got, 0)
	if err != nil && err != io.EOF || string(got) != want {
		d.Errorf("read %q, %v; want %q", got, err, want)
	}
}

func TestWhatWasWrittenIsRead(t *testing.T) {
	onEveryDisk(t, func(d disk) {
		f := d.create("a")
		d.write(f, 0, "head", "", "body")
		d.write(f, 12, "behind")
		d.write(f, 2, "AD")
		d.reads(f, "heADbody\x00\x00\x00\x00behind")

		p := make([]byte, 10)
		if n, err := f.ReadAt(p, 12); n != 6 || err != io.EOF {
			d.Errorf("across the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(p, 100); n != 0 || err != io.EOF {
			d.Errorf("behind the end: %d, %v", n, err)
		}
		d.ok(f.Datasync())
		f.DropBehind(0, 18)
	})
}

func TestMorePartsThanOneCallTakesAreAllWritten(t *testing.T) {
	onEveryDisk(t, func(d disk) {
		f := d.create("a")
		var parts [][]byte
		var want []byte
		for i := range 5000 {
			p := bytes.Repeat([]byte{byte(i)}, i%7)
			parts, want = append(parts, p), append(want, p...)
		}
		before := slices.Clone(parts)
		n, err := f.WriteVAt(parts, 3)
		if err != nil || n != int64(len(want)) {
			d.Fatalf("wrote %d of %d: %v", n, len(want), err)
		}
		d.reads(f, "\x00\x00\x00"+string(want))
		if !slices.EqualFunc(parts, before, bytes.Equal) {
			d.Error("the caller's parts were changed")
		}
	})
}

func TestOpeningSaysWhatIsThere(t *testing.T) {
	onEveryDisk(t, func(d disk) {
		d.ok(d.Mkdir(d.path("dir"), 0o750))
		f := d.create("dir/a")
		d.write(f, 0, "x")
		_, err := d.OpenFile(d.path("dir/a"), vfs.Create, 0o600)
		d.is(err, fs.ErrExist)
		_, err = d.OpenFile(d.path("dir/b"), vfs.Read, 0)
		d.is(err, fs.ErrNotExist)
		_, err = d.OpenFile(d.path("no/b"), vfs.Create, 0o600)
		d.is(err, fs.ErrNotExist)
		if _, err = d.OpenFile(d.path("dir"), vfs.Read, 0); err == nil {
			d.Error("a directory was opened as a file")
		}
		d.is(d.Mkdir(d.path("dir"), 0o700), fs.ErrExist)

		r, err := d.OpenFile(d.path("dir/a"), vfs.Read, 0)
		d.ok(err)
		if _, err := r.WriteVAt([][]byte{{1}}, 0); err == nil {
			d.Error("a file opened for reading was written")
		}
		d.reads(r, "x")
		d.ok(r.Close())
		for _, err := range []error{r.Datasync(), r.Truncate(0), r.Allocate(1), r.Close()} {
			d.is(err, fs.ErrClosed)
		}
		_, err = r.ReadAt(make([]byte, 1), 0)
		d.is(err, fs.ErrClosed)
		_, err = r.WriteVAt([][]byte{{1}}, 0)
		d.is(err, fs.ErrClosed)
		_, err = r.Stat()
		d.is(err, fs.ErrClosed)
	})
}

func TestModesAreExactWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o777)
	defer syscall.Umask(old)
	onEveryDisk(t, func(d disk) {
		d.ok(d.Mkdir(d.path("dir"), 0o755))
		d.create("dir/a")
		for name, want := range map[string]fs.FileMode{"dir": fs.ModeDir | 0o755, "dir/a": 0o600} {
			info, err := d.Stat(d.path(name))
			if err != nil || info.Mode != want {
				d.Errorf("%s: mode %v, %v; want %v", name, info.Mode, err, want)
			}
		}
	})
}

func TestNamesMoveAndGoWhileFilesStayOpen(t *testing.T) {
	onEveryDisk(t, func(d disk) {
		a, b := d.create("a"), d.create("b")
		d.write(a, 0, "aa")
		d.write(b, 0, "bb")
		d.ok(d.Rename(d.path("a"), d.path("b")))
		d.reads(a, "aa")
		d.reads(b, "bb") // its name is gone, its bytes are not
		now, err := d.Stat(d.path("b"))
		d.ok(err)
		open, err := a.Stat()
		d.ok(err)
		if !now.Same(open) || open.Inode == 0 {
			d.Errorf("b is %+v, the file renamed to it %+v", now, open)
		}
		d.is(d.Remove(d.path("a")), fs.ErrNotExist)
		d.is(d.Rename(d.path("a"), d.path("c")), fs.ErrNotExist)
		d.ok(d.Remove(d.path("b")))
		d.reads(a, "aa")
		d.ok(d.SyncDir(d.dir))

		d.ok(d.Mkdir(d.path("full"), 0o700))
		d.create("full/x")
		if d.Remove(d.path("full")) == nil {
			d.Error("a directory with a file in it was removed")
		}
		d.is(d.SyncDir(d.path("none")), fs.ErrNotExist)
	})
}

func TestDirectoriesAreListedInOrder(t *testing.T) {
	onEveryDisk(t, func(d disk) {
		for _, name := range []string{"c", "a", "b"} {
			d.create(name)
		}
		d.ok(d.Mkdir(d.path("0"), 0o700))
		got, err := d.ReadDir(d.dir)
		want := []vfs.Entry{{Name: "0", Type: fs.ModeDir}, {Name: "a"}, {Name: "b"}, {Name: "c"}}
		if err != nil || !slices.Equal(got, want) {
			d.Errorf("got %v, %v", got, err)
		}
		_, err = d.ReadDir(d.path("none"))
		d.is(err, fs.ErrNotExist)
	})
}

func TestAllocatedBlocksAreCounted(t *testing.T) {
	onEveryDisk(t, func(d disk) {
		f := d.create("a")
		if err := f.Allocate(1 << 20); errors.Is(err, vfs.ErrUnsupported) {
			d.Skip("SKIP allocation: this volume cannot allocate")
		} else {
			d.ok(err)
		}
		info, err := f.Stat()
		d.ok(err)
		if info.Size != 1<<20 || info.Allocated < 1<<20 || info.Allocated > 1<<20+64<<10 {
			d.Errorf("after allocation: %+v", info)
		}
		d.write(f, 0, "x")
		d.ok(f.Truncate(4097))
		info, err = f.Stat()
		d.ok(err)
		if info.Size != 4097 || info.Allocated > 128<<10 {
			d.Errorf("after cutting: %+v", info)
		}
		d.ok(f.Truncate(1 << 20))
		p := make([]byte, 1<<20)
		if _, err := f.ReadAt(p, 0); err != nil || p[0] != 'x' || len(bytes.Trim(p[1:], "\x00")) != 0 {
			d.Errorf("what was added is not zeros (%v)", err)
		}
		if u, err := d.Usage(d.dir); err != nil || u.Total <= 0 || u.Free <= 0 || u.Free > u.Total || u.Kind == "" {
			d.Errorf("usage %+v, %v", u, err)
		}
	})
}

func TestALockHasOneOwner(t *testing.T) {
	onEveryDisk(t, func(d disk) {
		first, err := d.Lock(d.path("LOCK"))
		d.ok(err)
		_, err = d.Lock(d.path("LOCK"))
		d.is(err, vfs.ErrLocked)
		d.write(first, 0, "owner")
		r, err := d.OpenFile(d.path("LOCK"), vfs.Read, 0) // who is turned away can read whose it is
		d.ok(err)
		d.reads(r, "owner")
		d.ok(r.Close())
		d.ok(first.Close())
		second, err := d.Lock(d.path("LOCK"))
		d.ok(err)
		d.reads(second, "owner")
		d.ok(second.Close())
	})
}

func TestLinksAreNotFollowed(t *testing.T) {
	d := disk{vfs.OS(), t, t.TempDir()}
	d.create("target")
	d.ok(d.Mkdir(d.path("dir"), 0o700))
	d.ok(os.Symlink(d.path("target"), d.path("link")))
	d.ok(os.Symlink(d.path("dir"), d.path("dirlink")))
	for _, how := range []vfs.Access{vfs.Read, vfs.Write, vfs.Create} {
		if _, err := d.OpenFile(d.path("link"), how, 0o600); err == nil {
			t.Errorf("access %d followed a link", how)
		}
	}
	if _, err := d.Lock(d.path("link")); err == nil {
		t.Error("a lock followed a link")
	}
	if d.SyncDir(d.path("dirlink")) == nil {
		t.Error("a directory sync followed a link")
	}
	if info, err := d.Stat(d.path("link")); err != nil || info.Mode.Type() != fs.ModeSymlink {
		t.Errorf("link is %v, %v", info.Mode, err)
	}
	real, err := filepath.EvalSymlinks(d.dir)
	d.ok(err)
	got, err := d.Resolve(d.path("dirlink/not/yet"))
	if want := filepath.Join(real, "dir/not/yet"); err != nil || got != want {
		t.Errorf("resolved to %q, %v; want %q", got, err, want)
	}
	d.ok(os.Symlink(d.path("nowhere"), d.path("dangling")))
	if got, err := d.Resolve(d.path("dangling/x")); err == nil {
		t.Errorf("a link that leads nowhere was resolved to %q", got)
	}
}

func TestAPipeUnderOurNameBlocksNobody(t *testing.T) {
	d := disk{vfs.OS(), t, t.TempDir()}
	d.ok(syscall.Mkfifo(d.path("fifo"), 0o600))
	for _, how := range []vfs.Access{vfs.Read, vfs.Write} {
		if _, err := d.OpenFile(d.path("fifo"), how, 0); err == nil {
			t.Errorf("a pipe was opened, access %d", how)
		}
	}
}

func TestFullIsTold(t *testing.T) {
	for err, want := range map[error]bool{
		&fs.PathError{Err: syscall.ENOSPC}: true, &fs.PathError{Err: syscall.EDQUOT}: true,
		&fs.PathError{Err: syscall.EIO}: false, errors.New("other"): false,
	} {
		if vfs.IsFull(err) != want {
			t.Errorf("%v: full is not %v", err, want)
		}
	}
}
