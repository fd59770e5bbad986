// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// disk is what the writer needs of a file system. Tests have one that fills up and fails.
type disk interface {
	// Open opens path for reading and appending and creates it, readable by its owner only, if it is not there.
	Open(path string) (diskFile, error)
	Lstat(path string) (fs.FileInfo, error)
	Rename(from, to string) error
	Remove(path string) error
	ReadDir(dir string) ([]fs.DirEntry, error)
	MkdirAll(dir string, mode fs.FileMode) error
	// SyncDir makes names in dir last.
	SyncDir(dir string) error
}

// diskFile is one open file.
type diskFile interface {
	io.Writer
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// osDisk is the real one.
type osDisk struct{}

func (osDisk) Open(path string) (diskFile, error) {
	flags := os.O_RDWR | os.O_APPEND | os.O_CREATE
	if !strings.HasPrefix(path, "/dev/") {
		// A link where a file should be is somebody else's doing; /dev/stdout is one.
		flags |= syscall.O_NOFOLLOW
	}
	f, err := os.OpenFile(path, flags, 0o600) //nolint:gosec // the path is the configuration's
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osDisk) Lstat(path string) (fs.FileInfo, error)      { return os.Lstat(path) }
func (osDisk) Rename(from, to string) error                { return os.Rename(from, to) }
func (osDisk) Remove(path string) error                    { return os.Remove(path) }
func (osDisk) ReadDir(dir string) ([]fs.DirEntry, error)   { return os.ReadDir(dir) }
func (osDisk) MkdirAll(dir string, mode fs.FileMode) error { return os.MkdirAll(dir, mode) }

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the path is the configuration's
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
