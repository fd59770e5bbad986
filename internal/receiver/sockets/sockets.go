// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package sockets keeps listening sockets open while the servers behind them change.
//
// It stands in front of the front door: the application owns one Sockets, every generation of the configuration its
// Seats, and the servers of a generation listen on seats. Each socket has one goroutine that accepts and never stops
// to; whose server gets a connection is decided when it is there. So a change refuses nobody: what is new is bound
// beside what runs, Take moves all addresses at once and cannot fail, and the way back is a Take as well (reload,
// section 6). It promises that a connection accepted in the instant of a Take reaches one generation or the other. It
// knows no protocol, no server and no configuration.
//
//	generation   Listen (binds) ──► Take ──► Settle ─────────────► Close
//	   unwound:  Listen ─► Close     └─► the former one's Take ──► Close
package sockets

import (
	"errors"
	"net"
	"sync"
)

// Sockets are the listening sockets of the process. Its methods may be called from any goroutine.
type Sockets struct {
	seen    func(network, address string, err error)
	binding chan struct{}  // held by who binds: what a name resolves to may take time, and is no reason to hold mu
	ended   sync.WaitGroup // goroutines of turnstiles
	mu      struct {
		sync.Mutex
		open    map[key]*Turnstile
		alive   map[*Seats]struct{} // not closed
		current *Seats              // who took last
		closed  bool
	}
}

// key is a socket's name: what was asked for, so that `:0` is the same socket again. The listeners of one generation
// that ask for the same address with port 0 are numbered.
type key struct {
	network, address string
	nth              int
}

// New returns an empty set. seen, unless nil, is told why connections cannot be accepted, once a second and address at
// most in the long run; accepting goes on.
func New(seen func(network, address string, err error)) *Sockets {
	s := &Sockets{seen: seen, binding: make(chan struct{}, 1)}
	s.mu.open, s.mu.alive = map[key]*Turnstile{}, map[*Seats]struct{}{}
	return s
}

// Generation returns the seats of a generation, none yet. The caller closes it.
func (s *Sockets) Generation() *Seats {
	g := &Seats{of: s, seats: map[key]*Seat{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		g.closed = true
		return g
	}
	s.mu.alive[g] = struct{}{}
	return g
}

// Close closes every socket and waits for the goroutines; every Accept returns net.ErrClosed, and so does every Listen
// from now on. It may be called again.
func (s *Sockets) Close() error {
	s.mu.Lock()
	s.mu.closed, s.mu.current = true, nil
	closing := s.mu.open
	s.mu.open = map[key]*Turnstile{}
	for g := range s.mu.alive {
		g.closeLocked()
	}
	s.mu.Unlock()
	var errs []error
	for _, t := range closing {
		errs = append(errs, t.shut())
	}
	s.ended.Wait()
	return errors.Join(errs...)
}

// routeLocked lets every socket hand its connections to the current generation. A socket that only generations use
// which have not had their turn accepts nothing; one that had its turn closes who comes.
func (s *Sockets) routeLocked() {
	for k, t := range s.mu.open {
		switch seat := s.seatLocked(k, t); {
		case seat != nil:
			t.Give(seat)
		case t.begun():
			t.Refuse()
		}
	}
}

// seatLocked is where the current generation wants the connections of a socket, nil if it does not.
func (s *Sockets) seatLocked(k key, t *Turnstile) *Seat {
	if s.mu.current == nil {
		return nil
	}
	if seat := s.mu.current.seats[k]; seat != nil {
		return seat
	}
	return s.coverLocked(t)
}

// sweepLocked closes the sockets on which none of the given generations sits, unless the current one gets their
// connections all the same: closing such a socket would lose those that wait in it. It also unlinks the files of Unix sockets, and happens under
// the lock so that it is over before anybody binds them anew; nothing of it waits for anything.
func (s *Sockets) sweepLocked(of func(*Seats) bool) (err error) {
	for k, t := range s.mu.open {
		if !s.usedLocked(k, of) && s.coverLocked(t) == nil {
			delete(s.mu.open, k)
			err = errors.Join(err, t.shut())
		}
	}
	return err
}

// usedLocked reports whether one of the given generations sits on a socket.
func (s *Sockets) usedLocked(k key, of func(*Seats) bool) bool {
	for g := range s.mu.alive {
		if g.seats[k] != nil && of(g) {
			return true
		}
	}
	return false
}

// listenError has the form of the system's errors.
func listenError(network, address string, cause error) error {
	return &net.OpError{Op: "listen", Net: network, Addr: named{network, address}, Err: cause}
}

// named is an address as it was written.
type named struct{ network, address string }

func (n named) Network() string { return n.network }
func (n named) String() string  { return n.address }
