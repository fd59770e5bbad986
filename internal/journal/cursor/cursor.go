// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package cursor is one destination's place in a journal: which numbers are resolved, what became of them, and the file
// that says so after anything has happened to the process.
//
// It stands between the journal, which decides what is resolved and when that is written, and vfs, the disk. The bytes
// are those of section 7 of the journal's specification, drawn again in docs/journal-format.md:
//
//	file        0 slot of even generations      65,536 slot of odd generations      131,072 end
//
//	slot        0 magic "HOLDCUR1"    8 crc u32 of bytes 12..length-1            12 length u32
//	           16 version u16        18 flags u16         20 state u32           24 journal_id [16]
//	           40 generation u64     48 floor u64         56 high u64            64 until u64
//	           72 reserved u64       80 durable_seq u64   88 durable_items u64   96 parked_at i64
//	          104 not_owed u64      112 delivered {records u64, items u64}      128 rejected {…}
//	          144 dropped [16]{records u64, items u64}, by reason code
//	          400 names_len u32     404 ranges_count u32 408 ranges_len u32     412 drops_count u32
//	          416 names: {len u16, bytes} each, the own one first
//	              ranges above floor: varint(first - previous last), varint(last - first) each
//	              drops: {first u64, last u64, records u64, items u64, at i64, reason u8, reserved [7]} each
//
// All integers are little-endian, the crc is CRC-32C. A slot is written in whole blocks of 4,096, zeros behind it.
//
// It promises that no bytes in a file make it panic, hang or allocate more than a fixed amount; that it never returns a
// slot whose checksum does not hold; that a Write which returned nil survives every crash, and that one which did not
// return leaves the state before it or the one it was to write. A file is never written again after a write or sync on
// it failed. It knows no segment, no lease and no policy: not when a slot is written, not what a lost number means.
package cursor

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	// SlotBytes is the room a slot has in the file, FileBytes the size of the file.
	SlotBytes = 64 << 10
	FileBytes = 2 * SlotBytes
	// MaxSeq is the largest number a record can have; larger ones on disk are damage.
	MaxSeq queue.Seq = 1 << 62
	// MaxDrops is how many entries the list of drops has.
	MaxDrops = 128
	// MaxNamesBytes bounds the names of a slot, two bytes of length for each included.
	MaxNamesBytes = 4 << 10

	blockBytes = 4096 // the unit of writes
)

// Hash stands for a cursor's name in the headers of segments: the first 8 bytes of its SHA-256.
func Hash(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.LittleEndian.Uint64(sum[:])
}
