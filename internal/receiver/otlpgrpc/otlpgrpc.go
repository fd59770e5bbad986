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
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
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

	auth     extensionauth.Server // nil = none
	opts     []grpc.ServerOption
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
func New(d *door.Door, cfg configgrpc.ServerConfig) *Server {
	maxBytes := d.MaxRequest(int64(cfg.MaxRecvMsgSizeMiB) << 20)
	return &Server{
		cfg: cfg, door: d, maxBytes: maxBytes, lanes: d.Lanes(door.GRPC, maxBytes),
		bodyTimeout: bodyTimeout, connTimeout: connectionTimeout,
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
	s.address, s.opts = ln.Addr(), opts
	s.mu.Lock()
	s.mu.listener, s.mu.acts = ln, map[*act]struct{}{}
	s.mu.Unlock()
	s.renew()
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
		experimental.BufferPool(framePool),
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

// Retire implements receiver.Retirer: GOAWAY, which calls that run and those that are under way outlive. Clients that
// have connected and not said anything hold up the GOAWAY for all others, and are cut after half of the time.
func (s *Server) Retire(ctx context.Context) error {
	a := s.renew()
	if a == nil {
		return nil
	}
	greetings := s.connTimeout
	if deadline, ok := ctx.Deadline(); ok {
		greetings = min(greetings, time.Until(deadline)/2)
	}
	err := a.close(ctx, greetings)
	s.mu.Lock()
	delete(s.mu.acts, a)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("grpc: retire: %w", err)
	}
	return nil
}

// Stop refuses new requests, lets running ones end until ctx does, answers those whose message is still being read,
// and cuts the rest. A sink that does not heed the end of its context is left behind with an error.
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
		all.Go(func() { errs[i] = a.close(ctx, cutGrace) }) // who has just connected may be about to speak
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("grpc: stop: %w", err)
	}
	return nil
}

var _ receiver.Retirer = (*Server)(nil)
