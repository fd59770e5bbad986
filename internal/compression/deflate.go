// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compression

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// maxMembers bounds the gzip members and zstd frames of one request. Joined requests have one each; nobody joins this
// many, and an empty one costs more time than its few bytes are worth.
const maxMembers = 1 << 16

// deflateRatio is what one byte of deflate can stand for at most.
const deflateRatio = 1032

// inflater is a pooled gzip reader. Its source is one contiguous slice with ReadByte, so that nothing is buffered
// twice and nothing is read beyond the end of a member.
type inflater struct {
	src bytes.Reader
	zr  gzip.Reader
}

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

func decodeGzip(src []byte, limit int, l Lender) ([]byte, error) {
	f := inflaters.Get().(*inflater)
	defer func() {
		f.src.Reset(nil)
		inflaters.Put(f)
	}()
	f.src.Reset(src)
	b, err := f.members(src, limit, l)
	return finish(Gzip, len(src)-f.src.Len(), b, err)
}

func (f *inflater) members(src []byte, limit int, l Lender) ([]byte, error) {
	if len(src) < 18 {
		return nil, io.ErrUnexpectedEOF // shorter than the empty member
	}
	// The size that the last member states, if it can be true, is asked for at once; it is only a hint.
	var b []byte
	hint := int64(binary.LittleEndian.Uint32(src[len(src)-4:]))
	if hint <= int64(limit) && hint <= int64(len(src))*deflateRatio {
		var err error
		if b, err = l.Lend(nil, int(hint)+slack); err != nil {
			return nil, lenderError{err}
		}
	}
	for members := 0; f.src.Len() > 0; members++ {
		at := len(src) - f.src.Len()
		if members == maxMembers {
			return nil, &DecodeError{Codec: Gzip, Offset: at, Cause: "too many members"}
		}
		if err := f.zr.Reset(&f.src); err != nil {
			if members > 0 && (err == gzip.ErrHeader || !gzipMagic(src, at)) {
				return nil, &DecodeError{Codec: Gzip, Offset: at, Cause: "bytes after the last member"}
			}
			return nil, truncated(err)
		}
		f.zr.Multistream(false)
		var err error
		if b, err = readAll(&f.zr, b, limit, l); err != io.EOF {
			return nil, err
		}
	}
	return b, nil
}

// gzipMagic reports whether what is at at may become a member.
func gzipMagic(src []byte, at int) bool {
	return src[at] == 0x1f && (len(src) == at+1 || src[at+1] == 0x8b)
}

// truncated says of an end of file in the middle of something that it was unexpected.
func truncated(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

type zlibInflater struct {
	src bytes.Reader
	zr  io.ReadCloser // nil until first used
}

var zlibInflaters = sync.Pool{New: func() any { return new(zlibInflater) }}

func decodeZlib(src []byte, limit int, l Lender) ([]byte, error) {
	f := zlibInflaters.Get().(*zlibInflater)
	defer func() {
		f.src.Reset(nil)
		zlibInflaters.Put(f)
	}()
	f.src.Reset(src)
	b, err := f.read(limit, l)
	if err == io.EOF && f.src.Len() > 0 {
		err = &DecodeError{Codec: Zlib, Offset: len(src) - f.src.Len(), Cause: "bytes after the end"}
	}
	return finish(Zlib, len(src)-f.src.Len(), b, err)
}

func (f *zlibInflater) read(limit int, l Lender) ([]byte, error) {
	var err error
	if f.zr == nil {
		f.zr, err = zlib.NewReader(&f.src)
	} else {
		err = f.zr.(zlib.Resetter).Reset(&f.src, nil)
	}
	if err != nil {
		return nil, truncated(err)
	}
	return readAll(f.zr, nil, limit, l)
}
