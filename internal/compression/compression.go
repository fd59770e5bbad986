// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package compression decodes what arrives compressed, with a hard cap, and encodes.
//
// It stands at the front door, between the bytes of a request and their scan. It promises that no input makes it
// yield more than the cap, take memory it did not ask for, or panic; that what it decoded was whole; and that
// errors name an offset and a cause, never content (faults, part C). It knows no protocol and no budget: whoever
// calls lends the memory.
package compression

import (
	"errors"
	"fmt"
	"io"
)

// Codec is one of the compressions a door understands.
type Codec uint8

// The codecs.
const (
	None   Codec = iota
	Gzip         // RFC 1952, any number of members
	Zstd         // RFC 8878, any number of frames, window of 8 MiB at most, no dictionary
	Snappy       // one block, or the framing format, which is told by its first chunk
	Zlib         // RFC 1950; what HTTP calls deflate
)

var names = [...]string{"identity", "gzip", "zstd", "snappy", "zlib"}

// String is the codec's usual name.
func (c Codec) String() string {
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

// Parse knows the names that requests use, in lower case; deflate is zlib (RFC 9110, 8.4.1.2).
func Parse(name string) (Codec, bool) {
	switch name {
	case "", "identity":
		return None, true
	case "gzip", "x-gzip":
		return Gzip, true
	case "zstd":
		return Zstd, true
	case "snappy", "x-snappy-framed":
		return Snappy, true
	case "zlib", "deflate":
		return Zlib, true
	}
	return None, false
}

// ErrTooLarge says that the content is larger than the cap. What was decoded so far is not returned.
var ErrTooLarge = errors.New("decoded size is above the limit")

// ErrMalformed is matched by every *DecodeError.
var ErrMalformed = errors.New("malformed compression")

// DecodeError says where compressed data was broken. Its text holds no content and may be shown to clients.
type DecodeError struct {
	Codec  Codec
	Offset int // bytes of compressed data that were read when it was noticed
	Cause  string
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %s: at byte %d: %s", e.Codec, e.Offset, e.Cause)
}

// Unwrap returns ErrMalformed.
func (e *DecodeError) Unwrap() error { return ErrMalformed }

// Lender gives memory to a decoder.
type Lender interface {
	// Lend returns a slice with the contents of b and a capacity of at least n bytes; b is the lender's again. Its
	// error ends the decoding and is returned as it is. b is nil at first and then always what was lent last.
	Lend(b []byte, n int) ([]byte, error)
}

// Decode returns the content of src, at most limit bytes of it, in memory of the lender. Fewer bytes are asked for
// than limit plus 64. It fails with ErrTooLarge, a *DecodeError or the lender's error. src is only read.
func Decode(c Codec, src []byte, limit int, l Lender) (content []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			content, err = nil, &DecodeError{Codec: c, Cause: "the decoder gave up"}
		}
	}()
	switch c {
	case Gzip:
		return decodeGzip(src, limit, l)
	case Zstd:
		return decodeZstd(src, limit, l)
	case Snappy:
		return decodeSnappy(src, limit, l)
	case Zlib:
		return decodeZlib(src, limit, l)
	}
	return nil, &DecodeError{Codec: c, Cause: "no such codec"}
}

// slack is room behind the expected end: a reader tells of its end only when asked for more.
const slack = 32

// readAll appends what r yields to b until r ends.
func readAll(r io.Reader, b []byte, limit int, l Lender) ([]byte, error) {
	idle := 0
	for {
		if len(b) == cap(b) {
			var err error
			if b, err = grow(b, limit, l); err != nil {
				return b, err
			}
		}
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		if len(b) > limit {
			return b, ErrTooLarge
		}
		if err != nil {
			return b, err
		}
		if idle++; n > 0 {
			idle = 0
		} else if idle > 100 {
			return b, io.ErrNoProgress
		}
	}
}

// grow doubles the room, from 4 KiB on. The last two steps are half of the limit and all of it, with the byte that is too
// many: while content is moved both rooms count, and a budget of twice the limit has to be enough.
func grow(b []byte, limit int, l Lender) ([]byte, error) {
	n := max(2*cap(b), 4<<10)
	switch half := limit / 2; {
	case cap(b) >= half:
		n = limit + slack
	case n > half:
		n = half
	}
	lent, err := l.Lend(b, n)
	if err != nil {
		return b, lenderError{err}
	}
	return lent, nil
}

// lenderError keeps a lender's error apart from a decoder's.
type lenderError struct{ error }

// finish turns what a decoder ended with into what Decode returns.
func finish(c Codec, offset int, b []byte, err error) ([]byte, error) {
	var lender lenderError
	switch {
	case err == nil || err == io.EOF:
		return b, nil
	case errors.Is(err, ErrTooLarge):
		return nil, ErrTooLarge
	case errors.As(err, &lender):
		return nil, lender.error
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &DecodeError{Codec: c, Offset: offset, Cause: "truncated"}
	}
	var broken *DecodeError
	if errors.As(err, &broken) {
		return nil, err
	}
	return nil, &DecodeError{Codec: c, Offset: offset, Cause: err.Error()}
}
