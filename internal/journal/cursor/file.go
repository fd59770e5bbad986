// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const filePerm = 0o600

// File is the file of one cursor, open for writing. It is for one goroutine at a time. The journal's lock on the
// directory keeps other writers out; readers (Read) may come at any time.
//
// Generation g goes into slot g mod 2, so the slot that counts is never the one being written: a crash during a Write
// leaves it whole. After a failed write or sync nothing in the file can be relied on to reach the disk, so it is
// condemned: it is closed, and the state goes into a new file that takes its name (replace).
type File struct {
	disk       vfs.FS
	name       string
	generation uint64 // of the last attempt to write
	buf        []byte // of the last slot, for reuse
	closed     bool

	file vfs.File // nil while condemned, and after Close
	// inherited says that nothing was written to file by this process. What an earlier one wrote may look whole and
	// still not be on the disk, if its sync failed before it died: then the slot that seems the older one is the only
	// one, and must not be written over. So the first Write goes to a new file.
	inherited bool
	failed    error // why it is condemned; nil once a Write succeeded
	condemned int
}

// Create makes the file of a cursor with s in it, and returns when it is durable under its name. A file of the same
// journal and name that is there is replaced: an earlier Create could not make it durable nor remove it, or it could
// not be opened. Any other is left as it is: fs.ErrExist, or *NewerError. After any other error there is no new file, as
// far as the disk allows.
//
// The file is made under another name, filled, synced and renamed. A crash before the rename leaves what was there, and
// perhaps "<name>.tmp", which the next Create or recovery removes; one between the rename and the sync of the directory
// leaves that or the whole file; there is never half a file of that name.
func Create(disk vfs.FS, name string, s *Slot) (*File, error) {
	f := &File{disk: disk, name: name, generation: s.Generation}
	old, err := Read(disk, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil && !isCorrupt(err):
		return nil, fmt.Errorf("create cursor %q: %w", s.Name, err)
	case err != nil || old.Journal != s.Journal || old.Name != s.Name:
		return nil, fmt.Errorf("create cursor %q: %w", s.Name, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist})
	default:
		f.generation = max(f.generation, old.Generation)
	}
	fresh := err != nil
	if err := f.Write(s); err != nil {
		if fresh {
			err = errors.Join(err, ignoreGone(disk.Remove(name)))
		}
		return nil, err
	}
	return f, nil
}

func isCorrupt(err error) bool {
	var corrupt *CorruptError
	return errors.As(err, &corrupt)
}

// Open opens the file and returns what it holds, after a sync of the file and its name: the process that wrote it may
// have died before its own. A file that can only be read, has not the right size, cannot be read in parts or cannot be
// synced is opened all the same; Err says so, and the next Write replaces it. Errors: fs.ErrNotExist, *CorruptError,
// *NewerError, or the disk refuses to open it.
//
// One thing no sync finds out: if one failed in the process before, and that was killed before it could write the state
// elsewhere, the system shows what is not on the disk. So who deletes because of a slot writes it first, in this
// process.
func Open(disk vfs.FS, name string) (*File, Slot, error) {
	file, flaw := disk.OpenFile(name, vfs.Write, 0)
	if flaw != nil {
		if errors.Is(flaw, fs.ErrNotExist) {
			return nil, Slot{}, flaw
		}
		var err error
		if file, err = disk.OpenFile(name, vfs.Read, 0); err != nil {
			return nil, Slot{}, err
		}
	}
	s, damage, err := load(file, name)
	if err != nil {
		return nil, Slot{}, errors.Join(err, file.Close())
	}
	if flaw == nil {
		flaw = damage
	}
	if flaw == nil {
		flaw = file.Datasync()
	}
	if flaw == nil {
		flaw = disk.SyncDir(filepath.Dir(name))
	}
	f := &File{disk: disk, name: name, generation: s.Generation, file: file, inherited: true}
	if flaw != nil {
		_ = f.condemn(flaw) // Err says it
	}
	return f, s, nil
}

