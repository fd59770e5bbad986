// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/config/configgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

const (
	// connectLimit bounds one attempt to connect, handshakes included: the kernel would go on for two minutes, and
	// there may be another level to go to (faults, B2).
	connectLimit = 3 * time.Second
	// maxBackoff is the longest pause between attempts. With its jitter it stays below connectLimit, which the
	// library would otherwise stretch to it.
	maxBackoff = 2400 * time.Millisecond
	// reviveEvery is how often Sends may cut a pause short, so that many of them do not hammer a dead backend.
	reviveEvery = 500 * time.Millisecond
	// startLimit is how long a Send waits for an attempt to begin after it cut the pause: without one there is nothing
	// to wait for (names do not resolve, a proxy dials).
	startLimit = 50 * time.Millisecond
	// userTimeout is how long sent bytes may stay unacknowledged before the kernel gives the connection up.
	userTimeout = 20 * time.Second
	// maxStrikes is how many calls in a row may end at their deadline without one byte read before the connection is
	// given up (faults, B3).
	maxStrikes = 2
	// maxHeaderBytes bounds the headers of an answer.
	maxHeaderBytes = 256 << 10
)

// link is what the exporter knows of its connections beside the library: it wraps them to count what is read, reloads
// certificates at each handshake, and tells a waiting Send how an attempt to connect ended.
type link struct {
	cfg    *configgrpc.ClientConfig
	dialer *net.Dialer // nil = the library dials, because a proxy stands between
	asked  atomic.Bool // the server wanted a client certificate in vain
	mu     struct {
		sync.Mutex
		revived time.Time
		waiting []*waiter
		tls     *tls.Config // last one that loaded; nil = plaintext
	}
}

// waiter is a Send that waits for the outcome of an attempt.
type waiter struct {
	done  context.CancelFunc
	timer *time.Timer
}

// newLink loads the certificates, so that a Start with unreadable ones fails.
func newLink(cfg *configgrpc.ClientConfig) (*link, error) {
	l := &link{cfg: cfg}
	if !proxied(cfg.Endpoint) {
		l.dialer = &net.Dialer{Timeout: connectLimit}
	}
	_, err := l.loadTLS()
	return l, err
}

func (l *link) options() []grpc.DialOption {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(&creds{link: l}),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: connectLimit,
		}),
	}
	if l.dialer != nil {
		opts = append(opts, grpc.WithContextDialer(l.dial), grpc.WithResolvers(&names{net.DefaultResolver.LookupHost}))
	}
	return opts
}

// proxied reports whether the environment names a proxy for endpoint.
func proxied(endpoint string) bool {
	if strings.HasPrefix(endpoint, "unix:") {
		return false
	}
	_, host, ok := strings.Cut(endpoint, "://")
	if !ok {
		host = endpoint
	}
	u, err := http.ProxyFromEnvironment(&http.Request{
		URL: &url.URL{Scheme: "https", Host: strings.TrimPrefix(host, "/")},
	})
	return err == nil && u != nil
}

// dial opens one connection.
func (l *link) dial(ctx context.Context, addr string) (net.Conn, error) {
	l.begun()
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", strings.TrimPrefix(path, "//")
	} else if strings.HasPrefix(addr, "\x00") { // unix-abstract:
		network = "unix"
	}
	conn, err := l.dialer.DialContext(ctx, network, addr)
	if err != nil {
		l.ended()
	}
	return conn, err
}

// begun tells waiting Sends that an attempt is on its way.
func (l *link) begun() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.mu.waiting {
		w.timer.Reset(connectLimit)
	}
}

// ended tells waiting Sends that an attempt came to nothing.
func (l *link) ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.mu.waiting {
		w.done()
	}
}

// revive makes the first Send after a failure see the present state of the backend, not that of the last attempt: it
// cuts the pause between attempts short and waits for the outcome of the next one. A refused connection is known at
// once; nobody waits longer than connectLimit.
func (l *link) revive(ctx context.Context, conn *grpc.ClientConn) {
	if conn.GetState() != connectivity.TransientFailure {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &waiter{done: cancel}
	now := time.Now()
	l.mu.Lock()
	if now.Sub(l.mu.revived) < reviveEvery {
		l.mu.Unlock()
		return
	}
	l.mu.revived = now
	w.timer = time.AfterFunc(startLimit, cancel)
	l.mu.waiting = append(l.mu.waiting, w)
	l.mu.Unlock()

	conn.ResetConnectBackoff()
	conn.WaitForStateChange(ctx, connectivity.TransientFailure)

	l.mu.Lock()
	defer l.mu.Unlock()
	w.timer.Stop()
	for i := range l.mu.waiting {
		if l.mu.waiting[i] == w {
			l.mu.waiting = append(l.mu.waiting[:i], l.mu.waiting[i+1:]...)
			break
		}
	}
}

// loadTLS reads the certificates as they are now. What cannot be read does not replace what could: the files of a
// certificate are not changed in one step.
func (l *link) loadTLS() (*tls.Config, error) {
	cfg, err := l.cfg.TLS.LoadTLSConfig(context.Background())
	if err == nil && cfg == nil && strings.HasPrefix(l.cfg.Endpoint, "https://") {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.mu.tls != nil {
			return l.mu.tls, nil
		}
		return nil, fmt.Errorf("load certificates: %w", err)
	}
	l.mu.tls = cfg
	return cfg, nil
}

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
