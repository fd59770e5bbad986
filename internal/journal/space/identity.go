// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Identity says which directory it is, whatever path led there. It is comparable.
type Identity struct {
	Device, Inode uint64
	volume        string // kind: a disk in memory numbers its devices itself
}

// Identity says which directory it is: two settings that lead to one directory share a Space.
func (s *Space) Identity() Identity { return s.id }

// Identify is the Identity of a directory, open or not.
func Identify(disk vfs.FS, directory string) (Identity, error) {
	dir, err := disk.Resolve(directory)
	if err != nil {
		return Identity{}, err
	}
	info, err := disk.Stat(dir)
	if err != nil {
		return Identity{}, err
	}
	volume, err := disk.Usage(dir)
	if err != nil {
		return Identity{}, err
	}
	return identity(info, volume.Kind), nil
}

func identity(info vfs.Info, volume string) Identity {
	return Identity{Device: info.Device, Inode: info.Inode, volume: volume}
}

// ours are the files whose identity proves that the directory is still the one that was opened.
type ours struct{ directory, lock, pipelines vfs.Info }

// check says whether the directory is still the one that was opened, and h's seg/ still the one seen first. h may be
// nil. What is found replaced stays so until the next start: whoever did it may be writing there.
func (s *Space) check(h *Share) error {
	s.mu.Lock()
	err := s.mu.detached
	if s.mu.closed {
		err = queue.ErrClosed
	}
	var seg vfs.Info
	if h != nil {
		seg = h.books.seg
		if err == nil {
			err = h.books.detached
		}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	for _, f := range [...]struct {
		name string
		was  vfs.Info
	}{{s.dir, s.was.directory}, {s.lockPath(), s.was.lock}, {path.Join(s.dir, layout.Pipelines), s.was.pipelines}} {
		_, err := s.same(f.name, f.was)
		if errors.Is(err, ErrDetached) {
			s.mu.Lock()
			s.mu.detached = err
			s.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
	if h == nil {
		return nil
	}
	info, err := s.same(path.Join(h.dir, layout.Segments), seg)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && h.books.seg.Inode == 0:
		h.books.seg = info
	case errors.Is(err, ErrDetached):
		h.books.detached = err
	}
	return err
}

// same describes the file of that name if it is still the one it was. One that was never seen may be any or none.
func (s *Space) same(name string, was vfs.Info) (vfs.Info, error) {
	info, err := s.disk.Stat(name)
	switch known := was.Inode != 0; {
	case isGone(err) && known:
		return info, fmt.Errorf("%w: %s is gone", ErrDetached, name)
	case isGone(err):
		return vfs.Info{}, nil
	case err != nil:
		return info, fmt.Errorf("look for %s: %w", name, err)
	case known && !info.Same(was):
		return info, fmt.Errorf("%w: %s is another one than was opened", ErrDetached, name)
	}
	return info, nil
}

// isGone says whether nothing has that name.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
