// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// reopenEvery is how often a door tries to get its address back.
const reopenEvery = 50 * time.Millisecond

// refuser is a listener that can refuse connections without being closed.
type refuser interface{ Refuse(on bool) }

// door is one listener of a backend with all its connections. It is what a server serves on, and stays open to that
// server while the address itself is closed.
type door struct {
	b     *Backend
	kind  string // grpc or http
	given bool   // the listener is the caller's: it cannot be opened again
	addr  net.Addr
	odd   chan net.Conn // connections for the odd server, see answer.go

	mu struct {
		sync.Mutex
		inner   net.Listener
		refused bool
		opened  chan struct{} // closed when inner is open again, or taken from again
		diverts *rule         // the answer fault in force
		closed  bool
		conns   map[*conn]struct{}

		dropping bool          // see drop.go
		parked   chan struct{} // closed when Accept has seen that; nil = it has
		fill     []net.Conn    // what fills the backlog meanwhile
	}
}

func newDoor(b *Backend, kind string, inner net.Listener, given bool) *door {
	d := &door{b: b, kind: kind, given: given, addr: inner.Addr(), odd: make(chan net.Conn, 16)}
	d.mu.inner = inner
	d.mu.opened = make(chan struct{})
	close(d.mu.opened)
	d.mu.conns = make(map[*conn]struct{})
	return d
}

// Addr implements net.Listener.
func (d *door) Addr() net.Addr { return d.addr }

// Close implements net.Listener: for good, with all connections.
func (d *door) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed {
		return nil
	}
	d.mu.closed = true
	if d.mu.refused && !d.given {
		close(d.mu.opened)
		return nil
	}
	if d.mu.dropping {
		close(d.mu.opened)
	}
	for _, c := range d.mu.fill {
		_ = c.Close() // nobody uses it
	}
	return d.mu.inner.Close()
}

// Accept implements net.Listener. Connections that faults take away are never seen by the server.
func (d *door) Accept() (net.Conn, error) {
	for {
		d.mu.Lock()
		inner, opened, closed := d.mu.inner, d.mu.opened, d.mu.closed
		if d.mu.parked != nil {
			close(d.mu.parked)
			d.mu.parked = nil
		}
		d.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		<-opened
		raw, err := inner.Accept()
		if err != nil {
			d.mu.Lock()
			gone := d.mu.closed || d.mu.inner == inner && !d.mu.refused && !errors.Is(err, os.ErrDeadlineExceeded)
			d.mu.Unlock()
			if gone {
				return nil, err
			}
			continue // closed by refuse, or woken up by drop
		}
		if out := d.admit(raw); out != nil {
			return out, nil
		}
	}
}

// admit lets a connection in, or takes it away.
func (d *door) admit(raw net.Conn) net.Conn {
	c := &conn{Conn: raw, d: d, id: d.b.conns.total.Add(1), born: time.Now(), closed: make(chan struct{})}
	d.mu.Lock()
	refused, odd := d.mu.refused || d.mu.closed, d.mu.diverts
	if !refused {
		d.mu.conns[c] = struct{}{}
	}
	d.mu.Unlock()
	d.b.conns.open.Add(1)
	if refused {
		c.reset()
		return nil
	}
	var secure *rule
	for _, r := range d.b.rules.all() {
		if active, _ := r.active(time.Now()); !active {
			continue
		}
		switch f := r.what(); {
		case f.Kind == "reset" && f.Value == "accept" && r.hit():
			c.reset()
			return nil
		case f.Kind == "tls" && secure == nil && r.hit():
			secure = r
		}
	}
	out := d.b.secure(c, secure)
	if d.kind == "http" {
		return out
	}
	if odd != nil {
		select {
		case d.odd <- out:
		case <-d.b.stop:
			c.reset()
		}
		return nil
	}
	return newH2Conn(out, c)
}

// refuse closes the address while r is in force, and opens the same one afterwards. Live connections are cut: nobody is
// there. Every connection cut is a hit of the fault, and so is the first refused dial, which the door makes itself: what
// others are refused the kernel does not tell.
func (d *door) refuse(r *rule) error {
	d.mu.Lock()
	if d.mu.closed || d.mu.refused == (r != nil) || d.mu.dropping {
		d.mu.Unlock()
		return nil
	}
	ref, canRefuse := d.mu.inner.(refuser)
	if r == nil {
		defer d.mu.Unlock()
		return d.reopenLocked(ref, canRefuse)
	}
	d.mu.refused = true
	switch {
	case canRefuse:
		ref.Refuse(true)
		r.hit()
	case !d.given:
		d.mu.opened = make(chan struct{})
		_ = d.mu.inner.Close() // it is gone either way
		if probe, err := net.DialTimeout(d.addr.Network(), d.addr.String(), time.Second); err != nil {
			r.hit()
		} else {
			_ = probe.Close()
		}
	default:
		r.hit() // connections are reset as soon as they are accepted
	}
	d.mu.Unlock()
	for range d.cutAll() {
		r.hit()
	}
	return nil
}

func (d *door) reopenLocked(ref refuser, canRefuse bool) error {
	if canRefuse {
		ref.Refuse(false)
	} else if !d.given {
		inner, err := listen(d.addr)
		if err != nil {
			return fmt.Errorf("reopen: %w", err)
		}
		d.mu.inner = inner
		close(d.mu.opened)
	}
	d.mu.refused = false
	return nil
}

func listen(addr net.Addr) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), addr.Network(), addr.String())
}

// divert sends new gRPC connections to the odd server while an answer fault is in force; those of the other server are
// cut, so that clients come again.
func (d *door) divert(r *rule) {
	d.mu.Lock()
	change := d.kind == "grpc" && d.mu.diverts != r
	if change {
		d.mu.diverts = r
	}
	d.mu.Unlock()
	if change {
		d.cutAll()
	}
}

// ageConns sends away connections that are too old, and returns when the next one will be.
func (d *door) ageConns(now time.Time, list []*rule) (next time.Time) {
	for _, r := range list {
		f := r.what()
		if active, _ := r.active(now); !active || f.Kind != "age" {
			continue
		}
		d.mu.Lock()
		for c := range d.mu.conns {
			end := c.born.Add(f.low)
			switch {
			case end.After(now):
				if next.IsZero() || end.Before(next) {
					next = end
				}
			case c.leaving.CompareAndSwap(false, true):
				r.hit()
				d.b.wg.Go(c.goAway) // may wait for a client that does not read
				next = now.Add(goAwayGrace)
			case !end.Add(goAwayGrace).After(now):
				d.b.wg.Go(c.reset) // takes the door's lock
			}
		}
		d.mu.Unlock()
	}
	return next
}

// cutAll resets every connection and returns them.
func (d *door) cutAll() []*conn {
	d.mu.Lock()
	list := make([]*conn, 0, len(d.mu.conns))
	for c := range d.mu.conns {
		list = append(list, c)
	}
	d.mu.Unlock()
	for _, c := range list {
		c.reset()
	}
	return list
}

var (
	_ net.Listener = (*door)(nil)
	_ refuser      = (*Mem)(nil)
)
