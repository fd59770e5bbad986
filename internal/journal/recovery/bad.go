// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	minBadBytes   = 4 << 20
	notesFile     = "NOTES"
	maxNotesBytes = 1 << 20
	maxAlike      = 1000 // names tried for one file
	copyBytes     = 1 << 20
	filePerm      = 0o600
	dirPerm       = 0o750 // of bad/, where the journal's directory does not say
)

// damage is a stretch of a segment that does not hold what it should.
type damage struct {
	path     string
	off, end segment.Offset
}

func (d damage) String() string { return fmt.Sprintf("bytes %d to %d", d.off, d.end) }

func (d damage) name() string { return fmt.Sprintf("%s.%d-%d", path.Base(d.path), d.off, d.end) }

// Quarantine copies the damaged bytes of a segment to bad/ of the journal in dir, unless they are there, and makes a note
// of it. It is for damage that is found by reading; Apply sees to what Inspect found.
func Quarantine(disk vfs.FS, dir, segmentPath string, gap segment.Gap, set ApplySettings) error {
	_, err := newBad(disk, dir, set).copy(damage{segmentPath, gap.Off, gap.End})
	return err
}

// bad is the quarantine: files that do not belong where they were, bytes that do not hold, and NOTES, which says for
// people what each was. Nothing reads it but they.
type bad struct {
	disk vfs.FS
	dir  string
	set  ApplySettings
	used int64 // bytes on the volume; -1: not counted yet
}

func newBad(disk vfs.FS, journal string, set ApplySettings) *bad {
	if set.BadBytes <= 0 {
		set.BadBytes = minBadBytes
	}
	return &bad{disk: disk, dir: path.Join(journal, layout.Bad), set: set, used: -1}
}

var errBadFull = errors.New("bad/ holds as much as it may")

// room makes the directory and says whether so many bytes more may go into it.
func (b *bad) room(bytes int64) error {
	if b.used < 0 {
		if err := b.open(); err != nil {
			return err
		}
	}
	if b.used+bytes > b.set.BadBytes {
		return errBadFull
	}
	return nil
}

