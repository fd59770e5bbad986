// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// readBytes is how much a Reader reads at once unless told otherwise.
const readBytes = 1 << 20

// SeekBytes is the Range.ReadBytes that lets one read be enough for a Seek: an index entry's stretch and one header.
const SeekBytes = indexEvery + frameHeaderBytes

// searchFactor bounds a search for the next good frame: it computes checksums over at most so many times the file.
// Real frames do not overlap, so one pass is enough for what a Writer wrote, whatever happened to it.
const searchFactor = 8

// Range says which frames a Reader is to read, and how.
type Range struct {
	Path string // for errors
	Salt uint32
	From Place     // where to begin, and the number expected there
	End  Offset    // nothing at or above it is looked at
	Last queue.Seq // number of the last record that must be there; 0 = nobody knows
	// Items is, if Counted, what the journal accepted before From; it makes the first loss exact. ItemsEnd is what it
	// accepted up to Last, and makes exact what is missing at the end; 0 = nobody knows.
	Items    uint64
	Counted  bool
	ItemsEnd uint64

	Bodies         bool // meta and body are wanted; they are newly allocated and belong to the caller
	ReadBytes      int  // of one read; 0 = 1 MiB
	DropBehind     bool // what was read is not needed in the system's cache
	SkipUnreadable bool // what the disk refuses twice is damage, not an error
}

// Reader reads frames in order. It is for one goroutine at a time and does not close the file.
type Reader struct {
	r      Range
	win    window
	pos    Offset
	zeros  Offset    // where the zeros before pos begin that were taken for the way to the next block; 0 = none
	expect queue.Seq // number of the next record
	items  uint64    // accepted before it, if counted
	known  bool

	witness   Offset // bytes that a good frame says were durable
	budget    int64  // bytes of checksums that searches may still compute
	seal      *Summary
	ended     bool
	tail      Gap
	abandoned bool

	unreadable int64
}

// NewReader reads the given range of a file.
func NewReader(file vfs.File, r Range) *Reader {
	if r.ReadBytes == 0 {
		r.ReadBytes = readBytes
	}
	rd := &Reader{
		r: r, pos: r.From.Off, expect: r.From.Seq, items: r.Items, known: r.Counted,
		win: window{
			file: file, path: r.Path, end: r.End, size: max(r.ReadBytes, frameHeaderBytes), behind: r.DropBehind,
			skipUnreadable: r.SkipUnreadable,
		},
		budget: int64(r.End)*searchFactor + readBytes,
	}
	rd.win.unreadable = &rd.unreadable
	return rd
}

// Next returns the next good frame that is not a seal. io.EOF: there is none; *CorruptError: the numbers it names are
// missing, the next call goes on behind them; *ReadError: the disk failed, the next call asks it again.
func (r *Reader) Next() (Frame, error) {
	for !r.ended {
		f, err := r.step()
		if err != nil || f.Off != 0 {
			return f, err
		}
	}
	return Frame{}, io.EOF
}

// step looks at what stands at pos. A frame without offset means: nothing to report, go on.
func (r *Reader) step() (Frame, error) {
	if r.pos+frameHeaderBytes > r.r.End {
		return r.search()
	}
	p, err := r.win.at(r.pos, frameHeaderBytes)
	if err != nil {
		return Frame{}, err
	}
	if binary.LittleEndian.Uint64(p) == 0 && r.pos%BlockBytes != 0 {
		r.zeros, r.pos = r.pos, up(r.pos, BlockBytes)
		return Frame{}, nil
	}
	f, good := parseFrame(p, r.pos, r.r.End, r.r.Salt)
	switch {
	case !good:
	case f.Type == TypeSeal && f.Seq+1 == r.expect:
		return Frame{}, r.endAtSeal(&f, stretch{})
	case f.Type == TypeSeal: // the last numbers are missing
	case f.Seq == r.expect:
		return r.take(f)
	case f.Type != TypeRecord && f.Seq+1 == r.expect: // of a kind that takes no number
		r.pos = f.End
		return Frame{}, nil
	}
	return r.search()
}

// take returns the expected frame, or steps over it if its body is damaged.
func (r *Reader) take(f Frame) (Frame, error) {
	if !r.r.Bodies {
		good, err := r.bodyHolds(&f)
		if err != nil {
			return Frame{}, err
		}
		if !good {
			return Frame{}, r.stepOver(&f)
		}
	} else if err := r.readBody(&f); err == errBody {
		return Frame{}, r.stepOver(&f)
	} else if err != nil {
		return Frame{}, err
	}
	r.pass(&f)
	return f, nil
}

// pass moves behind a good frame.
func (r *Reader) pass(f *Frame) {
	r.pos, r.zeros, r.expect = f.End, 0, f.Seq+1
	r.items, r.known = f.ItemsBefore+uint64(f.Items), true
	r.witness = max(r.witness, f.Synced)
}

