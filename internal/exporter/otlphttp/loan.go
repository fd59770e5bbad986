// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"errors"
	"io"
	"sync"
)

// errEnded says that the transport asked for a body after its Send had returned.
var errEnded = errors.New("the request is over")

// loan lends a request's bytes to the transport, which goes on reading them in goroutines of its own after a Send
// returned. Every read copies under the lock, so that after end nobody holds a byte.
type loan struct {
	mu struct {
		sync.RWMutex
		parts [][]byte
		ended bool
	}
}

func newLoan(parts [][]byte) *loan {
	l := &loan{}
	l.mu.parts = parts
	return l
}

// end takes the bytes back. Reads that are running end first; they only copy memory.
func (l *loan) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.parts, l.mu.ended = nil, true
}

func (l *loan) reader() io.ReadCloser { return &loanReader{loan: l} }

// again is a request's GetBody: connections that were closed while idle, and HTTP/2 streams that were not processed,
// are sent again by the transport.
func (l *loan) again() (io.ReadCloser, error) { return l.reader(), nil }

// loanReader is one reading of the body. Like every reader it serves one goroutine.
type loanReader struct {
	loan     *loan
	part, at int
}

// Read implements io.Reader.
func (r *loanReader) Read(b []byte) (int, error) {
	l := r.loan
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.mu.ended {
		return 0, errEnded
	}
	n := 0
	for n < len(b) && r.part < len(l.mu.parts) {
		p := l.mu.parts[r.part]
		c := copy(b[n:], p[r.at:])
		n += c
		if r.at += c; r.at == len(p) {
			r.part, r.at = r.part+1, 0
		}
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (r *loanReader) Close() error { return nil }
