// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	version     = 1
	headerMagic = "HOLDSEG1"
	headerCRC   = BlockBytes - 4
)

// The flags of a header. Those in the lower half must be understood.
const (
	FlagUnsynced uint32 = 1 << iota // its journal answers before it syncs
	FlagRescue                      // takes over from the condemned segment PrevID

	knownFlags    = FlagUnsynced | FlagRescue
	mustFlags     = 0xffff
	unknownToUs   = mustFlags &^ knownFlags
	minHeaderSize = 112
)

// Header is the first block of a segment.
type Header struct {
	Flags       uint32
	Journal     [16]byte // the same in all segments of a journal
	ID          uint64   // equals the name
	Salt        uint32   // in every frame, random, never 0
	Tag         uint8    // of its records
	BaseSeq     queue.Seq
	BaseItems   uint64    // accepted by the journal before BaseSeq
	PrevID      uint64    // the segment written before this one, 0 = none
	PrevLastSeq queue.Seq // last number acknowledged before BaseSeq
	PrevDurable Offset    // end of the bytes known durable in PrevID
	Created     int64     // Unix ns, for people
	FileBytes   int64     // size given at creation
	Cursors     []uint64  // to whom the records are owed, by hash of the name
}

// append adds the block. The header has at most MaxCursors cursors.
func (h *Header) append(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, BlockBytes)...)
	p := b[start:]
	copy(p, headerMagic)
	le := binary.LittleEndian
	le.PutUint16(p[8:], version)
	le.PutUint32(p[12:], h.Flags)
	copy(p[16:32], h.Journal[:])
	le.PutUint64(p[32:], h.ID)
	le.PutUint32(p[40:], h.Salt)
	p[44] = h.Tag
	le.PutUint64(p[48:], uint64(h.BaseSeq))
	le.PutUint64(p[56:], h.BaseItems)
	le.PutUint64(p[64:], h.PrevID)
	le.PutUint64(p[72:], uint64(h.PrevLastSeq))
	le.PutUint64(p[80:], uint64(h.PrevDurable))
	le.PutUint64(p[88:], uint64(h.Created))
	le.PutUint64(p[96:], uint64(h.FileBytes))
	le.PutUint32(p[104:], uint32(len(h.Cursors)))
	for i, c := range h.Cursors {
		le.PutUint64(p[minHeaderSize+8*i:], c)
	}
	le.PutUint32(p[headerCRC:], crc32.Checksum(p[:headerCRC], castagnoli))
	return b
}

// parseHeader reads a header block. Errors: *NewerError, errNoHeader.
func parseHeader(p []byte) (Header, error) {
	le := binary.LittleEndian
	if len(p) < BlockBytes || string(p[:8]) != headerMagic ||
		le.Uint32(p[headerCRC:]) != crc32.Checksum(p[:headerCRC], castagnoli) {
		return Header{}, errNoHeader
	}
	v, flags := le.Uint16(p[8:]), le.Uint32(p[12:])
	if v > version || v == version && flags&unknownToUs != 0 {
		return Header{}, &NewerError{Version: v, Flags: flags & unknownToUs}
	}
	h := Header{
		Flags:       flags,
		Journal:     [16]byte(p[16:32]),
		ID:          le.Uint64(p[32:]),
		Salt:        le.Uint32(p[40:]),
		Tag:         p[44],
		BaseSeq:     queue.Seq(le.Uint64(p[48:])),
		BaseItems:   le.Uint64(p[56:]),
		PrevID:      le.Uint64(p[64:]),
		PrevLastSeq: queue.Seq(le.Uint64(p[72:])),
		PrevDurable: Offset(le.Uint64(p[80:])),
		Created:     int64(le.Uint64(p[88:])),
		FileBytes:   int64(le.Uint64(p[96:])),
	}
	count := le.Uint32(p[104:])
	if v != version || count > MaxCursors || !h.plausible() {
		return Header{}, errNoHeader
	}
	h.Cursors = make([]uint64, count)
	for i := range h.Cursors {
		h.Cursors[i] = le.Uint64(p[minHeaderSize+8*i:])
	}
	return h, nil
}

// plausible says whether the fields are such as a Writer accepts.
func (h *Header) plausible() bool {
	return h.Salt != 0 && h.BaseSeq >= 1 && h.BaseSeq <= MaxSeq && h.PrevLastSeq < h.BaseSeq &&
		h.PrevDurable >= 0 && h.PrevDurable <= maxOffset && h.FileBytes >= 0 && Offset(h.FileBytes) <= maxOffset &&
		len(h.Cursors) <= MaxCursors
}
