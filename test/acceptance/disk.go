// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// counted is the real disk, and how many bytes passed its border.
type counted struct {
	vfs.FS
	read, written atomic.Int64
}

func newCounted() *counted { return &counted{FS: vfs.OS()} }

// OpenFile counts what the file is given and asked for.
func (c *counted) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, how, perm)
	if err != nil {
		return nil, err
	}
	return &countedFile{f, c}, nil
}

type countedFile struct {
	vfs.File
	disk *counted
}

func (f *countedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.disk.read.Add(int64(n))
	return n, err
}

func (f *countedFile) WriteVAt(parts [][]byte, off int64) (int64, error) {
	n, err := f.File.WriteVAt(parts, off)
	f.disk.written.Add(n)
	return n, err
}
