// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"errors"
	"io"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Class is what a file under a segment's name turns out to be.
type Class uint8

// The classes of section 12. Whether a segment belongs to this journal is for its journal to say.
const (
	Unused   Class = iota // prepared and never written, or empty: nothing is lost with it
	Sealed                // header, trailer and seal hold: trusted without a scan
	Unsealed              // the header holds
	Headless              // the header does not, some frame or the seal does
	Newer                 // of a format this program does not know: to be left untouched
	Garbage               // nothing holds
)

// String is the class in a word.
func (c Class) String() string {
	return [...]string{"unused", "sealed", "unsealed", "headless", "newer", "garbage"}[min(c, Garbage)]
}

// Inspection is what a look at a file tells, without reading its records.
type Inspection struct {
	Path  string
	Class Class
	Bytes int64 // size of the file
	// Header is the segment's header. Of a headless segment only Salt, Tag, BaseSeq and BaseItems are known, from its
	// first good frame.
	Header Header
	// Seal is set for a Sealed segment, and for a Headless one whose seal holds.
	Seal *Summary
	// Newer is set for that class.
	Newer *NewerError
	// Unreadable is how many of the bytes looked at the disk refused twice. They were taken for damage, so with any of
	// them the class is what could be seen, not what is there.
	Unreadable int64
}

// Inspect looks at a file: its header, its end and, only if the header is bad, its frames. It reads at most the header,
// the seal and a block, or the whole file once. An error means that the disk did not answer; it is a *ReadError.
func Inspect(file vfs.File, path string) (Inspection, error) {
	info, err := file.Stat()
	if err != nil {
		return Inspection{}, &ReadError{Path: path, Err: err}
	}
	in := Inspection{Path: path, Bytes: info.Size, Class: Unused}
	if info.Size == 0 {
		return in, nil
	}
	win := window{file: file, path: path, end: in.end(), skipUnreadable: true, unreadable: &in.Unreadable}
	head := make([]byte, min(in.end(), BlockBytes+frameHeaderBytes))
	if err := win.read(head, 0); err != nil {
		return Inspection{}, err
	}
	header, err := parseHeader(head)
	if errors.As(err, &in.Newer) {
		in.Class = Newer
		return in, nil
	}
	if err == nil {
		in.Class, in.Header = Unsealed, header
		if in.Seal, err = readSeal(&win, header.Salt); in.Seal != nil && in.Seal.First >= header.BaseSeq {
			in.Class = Sealed
		} else {
			in.Seal = nil
		}
		return in, err
	}
	if allZero(head) {
		// One that was sealed was written, whatever became of its first blocks.
		if in.Seal, err = readSeal(&win, 0); in.Seal == nil {
			return in, err
		}
	}
	return in, in.behead(&win)
}

// Search looks for records in an Unused file that others say was written: its first blocks may be all that is lost of it.
// It reads the whole file. The class is Headless then, or Garbage: no record can be read. An error means that the disk
// did not answer.
func (in *Inspection) Search(file vfs.File) error {
	if in.Class != Unused || in.Bytes == 0 {
		return nil
	}
	return in.behead(&window{file: file, path: in.Path, end: in.end(), skipUnreadable: true, unreadable: &in.Unreadable})
}

// end is how far frames may reach.
func (in *Inspection) end() Offset { return min(Offset(in.Bytes), maxOffset) }

// behead finds out what a file without a good header holds.
func (in *Inspection) behead(win *window) (err error) {
	in.Class = Garbage
	if in.Seal, err = readSeal(win, 0); err != nil {
		return err
	}
	var any uint32 // salt
	if in.Seal != nil {
		any = in.Seal.salt
	}
	f, err := firstFrame(win, any)
	if err != nil || f == nil {
		in.Seal = nil // vouches for records that are not there: as good as nothing
		return err
	}
	in.Class = Headless
	in.Header = Header{Salt: f.salt, Tag: f.Tag, BaseSeq: f.Seq, BaseItems: f.ItemsBefore, FileBytes: in.Bytes}
	if in.Seal != nil && in.Seal.First < f.Seq {
		in.Header.BaseSeq, in.Header.BaseItems = in.Seal.First, in.Seal.ItemsEnd-in.Seal.Items
	}
	return nil
}

// firstFrame is the first good record, of the given salt or, with 0, of the salt of the first one that begins a block,
// if one does: a group begins there, and what a record's body may imitate seldom does.
func firstFrame(win *window, salt uint32) (*Frame, error) {
	if salt == 0 {
		f, err := firstOf(win, 0, BlockBytes)
		if err != nil {
			return nil, err
		}
		if f != nil {
			salt = f.salt
		}
	}
	return firstOf(win, salt, alignment)
}

// firstOf is the first good record at a multiple of step.
func firstOf(win *window, salt uint32, step Offset) (*Frame, error) {
	scan := *win
	scan.size = readBytes
	budget := int64(win.end)*searchFactor + readBytes
	for p := dataStart; p+frameHeaderBytes <= win.end && budget > 0; p += step {
		b, err := scan.at(p, frameHeaderBytes)
		if err != nil {
			return nil, err
		}
		if b[4] == 0 {
			continue
		}
		f, good := parseFrame(b, p, win.end, salt)
		if !good || f.Type == TypeSeal {
			continue
		}
		budget -= int64(f.bodyLen) + frameHeaderBytes
		sum, err := scan.checksum(p+frameHeaderBytes, int64(f.bodyLen))
		if err != nil {
			return nil, err
		}
		if sum == f.bodyCRC {
			return &f, nil
		}
	}
	return nil, nil
}

