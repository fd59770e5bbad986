// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package offline looks at a store's directory from outside: which journals there are, what waits for whom, what is
// damaged. It works on the files of a process that runs, of one that has ended, and of one that was killed.
//
// It stands beside the journal, on the same files, and under the command line. Looking changes nothing, needs no lock
// and no write permission; what it shows of a running process is what was on disk a moment ago. What changes something
// (Hold) needs the directory's lock, so that no process runs beside it, and goes through recovery first. It promises
// that no bytes on disk make it panic, and that it never deletes what it was not told to. Records are opaque: it knows
// no OTLP, no compression and no network.
package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Store is a storage directory as it lies on disk.
type Store struct {
	disk vfs.FS
	dir  string
}

// NoStoreError says that a directory is none of a storage.
type NoStoreError struct {
	Directory string
	Err       error // nil: it is there, and nothing of ours is in it
}

func (e *NoStoreError) Error() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("storage directory %q does not exist", e.Directory)
	case e.Err != nil:
		return fmt.Sprintf("storage directory %q: %v", e.Directory, e.Err)
	}
	return fmt.Sprintf("%q is no storage directory: there is no %s/ in it", e.Directory, layout.Pipelines)
}

func (e *NoStoreError) Unwrap() error { return e.Err }

// Open finds the store in a directory. Errors: *NoStoreError.
func Open(disk vfs.FS, directory string) (*Store, error) {
	dir, err := disk.Resolve(directory)
	if err != nil {
		return nil, &NoStoreError{directory, err}
	}
	if _, err := disk.Stat(dir); err != nil {
		return nil, &NoStoreError{directory, err}
	}
	info, err := disk.Stat(path.Join(dir, layout.Pipelines))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode.IsDir():
		return nil, &NoStoreError{Directory: directory}
	case err != nil:
		return nil, &NoStoreError{directory, err}
	}
	return &Store{disk: disk, dir: dir}, nil
}

// Directory is where the store is, links resolved.
func (s *Store) Directory() string { return s.dir }

// Holder says which process has the store open, nil if none has; see space.Holder.
func (s *Store) Holder() (*space.LockedError, error) { return space.Holder(s.disk, s.dir) }

// Name is one journal's: the pipeline, and the directory below pipelines/. Of a name that was too long for a directory
// only the directory is known.
type Name struct{ Pipeline, Directory string }

// Names lists the journals in the directory.
func (s *Store) Names() ([]Name, error) {
	entries, err := s.disk.ReadDir(path.Join(s.dir, layout.Pipelines))
	if err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	var out []Name
	for _, e := range entries {
		if !e.Type.IsDir() {
			continue
		}
		n := Name{Pipeline: e.Name, Directory: e.Name}
		if id, ok := layout.Unescape(e.Name); ok {
			n.Pipeline = id
		}
		out = append(out, n)
	}
	return out, nil
}

// Bytes is what the store has on disk by kind, in allocated bytes: segments, cursors, dead, bad, reserve, foreign.
// What vanishes meanwhile is not counted.
func (s *Store) Bytes() (map[string]int64, error) {
	sum := map[string]int64{}
	entries, err := s.disk.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list storage directory: %w", err)
	}
	for _, e := range entries {
		name := path.Join(s.dir, e.Name)
		switch e.Name {
		case layout.LockFile:
			sum["cursors"] += s.allocated(name, 0)
		case layout.ReserveFile:
			sum["reserve"] += s.allocated(name, 0)
		case layout.Pipelines:
			s.journalBytes(name, sum)
		default:
			sum["foreign"] += s.allocated(name, maxDepth)
		}
	}
	return sum, nil
}

// maxDepth is how deep directories are looked into that are not ours.
const maxDepth = 16

var kinds = map[string]string{layout.Segments: "segments", layout.Cursors: "cursors", layout.Dead: "dead", layout.Bad: "bad"}

func (s *Store) journalBytes(dir string, sum map[string]int64) {
	journals, _ := s.disk.ReadDir(dir) // what cannot be listed is not counted
	for _, j := range journals {
		parts, _ := s.disk.ReadDir(path.Join(dir, j.Name))
		for _, p := range parts {
			kind := kinds[p.Name]
			if kind == "" {
				kind = "foreign"
			}
			sum[kind] += s.allocated(path.Join(dir, j.Name, p.Name), maxDepth)
		}
	}
}

func (s *Store) allocated(name string, depth int) int64 {
	info, err := s.disk.Stat(name)
	if err != nil {
		return 0
	}
	sum := info.Allocated
	if !info.Mode.IsDir() || depth == 0 {
		return sum
	}
	entries, _ := s.disk.ReadDir(name)
	for _, e := range entries {
		sum += s.allocated(path.Join(name, e.Name), depth-1)
	}
	return sum
}

// Volume describes what the directory is on.
func (s *Store) Volume() (vfs.Usage, error) { return s.disk.Usage(s.dir) }

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }
