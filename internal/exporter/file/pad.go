// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// An emergency file ends each group of records at the end of a disk block. Length-prefixed files do so with a record
// that is an empty request to whoever reads it:
//
//	proto  length | field 15, which no request has, of zeros
//	zstd   length | frame of such a field, or of {} | skippable frame of zeros

const (
	// padField is the tag of field 15, length-delimited.
	padField = 15<<3 | 2
	// padHead is a padding record without its zeros: length, tag, and a length of three bytes.
	padHead = prefixBytes + 1 + 3
	// skippable is the head of a zstd frame that decoders pass by: its number and its length.
	skippableMagic = 0x184d2a50
	skippableHead  = 8
	padBlock       = 4096
)

// padding makes a record of n bytes, or of so many blocks more, which says nothing.
func (c *Config) padding() func(n int64) []byte {
	if !c.framed() {
		return nil
	}
	if !c.compressed() {
		return padProto
	}
	inner := []byte{padField, 0}
	if c.Format == formatJSON {
		inner = []byte("{}")
	}
	var packed []byte
	if enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err == nil {
		packed = enc.EncodeAll(inner, nil)
	}
	return func(n int64) []byte {
		head := int64(prefixBytes + len(packed) + skippableHead)
		for n < head {
			n += padBlock
		}
		out := binary.BigEndian.AppendUint32(make([]byte, 0, n), uint32(n-prefixBytes))
		out = append(out, packed...)
		out = binary.LittleEndian.AppendUint32(out, skippableMagic)
		out = binary.LittleEndian.AppendUint32(out, uint32(n-head))
		return out[:n]
	}
}

func padProto(n int64) []byte {
	for n < padHead {
		n += padBlock
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 0, n), uint32(n-prefixBytes))
	zeros := n - padHead
	out = append(out, padField, byte(zeros)|0x80, byte(zeros>>7)|0x80, byte(zeros>>14))
	return out[:n]
}

// isPadding reports whether a decoded record is one that says nothing.
func isPadding(b []byte) bool {
	if len(b) == 0 || string(b) == "{}" {
		return true
	}
	if b[0] != padField {
		return false
	}
	length, n := binary.Uvarint(b[1:])
	return n > 0 && length == uint64(len(b)-1-n)
}
