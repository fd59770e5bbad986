// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	sealBodyBytes = 72
	placeBytes    = 16
	trailerBytes  = 16
	trailerMagic  = "HFSE"
)

// The flags of a seal.
const (
	SealRecovered uint32 = 1 << iota // written by recovery
	SealGaps                         // numbers between First and Last are missing
)

// Summary is what a segment holds, as its seal says it.
type Summary struct {
	First, Last queue.Seq // Last is First - 1 in a segment without records
	Records     uint64
	Items       uint64
	Bytes       uint64 // sum of the records' Size
	DataEnd     Offset // end of the last frame
	Oldest      int64  // smallest and largest Accepted, Unix ns; 0 without records
	Newest      int64
	Flags       uint32
	Index       Index
	ItemsEnd    uint64 // accepted by the journal up to Last; in the seal's frame header

	salt uint32 // of a seal that was read
}

// Place is where a record's frame begins.
type Place struct {
	Seq queue.Seq
	Off Offset
}

// Index names the first frame in each 64 KiB, ascending.
type Index []Place

// Floor is the last place at or before seq, and false if there is none.
func (x Index) Floor(seq queue.Seq) (Place, bool) {
	i, exact := slices.BinarySearchFunc(x, seq, func(p Place, seq queue.Seq) int {
		switch {
		case p.Seq < seq:
			return -1
		case p.Seq > seq:
			return 1
		}
		return 0
	})
	if exact {
		return x[i], true
	}
	if i == 0 {
		return Place{}, false
	}
	return x[i-1], true
}

// start is the summary of a segment without records.
func start(h *Header) Summary {
	return Summary{First: h.BaseSeq, Last: h.BaseSeq - 1, DataEnd: dataStart, ItemsEnd: h.BaseItems}
}

// add counts one frame.
func (s *Summary) add(f *Frame) {
	if s.Records == 0 {
		s.First, s.Oldest, s.Newest = f.Seq, f.Accepted, f.Accepted
	}
	s.Last = f.Seq
	s.Records++
	s.Items += uint64(f.Items)
	s.Bytes += uint64(f.Size)
	s.DataEnd = f.End
	s.Oldest, s.Newest = min(s.Oldest, f.Accepted), max(s.Newest, f.Accepted)
	s.ItemsEnd = f.ItemsBefore + uint64(f.Items)
	if n := len(s.Index); n == 0 || s.Index[n-1].Off/indexEvery != f.Off/indexEvery {
		s.Index = append(s.Index, Place{Seq: f.Seq, Off: f.Off})
	}
}

// seal writes seal and trailer behind the data, cuts the file there and syncs. synced is the end of the bytes known
// durable. A crash in between leaves an unsealed segment, which is scanned.
func seal(file vfs.File, h *Header, s *Summary, synced Offset) error {
	at := up(s.DataEnd, BlockBytes)
	b := s.append(nil, h, synced)
	b = appendTrailer(b, at)
	if _, err := file.WriteVAt([][]byte{b}, int64(at)); err != nil {
		return err
	}
	if err := file.Truncate(int64(at) + int64(len(b))); err != nil {
		return err
	}
	return file.Datasync()
}

// append adds the seal's frame.
func (s *Summary) append(b []byte, h *Header, synced Offset) []byte {
	body := make([]byte, sealBodyBytes, sealBodyBytes+placeBytes*len(s.Index))
	le := binary.LittleEndian
	le.PutUint64(body[0:], uint64(s.First))
	le.PutUint64(body[8:], uint64(s.Last))
	le.PutUint64(body[16:], s.Records)
	le.PutUint64(body[24:], s.Items)
	le.PutUint64(body[32:], s.Bytes)
	le.PutUint64(body[40:], uint64(s.DataEnd))
	le.PutUint64(body[48:], uint64(s.Oldest))
	le.PutUint64(body[56:], uint64(s.Newest))
	le.PutUint32(body[64:], s.Flags)
	le.PutUint32(body[68:], uint32(len(s.Index)))
	for _, p := range s.Index {
		body = le.AppendUint64(body, uint64(p.Seq))
		body = le.AppendUint32(body, uint32(p.Off/alignment))
		body = le.AppendUint32(body, 0)
	}
	f := Frame{
		Type: TypeSeal, Tag: h.Tag, Seq: s.Last, ItemsBefore: s.ItemsEnd, Synced: synced, salt: h.Salt,
		bodyLen: uint32(len(body)), bodyCRC: Checksum(body, nil),
	}
	return append(f.appendHeader(b), body...) // both are multiples of 8
}

func appendTrailer(b []byte, sealAt Offset) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(sealAt))
	b = append(b, trailerMagic...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// parseTrailer says where the seal of a file of that size begins.
func parseTrailer(p []byte, size Offset) (Offset, bool) {
	le := binary.LittleEndian
	if len(p) < trailerBytes || string(p[8:12]) != trailerMagic ||
		le.Uint32(p[12:]) != crc32.Checksum(p[:12], castagnoli) {
		return 0, false
	}
	at := Offset(le.Uint64(p))
	return at, at >= dataStart && at%BlockBytes == 0 && at <= size-trailerBytes-frameHeaderBytes-sealBodyBytes
}

// parseSeal reads the body of a seal whose frame is f and whose checksum holds.
func parseSeal(f *Frame, body []byte) (Summary, error) {
	le := binary.LittleEndian
	if len(body) < sealBodyBytes {
		return Summary{}, fmt.Errorf("%w: %d bytes", errNoSeal, len(body))
	}
	s := Summary{
		First:    queue.Seq(le.Uint64(body[0:])),
		Last:     queue.Seq(le.Uint64(body[8:])),
		Records:  le.Uint64(body[16:]),
		Items:    le.Uint64(body[24:]),
		Bytes:    le.Uint64(body[32:]),
		DataEnd:  Offset(le.Uint64(body[40:])),
		Oldest:   int64(le.Uint64(body[48:])),
		Newest:   int64(le.Uint64(body[56:])),
		Flags:    le.Uint32(body[64:]),
		ItemsEnd: f.ItemsBefore,
	}
	count := int64(le.Uint32(body[68:]))
	if int64(len(body)) != sealBodyBytes+placeBytes*count || s.Last != f.Seq || s.First < 1 || s.First > s.Last+1 ||
		s.Records > uint64(s.Last+1-s.First) || s.DataEnd < dataStart || s.DataEnd > f.Off ||
		s.ItemsEnd < s.Items || (s.Records == 0) != (count == 0) {
		return Summary{}, fmt.Errorf("%w: its fields contradict each other", errNoSeal)
	}
	s.salt = f.salt
	s.Index = make(Index, count)
	before := Place{Seq: s.First - 1, Off: dataStart - 1}
	for i := range s.Index {
		p := body[sealBodyBytes+placeBytes*i:]
		at := Place{Seq: queue.Seq(le.Uint64(p)), Off: Offset(le.Uint32(p[8:])) * alignment}
		if at.Seq <= before.Seq || at.Seq > s.Last || at.Off <= before.Off || at.Off >= s.DataEnd {
			return Summary{}, fmt.Errorf("%w: its index is not in order", errNoSeal)
		}
		s.Index[i], before = at, at
	}
	return s, nil
}
