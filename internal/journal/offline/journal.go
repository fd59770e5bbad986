// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Journal is one journal as recovery sees it: what its Plan says was on disk when it was looked at.
type Journal struct {
	Name
	Path string         // of its directory
	Plan *recovery.Plan // slots in it have losses booked already, as they would be after a start
	Dead *recovery.Plan // of its dead letters; nil = there are none
	disk vfs.FS
}

// Inspect looks at one journal. wanted are names of destinations, to tell whose a lost cursor was; nil = unknown.
func (s *Store) Inspect(n Name, wanted []string) (*Journal, error) {
	j := &Journal{Name: n, Path: path.Join(s.dir, layout.Pipelines, n.Directory), disk: s.disk}
	var err error
	if j.Plan, err = recovery.Inspect(s.disk, j.Path, wanted); err != nil {
		return nil, fmt.Errorf("journal of pipeline %s: %w", n.Pipeline, err)
	}
	dead := path.Join(j.Path, layout.Dead)
	if _, err := s.disk.Stat(dead); err == nil {
		if j.Dead, err = recovery.Inspect(s.disk, dead, nil); err != nil {
			return nil, fmt.Errorf("dead letters of pipeline %s: %w", n.Pipeline, err)
		}
	}
	return j, nil
}

// Cursor finds the cursor of a destination, nil if there is none.
func (j *Journal) Cursor(destination string) *recovery.Cursor {
	for i := range j.Plan.Cursors {
		if j.Plan.Cursors[i].Slot.Name == destination {
			return &j.Plan.Cursors[i]
		}
	}
	return nil
}

// UpTo is the last number that c is owed; 0 = it is owed nothing.
func (j *Journal) UpTo(c *recovery.Cursor) queue.Seq {
	last := j.last()
	switch c.Slot.State {
	case queue.Live:
		return last
	case queue.Parked:
		return min(c.Slot.Until, last)
	}
	return 0
}

// last is the highest number a readable segment has.
func (j *Journal) last() (last queue.Seq) {
	for i := range j.Plan.Segments {
		last = max(last, j.Plan.Segments[i].Last)
	}
	return last
}

// Letters counts the dead letters of each destination. It reads headers and metas, no bodies are kept.
func (j *Journal) Letters() (map[string]cursor.Count, Missed, error) {
	out := map[string]cursor.Count{}
	missed, err := j.DeadLetters("", 0, func(r *Record) error {
		c := out[r.Letter.Destination]
		c.Add(cursor.Count{Records: 1, Items: uint64(r.Items)})
		out[r.Letter.Destination] = c
		return nil
	})
	return out, missed, err
}

// Record is one stored record.
type Record struct {
	segment.Frame
	Path   string          // of its segment
	Letter *journal.Letter // of a dead letter; Meta is then the record's own, as it was when it was set aside
}

// Missed is what a walk did not come by.
type Missed struct {
	Damage []*segment.CorruptError // numbers whose bytes do not hold
	Opaque uint64                  // records of a newer program; they are kept and not shown
	Gone   uint64                  // records whose segment went meanwhile: everybody had resolved them
}

// Any says that something was missed that should not be.
func (m *Missed) Any() bool { return len(m.Damage) > 0 || m.Opaque > 0 }

// ErrEnough ends a walk without an error.
var ErrEnough = errors.New("enough")

// Unresolved walks over the records that c is owed and has not resolved, in order, from number from on. The record is
// visit's to keep; an error of visit ends the walk and is returned.
func (j *Journal) Unresolved(c *recovery.Cursor, from queue.Seq, visit func(*Record) error) (Missed, error) {
	w := walk{disk: j.disk, visit: visit, resolved: &c.Slot.Resolved, upTo: j.UpTo(c), next: max(from, 1)}
	return w.over(j.Plan.Segments)
}

// DeadLetters walks over the dead letters of a destination, of all with "", from the dead letter number from on.
func (j *Journal) DeadLetters(destination string, from queue.Seq, visit func(*Record) error) (Missed, error) {
	if j.Dead == nil {
		return Missed{}, nil
	}
	var strange []*segment.CorruptError
	w := walk{disk: j.disk, resolved: &cursor.Set{}, next: max(from, 1), upTo: segment.MaxSeq, visit: func(r *Record) error {
		l, meta, err := journal.ParseLetter(r.Meta)
		if err != nil {
			strange = append(strange, &segment.CorruptError{Path: r.Path, Cause: err,
				Gap: segment.Gap{Off: r.Off, End: r.End, First: r.Seq, Last: r.Seq}})
			return nil
		}
		if destination != "" && l.Destination != destination {
			return nil
		}
		r.Letter, r.Meta = &l, meta
		return visit(r)
	}}
	missed, err := w.over(j.Dead.Segments)
	missed.Damage = append(missed.Damage, strange...)
	return missed, err
}

