// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"crypto/tls"
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