func (b *bad) open() error {
	parent := path.Dir(b.dir)
	perm := fs.FileMode(dirPerm)
	if info, err := b.disk.Stat(parent); err == nil {
		perm = info.Mode.Perm()
	}
	switch err := b.disk.Mkdir(b.dir, perm); {
	case err == nil:
		if err := b.disk.SyncDir(parent); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	entries, err := b.disk.ReadDir(b.dir)
	if err != nil {
		return err
	}
	used := int64(0)
	for _, e := range entries {
		if info, err := b.disk.Stat(path.Join(b.dir, e.Name)); err == nil {
			used += info.Allocated
		}
	}
	b.used = used
	return nil
}

// move moves a file here. The note comes first: a crash in between leaves one that says too much, not a file that nobody
// knows anything about.
func (b *bad) move(s stray) (string, error) {
	b.trim(&s)
	if err := b.room(s.bytes); err != nil {
		b.note(s.path, "stays where it is: "+s.why)
		return "", err
	}
	to, err := b.free(path.Base(s.path))
	if err != nil {
		return "", err
	}
	b.note(s.path, "moved here as "+path.Base(to)+": "+s.why)
	if err := b.disk.Rename(s.path, to); err != nil {
		return "", err
	}
	b.used += s.bytes
	return to, errors.Join(b.disk.SyncDir(b.dir), b.disk.SyncDir(path.Dir(s.path)))
}

// trim cuts off the zeros at the end of a file, which may be most of it: nothing was written there.
func (b *bad) trim(s *stray) {
	file, err := b.disk.OpenFile(s.path, vfs.Write, 0)
	if err != nil {
		return
	}
	defer file.Close() //nolint:errcheck // no more than zeros can be lost
	info, err := file.Stat()
	if err != nil {
		return
	}
	if end := written(file, info.Size); end < info.Size && file.Truncate(end) == nil {
		if info, err = file.Stat(); err == nil {
			s.bytes = info.Allocated
		}
	}
}

// written is where the zeros at the end of a file begin. What the disk refuses was written.
func written(file vfs.File, size int64) int64 {
	buf := make([]byte, min(size, copyBytes))
	for size > 0 {
		from := max(0, size-int64(len(buf)))
		p := buf[:size-from]
		if n, err := file.ReadAt(p, from); n < len(p) && err != nil {
			return size
		}
		if n := len(bytes.TrimRight(p, "\x00")); n > 0 {
			return from + int64(n)
		}
		size = from
	}
	return 0
}

// free is a name that nothing has yet.
func (b *bad) free(name string) (string, error) {
	to := path.Join(b.dir, name)
	for i := 2; i < maxAlike; i++ {
		if _, err := b.disk.Stat(to); errors.Is(err, fs.ErrNotExist) {
			return to, nil
		} else if err != nil {
			return "", err
		}
		to = path.Join(b.dir, fmt.Sprintf("%s.%d", name, i))
	}
	return "", fmt.Errorf("%s: %w", to, fs.ErrExist)
}

// copy copies damaged bytes here, and returns where; nothing if they are here already.
func (b *bad) copy(d damage) (string, error) {
	size := int64(d.end - d.off)
	if size <= 0 {
		return "", nil
	}
	to := path.Join(b.dir, d.name())
	if info, err := b.disk.Stat(to); err == nil && info.Size >= size {
		return "", nil
	}
	if err := b.room(size); err != nil {
		b.note(d.path, fmt.Sprintf("%s are damaged", d))
		return "", err
	}
	to, err := b.free(d.name())
	if err != nil {
		return "", err
	}
	b.note(d.path, fmt.Sprintf("%s are damaged, copied here as %s", d, path.Base(to)))
	if err := b.fill(to, d, size); err != nil {
		return "", err
	}
	b.used += size
	return to, b.disk.SyncDir(b.dir)
}

// fill makes the copy. What the disk refuses to read is left out as zeros.
func (b *bad) fill(to string, d damage, size int64) error {
	from, err := b.disk.OpenFile(d.path, vfs.Read, 0)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // it was only read
	file, err := b.disk.OpenFile(to, vfs.Create, filePerm)
	if err != nil {
		return err
	}
	buf := make([]byte, min(size, copyBytes))
	for off := int64(0); off < size && err == nil; off += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), size-off)]
		n, readErr := from.ReadAt(p, int64(d.off)+off)
		if clear(p[n:]); errors.Is(readErr, io.EOF) && n == 0 {
			break
		}
		_, err = file.WriteVAt([][]byte{p}, off)
	}
	if err == nil {
		err = file.Datasync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		err = errors.Join(err, b.disk.Remove(to))
	}
	return err
}

// note adds a line for people, once. Notes are a help: what goes wrong with them is not told.
func (b *bad) note(about, text string) {
	name := path.Join(b.dir, notesFile)
	line := fmt.Sprintf("%s: %s\n", about, text)
	file, err := b.disk.OpenFile(name, vfs.Write, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = b.disk.OpenFile(name, vfs.Create, filePerm); err == nil {
			err = b.disk.SyncDir(b.dir)
		}
	}
	if file != nil {
		defer file.Close() //nolint:errcheck // it was synced
	}
	if err != nil {
		return
	}
	info, err := file.Stat()
	if err != nil || info.Size > maxNotesBytes {
		return
	}
	old := make([]byte, info.Size)
	if n, _ := file.ReadAt(old, 0); bytes.Contains(old[:n], []byte(line)) {
		return
	}
	line = b.set.now().UTC().Format(time.RFC3339) + " " + line
	if _, err := file.WriteVAt([][]byte{[]byte(line)}, info.Size); err == nil {
		_ = file.Datasync()
	}
}
