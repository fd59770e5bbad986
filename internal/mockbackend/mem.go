// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"errors"
	"net"
	"sync"
)

// ErrRefused is what dialing a Mem listener that refuses returns.
var ErrRefused = errors.New("connection refused")

// Mem is a listener in memory. Its connections are synchronous pipes, so it works in virtual time (testing/synctest).
type Mem struct {
	name  string
	queue chan net.Conn

	mu struct {
		sync.Mutex
		refused bool
		done    chan struct{}
		closed  bool
	}
}

// memBacklog is how many dialed connections wait to be accepted; the next dial waits.
const memBacklog = 128

// NewMem returns a listener in memory.
func NewMem(name string) *Mem {
	m := &Mem{name: name, queue: make(chan net.Conn, memBacklog)}
	m.mu.done = make(chan struct{})
	return m
}

// Dial connects; the address is ignored, so that it fits where dialers are asked for.
func (m *Mem) Dial(ctx context.Context, _ string) (net.Conn, error) {
	m.mu.Lock()
	refused, done := m.mu.refused || m.mu.closed, m.mu.done
	m.mu.Unlock()
	if refused {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: m.Addr(), Err: ErrRefused}
	}
	ours, theirs := net.Pipe()
	select {
	case m.queue <- theirs:
		return ours, nil
	case <-done:
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: m.Addr(), Err: ErrRefused}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (m *Mem) Accept() (net.Conn, error) {
	select {
	case c := <-m.queue:
		return c, nil
	case <-m.mu.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (m *Mem) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.mu.closed {
		m.mu.closed = true
		close(m.mu.done)
		for {
			select {
			case c := <-m.queue:
				_ = c.Close()
				continue
			default:
			}
			break
		}
	}
	return nil
}

// Refuse lets dials fail, or not any more.
func (m *Mem) Refuse(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.refused = on
}

// Addr implements net.Listener.
func (m *Mem) Addr() net.Addr { return memAddr(m.name) }

type memAddr string

func (memAddr) Network() string  { return "mem" }
func (a memAddr) String() string { return string(a) }

var _ net.Listener = (*Mem)(nil)
