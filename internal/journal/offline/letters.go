// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
)

// DropLetters deletes the dead letters of a destination. Their items were booked as rejected when they were set aside, and
// stay so. The journal is one that Recover returned, and is stale afterwards.
//
// Letters of several destinations lie in one segment. What is to stay of it is written behind all others first, under new
// numbers, and durable before the segment goes: a crash between leaves letters twice, never none.
func (h *Held) DropLetters(j *Journal, destination string) (cursor.Count, error) {
	return h.without(j, func(r *Record) bool {
		l, _, err := journal.ParseLetter(r.Meta)
		return err == nil && l.Destination == destination
	})
}

// DropDelivered deletes the dead letters of these numbers: they were delivered after all. It works as DropLetters does.
func (h *Held) DropDelivered(j *Journal, letters *cursor.Set) (cursor.Count, error) {
	return h.without(j, func(r *Record) bool { return letters.Has(r.Seq) })
}

func (h *Held) without(j *Journal, goes func(*Record) bool) (cursor.Count, error) {
	var dropped cursor.Count
	if j.Dead == nil {
		return dropped, nil
	}
	share := h.space.Share(j.Pipeline, false)
	defer share.Close()
	w := rewriter{held: h, share: share, dir: j.deadDir(), at: *j.Dead, goes: goes}
	for i := range j.Dead.Segments {
		n, err := w.without(&j.Dead.Segments[i])
		dropped.Add(n)
		if err != nil {
			return dropped, fmt.Errorf("dead letters of pipeline %s: %w", j.Pipeline, err)
		}
	}
	return dropped, nil
}

// rewriter writes what stays of segments behind the last one.
type rewriter struct {
	held  *Held
	share *space.Share
	dir   string
	at    recovery.Plan      // where the next segment goes on
	goes  func(*Record) bool // says whether a letter goes; Meta is as it is on disk
}

// without removes the letters that go from one segment. A segment with something that this program cannot read stays
// as it is. What is held in memory is one segment of dead letters, 4 MiB or one record.
func (w *rewriter) without(s *recovery.Segment) (cursor.Count, error) {
	var gone cursor.Count
	var stay []segment.Record
	in := walk{disk: w.held.disk, resolved: &cursor.Set{}, next: 1, upTo: segment.MaxSeq, visit: func(r *Record) error {
		if w.goes(r) {
			gone.Add(cursor.Count{Records: 1, Items: uint64(r.Items)})
			return nil
		}
		stay = append(stay, segment.Record{Tag: r.Tag, Items: r.Items, Size: r.Size, Meta: r.Meta, Body: r.Body,
			CRC: segment.Checksum(r.Meta, r.Body), Accepted: r.Accepted})
		return nil
	}}
	missed, err := in.over([]recovery.Segment{*s})
	switch {
	case err != nil || gone.Records == 0:
		return cursor.Count{}, err
	case missed.Opaque > 0:
		return cursor.Count{}, fmt.Errorf("%s holds records of a newer version; it is left alone", s.Path)
	case missed.Any():
		return cursor.Count{}, fmt.Errorf("%s is damaged; it is left alone: %w", s.Path, missed.Damage[0])
	}
	if len(stay) > 0 {
		if err := w.write(stay); err != nil {
			return cursor.Count{}, fmt.Errorf("write what stays of %s: %w", s.Path, err)
		}
	}
	return gone, w.remove(s.Path)
}

func (w *rewriter) remove(name string) error {
	disk := w.held.disk
	info, err := disk.Stat(name)
	if err != nil {
		return err
	}
	if err := disk.Remove(name); err != nil {
		return err
	}
	w.share.Gave(info.Allocated)
	return disk.SyncDir(w.dir)
}

// write makes a segment of the records, whole and durable when it returns nil.
func (w *rewriter) write(records []segment.Record) error {
	var frames int64
	for i := range records {
		frames += segment.FrameBytes(len(records[i].Meta), len(records[i].Body))
	}
	bytes := segment.FileBytes(frames)
	if err := w.share.Room(bytes); err != nil {
		return err
	}
	h := segment.Header{
		Journal: w.at.Journal, ID: w.at.LastID + 1, Tag: w.at.Tag, BaseSeq: w.at.Seq + 1, BaseItems: w.at.Items,
		PrevID: w.at.PrevID, PrevLastSeq: w.at.PrevLastSeq, PrevDurable: w.at.PrevDurable,
		Created: time.Now().UnixNano(), FileBytes: bytes, Salt: salt(),
	}
	name := layout.Segment(w.dir, h.ID)
	w.at.LastID = h.ID
	file, err := segment.Prepare(w.held.disk, name, bytes)
	if err != nil {
		w.share.Gave(bytes)
		return err
	}
	out, err := segment.NewWriter(file, h)
	if err == nil {
		_, err = out.Append(records)
	}
	if err == nil {
		err = out.Seal()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	sum := out.Summary()
	w.at.Seq, w.at.Items, w.at.PrevID, w.at.PrevLastSeq, w.at.PrevDurable = sum.Last, sum.ItemsEnd, h.ID, sum.Last, sum.DataEnd
	return nil
}

// salt is a random number that is not 0.
func salt() uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if n := binary.LittleEndian.Uint32(b[:]); n != 0 {
			return n
		}
	}
}
