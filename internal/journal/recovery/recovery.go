// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package recovery finds out what a journal's directory holds after anything has happened to it, and brings it in order:
// sections 12 and 13 of the journal's specification.
//
// It stands between the files, which segment and cursor read one by one, and the journal, which goes on where the last
// process ended. Inspect only reads and says what is there, what is lost to whom, and what is to be done; Apply does it.
//
//	files ─► classes ─► order, void rule ─► spans and holes ─► slots with losses booked ─► Plan
//	          segment      which numbers      what is there,      what each cursor is
//	                       count where        what is not         owed, what it lost
//
// It promises that no bytes on disk stop a journal from opening, but for files of a newer format, which are named and
// left alone; that damage costs what it touched and no more; that every record that is owed and gone is in the books of
// whoever was owed it, once, with its items; that a number is never given out twice; and that opening costs the header
// and the seal of each segment, and a scan of those that were not sealed. Each step of Apply may be cut short or
// repeated. It knows no limits, no configuration and no lock: the caller holds the directory for Apply, and may not for
// Inspect.
package recovery

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	maxID      = 1 << 62 // of a segment; names above it are not ours
	exactEdges = 64      // ranges of a cursor up to which its items are counted at opening
	maxNotes   = 512
	maxLosses  = 256 // of one cursor, told apart; further ones of one file and reason are told together
)

// Plan is what is there and what Apply will do about it. It belongs to whoever called Inspect.
type Plan struct {
	Journal [16]byte // zero: a new journal
	Tag     uint8    // of the latest segment
	// Segments are those that can be read, by (base_seq, id). One may hold nothing that counts.
	Segments []Segment
	// Cursors are those found and those lost, by path. Whether their destinations are wanted is the journal's matter.
	Cursors []Cursor
	// Fresh are the wanted destinations that never had a cursor here.
	Fresh []string

	Seq   queue.Seq // last number given out
	Items uint64    // accepted up to it
	// LastID is the highest segment id seen. The next segment's header says PrevID, PrevLastSeq and PrevDurable.
	LastID      uint64
	PrevID      uint64
	PrevLastSeq queue.Seq
	PrevDurable segment.Offset

	Unclean bool // some segment was not sealed: the last process did not end in order
	Notes   []Note
	Losses  []Loss
	// ScannedBytes is how many bytes Inspect read.
	ScannedBytes int64

	dir      string
	litter   []string // to be removed
	strays   []stray  // to be moved to bad/
	damage   []damage // to be copied there
	outdated []string // cursor files that another one replaces, once that is written
}

// Segment is one readable segment.
type Segment struct {
	// Header is the segment's. Of a headless one ID and Journal are those it must have had, BaseSeq and BaseItems those
	// of its first good frame, and nothing else is known.
	Header segment.Header
	Path   string
	Class  segment.Class // Sealed, Unsealed or Headless; Apply changes it
	Sum    segment.Summary
	// First to Last are the numbers that count here, without those that are void or that a later segment holds too;
	// Last is below First if none does.
	First, Last queue.Seq
	Gaps        []segment.Gap // numbers a scan did not find; a sealed segment was not scanned
	Allocated   int64         // bytes on the volume
	Condemned   bool          // a rescue took over from it: it is never synced or sealed
	// Broken says that its records could be made durable neither where they are nor elsewhere. They can be read.
	Broken error

	f *found
}

// Cursor is one destination's place, with the slot as it is after Apply: losses booked, what they cost resolved. What
// was booked has no time yet (At, ParkedAt: 0) before Apply. The Generation is the one on disk, plus one if the slot is
// to be written.
type Cursor struct {
	Path   string
	Slot   cursor.Slot
	Lost   bool   // its file was bad or gone: it gets again what it may have had already
	Queued Queued // owed and not resolved
	// Accepted is what the journal accepted up to the last number the cursor is owed, in items. The books are in balance
	// when Accepted - NotOwed = Delivered + Rejected + Dropped + Queued. If not Known, nothing on disk says it.
	Accepted uint64
	Known    bool
	// Unwritten is why Apply could not write the slot. It is in memory only; nothing was sealed or deleted.
	Unwritten error

	dirty   bool
	written bool // by Apply
	bad     bool // a file that is no cursor of this journal stood in Path
	losses  int  // told apart
}

// Queued is what a cursor is owed and has not resolved.
//
// Records is exact. Items are exact if Counted: from items_before at the edges of what is unresolved. A cursor with more
// than 64 ranges gets what its books say is missing from them instead. Bytes are the sums of the seals, and of a segment
// that is resolved in part the share of its records that is not.
type Queued struct {
	Records, Items, Bytes uint64
	Counted               bool
}

// Imbalance is what the books have too much (negative: too little) of, in items; false if that cannot be said.
func (c *Cursor) Imbalance() (int64, bool) {
	if c.Slot.State != queue.Live && c.Slot.State != queue.Parked || !c.Known || !c.Queued.Counted {
		return 0, false
	}
	return int64(booked(&c.Slot) + c.Queued.Items - c.Accepted), true
}

// booked is what became of the items accepted, but for those that wait.
func booked(s *cursor.Slot) uint64 {
	return s.NotOwed + s.Delivered.Items + s.Rejected.Items + s.AllDropped().Items
}

// Loss is what one cursor was owed and is gone. First to Last is where; Records may be fewer.
type Loss struct {
	Cursor      string
	First, Last queue.Seq
	cursor.Count
	Reason cursor.Reason
	Path   string // of the segment that is damaged; empty: a file is gone
}

// Level says how much a Note matters.
type Level uint8

// The levels. An alarm means that data was lost, or will be repeated.
const (
	Info Level = iota
	Warn
	Alarm
)

// Note is one thing that was found, or done about it.
type Note struct {
	Level Level
	Path  string
	Text  string // one sentence, lower case, without the path
}

// ApplySettings say how Apply works.
type ApplySettings struct {
	// BadBytes bounds bad/; 0 = 4 MiB. Beyond it only notes are made: damaged bytes are not copied, files stay where
	// they are.
	BadBytes int64
	// KeepAll: nobody is owed anything and it stays all the same. Dead letters.
	KeepAll bool
	// Now is the wall clock, for people and for parked_hold; nil = time.Now.
	Now func() time.Time
}

func (set *ApplySettings) now() time.Time {
	if set.Now == nil {
		return time.Now()
	}
	return set.Now()
}

// Inspect looks at the journal in dir (pipelines/<name>) and changes nothing. It needs no lock: files may come, grow
// and go meanwhile, and what is gone is not missed. wanted are the names of the destinations in the configuration; they
// tell whose a lost cursor is.
//
// Errors: a *segment.NewerError or *cursor.NewerError, with the path; or a directory or file cannot be opened for a
// reason that says nothing about the bytes in it (permissions, descriptors): a journal that started without it would
// book it as lost.
func Inspect(disk vfs.FS, dir string, wanted []string) (*Plan, error) {
	l := newLook(disk, dir, wanted)
	if err := l.segments(); err != nil {
		return nil, err
	}
	if err := l.readCursors(); err != nil {
		return nil, err
	}
	if l.behind() {
		// Slots know of records that the segments did not show. Either they were written between the two looks, or
		// they are lost; they were on disk before the slots were, so a second look tells.
		if err := l.segments(); err != nil {
			return nil, err
		}
	}
	if err := l.search(); err != nil {
		return nil, err
	}
	return l.plan(), nil
}
