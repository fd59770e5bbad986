// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sockets

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
)

// Seats are the listeners of one generation. Its methods may be called from any goroutine.
type Seats struct {
	of *Sockets

	// Guarded by the lock of the sockets.
	seats         map[key]*Seat
	taken, closed bool
}

// Listen returns a listener on the address, which is bound unless it is bound already, be it under another name; an
// error is that of net.Listen. Sockets of ours are never in the way, so `localhost:4317` may become `0.0.0.0:4317`.
// It gets no connection before Take, and at once where this generation has taken already. An address that this
// generation listens on is in use, but for port 0: there every call has a port of its own, and the n-th call of each
// generation has the same.
func (g *Seats) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	s := g.of
	select {
	case s.binding <- struct{}{}:
		defer func() { <-s.binding }()
	case <-ctx.Done():
		return nil, listenError(network, address, ctx.Err())
	}
	k, seat, err := g.find(network, address)
	if seat != nil || err != nil {
		return seat, err
	}
	k, ln, err := s.bind(ctx, k)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ln == nil:
		return g.joinLocked(k, network, address)
	case g.closed:
		_ = ln.Close() // nobody knows it yet
		return nil, listenError(network, address, net.ErrClosed)
	}
	var seen func(error)
	if s.seen != nil {
		seen = func(err error) { s.seen(network, address, err) }
	}
	s.mu.open[k] = newTurnstile(ln, seen, &s.ended)
	return g.sitLocked(k), nil
}

// find returns the key for a new listener, and the listener itself if the socket is open.
func (g *Seats) find(network, address string) (k key, ln net.Listener, err error) {
	s := g.of
	s.mu.Lock()
	defer s.mu.Unlock()
	k = key{network: network, address: address}
	for portless(network, address) && g.usesLocked(k) {
		k.nth++
	}
	switch {
	case g.closed:
		return k, nil, listenError(network, address, net.ErrClosed)
	case g.usesLocked(k):
		return k, nil, listenError(network, address, os.NewSyscallError("bind", syscall.EADDRINUSE))
	case s.mu.open[k] != nil:
		return k, g.sitLocked(k), nil
	}
	return k, nil, nil
}

// joinLocked takes a seat at a socket that is bound under another name.
func (g *Seats) joinLocked(k key, network, address string) (net.Listener, error) {
	switch {
	case g.closed:
		return nil, listenError(network, address, net.ErrClosed)
	case g.of.mu.open[k] == nil, g.usesLocked(k): // closed since, or taken by this generation itself
		return nil, listenError(network, address, os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	return g.sitLocked(k), nil
}

// sitLocked takes a seat at an open socket.
func (g *Seats) sitLocked(k key) net.Listener {
	seat := g.of.mu.open[k].Seat()
	seat.at, seat.shared = k, 1
	g.seats[k] = seat
	if g.of.mu.current == g {
		g.of.routeLocked()
	}
	return seat
}

// Keep makes a listener of another generation one of this one's too, for a server that stays as it is: it gets
// connections while either has its turn, and closes when both have. It must be open, and this generation must not have
// its address yet. A listener of others is nobody's.
func (g *Seats) Keep(ln net.Listener) {
	seat, ok := ln.(*Seat)
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	if !ok || g.closed || seat.isClosed() || g.usesLocked(seat.at) || g.of.mu.open[seat.at] != seat.of {
		return
	}
	seat.shared++
	g.seats[seat.at] = seat
	if g.of.mu.current == g {
		g.of.routeLocked()
	}
}

// Addrs are the addresses of the generation's open listeners.
func (g *Seats) Addrs() []net.Addr {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	var out []net.Addr
	for _, seat := range g.seats {
		if !seat.isClosed() {
			out = append(out, seat.Addr())
		}
	}
	return out
}

// portless reports whether the system chooses the port.
func portless(network, address string) bool {
	_, port, err := net.SplitHostPort(address)
	return strings.HasPrefix(network, "tcp") && err == nil && (port == "0" || port == "")
}

// usesLocked reports whether the generation has an open listener there.
func (g *Seats) usesLocked(k key) bool {
	seat := g.seats[k]
	return seat != nil && !seat.isClosed()
}

// Take makes new connections go to this generation, those of addresses it does not have being closed at once. It
// cannot fail, waits for nothing, and may be called again after another generation's: that is the way back. The
// listeners of the former generation stay open and get nothing. After Close it does nothing.
func (g *Seats) Take() {
	s := g.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.closed {
		return
	}
	g.taken = true
	s.mu.current = g
	s.routeLocked()
}

// Settle closes the sockets that this generation does not use, since there is no way back any more. Those of
// generations that have not had their turn stay: they are being prepared.
func (g *Seats) Settle() error {
	s := g.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.closed {
		return nil
	}
	return s.sweepLocked(func(other *Seats) bool { return other == g || !other.taken })
}

// Close ends a generation that never took or is retired: its listeners close unless another one keeps them, and with them the sockets that only it
// used. It may be called again. Where it is the current one, nobody is: who comes is closed at once.
func (g *Seats) Close() error {
	s := g.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closeLocked()
	err := s.sweepLocked(func(*Seats) bool { return true })
	s.routeLocked()
	return err
}

func (g *Seats) closeLocked() {
	g.closed = true
	delete(g.of.mu.alive, g)
	if g.of.mu.current == g {
		g.of.mu.current = nil
	}
	for _, seat := range g.seats {
		if seat.shared--; seat.shared == 0 {
			seat.Close()
		}
	}
}
