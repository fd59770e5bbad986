// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	// badBytes is what recovery may put into quarantine, as where no cap is known (journal, section 13).
	badBytes = 4 << 20
	// saveEvery is how often what was delivered is written down: what is sent after the last time is sent again if the
	// process dies.
	saveEvery = 100 * time.Millisecond
	// minReserve is the RESERVE where there was none.
	minReserve = 4096
)

// Held is a store that this process has locked: nobody else writes to it.
type Held struct {
	*Store
	space *space.Space
}

// Hold locks a store. limits bound what may be allocated; zeros are the defaults. The RESERVE keeps its size, which is the
// instance's business. Errors: *NoStoreError, *space.LockedError when a process has it open, *space.DirectoryError when it
// cannot be written.
func Hold(ctx context.Context, disk vfs.FS, directory, owner string, limits space.Limits) (*Held, error) {
	s, err := Open(disk, directory)
	if err != nil {
		return nil, err
	}
	limits.SegmentBytes = minReserve // what RESERVE is measured by
	if info, err := disk.Stat(path.Join(s.dir, layout.ReserveFile)); err == nil {
		limits.SegmentBytes = max(info.Size, minReserve)
	}
	sp, err := space.Open(ctx, space.Settings{
		Disk: disk, Directory: s.dir, Owner: owner, CapBytes: limits.CapBytes, MinFreeBytes: limits.MinFreeBytes,
		MaxJournalBytes: limits.MaxJournalBytes, SegmentBytes: limits.SegmentBytes, Heads: limits.Heads,
	})
	if err != nil {
		return nil, err
	}
	return &Held{Store: s, space: sp}, nil
}

// Close gives up the lock.
func (h *Held) Close() error { return h.space.Close() }

// Recover brings a journal in order as a start would, and looks at it. What everybody has resolved is deleted by that.
func (h *Held) Recover(n Name, wanted []string) (*Journal, error) {
	j, err := h.Inspect(n, wanted)
	if err != nil {
		return nil, err
	}
	if err := j.Plan.Apply(h.disk, recovery.ApplySettings{BadBytes: badBytes}); err != nil {
		return nil, fmt.Errorf("recover journal of pipeline %s: %w", n.Pipeline, err)
	}
	if j.Dead != nil {
		if err := j.Dead.Apply(h.disk, recovery.ApplySettings{BadBytes: badBytes, KeepAll: true}); err != nil {
			return nil, fmt.Errorf("recover dead letters of pipeline %s: %w", n.Pipeline, err)
		}
	}
	return h.Inspect(n, wanted)
}

// Books is a cursor whose file is open for writing. It is for one goroutine.
type Books struct {
	file  *cursor.File
	slot  cursor.Slot
	upTo  queue.Seq
	saved time.Time
	dirty bool
}

// Books opens the cursor of a destination. The journal is one that Recover returned.
func (h *Held) Books(j *Journal, destination string) (*Books, error) {
	c := j.Cursor(destination)
	if c == nil {
		return nil, fmt.Errorf("%s has no cursor in the journal of pipeline %s", destination, j.Pipeline)
	}
	file, slot, err := cursor.Open(h.disk, c.Path)
	if err != nil {
		return nil, fmt.Errorf("cursor of %s: %w", destination, err)
	}
	return &Books{file: file, slot: slot, upTo: j.UpTo(c), saved: time.Now()}, nil
}

// Deliver books a record as delivered, but for rejected of its items. It is on disk soon, and after Close.
func (b *Books) Deliver(r *Record, rejected uint32) error {
	if b.slot.Resolved.Add(r.Seq, r.Seq) == 0 {
		return nil
	}
	rejected = min(rejected, r.Items)
	b.slot.High = max(b.slot.High, r.Seq)
	b.slot.Delivered.Add(cursor.Count{Records: 1, Items: uint64(r.Items - rejected)})
	b.slot.Rejected.Items += uint64(rejected)
	b.dirty = true
	if time.Since(b.saved) < saveEvery {
		return nil
	}
	return b.save()
}

// Redeem books as delivered what was booked as rejected: dead letters that were taken after all. A letter does not say how
// many of its items were rejected; where it was not all of them, more than those are moved, and the sum stays right.
func (b *Books) Redeem(n cursor.Count) error {
	n.Records, n.Items = min(n.Records, b.slot.Rejected.Records), min(n.Items, b.slot.Rejected.Items)
	b.slot.Rejected.Records -= n.Records
	b.slot.Rejected.Items -= n.Items
	b.slot.Delivered.Add(n)
	b.dirty = true
	return b.save()
}

// Drop gives up all that is owed, and books it under operator. items are those of the records.
func (b *Books) Drop(items uint64) (cursor.Drop, error) {
	if b.slot.State != queue.Parked {
		return cursor.Drop{}, fmt.Errorf("%s is not parked: its destination is in the configuration, and gets what waits for it",
			b.slot.Name)
	}
	first := b.slot.Resolved.Next(1)
	d := cursor.Drop{First: first, Last: b.upTo, At: time.Now().UnixNano(), Reason: cursor.Operator}
	if first > b.upTo {
		return cursor.Drop{}, nil
	}
	d.Records, d.Items = b.slot.Resolved.Add(first, b.upTo), items
	b.slot.High = max(b.slot.High, b.upTo)
	b.slot.Book(d)
	b.dirty = true
	return d, b.save()
}

// save writes the slot. A parked cursor that is owed nothing any more is done.
func (b *Books) save() error {
	if b.slot.State == queue.Parked && b.slot.Resolved.Next(1) > b.upTo {
		b.slot.State = queue.Done
	}
	if err := b.file.Write(&b.slot); err != nil {
		return fmt.Errorf("write cursor of %s: %w", b.slot.Name, err)
	}
	b.saved, b.dirty = time.Now(), false
	return nil
}

// Close writes what was booked, and closes the file.
func (b *Books) Close() error {
	var err error
	if b.dirty {
		err = b.save()
	}
	return errors.Join(err, b.file.Close())
}

// deadDir is where the segments of dead letters are.
func (j *Journal) deadDir() string { return path.Join(j.Path, layout.Dead, layout.Segments) }
