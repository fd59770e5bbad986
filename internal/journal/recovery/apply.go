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

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Apply brings the directory in order, once, and makes the plan say how it is then. The caller holds the store's lock,
// and nobody has changed anything since Inspect. seg/ exists; cur/ too, if there are cursors.
//
// The steps come in this order, and each may be cut short by a crash: the next Inspect finds what is left to do.
//
//	a  remove *.tmp and what was never written    left behind: some of it
//	b  move strays to bad/                        a note about one that is still where it was
//	c  copy damaged bytes to bad/                 part of a copy; it is made again under another name
//	d  sync what was not sealed, or rescue it     a rescue under a temporary name, or the whole of it, which then counts
//	e  write the slots that changed               some with their losses booked and some without: each has its own books
//	f  seal what was scanned                      unsealed segments, scanned again, with nothing left to book
//	g  remove what everybody has resolved         segments that everybody has resolved
//
// Whatever the disk refuses is noted and survived: what cannot be removed or sealed stays, a slot that cannot be written
// is kept in memory (Unwritten) and then nothing is sealed or removed, and records that can be made durable nowhere are
// still read (Broken). The only error is that a file is gone that Inspect saw: then the directory is not the caller's.
func (p *Plan) Apply(disk vfs.FS, set ApplySettings) error {
	a := &apply{Plan: p, disk: disk, set: set, seg: path.Join(p.dir, layout.Segments)}
	a.clean()
	a.quarantine()
	if err := a.secure(); err != nil {
		return err
	}
	done := a.writeSlots()
	if done {
		done = a.seal()
	}
	p.goOn() // before the last segment goes, if it does: what follows names it
	if done && !set.KeepAll {
		a.sweep()
	}
	return nil
}

type apply struct {
	*Plan
	disk vfs.FS
	set  ApplySettings
	seg  string // the directory
}

func (a *apply) note(level Level, path, format string, args ...any) {
	n := notes{a.Notes}
	n.add(level, path, fmt.Sprintf(format, args...))
	a.Notes = n.all
}

// clean is step a.
func (a *apply) clean() {
	a.remove(a.litter)
	a.litter = nil
}

// remove takes names away and makes that durable. Should a power cut bring one back, it goes again the next time.
func (a *apply) remove(names []string) {
	dirs := map[string]bool{}
	for _, name := range names {
		if err := a.disk.Remove(name); err == nil {
			dirs[path.Dir(name)] = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			a.note(Warn, name, "it cannot be removed: %v", err)
		}
	}
	for dir := range dirs {
		a.syncDir(dir)
	}
}

func (a *apply) syncDir(dir string) {
	if err := a.disk.SyncDir(dir); err != nil {
		a.note(Warn, dir, "its entries cannot be synced: %v", err)
	}
}

// quarantine is the steps b and c.
func (a *apply) quarantine() {
	if len(a.strays) == 0 && len(a.damage) == 0 {
		return
	}
	bad := newBad(a.disk, a.dir, a.set)
	for _, s := range a.strays {
		where, err := bad.move(s)
		if err != nil && strings.HasSuffix(s.path, layout.CursorSuffix) {
			where, err = a.pushAside(s.path) // another one takes its name
		}
		if err != nil {
			a.note(Alarm, s.path, "it stays where it is: %v", err)
			continue
		}
		a.note(Warn, s.path, "it was moved to %s", where)
	}
	for _, d := range a.damage {
		if where, err := bad.copy(d); err != nil {
			a.note(Alarm, d.path, "%s could not be copied: %v", d, err)
		} else if where != "" {
			a.note(Warn, d.path, "%s were copied to %s", d, where)
		}
	}
	a.strays, a.damage = nil, nil
}

// pushAside gives a cursor's file a name that nothing reads, beside the old one: that needs no room.
func (a *apply) pushAside(name string) (string, error) {
	to := name + "." + layout.Bad
	err := a.disk.Rename(name, to)
	if err == nil {
		a.syncDir(path.Dir(name))
	}
	return to, err
}

