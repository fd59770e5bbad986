// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags are on every call that opens: a planted link leads nowhere, a child process inherits nothing.
const openFlags = unix.O_NOFOLLOW | unix.O_CLOEXEC

// lockPerm is the mode of a lock file: its text is for whoever may read the rest.
const lockPerm = 0o600

type osFS struct{}

// OS is the real disk.
func OS() FS { return osFS{} }

func (osFS) OpenFile(name string, how Access, perm fs.FileMode) (File, error) {
	flags := os.O_RDONLY
	switch how {
	case Write:
		flags = os.O_RDWR
	case Create:
		flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	}
	f, err := openOS(name, flags, perm)
	if err != nil || how != Create {
		return f.orNil(err)
	}
	if err := f.file.Chmod(perm); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(name))
	}
	return f, nil
}

// openOS opens a regular file. A directory, pipe or device under a name of ours is refused before it can block anybody.
func openOS(name string, flags int, perm fs.FileMode) (*osFile, error) {
	file, err := os.OpenFile(name, flags|openFlags|unix.O_NONBLOCK, perm)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	var raw syscall.RawConn
	if err == nil {
		raw, err = file.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &osFile{file: file, raw: raw}, nil
}

// orNil keeps a nil *osFile from becoming a File that is not nil.
func (f *osFile) orNil(err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Mkdir(name string, perm fs.FileMode) error {
	if err := os.Mkdir(name, perm); err != nil {
		return err
	}
	return os.Chmod(name, perm)
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) ReadDir(name string) ([]Entry, error) {
	dir, err := openDir(name)
	if err != nil {
		return nil, err
	}
	found, err := dir.ReadDir(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return nil, err
	}
	entries := make([]Entry, len(found))
	for i, e := range found {
		entries[i] = Entry{Name: e.Name(), Type: e.Type()}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func openDir(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|openFlags|unix.O_DIRECTORY, 0)
}

func (osFS) SyncDir(name string) error {
	dir, err := openDir(name)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}

func (osFS) Stat(name string) (Info, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	return describe(info)
}

func describe(info fs.FileInfo) (Info, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Info{}, fmt.Errorf("stat %s: no inode on this system: %w", info.Name(), ErrUnsupported)
	}
	return Info{
		Size:      info.Size(),
		Allocated: int64(st.Blocks) * 512, // st_blocks counts 512 bytes, whatever the volume's block
		Device:    uint64(st.Dev),
		Inode:     st.Ino,
		Mode:      info.Mode(),
	}, nil
}

func (osFS) Usage(name string) (Usage, error) {
	var st unix.Statfs_t
	err := again(func() error { return unix.Statfs(name, &st) })
	if err != nil {
		return Usage{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	unit := int64(st.Bsize)
	return Usage{Total: int64(st.Blocks) * unit, Free: max(0, int64(st.Bavail)) * unit, Kind: volumeKind(&st)}, nil
}

func (osFS) Resolve(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(name)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		parent := filepath.Dir(name)
		if !errors.Is(err, fs.ErrNotExist) || parent == name {
			return "", err
		}
		if _, err := os.Lstat(name); err == nil {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrNotExist} // a link that leads nowhere
		}
		rest = filepath.Join(filepath.Base(name), rest)
		name = parent
	}
}

func (osFS) Lock(name string) (File, error) {
	f, err := openOS(name, os.O_RDWR|os.O_CREATE, lockPerm)
	if err != nil {
		return nil, err
	}
	err = f.with("flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// osFile is an open file of the real disk. The descriptor is only used while os.File guards it, so that a late call
// never reaches a file that was given the same number.
type osFile struct {
	file *os.File
	raw  syscall.RawConn
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.file.ReadAt(p, off) }

func (f *osFile) WriteVAt(parts [][]byte, off int64) (int64, error) {
	var written int64
	err := f.with("write", func(fd int) error {
		return writeAll(parts, func(now [][]byte) (int, error) {
			n, err := pwritev(fd, now, off+written)
			written += int64(max(n, 0))
			return n, err
		})
	})
	return written, err
}

// maxParts is how many parts one call takes (IOV_MAX).
const maxParts = 1024

// writeAll hands parts to write until all are taken: at most maxParts at a time, the rest of what was cut short again.
func writeAll(parts [][]byte, write func([][]byte) (int, error)) error {
	own := false
	for {
		for len(parts) > 0 && len(parts[0]) == 0 {
			parts = parts[1:]
		}
		if len(parts) == 0 {
			return nil
		}
		now := parts[:min(len(parts), maxParts)]
		n, err := write(now)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if err == nil && n <= 0 {
			return io.ErrShortWrite
		}
		for n = max(n, 0); len(parts) > 0 && n >= len(parts[0]); parts = parts[1:] {
			n -= len(parts[0])
		}
		if n > 0 {
			if !own { // the slice of parts is the caller's
				parts, own = slices.Clone(parts), true
			}
			parts[0] = parts[0][n:]
		}
	}
}

func (f *osFile) Datasync() error {
	return f.with("fdatasync", func(fd int) error { return datasync(fd) })
}

func (f *osFile) Allocate(size int64) error {
	err := f.with("fallocate", func(fd int) error { return allocate(fd, size) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return &fs.PathError{Op: "fallocate", Path: f.file.Name(), Err: ErrUnsupported}
	}
	return err
}

func (f *osFile) Truncate(size int64) error { return f.file.Truncate(size) }

func (f *osFile) Stat() (Info, error) {
	info, err := f.file.Stat()
	if err != nil {
		return Info{}, err
	}
	return describe(info)
}

func (f *osFile) DropBehind(off, n int64) {
	_ = f.with("fadvise", func(fd int) error { return dropBehind(fd, off, n) }) // a hint: nothing depends on it
}

func (f *osFile) Close() error { return f.file.Close() }

// with calls with the descriptor, again while it is interrupted, and names operation and file in the error.
func (f *osFile) with(op string, call func(fd int) error) error {
	var err error
	if closed := f.raw.Control(func(fd uintptr) {
		err = again(func() error { return call(int(fd)) })
	}); closed != nil {
		err = fs.ErrClosed
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: f.file.Name(), Err: err}
	}
	return nil
}

func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

var _ FS = osFS{}
