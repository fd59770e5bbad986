// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

const (
	// connectLimit bounds one attempt to connect, over all addresses, and one TLS handshake: the kernel would go on for
	// two minutes, and there may be another level to go to (faults, B2).
	connectLimit = 3 * time.Second
	// maxHeaderBytes bounds the headers of an answer.
	maxHeaderBytes = 256 << 10
)

// newClient makes the client the configuration asks for, and what stands at its bottom.
//
// The Collector's settings build the whole client: authentication, headers, proxy, HTTP/2. What they leave out are
// limits for connecting and certificates that change. Both belong into the transport, and the way to it is to stand
// in as the innermost middleware.
func newClient(ctx context.Context, cfg *confighttp.ClientConfig, tel component.TelemetrySettings, host component.Host) (*http.Client, *bottom, error) {
	bottom := &bottom{tls: &certificates{cfg: cfg.TLS}}
	if _, err := bottom.tls.load(ctx); err != nil {
		return nil, nil, err
	}
	extensions := maps.Clone(host.GetExtensions())
	if extensions == nil {
		extensions = map[component.ID]component.Component{}
	}
	extensions[bottomID] = bottom

	cc := *cfg
	cc.Compression = ""      // bodies are in their encoding already
	cc.Timeout = 0           // the context's
	tel.TracerProvider = nil // what is not shown is not paid for
	tel.MeterProvider = nil
	cc.Middlewares = append(slices.Clone(cc.Middlewares), configmiddleware.Config{ID: bottomID})
	c, err := cc.ToClient(ctx, extensions, tel)
	if err != nil {
		return nil, nil, fmt.Errorf("make the client: %w", err)
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, bottom, nil
}

var bottomID = component.MustNewIDWithName("holdfast", "transport")

// bottom is the middleware below all others: it wraps nothing and keeps the transport.
type bottom struct {
	component.StartFunc
	component.ShutdownFunc
	tls       *certificates
	transport *http.Transport
}

// GetHTTPRoundTripper implements extensionmiddleware.HTTPClient.
func (b *bottom) GetHTTPRoundTripper(context.Context) (extensionmiddleware.WrapHTTPRoundTripperFunc, error) {
	return func(_ context.Context, rt http.RoundTripper) (http.RoundTripper, error) {
		t, ok := rt.(*http.Transport)
		if !ok {
			return nil, fmt.Errorf("the bottom of the client is a %T", rt)
		}
		b.adapt(t)
		return t, nil
	}, nil
}

func (b *bottom) adapt(t *http.Transport) {
	b.transport = t
	dialer := &net.Dialer{Timeout: connectLimit}
	t.DialContext = dialer.DialContext
	t.TLSHandshakeTimeout = connectLimit
	t.MaxResponseHeaderBytes = maxHeaderBytes
	if t.MaxIdleConnsPerHost == 0 {
		// There is one host: two connections, the library's default, would be closed and opened all the time.
		t.MaxIdleConnsPerHost = max(t.MaxIdleConns, http.DefaultMaxIdleConnsPerHost)
	}
	protocols := []string{"http/1.1"}
	if t.ForceAttemptHTTP2 {
		protocols = []string{"h2", "http/1.1"}
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return b.tls.handshake(ctx, conn, addr, protocols)
	}
}

// certificates are read at every handshake, so that files that change are seen without a restart. What cannot be read
// does not replace what could: the files of a certificate are not changed in one step.
type certificates struct {
	cfg   configtls.ClientConfig
	asked atomic.Bool // the server wanted a client certificate in vain
	// shownTo is the address of the server that was shown one last, "" if the last handshake was without.
	shownTo atomic.Value
	mu      struct {
		sync.Mutex
		last *tls.Config
	}
}

func (c *certificates) load(ctx context.Context) (*tls.Config, error) {
	cfg, err := c.cfg.LoadTLSConfig(ctx)
	if err == nil && cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.mu.last = cfg
	case c.mu.last == nil:
		return nil, fmt.Errorf("load certificates: %w", err)
	}
	return c.mu.last, nil
}

func (c *certificates) handshake(ctx context.Context, conn net.Conn, addr string, protocols []string) (net.Conn, error) {
	now, err := c.load(ctx)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	cfg := now.Clone()
	cfg.NextProtos = protocols
	shown := showing(cfg)
	asked := wire.Asked(cfg)
	if cfg.ServerName == "" {
		if cfg.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			cfg.ServerName = addr
		}
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	secure := tls.Client(conn, cfg)
	err = secure.HandshakeContext(ctx)
	c.asked.Store(asked())
	c.shownTo.Store("")
	if shown() {
		c.shownTo.Store(addr)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

var _ extensionmiddleware.HTTPClient = (*bottom)(nil)
