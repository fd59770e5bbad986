// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// frames is where the library keeps DATA frames until a message is put together from them. Unlike its own pool it does not
// clear what is read over at once. A frame takes at most four times its size, as there: a client's window is counted in
// bytes of frames.
type frames struct{ small, large sync.Pool }

const (
	smallFrame = 4 << 10
	largeFrame = 16 << 10 // the most a client may send (RFC 9113, 4.2)
)

var framePool mem.BufferPool = &frames{
	small: sync.Pool{New: func() any { return newFrame(smallFrame) }},
	large: sync.Pool{New: func() any { return newFrame(largeFrame) }},
}

func newFrame(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Get implements mem.BufferPool.
func (f *frames) Get(n int) *[]byte {
	switch {
	case n <= smallFrame:
		return taken(&f.small, n)
	case n <= largeFrame:
		return taken(&f.large, n)
	}
	return newFrame(n)
}

func taken(p *sync.Pool, n int) *[]byte {
	b := p.Get().(*[]byte)
	*b = (*b)[:n]
	return b
}

// Put implements mem.BufferPool.
func (f *frames) Put(b *[]byte) {
	switch cap(*b) {
	case smallFrame:
		f.small.Put(b)
	case largeFrame:
		f.large.Put(b)
	}
}
