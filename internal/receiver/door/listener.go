// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/holdfast-telemetry/holdfast/internal/receiver"
)

// ListenFunc opens a listener; a reload may hand over one that is open already.
type ListenFunc func(ctx context.Context, network, address string) (net.Listener, error)

func listenNet(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, network, address)
}

// Listen opens a listener that closes connections above the cap at once, and counts the open ones and the refused.
func (d *Door) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	ln, err := d.listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: ln, door: d, max: maxConnections()}, nil
}

// maxConnections leaves descriptors to the journal and to admin: the limit minus min(256, half of it), and never
// more than 20,000 (faults, part C).
func maxConnections() int64 {
	const most = 20_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 2*most {
		return most
	}
	n := int64(limit.Cur)
	return max(1, min(n-min(256, n/2), most))
}

type listener struct {
	net.Listener
	door *Door
	max  int64
	open atomic.Int64
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > l.max {
			l.open.Add(-1)
			l.door.Refused(receiver.ReasonConnections)
			c.Close()
			continue
		}
		l.door.connections.Add(1)
		return &Conn{Conn: c, listener: l}, nil
	}
}

// Conn is a counted connection.
type Conn struct {
	net.Conn
	listener *listener
	closed   sync.Once
}

// SyscallConn implements syscall.Conn for those who read without holding a buffer.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.closed.Do(func() {
		c.listener.open.Add(-1)
		c.listener.door.connections.Add(-1)
	})
	return c.Conn.Close()
}
