// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

const (
	// minLoanBytes is the smallest message worth lending; copying less costs less than keeping track of it.
	minLoanBytes = 32 << 10
	// returnLimit is how long a call that ended waits for its writer to let go. The writer is normally done long before
	// the answer comes; after a deadline it is in the middle of one frame, or never says.
	returnLimit = 2 * time.Millisecond
)

// loan is a body the library writes from the request's own memory. It is the pool those pieces go back to, and so
// hears when the library has let go of each.
//
// What is not back when the call has ended is kept (exporter.Request.Keep): on a deadline or a reset the writer still
// holds the pieces, and in some cases never says that it let go of them, so their memory must not be used again.
type loan struct {
	body *wire.Body
	out  atomic.Int32  // pieces lent, and one for the call itself
	back chan struct{} // closed when nothing is out
}

// lend returns a loan of b, or nil where the pieces are copied.
func lend(b *wire.Body, keep func()) *loan {
	if keep == nil || b.Encoding != "" || b.Recoded || b.Len() < minLoanBytes {
		return nil
	}
	l := &loan{body: b, back: make(chan struct{})}
	l.out.Store(1)
	return l
}

// buffers lends every part of the body.
func (l *loan) buffers() mem.BufferSlice {
	out := make(mem.BufferSlice, len(l.body.Parts))
	for i := range l.body.Parts {
		part := &l.body.Parts[i]
		if mem.IsBelowBufferPoolingThreshold(cap(*part)) {
			out[i] = mem.SliceBuffer(append([]byte(nil), *part...)) // the library does not count these
			continue
		}
		l.out.Add(1)
		out[i] = mem.NewBuffer(part, l)
	}
	return out
}

// Get implements mem.BufferPool; nothing is ever asked of a loan.
func (l *loan) Get(n int) *[]byte { b := make([]byte, n); return &b }

// Put implements mem.BufferPool: the library let go of one piece.
func (l *loan) Put(*[]byte) {
	if l.out.Add(-1) == 0 {
		close(l.back)
	}
}

// settle ends the call's own share, and reports whether everything is back.
func (l *loan) settle() bool {
	l.Put(nil)
	select {
	case <-l.back:
		return true
	default:
	}
	t := time.NewTimer(returnLimit)
	defer t.Stop()
	select {
	case <-l.back:
		return true
	case <-t.C:
		return false
	}
}

var _ mem.BufferPool = (*loan)(nil)
