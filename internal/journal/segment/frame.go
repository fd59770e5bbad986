// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	frameHeaderBytes = 64
	frameSalt        = 36   // where the salt stands
	mustFrameFlags   = 0x0f // flags that must be understood; none is defined yet
)

// Type is what a frame holds.
type Type uint8

// The types of frames. Others are stepped over.
const (
	TypeRecord Type = 1
	TypeSeal   Type = 4
)

// Frame is one frame as it was read.
type Frame struct {
	Off, End    Offset // of the frame with its padding
	Type        Type
	Codec       uint8
	Tag         uint8
	Flags       uint8
	Seq         queue.Seq
	Items       uint32
	Size        uint32
	Accepted    int64
	ItemsBefore uint64 // accepted by the journal before this record, over its whole life
	Synced      Offset // bytes of this file known durable when the frame was written
	Meta, Body  []byte // nil if the Reader was not asked for them

	bodyLen, bodyCRC, metaLen, salt uint32
}

// Known says whether this program understands the record. One it does not is kept, and not delivered.
func (f *Frame) Known() bool {
	return f.Type == TypeRecord && f.Codec == 0 && f.Flags&mustFrameFlags == 0
}

// Bytes is the length of meta and body.
func (f *Frame) Bytes() int64 { return int64(f.bodyLen) }

func frameLength(bodyLen uint32) Offset { return frameHeaderBytes + up(Offset(bodyLen), alignment) }

// appendHeader adds the 64 bytes of the header. Lengths and checksum of the body are those given in f.
func (f *Frame) appendHeader(b []byte) []byte {
	b = append(b, make([]byte, frameHeaderBytes)...)
	p := b[len(b)-frameHeaderBytes:]
	le := binary.LittleEndian
	p[4], p[5], p[6], p[7] = byte(f.Type), f.Codec, f.Tag, f.Flags
	le.PutUint32(p[8:], f.bodyLen)
	le.PutUint32(p[12:], f.bodyCRC)
	le.PutUint64(p[16:], uint64(f.Seq))
	le.PutUint32(p[24:], f.Items)
	le.PutUint32(p[28:], f.metaLen)
	le.PutUint32(p[32:], f.Size)
	le.PutUint32(p[frameSalt:], f.salt)
	le.PutUint64(p[40:], uint64(f.Accepted))
	le.PutUint64(p[48:], f.ItemsBefore)
	le.PutUint32(p[56:], uint32(f.Synced/alignment))
	le.PutUint32(p[0:], crc32.Checksum(p[4:], castagnoli))
	return b
}

// parseFrame reads the header at off. It is good if its checksum and salt hold, the frame ends at or before end, and no
// field is out of bounds; salt 0 stands for any. Of the body nothing is known yet.
func parseFrame(p []byte, off, end Offset, salt uint32) (Frame, bool) {
	le := binary.LittleEndian
	p = p[:frameHeaderBytes]
	f := Frame{
		Off:         off,
		Type:        Type(p[4]),
		Codec:       p[5],
		Tag:         p[6],
		Flags:       p[7],
		bodyLen:     le.Uint32(p[8:]),
		bodyCRC:     le.Uint32(p[12:]),
		Seq:         queue.Seq(le.Uint64(p[16:])),
		Items:       le.Uint32(p[24:]),
		metaLen:     le.Uint32(p[28:]),
		Size:        le.Uint32(p[32:]),
		salt:        le.Uint32(p[frameSalt:]),
		Accepted:    int64(le.Uint64(p[40:])),
		ItemsBefore: le.Uint64(p[48:]),
		Synced:      Offset(le.Uint32(p[56:])) * alignment,
	}
	f.End = off + frameLength(f.bodyLen)
	good := f.Type != 0 && f.salt != 0 && (salt == 0 || f.salt == salt) &&
		f.bodyLen <= MaxRecordBytes && f.metaLen <= f.bodyLen && f.End <= end &&
		f.Seq <= MaxSeq && (f.Seq > 0 || f.Type == TypeSeal) &&
		f.ItemsBefore+uint64(f.Items) >= f.ItemsBefore && f.Synced <= off &&
		le.Uint32(p) == crc32.Checksum(p[4:], castagnoli)
	return f, good
}
