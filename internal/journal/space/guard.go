// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"io/fs"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Disk is the disk for those who work in the directory: it opens, makes, renames and removes by name only as long as the
// directory is the one that was opened, ErrDetached otherwise. Names of a directory that took its place may be those of
// another process's files: what is read there is none of our records, what is removed there is somebody's. Open files
// are not affected.
func (s *Space) Disk() vfs.FS { return guarded{s.disk, s} }

// guarded asks where the directory is before each call by name. Between the two it may still go; whoever moves a directory
// away and makes another one there needs longer.
type guarded struct {
	vfs.FS
	space *Space
}

// ours is ErrDetached if the directory is not. Where the disk does not say, the call itself will.
func (s *Space) ours() error {
	if err := s.check(nil); errors.Is(err, ErrDetached) {
		return err
	}
	return nil
}

// OpenFile implements vfs.FS.
func (g guarded) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	if err := g.space.ours(); err != nil {
		return nil, err
	}
	return g.FS.OpenFile(name, how, perm)
}

// Mkdir implements vfs.FS.
func (g guarded) Mkdir(name string, perm fs.FileMode) error {
	if err := g.space.ours(); err != nil {
		return err
	}
	return g.FS.Mkdir(name, perm)
}

// Rename implements vfs.FS.
func (g guarded) Rename(from, to string) error {
	if err := g.space.ours(); err != nil {
		return err
	}
	return g.FS.Rename(from, to)
}

// Remove implements vfs.FS.
func (g guarded) Remove(name string) error {
	if err := g.space.ours(); err != nil {
		return err
	}
	return g.FS.Remove(name)
}

var _ vfs.FS = guarded{}
