// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	// copyBelow is the size from which bytes are handed to the disk where they are; copying less costs less than one
	// more part.
	copyBelow = 16 << 10
	filePerm  = 0o600
)

// Prepare makes a segment that is ready to be written: a new file of exactly bytes, with blocks where the volume can
// give them, file and name durable. Its first block is zero, so that a crash leaves a file recovery knows as unused.
// On error the file is gone again, as far as the disk allows.
func Prepare(disk vfs.FS, name string, bytes int64) (vfs.File, error) {
	file, err := disk.OpenFile(name, vfs.Create, filePerm)
	if err != nil {
		return nil, err
	}
	err = file.Allocate(bytes)
	if errors.Is(err, vfs.ErrUnsupported) {
		err = file.Truncate(bytes)
	}
	if err == nil {
		err = file.Datasync()
	}
	if err == nil {
		err = disk.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), ignoreGone(disk.Remove(name)))
	}
	return file, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Writer appends groups of records to one prepared segment and seals it.
//
// Append, Mark and Seal are for one goroutine at a time; Sync, Durable and Err may be called beside them. After the
// first failed write or sync the segment is condemned: nothing is written to it or synced any more, and what Durable
// says stays true. The Writer does not close the file.
type Writer struct {
	file    vfs.File
	header  Header
	limit   Offset // frames end at or before it
	pos     Offset // where the next group begins
	sum     Summary
	begun   bool // the header was written
	sealed  bool
	durable atomic.Int64 // Offset
	failed  atomic.Pointer[error]

	buf   []byte // headers and small bodies of a group, for reuse
	parts [][]byte
}

// Group says where a group went.
type Group struct {
	First, Last queue.Seq
	Off, End    Offset
}

// NewWriter is a Writer for a file made by Prepare. The header is written with the first group. h.FileBytes is the size
// of the file.
func NewWriter(file vfs.File, h Header) (*Writer, error) {
	if len(h.Cursors) > MaxCursors {
		return nil, fmt.Errorf("segment %d for %d cursors: %w", h.ID, len(h.Cursors), ErrTooLarge)
	}
	if !h.plausible() {
		return nil, fmt.Errorf("segment %d: header out of bounds: %+v", h.ID, h)
	}
	h.Cursors = slices.Clone(h.Cursors)
	return &Writer{
		file: file, header: h, sum: start(&h), pos: dataStart, limit: Offset(h.FileBytes - sealRoom(h.FileBytes)),
	}, nil
}

// Free is how many bytes of frames the next group may have.
func (w *Writer) Free() int64 { return int64(max(0, w.limit-w.pos)) }

// Used is how far the segment is written.
func (w *Writer) Used() Offset { return w.pos }

// Header is what the segment's first block says.
func (w *Writer) Header() Header { return w.header }

// Summary is what the segment holds. The index may be kept: later appends do not change what it has now.
func (w *Writer) Summary() Summary {
	s := w.sum
	s.Index = slices.Clip(s.Index)
	return s
}

// Next is the number the next record gets.
func (w *Writer) Next() queue.Seq { return w.sum.Last + 1 }

// Append writes one group: each record gets the next number, and the bytes go to the disk in one write, the first time
// with the header. It is not durable before a Sync. ErrNoRoom and ErrTooLarge leave everything as it was; after any
// other error the segment is condemned and what is there of the group is void. The bytes stay the caller's.
func (w *Writer) Append(group []Record) (Group, error) {
	if err := w.Err(); err != nil {
		return Group{}, err
	}
	if w.sealed {
		return Group{}, ErrSealed
	}
	var frames, copied int64
	for i := range group {
		r := &group[i]
		if len(r.Meta) > MaxRecordBytes || len(r.Body) > MaxRecordBytes-len(r.Meta) {
			return Group{}, fmt.Errorf("record of %d bytes: %w", int64(len(r.Meta))+int64(len(r.Body)), ErrTooLarge)
		}
		frames += FrameBytes(len(r.Meta), len(r.Body))
		copied += frameHeaderBytes + alignment + copyable(r.Meta) + copyable(r.Body)
	}
	if frames > w.Free() || len(group) == 0 || w.Next()+queue.Seq(len(group)) > MaxSeq {
		return Group{}, ErrNoRoom
	}
	sum, g := w.sum, Group{First: w.Next(), Off: w.pos}
	at := w.encode(group, copied, &sum)
	if _, err := w.file.WriteVAt(w.parts, int64(at)); err != nil {
		w.buf, w.parts = nil, nil // a buffer does not outlive its error
		return Group{}, w.condemn(err)
	}
	clear(w.parts) // the bodies are not ours
	w.begun, w.sum, w.pos = true, sum, sum.DataEnd
	g.Last, g.End = sum.Last, sum.DataEnd
	return g, nil
}

