// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// writeSlots is step e. It says whether every slot is on disk.
//
// Only the last one says that all there is is durable, which is true since step d: as long as a slot is not written,
// that would turn what was never acknowledged into damage in its books.
func (a *apply) writeSlots() bool {
	now := a.set.now()
	dirty := 0
	for i := range a.Cursors {
		if a.Cursors[i].dirty {
			dirty++
		}
	}
	done := true
	for i := range a.Cursors {
		c := &a.Cursors[i]
		if !c.dirty {
			continue
		}
		if c.Slot.State == queue.Parked && c.Slot.ParkedAt == 0 {
			c.Slot.ParkedAt = now.Unix()
		}
		for d := range c.Slot.Drops {
			if c.Slot.Drops[d].At == 0 {
				c.Slot.Drops[d].At = now.UnixNano()
			}
		}
		if dirty--; dirty == 0 && done && a.Seq > c.Slot.DurableSeq && !a.broken() {
			c.Slot.DurableSeq, c.Slot.DurableItems = a.Seq, a.Items
		}
		if err := a.write(c); err != nil {
			c.Unwritten, done = err, false
			a.note(Alarm, c.Path, "the slot of %s cannot be written; nothing is sealed or removed: %v", c.Slot.Name, err)
			continue
		}
		c.dirty, c.written = false, true
	}
	if done {
		a.remove(a.outdated)
		a.outdated = nil
	}
	return done
}

func (a *apply) broken() bool {
	return slices.ContainsFunc(a.Segments, func(s Segment) bool { return s.Broken != nil })
}

// write makes the slot of c durable, in its file or in a new one.
func (a *apply) write(c *Cursor) error {
	file, _, err := cursor.Open(a.disk, c.Path)
	switch {
	case err == nil:
		err = file.Write(&c.Slot)
	case errors.Is(err, fs.ErrNotExist):
		first := c.Slot
		first.Generation-- // Create counts it
		file, err = cursor.Create(a.disk, c.Path, &first)
	case c.bad:
		err = fmt.Errorf("a file that is no cursor is in its place: %w", err)
	}
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}

// hold makes durable the slots that Apply did not write and their names: a seal ends the knowledge of what was torn, and
// was not owed.
func (a *apply) hold() bool {
	err := a.eachUnwritten(func(c *Cursor) error {
		file, _, err := cursor.Open(a.disk, c.Path) // which syncs it
		if err == nil {
			err = errors.Join(file.Err(), file.Close())
		}
		return err
	})
	if err == nil && len(a.Cursors) > 0 {
		err = a.disk.SyncDir(path.Join(a.dir, layout.Cursors))
	}
	if err != nil {
		a.note(Warn, a.dir, "nothing is sealed or removed, since a slot may not be durable: %v", err)
	}
	return err == nil
}

// eachUnwritten calls what for the cursors whose slots count and were not written by Apply, up to the first error.
func (a *apply) eachUnwritten(what func(*Cursor) error) error {
	for i := range a.Cursors {
		c := &a.Cursors[i]
		if c.written || c.Slot.State != queue.Live && c.Slot.State != queue.Parked {
			continue
		}
		if err := what(c); err != nil {
			return fmt.Errorf("cursor of %s: %w", c.Slot.Name, err)
		}
	}
	return nil
}

// rewrite writes the slots that Apply did not write yet. Syncing them is not enough to delete anything: if a sync of one
// failed and its process died then, what is read of it is in the system's memory only, and stays there.
func (a *apply) rewrite() bool {
	err := a.eachUnwritten(func(c *Cursor) error {
		c.Slot.Generation++
		c.Unwritten = a.write(c)
		c.written = c.Unwritten == nil
		return c.Unwritten
	})
	if err != nil {
		a.note(Warn, a.dir, "nothing is removed: %v", err)
	}
	return err == nil
}