// readSeal reads trailer and seal; nil if they do not hold. salt 0 stands for any.
func readSeal(win *window, salt uint32) (*Summary, error) {
	size := win.end
	if size < dataStart+trailerBytes {
		return nil, nil
	}
	// One read is enough for every seal of a Writer.
	tail := make([]byte, min(size-dataStart, Offset(sealRoom(int64(size)))))
	base := size - Offset(len(tail))
	if err := win.read(tail, base); err != nil {
		return nil, err
	}
	at, good := parseTrailer(tail[len(tail)-trailerBytes:], size)
	if !good || at < base {
		return nil, nil
	}
	b := tail[at-base:]
	f, good := parseFrame(b, at, size-trailerBytes, salt)
	if !good || f.Type != TypeSeal || f.End != size-trailerBytes {
		return nil, nil
	}
	body := b[frameHeaderBytes:][:f.bodyLen]
	if Checksum(body, nil) != f.bodyCRC {
		return nil, nil
	}
	s, err := parseSeal(&f, body)
	if err != nil {
		return nil, nil
	}
	return &s, nil
}

func allZero(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }

// Range is what a Reader needs to read all records of the segment.
func (in *Inspection) Range() Range {
	r := Range{
		Path: in.Path, Salt: in.Header.Salt, From: Place{Seq: in.Header.BaseSeq, Off: dataStart}, End: in.end(),
		Items: in.Header.BaseItems, Counted: true,
	}
	if in.Seal != nil {
		r.End, r.Last = in.Seal.DataEnd, in.Seal.Last
	}
	return r
}

// Scan is what a walk over a segment found.
type Scan struct {
	Summary       // of the good frames
	Gaps    []Gap // numbers that are missing between them or before the seal, ascending
	// Tail is what follows the last good frame and is neither zeros nor a frame; its End is 0 if there is none.
	Tail Gap
	// Witness: every byte below it was durable once, say the good frames and the seal.
	Witness Offset
	// ToSeal says that the walk ended at a seal; its numbers are in Gaps if they were not found.
	ToSeal bool
	// Opaque counts the records this program does not understand. They are counted in Summary too.
	Opaque uint64
	// Unreadable is how many bytes the disk refused twice; they were taken for damage.
	Unreadable int64
	// Abandoned says that the file is made such that a search in it would not end in reasonable time: what follows
	// DataEnd was not looked at. No Writer leaves such a file, whatever happens to it.
	Abandoned bool
}

// Scan walks over the records of an Unsealed or Headless segment, checks every byte of them, and keeps none. It may be
// used on a Sealed one too, to verify it. visit, if not nil, is told of each good frame. What the disk refuses twice is
// damage; an error means that the file was closed.
func (in *Inspection) Scan(file vfs.File, visit func(*Frame)) (Scan, error) {
	rng := in.Range()
	rng.End, rng.Last = in.end(), 0
	rng.SkipUnreadable = true
	r := NewReader(file, rng)
	s := Scan{Summary: start(&in.Header)}
	var f Frame
	for {
		var err error
		if f, err = r.Next(); err == io.EOF {
			break
		} else if err != nil {
			if err = s.note(err); err != nil {
				return s, err
			}
			continue
		}
		s.add(&f)
		if !f.Known() {
			s.Opaque++
		}
		if visit != nil {
			visit(&f)
		}
	}
	s.Tail, s.Witness, s.ToSeal = r.tail, r.witness, r.seal != nil
	s.Unreadable, s.Abandoned = r.unreadable, r.abandoned
	if len(s.Gaps) > 0 {
		s.Flags |= SealGaps
	}
	return s, nil
}

// note keeps what is damage, and returns what is not.
func (s *Scan) note(err error) error {
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		return err
	}
	s.addGap(corrupt.Gap)
	return nil
}

// addGap keeps g, as one with the gap before it where they touch.
func (s *Scan) addGap(g Gap) {
	if n := len(s.Gaps); n > 0 {
		if last := &s.Gaps[n-1]; last.End == g.Off && last.Last+1 == g.First {
			last.End, last.Last = g.End, g.Last
			last.Items, last.Counted = last.Items+g.Items, last.Counted && g.Counted
			return
		}
	}
	s.Gaps = append(s.Gaps, g)
}

// Seal completes an Unsealed or Headless segment with what a Scan of it found, as recovery does: behind the last good
// frame, whatever stood there. The file must be durable, and what lies behind the last good frame not needed any more.
// An abandoned scan is not sealed.
func (s *Scan) Seal(file vfs.File, h *Header) error {
	if s.Abandoned {
		return errNoSeal
	}
	sum := s.Summary
	sum.Flags |= SealRecovered
	return seal(file, h, &sum, sum.DataEnd)
}
