// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package rawgrpc carries requests through gRPC as they are: a codec that neither encodes nor decodes, and compressors
// that announce an encoding without touching bytes which have it already.
//
// Importing it replaces grpc's gzip and zstd in this process, for clients and servers.
package rawgrpc

import (
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// The encodings by their names on the wire.
const (
	Identity = "identity"
	Gzip     = "gzip"
	Zstd     = "zstd"
)

func init() {
	encoding.RegisterCompressor(compressor(Gzip))
	encoding.RegisterCompressor(compressor(Zstd))
}

// Codec hands on messages that are *[]byte. Bytes that are sent must not change; bytes received are the caller's.
type Codec struct{}

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: %T is no *[]byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

// Unmarshal implements encoding.CodecV2. It reuses the memory v points at.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: %T is no *[]byte", v)
	}
	if n := data.Len(); cap(*b) < n {
		*b = make([]byte, n)
	} else {
		*b = (*b)[:n]
	}
	data.CopyTo(*b)
	return nil
}

// Name implements encoding.CodecV2; it is the content type's suffix.
func (Codec) Name() string { return "proto" }

// compressor has an encoding's name and does nothing.
type compressor string

func (c compressor) Name() string { return string(c) }

func (compressor) Compress(w io.Writer) (io.WriteCloser, error) { return untouched{w}, nil }

func (compressor) Decompress(r io.Reader) (io.Reader, error) { return r, nil }

type untouched struct{ io.Writer }

func (untouched) Close() error { return nil }

var (
	_ encoding.CodecV2    = Codec{}
	_ encoding.Compressor = compressor("")
)
