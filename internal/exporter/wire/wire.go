// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package wire is what the two OTLP exporters share: a request's body in the encoding a backend wants, and what the
// backend says in return.
//
// It stands at the very end of the path, below the exporters and above nothing. Bytes that arrived in the right
// encoding leave as they came; others are decoded with a known bound and encoded once. Answers are read by hand, field
// by field, because all that counts in them is two numbers and a text. It knows no connection.
package wire

import (
	"fmt"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"go.opentelemetry.io/collector/config/configcompression"
)

// Body is a request as it goes over the wire. Parts follow each other; they are the request's own bytes unless it was
// recoded, and in that case they are void after Release.
type Body struct {
	Parts    [][]byte
	Encoding string // content encoding; empty = identity
	Recoded  bool   // bytes of another encoding were decoded first
	buf      *buffer
}

// Len is the number of bytes of all parts.
func (b *Body) Len() int {
	n := 0
	for _, p := range b.Parts {
		n += len(p)
	}
	return n
}

// Release gives back what encoding took. It may be called more than once.
func (b *Body) Release() {
	if b.buf != nil {
		b.buf.free()
		b.buf, b.Parts = nil, nil
	}
}

// Encoder makes bodies of one content encoding. Its method may be called from any goroutine.
type Encoder struct {
	name string
	pass otlp.Encoding // what may be handed on untouched
	keep bool          // whether pass means anything
	pool *writerPool   // nil = identity
}

// NewEncoder returns an encoder for a configured compression. Level 0 is the compression's own default. Blocks says
// that snappy means its block format, as in HTTP, and not its framing, as in gRPC.
func NewEncoder(c configcompression.Type, level int, blocks bool) (*Encoder, error) {
	e := &Encoder{name: string(c)}
	switch c {
	case "", "none":
		e.name, e.keep = "", true
		return e, nil
	case configcompression.TypeGzip:
		e.pass, e.keep = otlp.Gzip, true
	case configcompression.TypeZstd:
		e.pass, e.keep = otlp.Zstd, true
	}
	pool, err := newWriterPool(c, level, blocks)
	if err != nil {
		return nil, fmt.Errorf("compression %q: %w", string(c), err)
	}
	e.pool = pool
	return e, nil
}

// Name is the content encoding, empty for identity.
func (e *Encoder) Name() string { return e.name }

// Encode returns r as a body. The body may share r's bytes; release it before giving those up. It fails only when r's
// bytes are not what r says they are.
func (e *Encoder) Encode(r *exporter.Request) (Body, error) {
	if e.keep && r.Encoding == e.pass || empty(r.Parts) {
		b := Body{Parts: r.Parts, Encoding: e.name}
		if empty(r.Parts) {
			b.Encoding = ""
		}
		return b, nil
	}
	parts := r.Parts
	var plain *buffer
	if r.Encoding != otlp.Identity {
		var err error
		if parts, plain, err = decode(r); err != nil {
			return Body{}, err
		}
	}
	recoded := plain != nil
	if e.pool == nil {
		return Body{Parts: parts, Recoded: recoded, buf: plain}, nil
	}
	out := newBuffer()
	err := e.pool.encode(out, parts)
	if plain != nil {
		plain.free()
	}
	if err != nil {
		out.free()
		return Body{}, fmt.Errorf("encode %s as %s: %w", r.Signal, e.name, err)
	}
	return Body{Parts: [][]byte{out.b}, Encoding: e.name, Recoded: recoded, buf: out}, nil
}

// Plain returns r's parts without their encoding. They are r's own if it has none; else they are void after free.
func Plain(r *exporter.Request) (parts [][]byte, free func(), err error) {
	if r.Encoding == otlp.Identity {
		return r.Parts, func() {}, nil
	}
	parts, b, err := decode(r)
	if err != nil {
		return nil, nil, err
	}
	return parts, b.free, nil
}

func empty(parts [][]byte) bool {
	for _, p := range parts {
		if len(p) > 0 {
			return false
		}
	}
	return true
}
