// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// maxReadFiles bounds the descriptors a journal keeps open for reading.
const maxReadFiles = 32

// files are the segments open for reading. One that is in use stays open when its name is gone, so a journal whose
// directory was taken away still delivers what it has open.
type files struct {
	disk vfs.FS
	mu   struct {
		sync.Mutex
		open   map[uint64]*openFile
		clock  uint64 // counts uses
		closed bool
	}
}

type openFile struct {
	vfs.File
	users int
	used  uint64 // clock of the last use
	stale bool   // closed when the last user lets go
}

func newFiles(disk vfs.FS) *files {
	f := &files{disk: disk}
	f.mu.open = make(map[uint64]*openFile)
	return f
}

// get opens a segment for reading, or finds it open. Whoever gets it calls put.
func (f *files) get(id uint64, path string) (*openFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed {
		return nil, fs.ErrClosed
	}
	f.mu.clock++
	if o := f.mu.open[id]; o != nil {
		o.users++
		o.used = f.mu.clock
		return o, nil
	}
	f.mu.Unlock()
	file, err := f.disk.OpenFile(path, vfs.Read, 0)
	f.mu.Lock()
	if err != nil {
		return nil, err
	}
	if o := f.mu.open[id]; o != nil || f.mu.closed { // somebody else was quicker
		file.Close()
		if o == nil {
			return nil, fs.ErrClosed
		}
		o.users++
		return o, nil
	}
	o := &openFile{File: file, users: 1, used: f.mu.clock}
	f.mu.open[id] = o
	f.trimLocked()
	return o, nil
}

func (f *files) put(o *openFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.users--
	if o.users == 0 && o.stale {
		o.Close() // opened for reading: there is nothing to lose
	}
	f.trimLocked()
}

// trimLocked closes the files unused for longest. Those in use stay; there are no more of them than readers.
func (f *files) trimLocked() {
	for len(f.mu.open) > maxReadFiles {
		var oldest uint64
		var victim *openFile
		for id, o := range f.mu.open {
			if o.users == 0 && (victim == nil || o.used < victim.used) {
				oldest, victim = id, o
			}
		}
		if victim == nil {
			return
		}
		f.dropLocked(oldest, victim)
	}
}

// forget lets go of a segment: after its file was removed, or to read it through a fresh descriptor.
func (f *files) forget(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.mu.open[id]; o != nil {
		f.dropLocked(id, o)
	}
}

func (f *files) dropLocked(id uint64, o *openFile) {
	delete(f.mu.open, id)
	o.stale = true
	if o.users == 0 {
		o.Close() // opened for reading: there is nothing to lose
	}
}

func (f *files) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.closed = true
	var errs []error
	for id, o := range f.mu.open {
		delete(f.mu.open, id)
		o.stale = true
		if o.users == 0 {
			errs = append(errs, o.Close())
		}
	}
	return errors.Join(errs...)
}