// Write makes s durable as the next generation; s.Generation is not looked at and s is not kept. After an error the
// disk holds the last state written without one, or s; Err is not nil, and every Write tries again until one succeeds.
// ErrTooLarge and a field out of bounds leave everything as it was.
//
// In place it is one write of whole blocks and one sync. A crash before the sync has returned leaves the other slot,
// which is the last state, or the new slot if it is whole.
func (f *File) Write(s *Slot) error {
	if f.closed {
		return fmt.Errorf("write cursor %q: %w", s.Name, fs.ErrClosed)
	}
	next := *s
	next.Generation = f.generation + 1
	b, err := next.Append(f.buf[:0])
	if err != nil {
		return err
	}
	var zeros [blockBytes]byte
	b = append(b, zeros[:(blockBytes-len(b)%blockBytes)%blockBytes]...)
	f.generation, f.buf = next.Generation, b

	var failures []error
	if f.file != nil && !f.inherited {
		err := f.overwrite()
		if err == nil {
			return nil
		}
		failures = append(failures, f.condemn(err))
	}
	if err := f.replace(); err != nil {
		failures = append(failures, err)
		// Acknowledging must not need room on the disk. replace left the old file where it is.
		if f.file != nil && vfs.IsFull(err) {
			if err = f.overwrite(); err == nil {
				f.inherited = false
				return nil
			}
			failures = append(failures, f.condemn(err))
		}
		if f.failed == nil {
			f.failed = err
		}
		f.buf = nil // a buffer does not outlive its error
		return fmt.Errorf("write cursor %q: %w", s.Name, errors.Join(failures...))
	}
	return nil
}

// overwrite writes the slot in buf to its place and syncs.
func (f *File) overwrite() error {
	if err := fill(f.file, f.buf, f.generation); err != nil {
		return err
	}
	return f.file.Datasync()
}

func fill(file vfs.File, slot []byte, generation uint64) error {
	_, err := file.WriteVAt([][]byte{slot}, int64(generation%2)*SlotBytes)
	return err
}

// condemn closes the file for good: no later write or sync of it could be trusted.
func (f *File) condemn(cause error) error {
	f.condemned++
	f.failed = cause
	file := f.file
	f.file = nil
	return errors.Join(cause, file.Close())
}

// replace makes a new file with the slot in buf, gives it the name and makes that durable. What is condemned is gone
// then. A crash before the rename leaves the old file, and perhaps "<name>.tmp", which means nothing; one before the
// sync of the directory leaves the old or the new file, whole. On error there is no ".tmp", as far as the disk allows;
// if it came as far as the rename, nobody can tell which file has the name, and the old one is condemned too.
func (f *File) replace() error {
	tmp := f.name + layout.TempSuffix
	file, err := createAnew(f.disk, tmp)
	if err != nil {
		return err
	}
	err = allocate(file)
	if err == nil {
		err = fill(file, f.buf, f.generation)
	}
	if err == nil {
		err = file.Datasync()
	}
	if err != nil {
		return errors.Join(err, file.Close(), ignoreGone(f.disk.Remove(tmp)))
	}
	if err = f.disk.Rename(tmp, f.name); err == nil {
		err = f.disk.SyncDir(filepath.Dir(f.name))
	}
	if err != nil {
		err = errors.Join(err, file.Close(), ignoreGone(f.disk.Remove(tmp)))
		if f.file != nil {
			err = f.condemn(err)
		}
		return err
	}
	old := f.file
	f.file, f.inherited, f.failed = file, false, nil
	if old != nil {
		_ = old.Close() // nothing was written to it
	}
	return nil
}

// createAnew makes an empty file, in place of what an earlier attempt left behind.
func createAnew(disk vfs.FS, name string) (vfs.File, error) {
	file, err := disk.OpenFile(name, vfs.Create, filePerm)
	if !errors.Is(err, fs.ErrExist) {
		return file, err
	}
	if err := disk.Remove(name); err != nil {
		return nil, err
	}
	return disk.OpenFile(name, vfs.Create, filePerm)
}

func allocate(file vfs.File) error {
	err := file.Allocate(FileBytes)
	if errors.Is(err, vfs.ErrUnsupported) {
		err = file.Truncate(FileBytes)
	}
	return err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Err says why the slot of the last Write, or of Open, is not known to be durable; nil if it is. While it is not nil
// nothing may be deleted because of that slot.
func (f *File) Err() error { return f.failed }

// Condemned is how often a file of this cursor was given up since Open or Create, because a call on it failed or it was
// not whole. A Write that replaced it returned nil.
func (f *File) Condemned() int { return f.condemned }

// Close closes the file. It makes nothing durable: what a Write returned nil for is. Later Writes fail with
// fs.ErrClosed.
func (f *File) Close() error {
	if f.closed {
		return nil
	}
	f.closed, f.buf = true, nil
	file := f.file
	if f.file = nil; file == nil {
		return nil
	}
	return file.Close()
}
