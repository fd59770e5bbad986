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
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/compression"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
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

	server   *http.Server
	auth     extensionauth.Server // nil = none
	stopping atomic.Bool
	reading  bodies
	silent   silent
	running  atomic.Int64 // requests
	done     sync.WaitGroup
	address  net.Addr
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
	handler, err := s.handler(ctx, host)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	cfg := &s.cfg.ServerConfig
	var tlsConfig *tls.Config
	if cfg.TLS.HasValue() {
		if tlsConfig, err = s.door.TLS(ctx, *cfg.TLS.Get(), "h2", "http/1.1"); err != nil {
			return fmt.Errorf("http: %w", err)
		}
	}
	//lint:ignore SA1019 configurations that spell them the old way go on working
	keepAlive, idle := cfg.KeepAlivesEnabled, cfg.IdleTimeout
	if k := cfg.Keepalive.Get(); k != nil {
		keepAlive, idle = true, k.IdleTimeout
	}
	s.server = &http.Server{
		Handler: handler, ReadTimeout: cfg.ReadTimeout, ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ConnState: s.silent.note, IdleTimeout: idle, MaxHeaderBytes: maxHeaderBytes, ErrorLog: log.New(errorLog{s.door}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: streamWindow,
			MaxReceiveBufferPerConnection: connectionWindow, SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
		},
	}
	s.server.SetKeepAlivesEnabled(keepAlive)
	ln, err := s.door.Listen(ctx, string(cfg.NetAddr.Transport), cfg.NetAddr.Endpoint)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	s.address = ln.Addr()
	serve := ln
	if tlsConfig != nil {
		serve = tls.NewListener(ln, tlsConfig)
	}
	s.done.Go(func() {
		if err := s.server.Serve(serve); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.door.Log().Error("Serving OTLP over HTTP ended", zap.Error(err))
		}
	})
	s.door.Listening(ln, tlsConfig != nil, s.auth != nil,
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

// Stop refuses new requests, lets running ones end until ctx does, answers those whose body is still being read, and
// cuts the rest. A sink that does not heed the end of its context is left behind with an error.
func (s *Server) Stop(ctx context.Context) error {
	if s.server == nil || s.stopping.Swap(true) {
		return nil
	}
	var err error
	defer time.AfterFunc(cutGrace, s.silent.cut).Stop() // who has just connected may be about to speak
	if s.server.Shutdown(ctx) != nil {
		s.reading.cut()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
		s.server.Shutdown(grace) // until those that were cut have their answer
		cancel()
		s.server.Close() // ends the contexts of what still runs
		if !s.idle(cutGrace) {
			err = errors.New("http: stop: requests still wait for their sink")
		}
	}
	s.done.Wait()
	return err
}

// idle waits until no request runs, for a while.
func (s *Server) idle(limit time.Duration) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(limit / 50)
	defer tick.Stop()
	for s.running.Load() > 0 {
		select {
		case <-end.C:
			return false
		case <-tick.C:
		}
	}
	return true
}
