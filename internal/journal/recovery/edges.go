// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"errors"

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

type edge struct {
	before, after uint64
	ok            bool
}

// at is the edge of record seq. If it cannot be read, that of the next record that can: then nothing lies between.
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
	for err != nil || frame.Seq < seq {
		var damage *segment.CorruptError
		if frame, err = e.reader.Next(); err != nil && !errors.As(err, &damage) {
			break
		}
	}
	switch {
	case err == nil && frame.Seq == seq:
		at = edge{frame.ItemsBefore, frame.ItemsBefore + uint64(frame.Items), true}
	case err == nil:
		at = edge{frame.ItemsBefore, frame.ItemsBefore, true}
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
	from, to := edge{before: r.before, ok: true}, edge{after: r.after, ok: true}
	if first > r.first {
		from = e.at(f, first)
	}
	if last < r.last {
		to = e.at(f, last)
	}
	return minus(to.after, from.before), from.ok && to.ok
}

// minus is a - b, not below 0.
func minus(a, b uint64) uint64 { return a - min(a, b) }
