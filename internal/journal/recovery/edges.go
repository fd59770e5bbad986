// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"errors"
	"io"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// edges says how many items were accepted before and up to single records: one look into the index, and 64 KiB read. It
// keeps one file open, as what is asked for comes in order.
type edges struct {
	disk   vfs.FS
	of     *found
	file   vfs.File
	reader *segment.Reader
	known  map[queue.Seq]edge // of the file
}

// edge is the items before and after a record, as far as known.
type edge struct {
	before, after           uint64
	beforeKnown, afterKnown bool
}

// at is the edge of record seq. If it cannot be read, its place is what lies between the records beside it that can;
// where others are missing beside it, nobody knows which of their items are its own.
func (e *edges) at(f *found, seq queue.Seq) edge {
	if e.of != f {
		e.close()
		file, err := e.disk.OpenFile(f.path, vfs.Read, 0)
		if err != nil {
			return edge{}
		}
		r := f.in.Range()
		r.End, r.ReadBytes, r.SkipUnreadable = f.sum.DataEnd, segment.SeekBytes, true
		e.of, e.file, e.reader, e.known = f, file, segment.NewReader(file, r), map[queue.Seq]edge{}
	}
	at, ok := e.known[seq]
	if ok {
		return at
	}
	frame, err := e.reader.Seek(f.sum.Index, seq)
	missing := seq
	for err != nil || frame.Seq < seq {
		var damage *segment.CorruptError
		if frame, err = e.reader.Next(); errors.As(err, &damage) {
			missing = min(missing, max(damage.Gap.First, f.sum.First))
		} else if errors.Is(err, io.EOF) { // nothing behind it can be read
			frame, err = segment.Frame{Seq: f.sum.Last + 1, ItemsBefore: f.sum.ItemsEnd}, nil
		} else if err != nil {
			break
		}
	}
	switch {
	case err != nil:
	case frame.Seq == seq:
		at = edge{frame.ItemsBefore, frame.ItemsBefore + uint64(frame.Items), true, true}
	case missing == f.in.Header.BaseSeq:
		at = edge{f.in.Header.BaseItems, frame.ItemsBefore, missing == seq, frame.Seq == seq+1}
	case missing > f.in.Header.BaseSeq:
		before := e.at(f, missing-1)
		at = edge{before.after, frame.ItemsBefore, missing == seq && before.afterKnown, frame.Seq == seq+1}
	}
	e.known[seq] = at
	return at
}

func (e *edges) close() {
	if e.file != nil {
		e.file.Close() //nolint:errcheck // it was only read
	}
	e.of, e.file = nil, nil
}

// items is what was accepted with the records first to last of one run, both of which can be read.
func (e *edges) items(f *found, r *run, first, last queue.Seq) (uint64, bool) {
	from, to := edge{before: r.before, beforeKnown: true}, edge{after: r.after, afterKnown: true}
	if first > r.first {
		from = e.at(f, first)
	}
	if last < r.last {
		to = e.at(f, last)
	}
	return minus(to.after, from.before), from.beforeKnown && to.afterKnown
}

// minus is a - b, not below 0.
func minus(a, b uint64) uint64 { return a - min(a, b) }