// encode lays the group out in parts and counts it in sum. It returns where the write begins.
func (w *Writer) encode(group []Record, copied int64, sum *Summary) Offset {
	at := w.pos
	w.buf, w.parts = slices.Grow(w.buf[:0], int(copied)+BlockBytes), w.parts[:0]
	if !w.begun {
		w.buf, at = w.header.append(w.buf), 0
	}
	open := 0 // the bytes of buf from here are not in parts yet
	add := func(p []byte) {
		if len(p) < copyBelow {
			w.buf = append(w.buf, p...)
			return
		}
		w.parts = append(w.parts, w.buf[open:], p)
		open = len(w.buf)
	}
	pos, synced := w.pos, w.Durable()
	for i := range group {
		r := &group[i]
		f := Frame{
			Off: pos, Type: TypeRecord, Tag: r.Tag, Seq: sum.Last + 1, Items: r.Items, Size: r.Size, Accepted: r.Accepted,
			ItemsBefore: sum.ItemsEnd, Synced: synced, salt: w.header.Salt,
			bodyLen: uint32(len(r.Meta) + len(r.Body)), bodyCRC: r.CRC, metaLen: uint32(len(r.Meta)),
		}
		f.End = pos + frameLength(f.bodyLen)
		w.buf = f.appendHeader(w.buf)
		add(r.Meta)
		add(r.Body)
		var zeros [alignment]byte
		w.buf = append(w.buf, zeros[:f.End-pos-frameHeaderBytes-Offset(f.bodyLen)]...)
		sum.add(&f)
		pos = f.End
	}
	w.parts = append(w.parts, w.buf[open:])
	return at
}

func copyable(p []byte) int64 {
	if len(p) < copyBelow {
		return int64(len(p))
	}
	return 0
}

// Mark ends what a sync that starts now covers, and returns it for Sync. The next group begins on a new block, so that
// no block with durable bytes is written again.
func (w *Writer) Mark() Offset {
	w.pos = up(w.pos, BlockBytes)
	return w.sum.DataEnd
}

// Sync makes durable what was appended before the Mark that returned upTo. A failed sync is not repeated: the segment
// is condemned.
func (w *Writer) Sync(upTo Offset) error {
	if err := w.Err(); err != nil {
		return err
	}
	if err := w.file.Datasync(); err != nil {
		return w.condemn(err)
	}
	for {
		now := w.durable.Load()
		if int64(upTo) <= now || w.durable.CompareAndSwap(now, int64(upTo)) {
			return nil
		}
	}
}

// Durable is the end of the bytes known durable, 0 before the first sync. Every later frame says it.
func (w *Writer) Durable() Offset { return Offset(w.durable.Load()) }

// Seal completes the segment: what is not durable yet is synced first, since a seal vouches for all before it; then
// seal and trailer are written, the rest of the file is freed, and the file is synced. After an error the segment is
// condemned and stays unsealed; its records are as durable as they were. A segment without records is not sealed:
// ErrMissing.
func (w *Writer) Seal() error {
	if w.sealed {
		return nil
	}
	if err := w.Err(); err != nil {
		return err
	}
	if !w.begun {
		return fmt.Errorf("seal segment %d: nothing written: %w", w.header.ID, ErrMissing)
	}
	if upTo := w.Mark(); w.Durable() < upTo {
		if err := w.Sync(upTo); err != nil {
			return err
		}
	}
	if err := seal(w.file, &w.header, &w.sum, w.Durable()); err != nil {
		return w.condemn(err)
	}
	w.sealed, w.buf, w.parts = true, nil, nil
	return nil
}

// Err is why the segment is condemned: ErrCondemned with the cause, nil if it is not.
func (w *Writer) Err() error {
	if cause := w.failed.Load(); cause != nil {
		return *cause
	}
	return nil
}

func (w *Writer) condemn(cause error) error {
	err := fmt.Errorf("%w: segment %d: %w", ErrCondemned, w.header.ID, cause)
	if w.failed.CompareAndSwap(nil, &err) {
		return err
	}
	return *w.failed.Load()
}
