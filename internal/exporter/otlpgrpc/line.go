// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

const (
	// userTimeout is how long sent bytes may stay unacknowledged before the kernel gives the connection up.
	userTimeout = 20 * time.Second
	// maxStrikes is how many calls in a row may end at their deadline without one byte read before the connection is
	// given up (faults, B3).
	maxStrikes = 2
)

// creds makes every new connection a line, with the certificates as they are at that moment.
type creds struct{ link *link }

// now are the credentials of this moment, and what says after the handshake whether a client certificate was missing.
func (c *creds) now() (credentials.TransportCredentials, func() bool, error) {
	cfg, err := c.link.loadTLS()
	if err != nil {
		return nil, nil, err
	}
	if cfg == nil {
		return insecure.NewCredentials(), func() bool { return false }, nil
	}
	cfg = cfg.Clone()
	asked := wire.Asked(cfg)
	return credentials.NewTLS(cfg), asked, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *creds) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c.link.begun()
	inner, asked, err := c.now()
	if err != nil {
		return nil, nil, err
	}
	setUserTimeout(conn, userTimeout)
	out, info, err := inner.ClientHandshake(ctx, authority, &line{Conn: conn, link: c.link})
	c.link.asked.Store(asked())
	if err != nil {
		return nil, nil, handshakeError{wire.ExplainTLS(err)}
	}
	return &secured{out}, info, nil
}

// handshakeError is temporary for the library, whatever its cause: certificates are renewed.
type handshakeError struct{ error }

func (handshakeError) Temporary() bool { return true }

func (e handshakeError) Unwrap() error { return e.error }

// ServerHandshake implements credentials.TransportCredentials.
func (*creds) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("not a server")
}

// Info implements credentials.TransportCredentials.
func (c *creds) Info() credentials.ProtocolInfo {
	if inner, _, err := c.now(); err == nil {
		return inner.Info()
	}
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c *creds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials; the name comes from the configuration.
func (*creds) OverrideServerName(string) error { return nil }

// secured is a connection with TLS, or one without that does not care. A server that refuses our certificate says so
// after the handshake and closes; whoever writes then learns of a broken pipe, and the reason stands in what was not
// read yet.
type secured struct{ net.Conn }

// Write implements net.Conn.
func (c *secured) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	var one [1]byte
	if _, rerr := c.Read(one[:]); rerr != nil && strings.Contains(rerr.Error(), wire.AlertText) {
		err = rerr
	}
	return n, err
}

// line is one connection. It counts what was read, and can be given up.
type line struct {
	net.Conn
	link    *link
	read    atomic.Int64
	strikes atomic.Int32
}

// Read implements net.Conn.
func (c *line) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.read.Add(int64(n))
	}
	return n, err
}

// Close implements net.Conn.
func (c *line) Close() error {
	c.link.ended()
	return c.Conn.Close()
}

// LocalAddr implements net.Conn. The address leads back to the line: it is what the library says of a call's
// connection.
func (c *line) LocalAddr() net.Addr { return lineAddr{c.Conn.LocalAddr(), c} }

type lineAddr struct {
	net.Addr
	line *line
}

// strike counts a call that ended at its deadline. Calls that ran beside each other count once; a byte read since the
// call began wipes the slate.
func (c *line) strike(w *watch) {
	if c.read.Load() != w.read.Load() {
		c.strikes.Store(0)
		return
	}
	before := w.strikes.Load()
	if c.strikes.CompareAndSwap(before, before+1) && before+1 >= maxStrikes {
		_ = c.Close() // the library finds out and connects again
	}
}

var _ credentials.TransportCredentials = (*creds)(nil)
