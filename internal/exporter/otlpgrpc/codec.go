// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

// blockBytes is the size of the pieces a message is handed to the library in: a few HTTP/2 frames each, and small
// enough that what the pool keeps is what is used.
const blockBytes = 64 << 10

// blocks is the pool of those pieces; unlike the library's own it neither clears them nor rounds 300 KiB up to 1 MiB.
type blocks struct{ sync.Pool }

var blockPool = &blocks{sync.Pool{New: func() any { b := make([]byte, blockBytes); return &b }}}

// Get implements mem.BufferPool.
func (p *blocks) Get(n int) *[]byte {
	if n > blockBytes {
		b := make([]byte, n)
		return &b
	}
	b := p.Pool.Get().(*[]byte)
	*b = (*b)[:n]
	return b
}

// Put implements mem.BufferPool.
func (p *blocks) Put(b *[]byte) {
	if cap(*b) == blockBytes {
		p.Pool.Put(b)
	}
}

// codec puts bodies on the wire as they are and reads answers by hand.
//
// The library may go on reading a message after the call returned. The request's bytes belong to the caller, who may
// reuse them at once, so they are lent where that can be prevented (see loan) and copied where not. For compressed
// bodies the library copies by itself.
type codec struct{}

// Name makes the content type application/grpc+proto.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if l, ok := v.(*loan); ok {
		return l.buffers(), nil
	}
	body, ok := v.(*wire.Body)
	if !ok {
		return nil, fmt.Errorf("marshal: %T is no body", v)
	}
	if body.Encoding != "" {
		out := make(mem.BufferSlice, len(body.Parts))
		for i, p := range body.Parts {
			out[i] = mem.SliceBuffer(p)
		}
		return out, nil
	}
	left := body.Len()
	out := make(mem.BufferSlice, 0, left/blockBytes+1)
	var block *[]byte
	filled := 0
	for _, part := range body.Parts {
		for len(part) > 0 {
			if block == nil {
				block, filled = blockPool.Get(min(left, blockBytes)), 0
			}
			n := copy((*block)[filled:], part)
			part, filled, left = part[n:], filled+n, left-n
			if filled == len(*block) {
				out = append(out, mem.NewBuffer(block, blockPool))
				block = nil
			}
		}
	}
	return out, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	answer, ok := v.(*reply)
	if !ok {
		return fmt.Errorf("unmarshal: %T is no answer", v)
	}
	if data.Len() == 0 {
		return nil
	}
	answer.Answer, answer.err = wire.ParseAnswer(data.Materialize())
	return nil
}

// reply is a backend's answer, or why it is none.
type reply struct {
	wire.Answer
	err error
}

// passBytes is what is handed on at once: a size the library's own pool has. Asked for more it lends and clears 1 MiB.
const passBytes = 32 << 10

// passer stands where the library expects a compressor and hands on bodies that are in their encoding already.
type passer struct{ name string }

// Type implements grpc.Compressor.
func (p passer) Type() string { return p.name }

// Do implements grpc.Compressor.
func (p passer) Do(w io.Writer, b []byte) error {
	for len(b) > 0 {
		n, err := w.Write(b[:min(len(b), passBytes)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
