// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlpgrpc is the gRPC door: OTLP requests in, as wire bytes.
//
// It serves the four export services on one listener, and the health service beside them. Connections, streams and
// flow control are grpc-go's; the message of a stream is read here, piece by piece, so that its memory is granted
// before it is read and its compression is kept. It promises the answers of compat, section 10, and the limits of
// faults, part C. It knows no queue: what it read goes through the door's lanes to a sink.
package otlpgrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// Limits of the door that no configuration key changes (faults, part C).
const (
	connectionTimeout = 10 * time.Second // TLS handshake and HTTP/2 preface together
	bodyTimeout       = 60 * time.Second // from the headers to the end of the message
	maxHeaderBytes    = 16 << 10
	maxHeaderEntries  = 100
	streamWindow      = 256 << 10
	connectionWindow  = 1 << 20
	// maxTLSReadBuffer is held by every TLS connection, idle or not, and one read yields a record of 16 KiB at most.
	// Connections without TLS hold no read buffer while they are idle.
	maxTLSReadBuffer = 32 << 10
	// cutGrace is how long requests that were cut at the end of Stop have to write their answer, and then to end.
	cutGrace = 250 * time.Millisecond
)

// services maps signals to the names of their services (OTLP specification, "OTLP/gRPC"; the opentelemetry-proto
// repository for profiles).
var services = map[otlp.Signal]string{
	otlp.Traces:   "opentelemetry.proto.collector.trace.v1.TraceService",
	otlp.Metrics:  "opentelemetry.proto.collector.metrics.v1.MetricsService",
	otlp.Logs:     "opentelemetry.proto.collector.logs.v1.LogsService",
	otlp.Profiles: "opentelemetry.proto.collector.profiles.v1development.ProfilesService",
}

// Server is one gRPC door.
type Server struct {
	cfg         configgrpc.ServerConfig
	door        *door.Door
	maxBytes    int // of a request
	lanes       []*door.Lane
	bodyTimeout time.Duration
	connTimeout time.Duration

	server   *grpc.Server
	listener *listener
	auth     extensionauth.Server // nil = none
	reading  readers
	stopping atomic.Bool
	closing  chan struct{} // closed when Stop begins
	stop     chan struct{} // closed to end watch
	done     sync.WaitGroup
	address  net.Addr
}

// New returns a door that is closed; its counters exist.
func New(d *door.Door, cfg configgrpc.ServerConfig) *Server {
	maxBytes := d.MaxRequest(int64(cfg.MaxRecvMsgSizeMiB) << 20)
	return &Server{
		cfg: cfg, door: d, maxBytes: maxBytes, lanes: d.Lanes(door.GRPC, maxBytes),
		bodyTimeout: bodyTimeout, connTimeout: connectionTimeout, closing: make(chan struct{}), stop: make(chan struct{}),
	}
}

// Start binds and serves. ctx bounds the start only.
func (s *Server) Start(ctx context.Context, host component.Host) error {
	opts, err := s.options(ctx, host)
	if err != nil {
		return fmt.Errorf("grpc: %w", err)
	}
	addr := s.cfg.NetAddr
	ln, err := s.door.Listen(ctx, string(addr.Transport), addr.Endpoint)
	if err != nil {
		return fmt.Errorf("grpc: %w", err)
	}
	s.address = ln.Addr()
	s.server, s.listener = grpc.NewServer(opts...), &listener{Listener: ln, secure: s.cfg.TLS.HasValue()}
	for _, l := range s.lanes {
		s.server.RegisterService(describe(l.Signal, s), l)
	}
	s.server.RegisterService(&healthService, healthServer{s})
	s.done.Go(s.watch)
	s.done.Go(func() {
		if err := s.server.Serve(s.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.door.Log().Error("Serving OTLP over gRPC ended", zap.Error(err))
		}
	})
	s.door.Listening(ln, s.cfg.TLS.HasValue(), s.auth != nil,
		zap.Int("max_request_bytes", s.maxBytes), zap.Uint32("streams_per_connection", s.cfg.MaxConcurrentStreams),
		zap.Int("header_bytes", maxHeaderBytes), zap.Duration("handshake", s.connTimeout),
		zap.Duration("body", s.bodyTimeout))
	return nil
}

