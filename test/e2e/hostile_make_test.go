// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	endian "encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
)

// Hostile requests are made when a test runs and kept nowhere.

// field is a length-delimited field.
func field(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// logRecord puts an AnyValue into the body of the one record of a logs request.
func logRecord(anyValue []byte) []byte {
	record := field(5, anyValue)                // LogRecord.body
	return field(1, field(2, field(2, record))) // resource_logs, scope_logs, log_records
}

// bigRecord is a logs request of n bytes or a few more, all text.
func bigRecord(n int) []byte { return logRecord(field(1, bytes.Repeat([]byte{'x'}, n))) }

// deepValue is an AnyValue that holds an array that holds an AnyValue, and so on.
func deepValue(depth int) []byte {
	// Built from the inside; each level is put in front of what is there.
	size := 2 * depth * (1 + protowire.SizeVarint(uint64(16*depth)))
	buf := make([]byte, size)
	at := size
	prepend := func(b []byte) { at -= len(b); copy(buf[at:], b) }
	for range depth {
		length := size - at
		prepend(protowire.AppendVarint([]byte{1<<3 | 2}, uint64(length))) // ArrayValue.values
		length = size - at
		prepend(protowire.AppendVarint([]byte{5<<3 | 2}, uint64(length))) // AnyValue.array_value
	}
	return buf[at:]
}

// deepJSON is a logs request whose body is an array in an array in an array.
func deepJSON(depth int) []byte {
	return []byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":` + strings.Repeat(`{"arrayValue":{"values":[`, depth) +
		strings.Repeat(`]}}`, depth) + `}]}]}]}`)
}

// emptySpans is a traces request of n spans without content, two bytes each.
func emptySpans(n int) []byte {
	return field(1, field(2, bytes.Repeat([]byte{2<<3 | 2, 0}, n)))
}

// zeros yields n bytes of 0.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// gzipOf compresses what r yields.
func gzipOf(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zstdOf compresses what r yields.
func zstdOf(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// wideZstd is a frame that asks for a window of 2 GiB (RFC 8878, section 3.1.1.1.2).
func wideZstd() []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3}
	return append(frame, 1, 0, 0) // one raw block of no bytes, the last
}

// hugeSnappy is a block that says it holds 4 GiB (snappy format description, section 1).
func hugeSnappy() []byte {
	return append(protowire.AppendVarint(nil, 1<<32-1), 0, 'x')
}

// framed is a gRPC message with its prefix.
func framed(flag byte, message []byte) []byte {
	head := []byte{flag, 0, 0, 0, 0}
	endian.BigEndian.PutUint32(head[1:], uint32(len(message)))
	return append(head, message...)
}
