// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package segment is one file of the journal: its bytes, how they are written, and what can be read of them after
// anything has happened to the file.
//
// It stands between the journal, which decides what is written when, and vfs, the disk. The bytes are those of
// sections 5 and 6 of the journal's specification, drawn again in docs/journal-format.md:
//
//	0        4096                                                        data_end
//	| header | frame frame 0000 | frame frame frame 00 | ..... | frame 00 | seal frame | trailer | end of file
//	          group, at 4096·n   group, at 4096·n                          at 4096·n
//
//	header block   0 magic "HOLDSEG1"   8 version u16       10 reserved u16    12 flags u32
//	(4096 bytes)  16 journal_id [16]   32 segment_id u64    40 salt u32        44 tag u8, reserved [3]
//	              48 base_seq u64      56 base_items u64    64 prev_id u64     72 prev_last_seq u64
//	              80 prev_durable u64  88 created i64       96 file_bytes u64 104 cursor_count u32, reserved u32
//	             112 cursors [497]u64  4092 crc u32 of bytes 0..4091; everything between is zero
//
//	frame header   0 header_crc u32 of bytes 4..63           4 type u8          5 codec u8
//	(64 bytes)     6 tag u8             7 flags u8           8 body_len u32    12 body_crc u32
//	              16 seq u64           24 items u32         28 meta_len u32    32 size u32
//	              36 salt u32          40 accepted i64      48 items_before u64
//	              56 synced/8 u32      60 reserved u32;  then meta, body, zeros to a multiple of 8
//
//	seal body      0 first_seq u64      8 last_seq u64      16 records u64     24 items u64
//	              32 payload_bytes u64 40 data_end u64      48 oldest i64      56 newest i64
//	              64 flags u32         68 index_count u32   72 index: {seq u64, offset/8 u32, reserved u32} each
//
//	trailer        0 seal_offset u64    8 magic "HFSE"      12 crc u32 of bytes 0..11
//
// All integers are little-endian, every crc is CRC-32C.
//
// It promises that no bytes in a file make it panic, hang or allocate beyond the size of the file and a fixed buffer;
// that it never returns a record whose checksum does not hold; and that damage costs the touched frames only. A Writer
// never writes to a file again after a write or sync on it failed. It knows no queue, no cursor and no policy: not which
// segment comes next, not what may be deleted, not what a lost record means to whom.
package segment

import (
	"hash/crc32"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	// BlockBytes is the unit no torn write crosses: the header, every first frame after a sync and the seal begin at a
	// multiple of it.
	BlockBytes = 4096
	// MaxRecordBytes bounds meta and body of one record.
	MaxRecordBytes = 128 << 20
	// MaxSeq is the largest number a record can have; larger ones on disk are damage.
	MaxSeq queue.Seq = 1 << 62
	// MaxCursors is how many cursors a header can name.
	MaxCursors = 497

	alignment  = 8        // of frames
	indexEvery = 64 << 10 // the index names the first frame in each stretch of so many bytes
	dataStart  = Offset(BlockBytes)
	maxOffset  = Offset(1<<32-1) * alignment // what the fields that hold offset/8 can say
)

// Offset is a place in a segment, in bytes from the start of the file.
type Offset int64

// Record is what is stored in one frame.
type Record struct {
	Tag      uint8  // opaque
	Items    uint32 // what the books count
	Size     uint32 // uncompressed bytes, which limits and batches count
	Meta     []byte
	Body     []byte
	CRC      uint32 // Checksum(Meta, Body)
	Accepted int64  // Unix ns, informational
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC of a record's bytes. Appending callers compute it outside their locks.
func Checksum(meta, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(meta, castagnoli), castagnoli, body)
}

// FrameBytes is what a record of that meta and body takes in a segment.
func FrameBytes(meta, body int) int64 {
	return frameHeaderBytes + up(int64(meta)+int64(body), alignment)
}

// FileBytes is the smallest segment that has room for one group of so many bytes of frames.
func FileBytes(frames int64) int64 {
	data := BlockBytes + up(frames, BlockBytes)
	size := data + sealRoom(data)
	for size-sealRoom(size) < data {
		size += BlockBytes
	}
	return size
}

// FrameRoom is how many bytes of frames one group in a new segment of that size may have.
func FrameRoom(bytes int64) int64 { return max(0, bytes-sealRoom(bytes)-BlockBytes) }

// sealRoom is what a segment of that size keeps for its seal: 16 bytes of index for each 64 KiB, the rest of the seal,
// the trailer, and the way to the next block.
func sealRoom(size int64) int64 { return up(2*BlockBytes+size/4096, BlockBytes) }

func up[T ~int64](n, unit T) T { return (n + unit - 1) / unit * unit }
