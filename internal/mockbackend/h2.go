// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"encoding/binary"
	"math"
	"net"
	"sync"
)

// h2Conn is a connection an HTTP/2 server writes to, above TLS. It follows the frames that go out, so that a GOAWAY can
// be put between two of them: the server itself sends one only when it closes.
type h2Conn struct {
	net.Conn
	mu     sync.Mutex // guards the order of writes and what follows
	head   []byte     // of a frame whose head was not written whole
	body   uint32     // bytes left of the frame being written
	queued []byte     // to be written between two frames
}

// frameHead is the size of a frame's head: length (3), type, flags, stream (4).
const frameHead = 9

// goAwayFrame lets every stream in flight end and asks for no new ones: last stream 2^31-1, no error (RFC 9113, 6.8).
var goAwayFrame = func() []byte {
	f := []byte{0, 0, 8, 7, 0, 0, 0, 0, 0}
	f = binary.BigEndian.AppendUint32(f, math.MaxInt32)
	return binary.BigEndian.AppendUint32(f, 0)
}()

func newH2Conn(inner net.Conn, c *conn) *h2Conn {
	h := &h2Conn{Conn: inner}
	send := func() { h.inject(goAwayFrame) }
	c.goAwayFn.Store(&send)
	return h
}

// inject writes a frame at once if none is being written, else behind that one.
func (h *h2Conn) inject(frame []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.body > 0 || len(h.head) > 0 {
		h.queued = append(h.queued, frame...)
		return
	}
	_, _ = h.Conn.Write(frame) // the server notices by itself when the connection is gone
}

// Write implements net.Conn.
func (h *h2Conn) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.follow(p)
	n, err := h.Conn.Write(p)
	if err == nil && len(h.queued) > 0 && h.body == 0 && len(h.head) == 0 {
		_, err = h.Conn.Write(h.queued)
		h.queued = nil
	}
	return n, err
}

// follow notes where in the stream of frames the connection is after p.
func (h *h2Conn) follow(p []byte) {
	for len(p) > 0 {
		if h.body > 0 {
			n := min(uint32(min(len(p), math.MaxInt32)), h.body)
			h.body -= n
			p = p[n:]
			continue
		}
		n := min(len(p), frameHead-len(h.head))
		h.head = append(h.head, p[:n]...)
		p = p[n:]
		if len(h.head) == frameHead {
			h.body = uint32(h.head[0])<<16 | uint32(h.head[1])<<8 | uint32(h.head[2])
			h.head = h.head[:0]
		}
	}
}
