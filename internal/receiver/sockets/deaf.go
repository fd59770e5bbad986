// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package sockets

import (
	"net"
	"sync"
)

// deafListener is a listener that nobody can reach.
type deafListener struct {
	at     net.Addr
	closed chan struct{}
	once   sync.Once
}

type deafAddr struct{ network, address string }

func (a deafAddr) Network() string { return a.network }
func (a deafAddr) String() string  { return a.address }

// Deaf is a listener that nobody can reach: nothing is bound, and Accept waits for Close. A rehearsal serves on it.
func Deaf(network, address string) net.Listener {
	return &deafListener{at: deafAddr{network, address}, closed: make(chan struct{})}
}

// Accept implements net.Listener: it waits for Close.
func (l *deafListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *deafListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *deafListener) Addr() net.Addr { return l.at }

var _ net.Listener = (*deafListener)(nil)