// secure is step d: after it what was read is durable, or the segment is Broken, and so are the names of the files: the
// last process may have died before it synced either. A segment that a rescue took over from is left alone: a sync of it
// failed once, and another one proves nothing.
func (a *apply) secure() error {
	if a.Unclean {
		a.syncDir(a.seg)
	}
	for i := 0; i < len(a.Segments); i++ {
		s := &a.Segments[i]
		if s.Class == segment.Sealed || s.Condemned {
			continue
		}
		err := a.sync(s.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("recover %s: somebody else works in this directory: %w", s.Path, err)
		}
		if err == nil {
			continue
		}
		s.Condemned = true
		a.note(Alarm, s.Path, "it cannot be synced: %v", err)
		i += a.rescue(i, err)
	}
	return nil
}

func (a *apply) sync(name string) error {
	file, err := a.disk.OpenFile(name, vfs.Write, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Datasync(), file.Close())
}

// seal is step f. What could not be read may be readable later, what is broken must not be vouched for, and what
// everybody has resolved goes: none of it is sealed. It says false if the slots may be lost yet: nothing was done then.
func (a *apply) seal() bool {
	held := false
	for i := range a.Segments {
		s := &a.Segments[i]
		if s.Class == segment.Sealed || s.Condemned || !a.set.KeepAll && a.resolved(s) {
			continue
		}
		scan := s.f.scan
		if s.Class == segment.Headless && scan.ToSeal || scan.Abandoned || scan.Unreadable > 0 || s.f.in.Unreadable > 0 {
			continue
		}
		if !held && !a.hold() {
			return false
		}
		held = true
		file, err := a.disk.OpenFile(s.Path, vfs.Write, 0)
		if err == nil {
			err = errors.Join(scan.Seal(file, &s.Header), statInto(file, &s.Allocated), file.Close())
		}
		if err != nil {
			a.note(Warn, s.Path, "it cannot be sealed, and is read whole the next time too: %v", err)
			continue
		}
		s.Sum.Flags |= segment.SealRecovered
		if s.Class == segment.Unsealed {
			s.Class = segment.Sealed
		}
	}
	return true
}

func statInto(file vfs.File, allocated *int64) error {
	info, err := file.Stat()
	*allocated = info.Allocated
	return err
}

// sweep is step g. Three kinds of segment stay although nobody needs their records: one that says which frames of the
// segment before it are void, or that it was condemned; the last one, unless a slot says what number and how many items
// the journal has come to; and, if there is no cursor at all, one that does not say to whom it was owed.
func (a *apply) sweep() {
	var keep []Segment
	var gone []string
	for i := range a.Segments {
		s := a.Segments[i]
		needed := !a.resolved(&s) || s.Class == segment.Headless && len(a.Cursors) == 0 ||
			i == len(a.Segments)-1 && !a.remembered()
		if n := len(keep); n > 0 {
			needed = needed || keep[n-1].Condemned || keep[n-1].f.sum.Last > keep[n-1].Last
		}
		if needed {
			keep = append(keep, s)
		} else {
			gone = append(gone, s.Path)
		}
	}
	if len(gone) > 0 && a.rewrite() {
		a.remove(gone)
		a.Segments = keep
	}
}

// resolved says whether every cursor has resolved what it is owed of s.
func (a *apply) resolved(s *Segment) bool {
	for i := range a.Cursors {
		slot := &a.Cursors[i].Slot
		last := s.Last
		switch slot.State {
		case queue.Live:
		case queue.Parked:
			last = min(last, slot.Until)
		default:
			continue
		}
		if last >= s.First && !slot.Resolved.Covers(s.First, last) {
			return false
		}
	}
	return true
}

// remembered says whether a slot knows how far the journal has come.
func (a *apply) remembered() bool {
	return slices.ContainsFunc(a.Cursors, func(c Cursor) bool {
		s := &c.Slot
		return max(s.High, s.DurableSeq) >= a.Seq && max(s.DurableItems, booked(s)) >= a.Items
	})
}
