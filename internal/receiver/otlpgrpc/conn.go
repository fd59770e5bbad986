// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/mem"
)

// greeting is the size of what a client says first: the preface and the header of its settings (RFC 9113, section 3.4).
const greeting = 24 + 9

// listener gives grpc-go connections that lend their read buffer only while there is something to read. It does the
// same for plain TCP connections, but those are counted here and therefore wrapped. It knows the open ones: grpc-go
// waits for greetings before it stops, and tells nobody that it goes away until then.
type listener struct {
	net.Listener
	secure bool // TLS comes before the greeting
	// arriving are connections of which grpc-go has not taken note: it closes those that it finds once it goes away.
	arriving sync.WaitGroup
	mu       struct {
		sync.Mutex
		open     map[*conn]struct{}
		stopping bool // who comes now is not let in
	}
}

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
	rc := &conn{Conn: c, raw: raw, listener: l}
	rc.read, rc.arrive = rc.readOnce, func() {}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.stopping {
		_ = c.Close() // and grpc-go finds it closed
		return rc, nil
	}
	if l.mu.open == nil {
		l.mu.open = map[*conn]struct{}{}
	}
	l.mu.open[rc] = struct{}{}
	l.arriving.Add(1)
	rc.arrive = sync.OnceFunc(l.arriving.Done)
	return rc, nil
}

// cut closes the connections that have not greeted yet, or all, and lets no more in.
func (l *listener) cut(all bool) {
	l.mu.Lock()
	l.mu.stopping = true
	var closing []*conn
	for c := range l.mu.open {
		if all || c.heard.Load() < greeting {
			closing = append(closing, c)
		}
	}
	l.mu.Unlock()
	for _, c := range closing {
		_ = c.Close() // its reader finds out
	}
}

// conn waits for data before it takes a buffer, so that an idle connection holds none. One goroutine reads.
type conn struct {
	net.Conn
	listener *listener
	raw      syscall.RawConn
	read     func(fd uintptr) bool // method value of readOnce, made once
	arrive   func()                // says that grpc-go has taken note
	heard    atomic.Int64          // bytes of HTTP/2 read, counted up to the greeting

	// Of the read that runs.
	size int
	pool mem.BufferPool
	buf  *[]byte
	n    int
	err  error
}

// hear counts what was read until the greeting is over.
func (c *conn) hear(n int) {
	if n > 0 && c.heard.Load() < greeting {
		c.heard.Add(int64(n))
	}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.listener.secure {
		c.hear(n)
	}
	return n, err
}

// SetDeadline implements net.Conn. It is the first that grpc-go calls on a connection that it will serve.
func (c *conn) SetDeadline(t time.Time) error {
	c.arrive()
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.arrive()
	l := c.listener
	l.mu.Lock()
	delete(l.mu.open, c)
	l.mu.Unlock()
	return c.Conn.Close()
}

// secured is the inside of a connection with TLS.
type secured struct {
	net.Conn
	outer *conn
}

// Read implements net.Conn.
func (s *secured) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.outer.hear(n)
	return n, err
}

// ReadOnReady is found by grpc-go on connections that have it: wait until there is something to read, take a buffer
// of size bytes from the pool, read once.
func (c *conn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	c.size, c.pool, c.buf, c.n, c.err = size, pool, nil, 0, nil
	err := c.raw.Read(c.read)
	buf, n := c.buf, c.n
	c.hear(n)
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
