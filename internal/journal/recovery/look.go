// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// look is what is seen of a directory.
type look struct {
	disk   meter
	dir    string
	wanted []string

	files   map[uint64]*found // of seg/, by the id of the name
	journal [16]byte
	order   []*found // those of this journal, by (base_seq, id)
	lastID  uint64   // highest one seen

	cursors []*Cursor
	bad     []badCursor
	durable struct { // what the slots know
		seq   queue.Seq
		items uint64
	}
	high queue.Seq // highest resolved number in any slot

	litter   []string
	outdated []string
	notes    notes
}

// found is one file under a segment's name.
type found struct {
	id        uint64
	path      string
	in        segment.Inspection
	allocated int64
	lost      error // why nothing can be read of it: the disk refuses

	scan      *segment.Scan // nil: sealed, and trusted
	sum       segment.Summary
	runs      []run          // of good frames, ascending
	condemned bool           // a rescue took over from it
	vouched   segment.Offset // later headers say that the bytes below it were durable
	unsynced  bool
	limit     queue.Seq          // numbers above it are void
	torn      map[queue.Seq]bool // what is missing before these was never acknowledged
	// What counts here; last is below first if nothing does.
	first, last queue.Seq
}

// run is numbers in a row that can be read, the items accepted before and after them, and their place in the file.
type run struct {
	first, last   queue.Seq
	before, after uint64
	off, end      segment.Offset
}

func newLook(disk vfs.FS, dir string, wanted []string) *look {
	return &look{
		disk: meter{FS: disk, bytes: new(int64)}, dir: dir, wanted: wanted, files: map[uint64]*found{},
	}
}

// segments looks at the files in seg/, again at those that may have grown since the last time, and scans those of this
// journal that were not sealed. A file that went meanwhile is kept as it was seen: everybody had resolved it.
func (l *look) segments() error {
	dir := path.Join(l.dir, layout.Segments)
	entries, err := l.disk.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list segments: %w", err)
	}
	l.litter = slices.DeleteFunc(l.litter, func(name string) bool { return path.Dir(name) == dir })
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if !e.Type.IsRegular() {
			continue // not ours: no call of ours makes one
		}
		if strings.HasSuffix(e.Name, layout.TempSuffix) {
			l.litter = append(l.litter, name)
			continue
		}
		id, ok := layout.SegmentID(e.Name)
		if !ok || id > maxID {
			continue
		}
		l.lastID = max(l.lastID, id)
		if f := l.files[id]; f != nil && f.in.Class == segment.Sealed {
			continue
		}
		if err := l.inspect(id, name); err != nil {
			return err
		}
	}
	return l.read()
}

// read finds out which files belong to the journal, and reads those that were not sealed.
func (l *look) read() error {
	l.choose()
	for _, f := range l.order {
		if f.in.Class != segment.Sealed && f.scan == nil {
			if err := l.scan(f); err != nil {
				return err
			}
		} else if f.in.Class == segment.Sealed && f.scan == nil {
			f.sum = *f.in.Seal
		}
	}
	return nil
}

// search looks for records in files that seem unused although a later header says that they were written, or something is
// missing at the end: their beginning may be all that is lost.
func (l *look) search() error {
	named := map[uint64]bool{}
	for _, f := range l.order {
		named[f.in.Header.PrevID] = f.hasHeader()
	}
	found, behind := false, l.behind()
	for _, f := range l.files {
		if f.in.Class != segment.Unused || f.in.Bytes == 0 || !named[f.id] && !behind {
			continue
		}
		file, err := l.disk.OpenFile(f.path, vfs.Read, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			in := f.in
			if err = in.Search(file); in.Class == segment.Headless || in.Unreadable > 0 || written(file, in.Bytes) > 0 {
				f.in, found = in, true
			}
			err = errors.Join(err, file.Close())
		}
		if err != nil {
			return fmt.Errorf("search segment: %w", err)
		}
	}
	if !found {
		return nil
	}
	return l.read()
}

// inspect looks at one file, not at its records.
func (l *look) inspect(id uint64, name string) error {
	f := &found{id: id, path: name}
	file, err := l.disk.OpenFile(name, vfs.Read, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		f.in, err = segment.Inspect(file, name)
		if info, statErr := file.Stat(); statErr == nil {
			f.allocated = info.Allocated
		}
		err = errors.Join(err, file.Close())
	}
	switch {
	case errors.Is(err, syscall.EIO):
		f.lost = err
	case err != nil:
		return fmt.Errorf("look at segment: %w", err)
	case f.in.Class == segment.Newer:
		return fmt.Errorf("%s: %w", name, f.in.Newer)
	}
	l.files[id] = f
	return nil
}

// scan reads a whole segment. In one that somebody is writing to, what is seen of a group that is on its way may have a
// gap; so what looks damaged is read again, and the second reading counts.
func (l *look) scan(f *found) error {
	file, err := l.disk.OpenFile(f.path, vfs.Read, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if f.scan == nil {
			f.scan, f.sum, f.runs = &segment.Scan{}, segment.Summary{First: f.in.Header.BaseSeq, Last: f.in.Header.BaseSeq - 1}, nil
		}
		return nil
	}
	if err != nil {
		if errors.Is(err, syscall.EIO) {
			f.lost = err
			l.order = slices.DeleteFunc(slices.Clone(l.order), func(o *found) bool { return o == f })
			return nil
		}
		return fmt.Errorf("scan segment: %w", err)
	}
	for range 2 {
		var s segment.Scan
		var runs []run
		s, err = f.in.Scan(file, func(f *segment.Frame) { runs = addFrame(runs, f) })
		if f.in.Seal != nil { // behind what it counts stands what recovery left of a torn group, if anything
			s.Gaps = slices.DeleteFunc(s.Gaps, func(g segment.Gap) bool { return g.First > f.in.Seal.Last })
		}
		f.scan, f.sum, f.runs = &s, s.Summary, runs
		if err != nil || len(s.Gaps) == 0 {
			break
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("scan segment: %w", err)
	}
	return nil
}

// addFrame makes a frame part of the last run, or begins one.
func addFrame(runs []run, f *segment.Frame) []run {
	after := f.ItemsBefore + uint64(f.Items)
	if n := len(runs); n > 0 && runs[n-1].last+1 == f.Seq {
		r := &runs[n-1]
		r.last, r.after, r.end = f.Seq, after, f.End
		return runs
	}
	return append(runs, run{first: f.Seq, last: f.Seq, before: f.ItemsBefore, after: after, off: f.Off, end: f.End})
}

// meter counts the bytes that are read.
type meter struct {
	vfs.FS
	bytes *int64
}

func (m meter) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	file, err := m.FS.OpenFile(name, how, perm)
	if err != nil {
		return nil, err
	}
	return meteredFile{file, m.bytes}, nil
}

type meteredFile struct {
	vfs.File
	bytes *int64
}

func (f meteredFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	*f.bytes += int64(n)
	return n, err
}
