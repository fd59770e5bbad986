// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/adler32"
	"hash/crc32"
	"io"
	"sync"

	"github.com/holdfast-telemetry/holdfast/internal/compression/inflate"
)

// maxMembers bounds the gzip members and zstd frames of one request. Joined requests have one each; nobody joins this
// many, and an empty one costs more time than its few bytes are worth.
const maxMembers = 1 << 16

// deflateRatio is what one byte of deflate can stand for at most.
const deflateRatio = 1032

// Of a gzip member (RFC 1952, section 2.3): the bytes of header and trailer, and the flags.
const (
	gzipHeader  = 10
	gzipTrailer = 8

	flagHeaderSum = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagsReserved = 0xe0
)

var (
	errHeader     = errors.New("invalid header")
	errHeaderSum  = errors.New("invalid checksum of the header")
	errReserved   = errors.New("reserved flags in the header")
	errChecksum   = errors.New("invalid checksum")
	errLength     = errors.New("the stated length is not that of the content")
	errDictionary = errors.New("needs a dictionary")
)

// inflater is a pooled decoder together with what it asks for room.
type inflater struct {
	inflate.Decoder
	limit  int
	lender Lender
}

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

// Grow asks the lender for more.
func (f *inflater) Grow(b []byte) ([]byte, error) { return grow(b, f.limit, f.lender) }

// inflated appends the content of the stream that src begins with to b, and returns the bytes it takes.
func (f *inflater) inflated(b, src []byte, limit int, l Lender) ([]byte, int, error) {
	f.limit, f.lender = limit, l
	b, n, err := f.Append(b, src, limit, f)
	f.lender = nil
	if err == inflate.ErrTooLarge {
		err = ErrTooLarge
	}
	return b, n, err
}

func decodeGzip(src []byte, limit int, l Lender) ([]byte, error) {
	f := inflaters.Get().(*inflater)
	defer inflaters.Put(f)
	b, at, err := f.members(src, limit, l)
	return finish(Gzip, at, b, err)
}

// members decodes all of src and returns how far it came.
func (f *inflater) members(src []byte, limit int, l Lender) (b []byte, at int, err error) {
	if len(src) < gzipHeader+gzipTrailer {
		return nil, len(src), io.ErrUnexpectedEOF
	}
	// The size that the last member states, if it can be true, is asked for at once; it is only a hint.
	hint := int64(binary.LittleEndian.Uint32(src[len(src)-4:]))
	if hint <= int64(limit) && hint <= int64(len(src))*deflateRatio {
		if b, err = l.Lend(nil, int(hint)+slack); err != nil {
			return nil, 0, lenderError{err}
		}
	}
	for members := 0; at < len(src); members++ {
		if members == maxMembers {
			return nil, at, &DecodeError{Codec: Gzip, Offset: at, Cause: "too many members"}
		}
		if members > 0 && !gzipMagic(src[at:]) {
			return nil, at, &DecodeError{Codec: Gzip, Offset: at, Cause: "bytes after the last member"}
		}
		n, err := gzipBegin(src[at:])
		at += n
		if err != nil {
			return nil, at, err
		}
		begin := len(b)
		b, n, err = f.inflated(b, src[at:], limit, l)
		at += n
		if err != nil {
			return nil, at, err
		}
		if len(src)-at < gzipTrailer {
			return nil, len(src), io.ErrUnexpectedEOF
		}
		if binary.LittleEndian.Uint32(src[at:]) != crc32.ChecksumIEEE(b[begin:]) {
			return nil, at, errChecksum
		}
		if binary.LittleEndian.Uint32(src[at+4:]) != uint32(len(b)-begin) {
			return nil, at + 4, errLength
		}
		at += gzipTrailer
	}
	return b, at, nil
}

// gzipMagic reports whether src may begin a member.
func gzipMagic(src []byte) bool {
	return src[0] == 0x1f && (len(src) == 1 || src[1] == 0x8b) && (len(src) <= 2 || src[2] == 8)
}

// gzipBegin returns the length of the header that src begins with, or how much of it is right.
func gzipBegin(src []byte) (int, error) {
	if !gzipMagic(src) {
		return 0, errHeader
	}
	if len(src) < gzipHeader {
		return len(src), io.ErrUnexpectedEOF
	}
	flags := src[3]
	if flags&flagsReserved != 0 {
		return 3, errReserved
	}
	n := gzipHeader
	if flags&flagExtra != 0 {
		if len(src)-n < 2 {
			return len(src), io.ErrUnexpectedEOF
		}
		n += 2 + int(binary.LittleEndian.Uint16(src[n:]))
	}
	for _, flag := range []byte{flagName, flagComment} {
		if flags&flag == 0 {
			continue
		}
		end := -1
		if n < len(src) {
			end = bytes.IndexByte(src[n:], 0)
		}
		if end < 0 {
			return len(src), io.ErrUnexpectedEOF
		}
		n += end + 1
	}
	if flags&flagHeaderSum != 0 {
		if len(src)-n < 2 {
			return len(src), io.ErrUnexpectedEOF
		}
		if binary.LittleEndian.Uint16(src[n:]) != uint16(crc32.ChecksumIEEE(src[:n])) {
			return n, errHeaderSum
		}
		n += 2
	}
	if n > len(src) {
		return len(src), io.ErrUnexpectedEOF
	}
	return n, nil
}

func decodeZlib(src []byte, limit int, l Lender) ([]byte, error) {
	f := inflaters.Get().(*inflater)
	defer inflaters.Put(f)
	b, at, err := f.zlib(src, limit, l)
	return finish(Zlib, at, b, err)
}

// zlib decodes all of src (RFC 1950) and returns how far it came.
func (f *inflater) zlib(src []byte, limit int, l Lender) (b []byte, at int, err error) {
	if len(src) < 2 {
		return nil, len(src), io.ErrUnexpectedEOF
	}
	switch head := binary.BigEndian.Uint16(src); {
	case head>>8&15 != 8 || head>>12 > 7 || head%31 != 0:
		return nil, 0, errHeader
	case head&0x20 != 0:
		return nil, 2, errDictionary
	}
	b, n, err := f.inflated(nil, src[2:], limit, l)
	at = 2 + n
	switch {
	case err != nil:
		return nil, at, err
	case len(src)-at < 4:
		return nil, len(src), io.ErrUnexpectedEOF
	case binary.BigEndian.Uint32(src[at:]) != adler32.Checksum(b):
		return nil, at, errChecksum
	}
	if at += 4; at < len(src) {
		return nil, at, &DecodeError{Codec: Zlib, Offset: at, Cause: "bytes after the end"}
	}
	return b, at, nil
}
