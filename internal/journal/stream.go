// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"io"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	// readAheadBytes is how much a reader hands over at once.
	readAheadBytes = 1 << 20
	// readAheadRecords bounds it for small records.
	readAheadRecords = 512
)

// view is what a reader must know of a segment, copied out of the lock.
type view struct {
	id     uint64
	path   string
	header segment.Header
	index  segment.Index
	end    segment.Offset
	last   queue.Seq // highest number that counts
	items  uint64    // accepted up to it, 0 = unknown
}

func (s *seg) view() view {
	v := view{id: s.id, path: s.path, header: s.header, index: s.sum.Index, end: s.end(), last: s.last}
	if s.last == s.sum.Last {
		v.items = s.sum.ItemsEnd
	}
	return v
}

// stream reads records in order, across calls as long as they follow each other. It is for one goroutine at a time.
type stream struct {
	files     *files
	bodies    bool
	readBytes int // of one read; 0 = 1 MiB
	behind    bool
	skip      bool // what the disk refuses is damage

	file  *openFile
	r     *segment.Reader // made for what skip was then
	skips bool
	v     view
	next  queue.Seq
}

// read returns the record seq of the segment v and those behind it, readAheadBytes or so of them. With an error come
// the frames before it. After *segment.CorruptError the next call may ask for the number behind the gap.
func (s *stream) read(v view, seq queue.Seq) (frames []segment.Frame, err error) {
	if err := s.seek(v, seq); err != nil {
		return nil, err
	}
	for bytes := int64(0); s.next <= v.last && bytes < readAheadBytes && len(frames) < readAheadRecords; {
		f, err := s.r.Next()
		var damage *segment.CorruptError
		switch {
		case err == nil && f.Seq < s.next: // on the way, where Seek lost it
			continue
		case err == nil:
		case errors.As(err, &damage) && damage.Gap.Last < s.next:
			continue
		case errors.Is(err, io.EOF): // it ends before a number that was published in it
			err = &segment.CorruptError{Path: v.path, Cause: io.ErrUnexpectedEOF,
				Gap: segment.Gap{Off: v.end, End: v.end, First: s.next, Last: v.last}}
			fallthrough
		default:
			s.r = nil
			return frames, err
		}
		s.next = f.Seq + 1
		frames = append(frames, f)
		bytes += f.Bytes()
	}
	return frames, nil
}

// body returns the body of one record.
func (s *stream) body(v view, seq queue.Seq) ([]byte, error) {
	if v.path == "" {
		return nil, segment.ErrMissing
	}
	if err := s.seek(v, seq); err != nil {
		return nil, err
	}
	for {
		f, err := s.r.Next()
		var damage *segment.CorruptError
		switch {
		case err == nil && f.Seq < seq, errors.As(err, &damage) && damage.Gap.Last < seq: // on the way
			continue
		case err == nil && f.Seq == seq:
			s.next = seq + 1
			return f.Body, nil
		case err == nil, errors.Is(err, io.EOF):
			err = &segment.CorruptError{Path: v.path, Cause: segment.ErrMissing, Gap: segment.Gap{First: seq, Last: seq}}
		}
		s.r = nil
		return nil, err
	}
}

// seek sees to it that the next frame is seq, or one a little before it.
func (s *stream) seek(v view, seq queue.Seq) error {
	if s.r != nil && s.v.id == v.id && s.next == seq && s.v.end == v.end && s.skips == s.skip {
		return nil
	}
	if s.file == nil || s.v.id != v.id {
		s.close()
		file, err := s.files.get(v.id, v.path)
		if err != nil {
			return err
		}
		s.file = file
	}
	s.v, s.next, s.skips = v, seq, s.skip
	from := segment.Place{Seq: v.header.BaseSeq, Off: segment.BlockBytes}
	s.r = s.reader(from)
	if seq == v.header.BaseSeq {
		return nil
	}
	_, err := s.r.Seek(v.index, seq)
	if errors.Is(err, segment.ErrMissing) { // read on the way to it, to learn exactly what is missing
		if at, ok := v.index.Floor(seq); ok {
			from = at
		}
		s.r, err = s.reader(from), nil
	}
	return err
}

func (s *stream) reader(from segment.Place) *segment.Reader {
	return segment.NewReader(s.file, segment.Range{
		Path: s.v.path, Salt: s.v.header.Salt, From: from, End: s.v.end, Last: s.v.last,
		Items: s.v.header.BaseItems, Counted: from.Seq == s.v.header.BaseSeq, ItemsEnd: s.v.items,
		Bodies: s.bodies, ReadBytes: s.readBytes, DropBehind: s.behind, SkipUnreadable: s.skip,
	})
}

// isOpen reports whether there is something to close.
func (s *stream) isOpen() bool { return s.file != nil }

func (s *stream) close() {
	if s.file != nil {
		s.files.put(s.file)
	}
	s.file, s.r = nil, nil
}
