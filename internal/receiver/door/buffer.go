// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Buffers come in four sizes per power of two from 1 KiB on, so that at most a fifth of one is unused. Those above
// maxPooled are made to measure and left to the garbage collector: kept, they would stay for the rare large request.
const (
	minBufferBits = 10
	maxPooled     = 4 << 20
)

// buffer is a slice that goes back to its pool. Free may be called from any goroutine, once.
type buffer struct {
	b     []byte
	class int    // of its capacity; -1 = not pooled
	free  func() // method value of put, made once per buffer and not once per use
	keep  func() // method value of hold, the same
	held  atomic.Bool
}

var bufferPools [1 + 4*(22-minBufferBits)]sync.Pool // 4 MiB is 2^22

// newBuffer returns an empty buffer with room for n bytes.
func newBuffer(n int) *buffer {
	class, size := classOf(n)
	if class < 0 {
		return looseBuffer(make([]byte, 0, n))
	}
	if b, ok := bufferPools[class].Get().(*buffer); ok {
		return b
	}
	b := &buffer{b: make([]byte, 0, size), class: class}
	b.free, b.keep = b.put, b.hold
	return b
}

// looseBuffer wraps bytes that belong to no pool.
func looseBuffer(p []byte) *buffer {
	b := &buffer{b: p, class: -1}
	b.free, b.keep = b.put, b.hold
	return b
}

// hold says that somebody may read the bytes after put: they do not go back to the pool.
func (b *buffer) hold() { b.held.Store(true) }

func (b *buffer) put() {
	if b.class >= 0 && !b.held.Load() {
		b.b = b.b[:0]
		bufferPools[b.class].Put(b)
	}
}

// classOf returns the class for n bytes and the capacity of its buffers.
func classOf(n int) (class, size int) {
	if n > maxPooled {
		return -1, n
	}
	if n <= 1<<minBufferBits {
		return 0, 1 << minBufferBits
	}
	// With 2^k < n <= 2^(k+1), the octave's quarters end at 5/4, 6/4, 7/4 and 8/4 of 2^k.
	k := bits.Len(uint(n-1)) - 1
	quarter := (n - 1 - 1<<k) >> (k - 2)
	return 1 + 4*(k-minBufferBits) + quarter, 1<<k + (quarter+1)<<(k-2)
}

// bufferSize is the capacity of a buffer for n bytes.
func bufferSize(n int) int {
	_, size := classOf(n)
	return size
}
