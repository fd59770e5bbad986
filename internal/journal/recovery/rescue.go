// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const rescueGroupBytes = 8 << 20 // of bodies that are in memory at once; one larger record alone

var errUnread = errors.New("a record could not be read again")

// rescue writes what counts in segment i into segments of their own, one for each run of its numbers, and puts them into
// the plan behind it. It returns how many. If it fails the segment is Broken and its records stay where they are.
//
// The last run comes first, and each new segment has a temporary name until it is sealed and durable: as its header makes
// void what the old segment has from there on, a crash leaves the end of the numbers in the new ones and the beginning in
// the old one, which the next recovery leaves alone.
func (a *apply) rescue(i int, cause error) int {
	old := &a.Segments[i]
	acked := old.Header.PrevLastSeq
	if old.Class == segment.Headless {
		acked = old.Header.BaseSeq - 1
	}
	var runs []run
	var before []queue.Seq // the last number acknowledged before each
	for _, r := range old.f.runs {
		if r.first > old.Last {
			break
		}
		if r.first > old.Header.BaseSeq && !old.f.torn[r.first] {
			acked = r.first - 1 // what is missing before it was durable once
		}
		r.last = min(r.last, old.Last)
		runs, before = append(runs, r), append(before, acked)
		acked = r.last
	}
	made := make([]Segment, len(runs))
	for k := len(runs) - 1; k >= 0; k-- {
		var err error
		if made[k], err = a.board(old, runs[k], before[k]); err != nil {
			old.Broken = errors.Join(cause, err)
			a.note(Alarm, old.Path, "its records could not be made durable in another file either: %v", err)
			for _, m := range made[k+1:] { // all of it is still read here
				a.remove([]string{m.Path})
			}
			return 0
		}
		a.note(Warn, made[k].Path, "written again here: %s", numbers(made[k].First, made[k].Last))
	}
	if len(made) > 0 {
		old.Last = old.First - 1
		a.Segments = slices.Insert(a.Segments, i+1, made...)
	}
	return len(made)
}

// board makes one rescue segment; acked is the last number acknowledged before it.
func (a *apply) board(old *Segment, r run, acked queue.Seq) (Segment, error) {
	bytes := segment.FileBytes(int64(r.end - r.off))
	h := a.rescueHeader(old, r, acked, bytes)
	name := layout.Segment(a.seg, h.ID)
	tmp := name + layout.TempSuffix
	if err := a.disk.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Segment{}, err
	}
	file, err := segment.Prepare(a.disk, tmp, bytes)
	if err != nil {
		return Segment{}, err
	}
	w, err := segment.NewWriter(file, h)
	if err == nil {
		err = a.records(old, r, func(g []segment.Record) error {
			_, err := w.Append(g)
			return err
		})
	}
	if err == nil {
		err = w.Seal()
	}
	s := Segment{Header: h, Path: name, Class: segment.Sealed, First: r.first, Last: r.last}
	if err == nil {
		err = statInto(file, &s.Allocated)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = a.disk.Rename(tmp, name)
	}
	if err == nil {
		err = a.disk.SyncDir(a.seg)
	}
	if err != nil {
		return Segment{}, errors.Join(err, ignoreGone(a.disk.Remove(tmp)), ignoreGone(a.disk.Remove(name)))
	}
	s.Sum = w.Summary()
	s.f = &found{id: h.ID, path: name, sum: s.Sum, first: s.First, last: s.Last, unsynced: old.f.unsynced}
	s.f.in = segment.Inspection{Path: name, Class: segment.Sealed, Header: h, Seal: &s.Sum, Bytes: bytes}
	return s, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rescueHeader begins where the run does.
func (a *apply) rescueHeader(old *Segment, r run, acked queue.Seq, bytes int64) segment.Header {
	h := old.Header
	a.LastID++
	h.ID, h.Salt, h.FileBytes, h.Created = a.LastID, salt(), bytes, a.set.now().UnixNano()
	h.Journal = a.Journal
	h.Flags |= segment.FlagRescue
	h.PrevID, h.PrevLastSeq, h.PrevDurable = old.Header.ID, acked, old.f.scan.Witness
	h.BaseSeq, h.BaseItems = r.first, r.before
	h.Cursors = slices.Clone(h.Cursors)
	if old.Class == segment.Headless { // owed to all
		h.Cursors = a.everybody()
	}
	return h
}

// everybody is the hashes of all cursors that may be owed something.
func (a *apply) everybody() (hashes []uint64) {
	for i := range a.Cursors {
		s := &a.Cursors[i].Slot
		if (s.State == queue.Live || s.State == queue.Parked) && len(hashes) < segment.MaxCursors {
			hashes = append(hashes, cursor.Hash(s.Name))
		}
	}
	return hashes
}

// records reads the run again and hands over its records, in groups of bounded size.
func (a *apply) records(old *Segment, r run, what func([]segment.Record) error) error {
	file, err := a.disk.OpenFile(old.Path, vfs.Read, 0)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	rng := old.f.in.Range()
	rng.From, rng.End, rng.Last, rng.Bodies = segment.Place{Seq: r.first, Off: r.off}, r.end, r.last, true
	rd := segment.NewReader(file, rng)
	var group []segment.Record
	bytes, next := int64(0), r.first
	for next <= r.last {
		f, err := rd.Next()
		if err == nil && f.Seq != next || err == io.EOF {
			err = errUnread
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", next, err)
		}
		if !f.Known() {
			return fmt.Errorf("record %d was written by a newer version: %w", next, errUnread)
		}
		if bytes += f.Bytes(); bytes > rescueGroupBytes && len(group) > 0 {
			if err := what(group); err != nil {
				return err
			}
			group, bytes = group[:0], f.Bytes()
		}
		group = append(group, segment.Record{
			Tag: f.Tag, Items: f.Items, Size: f.Size, Meta: f.Meta, Body: f.Body, CRC: segment.Checksum(f.Meta, f.Body),
			Accepted: f.Accepted,
		})
		next++
	}
	return what(group)
}

func salt() uint32 {
	var b [4]byte
	for {
		rand.Read(b[:]) //nolint:errcheck // it never fails
		if s := binary.LittleEndian.Uint32(b[:]); s != 0 {
			return s
		}
	}
}
