// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compression

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/snappy"
)

// snappyRatio is what a byte of a snappy block can stand for at most: a copy of 64 bytes takes three.
const snappyRatio = 22

// snappyStream is the chunk every framed stream begins with.
var snappyStream = []byte("\xff\x06\x00\x00sNaPpY")

type unsnapper struct {
	src bytes.Reader
	zr  *snappy.Reader
}

var unsnappers = sync.Pool{New: func() any {
	u := new(unsnapper)
	u.zr = snappy.NewReader(&u.src)
	return u
}}

func decodeSnappy(src []byte, limit int, l Lender) ([]byte, error) {
	if bytes.HasPrefix(src, snappyStream) {
		return decodeSnappyStream(src, limit, l)
	}
	size, err := snappy.DecodedLen(src)
	switch {
	case err != nil:
		return nil, &DecodeError{Codec: Snappy, Cause: "no snappy block"}
	case size > limit:
		return nil, ErrTooLarge
	case size > len(src)*snappyRatio:
		return nil, &DecodeError{Codec: Snappy, Cause: "stated size cannot be true"}
	}
	lent, err := l.Lend(nil, size)
	if err != nil {
		return nil, err
	}
	b, err := snappy.Decode(lent[:size], src)
	return finish(Snappy, len(src), b, err)
}

func decodeSnappyStream(src []byte, limit int, l Lender) ([]byte, error) {
	u := unsnappers.Get().(*unsnapper)
	defer func() {
		u.src.Reset(nil)
		u.zr.Reset(&u.src)
		unsnappers.Put(u)
	}()
	u.src.Reset(src)
	u.zr.Reset(&u.src)
	b, err := readAll(u.zr, nil, limit, l)
	if err == io.EOF && u.src.Len() > 0 {
		err = &DecodeError{Codec: Snappy, Offset: len(src) - u.src.Len(), Cause: "bytes after the end"}
	}
	return finish(Snappy, len(src)-u.src.Len(), b, err)
}