// Address is where the door listens, nil before Start.
func (s *Server) Address() net.Addr { return s.address }

// options are the server's options, from our limits and the settings. The settings' own ToServer is not used: it
// puts an instrumentation of every request in the way that is paid for even where nothing is shown, and it runs
// authentication only when the message has been read.
func (s *Server) options(ctx context.Context, host component.Host) ([]grpc.ServerOption, error) {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.ConnectionTimeout(s.connTimeout),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.InTapHandle(tap),
		// A stack that has grown for one request serves the next: growing it anew costs small ones 5 % of their CPU.
		// When all workers are taken a request gets a goroutine of its own.
		grpc.NumStreamWorkers(uint32(4 * runtime.GOMAXPROCS(0))),
	}
	if n := s.cfg.MaxConcurrentStreams; n > 0 {
		opts = append(opts, grpc.MaxConcurrentStreams(n))
	}
	if n := s.cfg.ReadBufferSize; n > 0 {
		if s.cfg.TLS.HasValue() {
			n = min(n, maxTLSReadBuffer)
		}
		opts = append(opts, grpc.ReadBufferSize(n))
	}
	if n := s.cfg.WriteBufferSize; n > 0 {
		opts = append(opts, grpc.WriteBufferSize(n))
	}
	opts = append(opts, keepaliveOptions(&s.cfg)...)
	var extensions map[component.ID]component.Component
	if host != nil {
		extensions = host.GetExtensions()
	}
	if s.cfg.TLS.HasValue() {
		cfg, err := s.door.TLS(ctx, *s.cfg.TLS.Get(), "h2")
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.Creds(handshaker{credentials.NewTLS(cfg), s.door}))
	}
	if s.cfg.Auth.HasValue() {
		auth, err := s.cfg.Auth.Get().GetServerAuthenticator(ctx, extensions)
		if err != nil {
			return nil, err
		}
		s.auth = auth
	}
	for _, m := range s.cfg.Middlewares {
		more, err := m.GetGRPCServerOptions(ctx, extensions)
		if err != nil {
			return nil, err
		}
		opts = append(opts, more...)
	}
	return opts, nil
}

func keepaliveOptions(cfg *configgrpc.ServerConfig) (opts []grpc.ServerOption) {
	if !cfg.Keepalive.HasValue() {
		return nil
	}
	k := cfg.Keepalive.Get()
	if p := k.ServerParameters.Get(); p != nil {
		opts = append(opts, grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: p.MaxConnectionIdle, MaxConnectionAge: p.MaxConnectionAge,
			MaxConnectionAgeGrace: p.MaxConnectionAgeGrace, Time: p.Time, Timeout: p.Timeout,
		}))
	}
	if p := k.EnforcementPolicy.Get(); p != nil {
		opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: p.MinTime, PermitWithoutStream: p.PermitWithoutStream,
		}))
	}
	return opts
}

// watch cuts streams whose message takes too long, until Stop.
func (s *Server) watch() {
	tick := time.NewTicker(min(time.Second, s.bodyTimeout/4))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.reading.cut(now.Add(-s.bodyTimeout), door.Slow(s.bodyTimeout))
		}
	}
}

// Stop refuses new requests, lets running ones end until ctx does, answers those whose message is still being read,
// and cuts the rest. A sink that does not heed the end of its context is left behind with an error.
func (s *Server) Stop(ctx context.Context) error {
	if s.server == nil || s.stopping.Swap(true) {
		return nil
	}
	close(s.closing)
	ended := make(chan struct{})
	go func() {
		s.server.GracefulStop()
		close(ended)
	}()
	// Who has just connected may be about to speak.
	defer time.AfterFunc(cutGrace, func() { s.listener.cut(false) }).Stop()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		s.reading.cut(time.Now(), door.Stopping())
		if !within(ended, cutGrace) {
			s.listener.cut(true) // a greeting may have begun and not ended
			s.server.Stop()      // cancels the contexts of what still runs
			if !within(ended, cutGrace) {
				err = errors.New("grpc: stop: requests still wait for their sink")
			}
		}
	}
	close(s.stop)
	s.done.Wait()
	return err
}

// within reports whether ended closes in time.
func within(ended <-chan struct{}, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}
