// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"go.opentelemetry.io/collector/config/configcompression"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

const (
	// maxKeptBuffer is the largest buffer that goes back to the pool: larger requests are rare, and what is kept for
	// them would stay.
	maxKeptBuffer = 4 << 20
	// zstdWindow bounds the memory of an encoder and of whoever decodes; requests are seldom larger.
	zstdWindow = 1 << 20
	// lendSlack is the room a decoder asks for beyond the content.
	lendSlack = 64
)

// errSize says that a request does not decode to the size it was stored with.
var errSize = errors.New("decoded size differs from the size stored with the request")

// buffer is a pooled byte slice one can write to.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{} }}

func newBuffer() *buffer {
	b := buffers.Get().(*buffer)
	b.b = b.b[:0]
	return b
}

func (b *buffer) free() {
	if cap(b.b) <= maxKeptBuffer {
		buffers.Put(b)
	}
}

// Write appends p; it never fails.
func (b *buffer) Write(p []byte) (int, error) {
	b.b = append(b.b, p...)
	return len(p), nil
}

// writer is what every compression library's writer can do.
type writer interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// writerPool keeps the writers of one compression: each holds a few hundred KiB of tables.
type writerPool struct{ sync.Pool }

func newWriterPool(c configcompression.Type, level int, blocks bool) (*writerPool, error) {
	deflate := level
	if deflate == 0 {
		deflate = gzip.DefaultCompression
	}
	var make func() writer
	switch c {
	case configcompression.TypeGzip:
		if _, err := gzip.NewWriterLevel(nil, deflate); err != nil {
			return nil, err
		}
		make = func() writer { w, _ := gzip.NewWriterLevel(nil, deflate); return w }
	case configcompression.TypeZlib, configcompression.TypeDeflate:
		if _, err := zlib.NewWriterLevel(nil, deflate); err != nil {
			return nil, err
		}
		make = func() writer { w, _ := zlib.NewWriterLevel(nil, deflate); return w }
	case configcompression.TypeZstd:
		speed := zstd.SpeedDefault
		if level != 0 {
			speed = zstd.EncoderLevelFromZstd(level)
		}
		make = func() writer {
			w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(speed),
				zstd.WithWindowSize(zstdWindow))
			return w
		}
	case configcompression.TypeSnappy, configcompression.TypeSnappyFramed:
		if blocks && c == configcompression.TypeSnappy {
			make = func() writer { return &blockWriter{} }
			break
		}
		make = func() writer { return snappy.NewBufferedWriter(nil) }
	case configcompression.TypeLz4:
		make = func() writer {
			w := lz4.NewWriter(nil)
			_ = w.Apply(lz4.ConcurrencyOption(1))
			return w
		}
	default:
		return nil, errors.New("not a compression we have")
	}
	return &writerPool{sync.Pool{New: func() any { return make() }}}, nil
}

func (p *writerPool) encode(out io.Writer, parts [][]byte) error {
	w := p.Get().(writer)
	w.Reset(out)
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	p.Put(w)
	return nil
}

// blockWriter makes one snappy block of all that is written.
type blockWriter struct {
	in  []byte
	out io.Writer
}

func (w *blockWriter) Reset(out io.Writer) { w.in, w.out = w.in[:0], out }

func (w *blockWriter) Write(p []byte) (int, error) {
	w.in = append(w.in, p...)
	return len(p), nil
}

func (w *blockWriter) Close() error {
	_, err := w.out.Write(snappy.Encode(nil, w.in))
	return err
}

// codecs are the encodings payloads are stored in.
var codecs = map[otlp.Encoding]compression.Codec{otlp.Gzip: compression.Gzip, otlp.Zstd: compression.Zstd}

// decode returns r's parts without their encoding, and the buffer they lie in. The bound is the size the request was
// stored with, so that nothing can grow beyond what was admitted once.
func decode(r *exporter.Request) ([][]byte, *buffer, error) {
	out := newBuffer()
	if want := int(r.Size) + lendSlack; cap(out.b) < want {
		out.b = make([]byte, 0, want)
	}
	ends, err := decodeInto(out, r)
	if err != nil {
		out.free()
		return nil, nil, fmt.Errorf("decode %s stored as %s: %w", r.Signal, r.Encoding, err)
	}
	parts := make([][]byte, len(ends))
	from := 0
	for i, to := range ends {
		parts[i], from = out.b[from:to:to], to
	}
	return parts, out, nil
}

// decodeInto fills out and returns where each part ends.
func decodeInto(out *buffer, r *exporter.Request) ([]int, error) {
	codec, ok := codecs[r.Encoding]
	if !ok {
		return nil, errors.New("payloads are not stored in it")
	}
	ends := make([]int, len(r.Parts))
	for i, part := range r.Parts {
		at := len(out.b)
		content, err := compression.Decode(codec, part, int(r.Size)-at, out)
		if err != nil {
			return nil, err
		}
		if len(content) > 0 && cap(out.b) > at && &content[0] == &out.b[:at+1][at] {
			out.b = out.b[:at+len(content)]
		} else {
			out.b = append(out.b, content...)
		}
		ends[i] = len(out.b)
	}
	if int64(len(out.b)) != r.Size {
		return nil, errSize
	}
	return ends, nil
}

// Lend implements compression.Lender with the room behind what is in the buffer.
func (b *buffer) Lend(old []byte, n int) ([]byte, error) {
	at := len(b.b)
	if cap(b.b)-at < n {
		more := make([]byte, at, at+n)
		copy(more, b.b)
		b.b = more
	}
	lent := b.b[at : at+len(old) : at+n]
	copy(lent, old)
	return lent, nil
}
