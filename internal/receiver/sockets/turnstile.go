// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sockets

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Between attempts to accept after an error that is not the listener's end, such as a want of descriptors.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// Turnstile accepts the connections of one listener and hands each to one seat. Who sits there can be changed at any
// time. It holds one connection at most, and none is lost in a change: it goes to one seat or the other. The rest
// waits in the kernel, as long as its backlog holds out.
type Turnstile struct {
	ln    net.Listener
	seen  func(error)   // of Accept's errors; nil = nobody is told
	end   chan struct{} // closed when nothing will be accepted any more
	ended *sync.WaitGroup
	mu    struct {
		sync.Mutex
		to      *Seat         // nil = closed is whoever comes
		changed chan struct{} // closed at every change of to
		begun   chan struct{} // closed at the first change: nothing is accepted before
		open    bool
	}
}

// NewTurnstile returns the turnstile of ln, which becomes its own. It accepts nothing before the first Give or Refuse.
// seen, unless nil, is told why accepting does not succeed, once per attempt, which are a second apart in the long
// run; accepting goes on.
func NewTurnstile(ln net.Listener, seen func(error)) *Turnstile {
	return newTurnstile(ln, seen, &sync.WaitGroup{})
}

// newTurnstile is NewTurnstile with ended waiting for the goroutine.
func newTurnstile(ln net.Listener, seen func(error), ended *sync.WaitGroup) *Turnstile {
	t := &Turnstile{ln: ln, seen: seen, end: make(chan struct{}), ended: ended}
	t.mu.changed, t.mu.begun, t.mu.open = make(chan struct{}), make(chan struct{}), true
	t.ended.Go(t.run)
	return t
}

// Seat returns a listener that gets connections from the Give on that names it. Closing it ends its own Accept only.
func (t *Turnstile) Seat() *Seat {
	return &Seat{of: t, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Give lets connections go to a seat, which may be one of another turnstile, from now on. It does not wait: a
// connection that is being handed over at this moment may still reach the one before.
func (t *Turnstile) Give(to *Seat) { t.set(to) }

// Refuse closes who comes from now on at once, which tells clients more than silence would.
func (t *Turnstile) Refuse() { t.set(nil) }

func (t *Turnstile) set(to *Seat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.open || t.mu.to == to && t.begunLocked() {
		return
	}
	t.mu.to = to
	if !t.begunLocked() {
		close(t.mu.begun)
	}
	close(t.mu.changed)
	t.mu.changed = make(chan struct{})
}

func (t *Turnstile) begunLocked() bool {
	select {
	case <-t.mu.begun:
		return true
	default:
		return false
	}
}

// begun reports whether it was ever told what to do with connections.
func (t *Turnstile) begun() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begunLocked()
}

// Addr is where it listens.
func (t *Turnstile) Addr() net.Addr { return t.ln.Addr() }

// Close closes the listener and waits for the turnstile's goroutine; every seat's Accept ends. It may be called again.
func (t *Turnstile) Close() error {
	err := t.shut()
	t.ended.Wait()
	return err
}

// shut is Close without the wait.
func (t *Turnstile) shut() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.open {
		return nil
	}
	t.mu.open, t.mu.to = false, nil
	close(t.mu.changed)
	close(t.end)
	return t.ln.Close()
}

func (t *Turnstile) run() {
	select {
	case <-t.mu.begun: // the channel itself never changes
	case <-t.end:
		return
	}
	pause := minAcceptPause
	for {
		c, err := t.ln.Accept()
		switch {
		case err == nil:
			pause = minAcceptPause
			t.hand(c)
			continue
		case errors.Is(err, net.ErrClosed):
			t.shut()
			return
		}
		if t.seen != nil {
			t.seen(err)
		}
		wait := time.NewTimer(pause)
		select {
		case <-t.end:
			wait.Stop()
			return
		case <-wait.C:
		}
		pause = min(2*pause, maxAcceptPause)
	}
}

// hand gives one connection to who sits there, or closes it.
func (t *Turnstile) hand(c net.Conn) {
	for {
		t.mu.Lock()
		to, changed := t.mu.to, t.mu.changed
		t.mu.Unlock()
		if to == nil || to.isClosed() {
			if !t.moved(to) {
				_ = c.Close() // nobody is there
				return
			}
			continue
		}
		select {
		case to.conns <- c:
			return
		case <-to.closed:
		case <-to.of.end:
		case <-changed:
		}
	}
}

// moved reports whether somebody else sits there by now.
func (t *Turnstile) moved(from *Seat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.to != from
}

// Seat is a virtual listener: it has a turnstile's address and gets connections while it is its turn.
type Seat struct {
	of     *Turnstile
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once

	// at and shared, how many generations sit here, are guarded by the lock of the sockets.
	at     key
	shared int
}

// Accept implements net.Listener. Connections are what the real listener made of them. The error is net.ErrClosed.
func (s *Seat) Accept() (net.Conn, error) {
	if !s.isClosed() {
		select {
		case c := <-s.conns:
			return c, nil
		case <-s.closed:
		case <-s.of.end:
		}
	}
	addr := s.Addr()
	return nil, &net.OpError{Op: "accept", Net: addr.Network(), Addr: addr, Err: net.ErrClosed}
}

// Close implements net.Listener. The socket stays open.
func (s *Seat) Close() error {
	s.close.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *Seat) Addr() net.Addr { return s.of.Addr() }

func (s *Seat) isClosed() bool {
	select {
	case <-s.closed:
		return true
	case <-s.of.end:
		return true
	default:
		return false
	}
}

var _ net.Listener = (*Seat)(nil)
