// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"compress/gzip"
	"crypto/tls"
	endian "encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// backend takes OTLP over gRPC and HTTP at one address and counts what comes. It speaks both by hand, over net/http,
// so that it shares nothing with the product. What it speaks TLS with can be changed while it runs.
type backend struct {
	addr      string
	plaintext atomic.Int64 // connections that did not begin with a TLS handshake although they should
	tls       atomic.Pointer[tls.Config]
	server    *http.Server

	mu struct {
		sync.Mutex
		items   map[string]int // by kind: spans, points, records
		names   map[string]int // span names, metric names, bodies of records → how often
		changed chan struct{}  // closed and replaced with every request
	}
}

// startBackend listens on addr until the test ends. With a TLS configuration, plaintext is refused and counted.
func startBackend(t *testing.T, addr string, config *tls.Config) *backend {
	t.Helper()
	b := &backend{addr: addr}
	b.mu.items, b.mu.names, b.mu.changed = map[string]int{}, map[string]int{}, make(chan struct{})
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b.server = &http.Server{Handler: b, Protocols: new(http.Protocols), ReadHeaderTimeout: patience, ErrorLog: quiet}
	b.server.Protocols.SetHTTP1(true)
	if config == nil {
		b.server.Protocols.SetUnencryptedHTTP2(true)
	} else {
		b.setTLS(config)
		b.server.Protocols.SetHTTP2(true)
		ln = tls.NewListener(tlsOnly{ln, b}, &tls.Config{
			NextProtos:         []string{"h2", "http/1.1"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return b.tls.Load(), nil },
		})
	}
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ln) }()
	t.Cleanup(func() {
		_ = b.server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("backend: %v", err)
		}
	})
	return b
}

// setTLS changes what new connections meet.
func (b *backend) setTLS(config *tls.Config) {
	config = config.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	b.tls.Store(config)
}

// tlsOnly counts connections whose first byte is not that of a TLS handshake.
type tlsOnly struct {
	net.Listener
	b *backend
}

func (l tlsOnly) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &firstByte{Conn: c, b: l.b}, nil
}

type firstByte struct {
	net.Conn
	b    *backend
	seen bool
}

func (c *firstByte) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.seen {
		c.seen = true
		if p[0] != 22 { // ContentType handshake (RFC 8446, section 5.1)
			c.b.plaintext.Add(1)
		}
	}
	return n, err
}

// ServeHTTP answers one request with success.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender went away
	}
	grpc := strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	compressed := r.Header.Get("Content-Encoding") == "gzip"
	if grpc {
		if len(body) < 5 || int(endian.BigEndian.Uint32(body[1:])) != len(body)-5 {
			http.Error(w, "no gRPC message", http.StatusBadRequest)
			return
		}
		compressed, body = body[0] == 1, body[5:]
	}
	if compressed {
		if body, err = gunzip(body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	if err := b.take(r.URL.Path, body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !grpc {
		w.Header().Set("Content-Type", "application/x-protobuf")
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write(make([]byte, 5)) // the empty message; who does not wait for it sends again
	w.Header().Set("Grpc-Status", "0")
}

func gunzip(body []byte) ([]byte, error) {
	r, err := gzip.NewReader(strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// take counts the items of one request.
func (b *backend) take(path string, body []byte) error {
	kind, names, err := itemsOf(path, body)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.items[kind] += len(names)
	for _, name := range names {
		b.mu.names[name]++
	}
	close(b.mu.changed)
	b.mu.changed = make(chan struct{})
	return nil
}

// itemsOf decodes a request with the reference decoder; a point is named by its metric.
func itemsOf(path string, body []byte) (kind string, names []string, err error) {
	switch {
	case strings.Contains(path, "race"):
		r := ptraceotlp.NewExportRequest()
		if err := r.UnmarshalProto(body); err != nil {
			return "", nil, err
		}
		for _, rs := range r.Traces().ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					names = append(names, s.Name())
				}
			}
		}
		return "spans", names, nil
	case strings.Contains(path, "etrics"):
		r := pmetricotlp.NewExportRequest()
		if err := r.UnmarshalProto(body); err != nil {
			return "", nil, err
		}
		for range r.Metrics().DataPointCount() {
			names = append(names, "point")
		}
		return "points", names, nil
	case strings.Contains(path, "ogs"):
		r := plogotlp.NewExportRequest()
		if err := r.UnmarshalProto(body); err != nil {
			return "", nil, err
		}
		for _, rl := range r.Logs().ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, l := range sl.LogRecords().All() {
					names = append(names, l.Body().AsString())
				}
			}
		}
		return "records", names, nil
	}
	return "", nil, errors.New("no such path: " + path)
}

// items is how many items of a kind came.
func (b *backend) items(kind string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.items[kind]
}

// missing lists which of the names did not come.
func (b *backend) missing(names []string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return b.mu.names[n] > 0 })
}

// await waits until all names came.
func (b *backend) await(t *testing.T, names []string) {
	t.Helper()
	b.until(t, func() bool { return len(b.missing(names)) == 0 }, func() {
		t.Fatalf("%d of %d items did not come within %s", len(b.missing(names)), len(names), patience)
	})
}

// awaitItems waits until at least n items of each kind came.
func (b *backend) awaitItems(t *testing.T, want map[string]int) {
	t.Helper()
	b.until(t, func() bool {
		for kind, n := range want {
			if b.items(kind) < n {
				return false
			}
		}
		return true
	}, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		t.Fatalf("came within %s: %v, want %v", patience, maps.Clone(b.mu.items), want)
	})
}

func (b *backend) until(t *testing.T, ok func() bool, fail func()) {
	t.Helper()
	limit := time.After(patience)
	for {
		b.mu.Lock()
		changed := b.mu.changed
		b.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			fail()
			return
		}
	}
}
