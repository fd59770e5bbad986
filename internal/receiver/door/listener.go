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
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/sockets"
)

func listenNet(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, network, address)
}

// Listen opens a listener that closes connections above the cap at once, and counts the open ones and the refused.
func (d *Door) Listen(ctx context.Context, network, address string) (*Listener, error) {
	ln, err := d.listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &Listener{turnstile: sockets.NewTurnstile(ln, d.acceptFailed), door: d, max: maxConnections()}, nil
}

// acceptFailed logs why no connection can be accepted at the moment, thinned out.
func (d *Door) acceptFailed(err error) {
	if skipped, ok := d.accepts.due(time.Now(), logInterval); ok {
		d.Log().Warn("Connections cannot be accepted", zap.Error(err), zap.Int("not_logged", skipped))
	}
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

// Listener is an open listener of a door. Who accepts can be changed while it is open. Its methods may be called from
// any goroutine.
type Listener struct {
	turnstile *sockets.Turnstile
	door      *Door
	max       int64
	open      atomic.Int64
	mu        struct {
		sync.Mutex
		seat *sockets.Seat // of who accepts
	}
}

// Next returns the listener of who accepts from now on; the Accept of the one before ends with net.ErrClosed, and no
// connection is lost in between.
func (l *Listener) Next() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, former := l.turnstile.Seat(), l.mu.seat
	l.turnstile.Give(next)
	l.mu.seat = next
	if former != nil {
		former.Close()
	}
	return &counted{Seat: next, listener: l}
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.turnstile.Addr() }

// Close closes the listener; every Accept ends with net.ErrClosed. It may be called again.
func (l *Listener) Close() error { return l.turnstile.Close() }

// counted accepts for one server.
type counted struct {
	*sockets.Seat
	listener *Listener
}

// Accept implements net.Listener.
func (p *counted) Accept() (net.Conn, error) {
	l := p.listener
	for {
		c, err := p.Seat.Accept()
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
	listener *Listener
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
