// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compression

import (
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxZstdWindow is what a frame may ask a decoder to remember (faults, part C).
	maxZstdWindow = 8 << 20
	// maxZstdBlock is the largest content of a block (RFC 8878, 3.1.1.2.4).
	maxZstdBlock = 128 << 10
	// usualZstdRatio is how far telemetry shrinks at most, as a rule. It decides how much is asked for at first when
	// a frame does not state its size; more is asked for when it was not enough.
	usualZstdRatio = 12
)

// unzstd decodes whole slices and serves every goroutine; it decodes into what is lent and not beyond.
var unzstd = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxWindow(maxZstdWindow),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

func decodeZstd(src []byte, limit int, l Lender) ([]byte, error) {
	size, err := measureZstd(src, limit)
	if err != nil {
		return finish(Zstd, 0, nil, err)
	}
	var b []byte
	for room := size.usual; ; room = min(2*room, size.most) {
		if b, err = l.Lend(b[:0], room+slack); err != nil {
			return nil, err
		}
		content, err := unzstd().DecodeAll(src, b[:0:min(cap(b), limit+slack)])
		switch {
		case isFull(err) && room < size.most:
			continue
		case isFull(err) && size.most == limit, err == nil && len(content) > limit:
			return nil, ErrTooLarge
		case errors.Is(err, zstd.ErrWindowSizeExceeded):
			err = &DecodeError{Codec: Zstd, Cause: "window above 8 MiB"}
		}
		return finish(Zstd, len(src), content, err)
	}
}

// isFull reports whether the decoder stopped for want of room. Of a compressed block that does not fit it says what
// it says of one that breaks the format; both are told apart by giving more room while there is more.
func isFull(err error) bool {
	return err != nil && (errors.Is(err, zstd.ErrDecoderSizeExceeded) ||
		strings.HasPrefix(err.Error(), "output bigger than max block size"))
}

// zstdSize is what can be said of a content's size without decoding it.
type zstdSize struct {
	usual int // enough as a rule; exact if every frame states its size
	most  int // never more, or the limit if that is less
}

// measureZstd walks frames and blocks. It finds truncation and what stands between frames, and returns ErrTooLarge
// for a frame that states more than limit.
func measureZstd(src []byte, limit int) (zstdSize, error) {
	var sum zstdSize
	at, frames := 0, 0
	for at < len(src) {
		var h zstd.Header
		if err := h.Decode(src[at:]); err != nil {
			return sum, zstdHeaderError(err, at, frames)
		}
		if frames++; frames > maxMembers {
			return sum, &DecodeError{Codec: Zstd, Offset: at, Cause: "too many frames"}
		}
		at += h.HeaderSize
		if h.Skippable {
			if uint64(h.SkippableSize) > uint64(len(src)-at) {
				return sum, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
			}
			at += int(h.SkippableSize)
			continue
		}
		if h.DictionaryID != 0 {
			return sum, &DecodeError{Codec: Zstd, Offset: at, Cause: "needs a dictionary"}
		}
		content, next, err := measureBlocks(src, at, limit)
		if err != nil {
			return sum, err
		}
		at = next
		if h.HasCheckSum {
			at += 4
		}
		if at > len(src) {
			return sum, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
		}
		if h.HasFCS {
			if h.FrameContentSize > uint64(limit) {
				return sum, ErrTooLarge
			}
			// A frame that holds less than it states fails in the decoder.
			content.most = min(content.most, int(h.FrameContentSize))
			content.usual = content.most
		}
		sum.most = min(sum.most+content.most, limit)
		sum.usual = min(sum.usual+content.usual, limit)
	}
	if frames == 0 {
		return sum, &DecodeError{Codec: Zstd, Cause: "truncated"}
	}
	return sum, nil
}

func zstdHeaderError(err error, at, frames int) error {
	cause := err.Error()
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		cause = "truncated"
	case errors.Is(err, zstd.ErrMagicMismatch) && frames > 0:
		cause = "bytes after the last frame"
	case errors.Is(err, zstd.ErrMagicMismatch):
		cause = "no zstd frame"
	}
	return &DecodeError{Codec: Zstd, Offset: at, Cause: cause}
}

// measureBlocks walks the blocks of the frame whose first block is at at, and returns what they can hold and where
// they end (RFC 8878, 3.1.1.2).
func measureBlocks(src []byte, at, limit int) (sum zstdSize, next int, err error) {
	for last := false; !last; {
		if len(src)-at < 3 {
			return sum, 0, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
		}
		header := int(src[at]) | int(src[at+1])<<8 | int(src[at+2])<<16
		at += 3
		last = header&1 != 0
		size := header >> 3
		content, usual := size, size
		switch header >> 1 & 3 {
		case 0: // raw
		case 1: // one byte, repeated
			size = 1
		case 2: // compressed
			content = maxZstdBlock
			usual = min(usualZstdRatio*size, maxZstdBlock)
		default:
			return sum, 0, &DecodeError{Codec: Zstd, Offset: at, Cause: "reserved block type"}
		}
		if size > len(src)-at {
			return sum, 0, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
		}
		at += size
		sum.most = min(sum.most+content, limit)
		sum.usual = min(sum.usual+usual, limit)
	}
	return sum, at, nil
}