// walk reads the unresolved numbers of segments, in order.
type walk struct {
	disk     vfs.FS
	visit    func(*Record) error
	resolved *cursor.Set
	next     queue.Seq // the next number looked for
	upTo     queue.Seq
	missed   Missed
}

func (w *walk) over(segments []recovery.Segment) (Missed, error) {
	for i := range segments {
		s := &segments[i]
		first, last := w.resolved.Next(max(w.next, s.First)), min(s.Last, w.upTo)
		if first > last {
			continue
		}
		w.next = first
		if err := w.segment(s, last); err != nil {
			if errors.Is(err, ErrEnough) {
				err = nil
			}
			return w.missed, err
		}
		w.next = last + 1
	}
	return w.missed, nil
}

// segment reads what is unresolved of one segment from next to last.
func (w *walk) segment(s *recovery.Segment, last queue.Seq) error {
	file, err := w.disk.OpenFile(s.Path, vfs.Read, 0)
	if gone(err) {
		w.missed.Gone += uint64(last-w.next) + 1 - w.resolved.Count(w.next, last)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	defer file.Close() //nolint:errcheck // opened for reading: there is nothing to lose
	r := w.reader(file, s, w.next)
	for w.next <= last {
		f, err := r.Next()
		var damage *segment.CorruptError
		switch {
		case errors.Is(err, io.EOF):
			w.damaged(&segment.CorruptError{Path: s.Path, Cause: io.ErrUnexpectedEOF,
				Gap: segment.Gap{Off: s.Sum.DataEnd, End: s.Sum.DataEnd, First: w.next, Last: last}}, last)
			return nil
		case errors.As(err, &damage):
			w.damaged(damage, last)
			continue
		case err != nil:
			return fmt.Errorf("read segment: %w", err)
		}
		if f.Seq < w.next || f.Seq > last {
			continue
		}
		if !w.resolved.Has(f.Seq) {
			if !f.Known() {
				w.missed.Opaque++
			} else if err := w.visit(&Record{Frame: f, Path: s.Path}); err != nil {
				return err
			}
		}
		w.next = w.resolved.Next(f.Seq + 1)
		if w.next > f.Seq+farApart {
			r = w.reader(file, s, w.next)
		}
	}
	return nil
}

// farApart is how many resolved records are read over rather than sought past.
const farApart = 16

// damaged notes what of a gap was looked for. Numbers that a plan already gave up are not among those.
func (w *walk) damaged(e *segment.CorruptError, last queue.Seq) {
	first, end := max(e.Gap.First, w.next), min(e.Gap.Last, last)
	if e.Gap.Last == 0 {
		end = last
	}
	if first <= end && !w.resolved.Covers(first, end) {
		w.missed.Damage = append(w.missed.Damage, e)
	}
	w.next = max(w.next, w.resolved.Next(end+1))
}

// reader is one whose Next begins at seq, or as near before it as the index knows.
func (w *walk) reader(file vfs.File, s *recovery.Segment, seq queue.Seq) *segment.Reader {
	from := segment.Place{Seq: s.Header.BaseSeq, Off: segment.BlockBytes}
	if at, ok := s.Sum.Index.Floor(seq); ok {
		from = at
	}
	set := segment.Range{
		Path: s.Path, Salt: s.Header.Salt, From: from, End: s.Sum.DataEnd, Last: s.Last,
		Items: s.Header.BaseItems, Counted: from.Seq == s.Header.BaseSeq,
		Bodies: true, DropBehind: true, SkipUnreadable: true,
	}
	r := segment.NewReader(file, set)
	if _, err := r.Seek(s.Sum.Index, seq); err != nil { // it is missing: reading on the way to it says what is
		r = segment.NewReader(file, set)
	}
	return r
}

// SegmentBytes is what the journal's segments take on disk, dead letters excepted.
func (j *Journal) SegmentBytes() (sum int64) {
	dir := path.Join(j.Path, layout.Segments)
	entries, _ := j.disk.ReadDir(dir) // what cannot be listed is not counted
	for _, e := range entries {
		if info, err := j.disk.Stat(path.Join(dir, e.Name)); err == nil {
			sum += info.Allocated
		}
	}
	return sum
}
