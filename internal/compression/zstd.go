// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package compression

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxZstdWindow is what a frame may ask a decoder to remember (faults, part C).
	maxZstdWindow = 8 << 20
	// maxZstdBlock is the largest content of a block (RFC 8878, 3.1.1.2.4).
	maxZstdBlock = 128 << 10
)

// unzstd decodes whole slices and serves every goroutine; it decodes into what is lent and never beyond.
var unzstd = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxWindow(maxZstdWindow),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

func decodeZstd(src []byte, limit int, l Lender) ([]byte, error) {
	bound, err := zstdBound(src, limit)
	if err != nil {
		return finish(Zstd, 0, nil, err)
	}
	lent, err := l.Lend(nil, bound+slack)
	if err != nil {
		return nil, err
	}
	b, err := unzstd().DecodeAll(src, lent[:0:min(cap(lent), limit+slack)])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || err == nil && len(b) > limit:
		return nil, ErrTooLarge
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		err = &DecodeError{Codec: Zstd, Cause: "window above 8 MiB"}
	case errors.Is(err, zstd.ErrMagicMismatch):
		err = &DecodeError{Codec: Zstd, Cause: "no zstd frame"}
	case err != nil:
		err = &DecodeError{Codec: Zstd, Offset: len(src), Cause: err.Error()}
	}
	return finish(Zstd, len(src), b, err)
}

// zstdBound walks frames and blocks and returns how much they can hold, or limit if that is less. It is exact for
// frames that state their size. A frame that states more than limit is ErrTooLarge before anything is allocated.
func zstdBound(src []byte, limit int) (int, error) {
	bound, at, frames := uint64(0), 0, 0
	for at < len(src) {
		var h zstd.Header
		if err := h.Decode(src[at:]); err != nil {
			cause := err.Error()
			switch {
			case errors.Is(err, io.ErrUnexpectedEOF):
				cause = "truncated"
			case errors.Is(err, zstd.ErrMagicMismatch) && frames > 0:
				cause = "bytes after the last frame"
			case errors.Is(err, zstd.ErrMagicMismatch):
				cause = "no zstd frame"
			}
			return 0, &DecodeError{Codec: Zstd, Offset: at, Cause: cause}
		}
		if frames++; frames > maxMembers {
			return 0, &DecodeError{Codec: Zstd, Offset: at, Cause: "too many frames"}
		}
		at += h.HeaderSize
		if h.Skippable {
			if uint64(h.SkippableSize) > uint64(len(src)-at) {
				return 0, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
			}
			at += int(h.SkippableSize)
			continue
		}
		if h.DictionaryID != 0 {
			return 0, &DecodeError{Codec: Zstd, Offset: at, Cause: "needs a dictionary"}
		}
		content, next, err := zstdBlocks(src, at)
		if err != nil {
			return 0, err
		}
		at = next
		if h.HasCheckSum {
			at += 4
		}
		if at > len(src) {
			return 0, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
		}
		if h.HasFCS {
			if h.FrameContentSize > uint64(limit) {
				return 0, ErrTooLarge
			}
			content = min(content, h.FrameContentSize) // a frame that holds less than it states fails in the decoder
		}
		bound = min(bound+content, uint64(limit))
	}
	if frames == 0 {
		return 0, &DecodeError{Codec: Zstd, Cause: "truncated"}
	}
	return int(bound), nil
}

// zstdBlocks walks the blocks of a frame from at on and returns what they can hold and where they end.
func zstdBlocks(src []byte, at int) (content uint64, next int, err error) {
	for last := false; !last; {
		if len(src)-at < 3 {
			return 0, 0, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
		}
		header := int(src[at]) | int(src[at+1])<<8 | int(src[at+2])<<16
		at += 3
		last = header&1 != 0
		size := header >> 3
		switch header >> 1 & 3 {
		case 0: // raw
			content += uint64(size)
		case 1: // one byte, repeated
			content += uint64(size)
			size = 1
		case 2: // compressed
			content += maxZstdBlock
		default:
			return 0, 0, &DecodeError{Codec: Zstd, Offset: at, Cause: "reserved block type"}
		}
		if size > len(src)-at {
			return 0, 0, &DecodeError{Codec: Zstd, Offset: len(src), Cause: "truncated"}
		}
		at += size
	}
	return content, at, nil
}
