// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlphttp is the HTTP door: OTLP requests in, protobuf or JSON.
//
// It serves one path per signal. Connections, HTTP/1.1 and HTTP/2 are net/http's; admission, the reading of bodies,
// their compression and the answers are made here. It promises the answers of compat, section 10, and the limits of
// faults, part C. It knows no queue: what it read goes through the door's lanes to a sink.
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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// Limits of the door that no configuration key changes (faults, part C).
const (
	maxHeaderBytes   = 16 << 10
	maxHeaderEntries = 100
	maxStreams       = 256
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
	pingAfter        = time.Minute
	pingTimeout      = 20 * time.Second
	// cutGrace is how long requests that were cut at the end of Stop have to write their answer, and then to end.
	cutGrace = 250 * time.Millisecond
)

// Server is one HTTP door.
type Server struct {
	cfg      Config
	door     *door.Door
	maxBytes int                   // of a request
	lanes    map[string]*door.Lane // by path
	codecs   map[compression.Codec]bool
	pace     pace

	auth     extensionauth.Server // nil = none
	tls      *tls.Config          // nil = none
	handler  http.Handler
	address  net.Addr
	stopping atomic.Bool
	mu       struct {
		sync.Mutex
		listener *door.Listener    // nil before Start and after Stop
		current  *act              // who gets new connections
		acts     map[*act]struct{} // and those that have not ended
	}
}

// New returns a door that is closed; its counters exist.
func New(d *door.Door, cfg Config) *Server {
	s := &Server{
		cfg: cfg, door: d, maxBytes: d.MaxRequest(cfg.ServerConfig.MaxRequestBodySize), lanes: map[string]*door.Lane{}, codecs: map[compression.Codec]bool{},
		pace: pace{total: cfg.ServerConfig.ReadTimeout, start: slowStart, rate: minRate},
	}
	paths := map[otlp.Signal]string{
		otlp.Traces: cfg.TracesURLPath, otlp.Metrics: cfg.MetricsURLPath, otlp.Logs: cfg.LogsURLPath,
		otlp.Profiles: profilesURLPath,
	}
	for _, l := range d.Lanes(door.HTTP, s.maxBytes) {
		path, _ := cleanPath(paths[l.Signal]) // validated
		s.lanes[path] = l
	}
	algorithms := cfg.ServerConfig.CompressionAlgorithms
	if algorithms == nil {
		algorithms = []string{"", "gzip", "zstd", "snappy", "zlib"}
	}
	for _, name := range algorithms {
		if c, ok := compression.Parse(name); ok {
			s.codecs[c] = true
		}
	}
	return s
}

// Start binds and serves. ctx bounds the start only.
func (s *Server) Start(ctx context.Context, host component.Host) error {
	var err error
	if s.handler, err = s.chain(ctx, host); err != nil {
		return fmt.Errorf("http: %w", err)
	}
	cfg := &s.cfg.ServerConfig
	if cfg.TLS.HasValue() {
		if s.tls, err = s.door.TLS(ctx, *cfg.TLS.Get(), "h2", "http/1.1"); err != nil {
			return fmt.Errorf("http: %w", err)
		}
	}
	ln, err := s.door.Listen(ctx, string(cfg.NetAddr.Transport), cfg.NetAddr.Endpoint)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	s.address = ln.Addr()
	s.mu.Lock()
	s.mu.listener, s.mu.acts = ln, map[*act]struct{}{}
	s.mu.Unlock()
	s.renew()
	s.door.Listening(ln, s.tls != nil, s.auth != nil,
		zap.Int("max_request_bytes", s.maxBytes), zap.Int("streams_per_connection", maxStreams),
		zap.Int("header_bytes", maxHeaderBytes), zap.Duration("header", cfg.ReadHeaderTimeout),
		zap.Duration("body", cfg.ReadTimeout), zap.Int("bytes_per_second", minRate))
	return nil
}

// errorLog takes what net/http has to say: about handshakes that failed it is passed on, thinned out; the rest is the
// noise of broken connections.
type errorLog struct{ door *door.Door }

func (l errorLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if rest, ok := strings.CutPrefix(text, "http: TLS handshake error from "); ok {
		if peer, cause, ok := strings.Cut(rest, ": "); ok && cause != "EOF" {
			l.door.HandshakeFailed(peer, cause)
		}
		return len(line), nil
	}
	l.door.Log().Debug("HTTP server", zap.String("text", door.Clean(text)))
	return len(line), nil
}

// Address is where the door listens, nil before Start.
func (s *Server) Address() net.Addr { return s.address }

// renew lets new connections go to a new act and returns the former one; nil = there was none, or the door is closed.
func (s *Server) renew() (former *act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.listener == nil {
		return nil
	}
	former = s.mu.current
	s.mu.current = s.begin(s.mu.listener.Next())
	s.mu.acts[s.mu.current] = struct{}{}
	return former
}

// Retire implements receiver.Retirer: every answer says "Connection: close", or is followed by GOAWAY in HTTP/2. An
// idle connection is not closed before the end, since a request may be on its way.
func (s *Server) Retire(ctx context.Context) error {
	a := s.renew()
	if a == nil {
		return nil
	}
	err := a.retire(ctx)
	s.mu.Lock()
	delete(s.mu.acts, a)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("http: retire: %w", err)
	}
	return nil
}

// Stop refuses new requests, lets running ones end until ctx does, answers those whose body is still being read, and
// cuts the rest. A sink that does not heed the end of its context is left behind with an error.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	ln, acts := s.mu.listener, slices.Collect(maps.Keys(s.mu.acts))
	s.mu.listener, s.mu.current = nil, nil
	s.mu.Unlock()
	if ln == nil {
		return nil
	}
	s.stopping.Store(true)
	_ = ln.Close() // there is nothing to do about an error
	errs := make([]error, len(acts))
	var all sync.WaitGroup
	for i, a := range acts {
		all.Go(func() { errs[i] = a.stop(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("http: stop: %w", err)
	}
	return nil
}

var _ receiver.Retirer = (*Server)(nil)
