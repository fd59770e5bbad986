// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package probe asks whether a backend is well at another door than the one data goes through: an HTTP health page, or
// no more than a connection.
//
// It stands beside the exporters and is asked by the switch room. It promises a verdict when the context ends, at the
// latest, and that a probe leaves no connection open. It refuses to know what a good answer is worth: the breaker
// decides that, and a level returns only with a live batch.
package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

// maxBody is read of an answer, so that small ones end in order; nothing is looked for in it (failover, section 7).
const maxBody = 4 << 10

// HTTP gets url and finds every status in expect good. It sends no credentials and follows no redirect. A nil config
// means the system's roots.
func HTTP(ctx context.Context, url string, expect []int, config *tls.Config) exporter.Verdict {
	transport := &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return exporter.Verdict{Kind: exporter.Misconfigured, Err: err}
	}
	resp, err := client.Do(req)
	if err != nil {
		return exporter.Verdict{Kind: exporter.Retry, Err: wire.ExplainTLS(err)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // the status is the answer
	if !slices.Contains(expect, resp.StatusCode) {
		return exporter.Verdict{Kind: exporter.Retry, Err: fmt.Errorf("get %s: status %d", url, resp.StatusCode)}
	}
	return exporter.Deliver()
}

// TCP connects to addr, and shakes hands if config is not nil.
func TCP(ctx context.Context, addr string, config *tls.Config) exporter.Verdict {
	var conn net.Conn
	var err error
	if config == nil {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
	} else {
		conn, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return exporter.Verdict{Kind: exporter.Retry, Err: wire.ExplainTLS(err)}
	}
	_ = conn.Close() // it was only to be opened
	return exporter.Deliver()
}
