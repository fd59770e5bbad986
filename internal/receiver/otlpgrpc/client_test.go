// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// passCompressor names a compression and passes bytes that are compressed already.
type passCompressor string

func (p passCompressor) Do(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

func (p passCompressor) Type() string { return string(p) }

// encoded compresses b as a client would.
func encoded(t testing.TB, name string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch name {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		zw, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w = zw
	case "snappy":
		w = snappy.NewBufferedWriter(&out)
	default:
		t.Fatalf("no such compression %q", name)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
