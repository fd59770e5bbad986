// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"io"
	"net"
	"syscall"

	"google.golang.org/grpc/mem"
)

// listener gives grpc-go connections that lend their read buffer only while there is something to read. It does the
// same for plain TCP connections, but those are counted here and therefore wrapped.
type listener struct{ net.Listener }

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return c, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return c, nil
	}
	rc := &conn{Conn: c, raw: raw}
	rc.read = rc.readOnce
	return rc, nil
}

// conn waits for data before it takes a buffer, so that an idle connection holds none. One goroutine reads.
type conn struct {
	net.Conn
	raw  syscall.RawConn
	read func(fd uintptr) bool // method value of readOnce, made once

	// Of the read that runs.
	size int
	pool mem.BufferPool
	buf  *[]byte
	n    int
	err  error
}

// ReadOnReady is found by grpc-go on connections that have it: wait until there is something to read, take a buffer
// of size bytes from the pool, read once.
func (c *conn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	c.size, c.pool, c.buf, c.n, c.err = size, pool, nil, 0, nil
	err := c.raw.Read(c.read)
	buf, n := c.buf, c.n
	if err == nil {
		err = c.err
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	c.pool, c.buf = nil, nil
	if err != nil && buf != nil {
		pool.Put(buf)
		buf = nil
	}
	return buf, n, err
}

// readOnce reports whether the read is over; false waits for the descriptor to become readable.
func (c *conn) readOnce(fd uintptr) bool {
	c.buf = c.pool.Get(c.size)
	for {
		c.n, c.err = syscall.Read(int(fd), *c.buf)
		if c.err != syscall.EINTR {
			break
		}
	}
	if c.err == nil {
		return true
	}
	c.pool.Put(c.buf)
	c.buf, c.n = nil, 0
	return c.err != syscall.EAGAIN
}
