// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// goAwayGrace is how long a connection that was sent away may still be used.
	goAwayGrace = time.Second
	// rateSlice is the part of a second that a throttled connection reads or writes at once.
	rateSlice = 20
)

// gate makes goroutines wait while it is set.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // nil: open; else closed when it opens again
}

func (g *gate) set(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case on && g.open == nil:
		g.open = make(chan struct{})
	case !on && g.open != nil:
		close(g.open)
		g.open = nil
	}
}

func (g *gate) state() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// conn is a connection to a backend, under TLS if there is any. Faults that work on bytes work here.
type conn struct {
	net.Conn
	d        *door
	id       uint64
	born     time.Time
	requests atomic.Uint64
	leaving  atomic.Bool          // it was sent away
	silenced atomic.Bool          // a blackhole's hit was counted
	doomed   atomic.Pointer[rule] // resets the connection at the next byte that is read
	goAwayFn atomic.Pointer[func()]

	once   sync.Once
	closed chan struct{}
}

// connAddr is a remote address that leads back to its connection; servers pass addresses on, not connections.
type connAddr struct {
	net.Addr
	c *conn
}

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return connAddr{c.Conn.RemoteAddr(), c} }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if !c.awaitVoice() {
		return 0, net.ErrClosed
	}
	rate := c.rate("read_rate")
	if rate != nil {
		p = p[:min(len(p), slice(rate))]
	}
	n, err := c.Conn.Read(p)
	if r := c.doomed.Swap(nil); r != nil && err == nil && r.hit() {
		c.reset()
		return 0, net.ErrClosed
	}
	// What came while nothing is to be read was taken by the kernel, not by us.
	if !c.awaitVoice() {
		return 0, net.ErrClosed
	}
	if rate != nil && n > 0 && !c.pause(time.Duration(float64(n)/float64(rate.what().number)*float64(time.Second))) {
		return 0, net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (n int, err error) {
	// Nobody is there who could write; a server that speaks first would give itself away.
	if !c.awaitVoice() {
		return 0, net.ErrClosed
	}
	rate := c.rate("write_rate")
	if rate == nil {
		return c.Conn.Write(p)
	}
	for len(p) > 0 && err == nil {
		var m int
		m, err = c.Conn.Write(p[:min(len(p), slice(rate))])
		n, p = n+m, p[m:]
		if !c.pause(time.Duration(float64(m) / float64(rate.what().number) * float64(time.Second))) {
			return n, net.ErrClosed
		}
	}
	return n, err
}

func slice(r *rule) int { return int(max(1, r.what().number/rateSlice)) }

// rate is the fault that limits reading or writing, nil if there is none; asking is a hit.
func (c *conn) rate(kind string) *rule {
	for _, r := range c.d.b.rules.all() {
		if r.what().Kind == kind {
			if active, _ := r.active(time.Now()); active && r.hit() {
				return r
			}
		}
	}
	return nil
}

// awaitVoice waits while the backend is a blackhole or drops packets; false if the connection is closed meanwhile.
func (c *conn) awaitVoice() bool {
	open := c.d.b.silent.state()
	if open == nil {
		return true
	}
	if c.silenced.CompareAndSwap(false, true) {
		for _, r := range c.d.b.rules.all() {
			if active, _ := r.active(time.Now()); active && (r.what().Kind == "blackhole" || r.what().Kind == "drop") {
				r.hit()
			}
		}
	}
	select {
	case <-open:
		c.silenced.Store(false)
		return true
	case <-c.closed:
		return false
	}
}

func (c *conn) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.closed:
		return false
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		close(c.closed)
		err = c.Conn.Close()
		c.d.b.conns.open.Add(-1)
		c.d.mu.Lock()
		delete(c.d.mu.conns, c)
		c.d.mu.Unlock()
	})
	return err
}

// reset closes the connection with a RST, where there is such a thing.
func (c *conn) reset() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // if it is gone already, that is what we want
	}
	_ = c.Close()
}

// goAway asks the client to leave, in the way its protocol has.
func (c *conn) goAway() {
	if send := c.goAwayFn.Load(); send != nil {
		(*send)()
	}
}

// used counts a request and sends the connection away if it had enough of them. It reports whether this was the last.
func (c *conn) used() bool {
	n := c.requests.Add(1)
	now := time.Now()
	for _, r := range c.d.b.rules.all() {
		f := r.what()
		enough := f.Kind == "goaway" && n >= uint64(f.number) || f.Kind == "age" && now.Sub(c.born) >= f.low
		if !enough {
			continue
		}
		if active, _ := r.active(now); active && c.leaving.CompareAndSwap(false, true) && r.hit() {
			c.goAway()
		}
	}
	return c.leaving.Load()
}