// stepOver reports a frame whose header is good and whose body is not.
func (r *Reader) stepOver(f *Frame) error {
	r.pass(f)
	return r.corrupt(Gap{
		Off: f.Off, End: f.End, First: f.Seq, Last: f.Seq, Items: uint64(f.Items), Counted: true,
	}, errBody)
}

func (r *Reader) corrupt(g Gap, cause error) error {
	return &CorruptError{Path: r.r.Path, Gap: g, Cause: cause}
}

// bodyHolds checks the body where it is.
func (r *Reader) bodyHolds(f *Frame) (bool, error) {
	sum, err := r.win.checksum(f.Off+frameHeaderBytes, int64(f.bodyLen))
	return sum == f.bodyCRC, err
}

// readBody gives f its meta and body, in memory of their own. The length was checked against the file.
func (r *Reader) readBody(f *Frame) error {
	body := make([]byte, f.bodyLen)
	off := f.Off + frameHeaderBytes
	if int(f.bodyLen)+frameHeaderBytes <= len(r.win.room) {
		p, err := r.win.at(off, len(body))
		if err != nil {
			return err
		}
		copy(body, p)
	} else {
		n := copy(body, r.win.from(off))
		if err := r.win.read(body[n:], off+Offset(n)); err != nil {
			return err
		}
	}
	if Checksum(body, nil) != f.bodyCRC {
		return errBody
	}
	f.Meta, f.Body = body[:f.metaLen:f.metaLen], body[f.metaLen:]
	return nil
}

// search looks for the next good frame from pos on, in steps of 8, and reports the numbers in between. Zeros before pos
// that led to nothing may have been a frame once: then it begins with them.
func (r *Reader) search() (Frame, error) {
	if r.zeros != 0 {
		r.pos, r.zeros = r.zeros, 0
	}
	var junk stretch
	p := r.pos
	for p+frameHeaderBytes <= r.r.End {
		if _, err := r.win.at(p, frameHeaderBytes); err != nil {
			return Frame{}, err
		}
		buf := r.win.from(p)
		n := junk.skip(buf, p, r.r.Salt)
		p += Offset(n)
		if n+frameHeaderBytes > len(buf) {
			continue
		}
		f, good := parseFrame(buf[n:], p, r.r.End, r.r.Salt)
		if good && (f.Seq >= r.expect || f.Type == TypeSeal && f.Seq+1 >= r.expect) {
			if r.budget -= int64(f.bodyLen) + frameHeaderBytes; r.budget < 0 {
				r.abandoned = true
				junk.add(p, r.r.End)
				return Frame{}, r.end(junk.gap(r.pos, r.pos))
			}
			good, err := r.bodyHolds(&f)
			if err != nil {
				return Frame{}, err
			}
			if good {
				return Frame{}, r.found(&f, junk)
			}
		}
		junk.add(p, p+alignment)
		p += alignment
	}
	return Frame{}, r.finish(p, junk)
}

// stretch is where a search came upon bytes that are not zero and no frame.
type stretch struct{ off, end Offset }

func (s *stretch) add(off, end Offset) {
	if s.end == 0 {
		s.off = off
	}
	s.end = end
}

// gap is from the first such byte to end, or to the last one; from off if there is none.
func (s *stretch) gap(off, end Offset) Gap {
	g := Gap{Off: off, End: max(end, s.end)}
	if s.end != 0 {
		g.Off = s.off
	}
	return g
}

// skip returns the first position in buf, in steps of 8, at which the salt stands in the right place, or the first that
// is too near to the end to tell. buf begins at off. Most of what is searched is zeros, or none of it is.
func (s *stretch) skip(buf []byte, off Offset, salt uint32) int {
	n := max(0, (len(buf)-frameHeaderBytes+alignment)&^(alignment-1))
	want := binary.LittleEndian.AppendUint32(nil, salt)
	for at := frameSalt; at <= n-alignment+frameSalt; at++ {
		i := bytes.Index(buf[at:n-alignment+frameSalt+len(want)], want)
		if i < 0 {
			break
		}
		if at += i; (at-frameSalt)%alignment == 0 {
			n = at - frameSalt
			break
		}
	}
	first := leadingZeros(buf[:n]) &^ (alignment - 1)
	if first < n {
		s.add(off+Offset(first), off+Offset(first)+alignment)
		last := n - alignment
		for last-len(zeroBlock) > first && bytes.Equal(buf[last-len(zeroBlock):last], zeroBlock[:]) &&
			binary.LittleEndian.Uint64(buf[last:]) == 0 {
			last -= len(zeroBlock)
		}
		for binary.LittleEndian.Uint64(buf[last:]) == 0 {
			last -= alignment
		}
		s.add(off+Offset(last), off+Offset(last)+alignment)
	}
	return n
}

var zeroBlock [BlockBytes]byte

// leadingZeros is how many bytes p begins with are zero.
func leadingZeros(p []byte) (n int) {
	for n+len(zeroBlock) <= len(p) && bytes.Equal(p[n:n+len(zeroBlock)], zeroBlock[:]) {
		n += len(zeroBlock)
	}
	for n < len(p) && p[n] == 0 {
		n++
	}
	return n
}

// found goes on at a frame that a search came upon behind junk.
func (r *Reader) found(f *Frame, junk stretch) error {
	if f.Type == TypeSeal {
		return r.endAtSeal(f, junk)
	}
	g := junk.gap(r.pos, f.Off)
	g.First, g.Last = r.expect, f.Seq-1
	r.count(&g, f)
	r.pos, r.expect = f.Off, f.Seq
	r.items, r.known = f.ItemsBefore, true
	if g.Records() == 0 {
		return nil // bytes nobody owns
	}
	return r.corrupt(g, errHeader)
}

// count says how many items a gap before f cost.
func (r *Reader) count(g *Gap, f *Frame) {
	if r.known && f.ItemsBefore >= r.items {
		g.Items, g.Counted = f.ItemsBefore-r.items, true
	}
}

// endAtSeal ends at a seal, unless its body is damaged: then it is stepped over. What a seal counts and was not found
// is missing.
func (r *Reader) endAtSeal(f *Frame, junk stretch) error {
	body := make([]byte, f.bodyLen)
	if err := r.win.read(body, f.Off+frameHeaderBytes); err != nil {
		return err
	}
	s, err := parseSeal(f, body)
	if err != nil || Checksum(body, nil) != f.bodyCRC {
		r.pos = f.End
		return nil
	}
	r.seal = &s
	r.witness = max(r.witness, s.DataEnd)
	r.r.Last = f.Seq
	missing := junk.gap(r.pos, f.Off)
	r.count(&missing, f)
	return r.end(missing)
}

// finish ends where no further frame is found. What is left from p on is too short for one.
func (r *Reader) finish(p Offset, junk stretch) error {
	if n := int(r.r.End - p); n > 0 {
		rest, err := r.win.at(p, n)
		if err != nil {
			return err
		}
		if n = len(bytes.TrimRight(rest, "\x00")); n > 0 {
			junk.add(p, p+Offset(n))
		}
	}
	return r.end(junk.gap(r.pos, r.pos))
}

// end ends reading. missing is where the numbers up to Last are missed, if they are; without a seal it is the tail.
func (r *Reader) end(missing Gap) error {
	r.ended = true
	missing.First = r.expect
	if r.r.Last >= r.expect {
		missing.Last = r.r.Last
		if !missing.Counted && r.known && r.r.ItemsEnd >= r.items {
			missing.Items, missing.Counted = r.r.ItemsEnd-r.items, true
		}
		r.expect = r.r.Last + 1
		return r.corrupt(missing, errHeader)
	}
	if r.seal == nil && missing.End > missing.Off {
		r.tail = missing
	}
	return nil
}

// Seal is the seal at which reading ended, nil if it did not.
func (r *Reader) Seal() *Summary { return r.seal }

// Tail is what follows the last good frame and is neither zeros nor a frame: a torn group, or damage; End is 0 if there
// is none. It is known after io.EOF.
func (r *Reader) Tail() Gap { return r.tail }

// Witness is the end of the bytes that the frames read so far say were durable.
func (r *Reader) Witness() Offset { return r.witness }

// Seek makes Next return the record seq, without reading the bodies before it, and returns its header. ErrMissing: it
// is not there; Next then returns the first one behind it.
func (r *Reader) Seek(x Index, seq queue.Seq) (Frame, error) {
	at, ok := x.Floor(seq)
	if !ok {
		at = r.r.From
	}
	if ok || r.expect > seq {
		r.pos, r.expect, r.known, r.ended = at.Off, at.Seq, false, false
	}
	for !r.ended && r.pos+frameHeaderBytes <= r.r.End {
		p, err := r.win.at(r.pos, frameHeaderBytes)
		if err != nil {
			return Frame{}, err
		}
		if binary.LittleEndian.Uint64(p) == 0 && r.pos%BlockBytes != 0 {
			r.zeros, r.pos = r.pos, up(r.pos, BlockBytes)
			continue
		}
		f, good := parseFrame(p, r.pos, r.r.End, r.r.Salt)
		switch good = good && f.Type != TypeSeal && f.Seq == r.expect; {
		case good && f.Seq == seq:
			r.items, r.known = f.ItemsBefore, true
			return f, nil
		case good:
			r.pass(&f)
		default:
			if _, err := r.search(); err != nil && !isCorrupt(err) {
				return Frame{}, err
			}
		}
		if r.expect > seq {
			break
		}
	}
	return Frame{}, ErrMissing
}

func isCorrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}
