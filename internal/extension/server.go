// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Limits of requests that are not telemetry (faults, part C).
const (
	maxRequestBytes = 1 << 20
	maxRequests     = 8
	requestTimeout  = 10 * time.Second
)

// ServerDefaults are the defaults of an extension's HTTP server on endpoint (compat, 4.4).
func ServerDefaults(endpoint string) confighttp.ServerConfig {
	cfg := confighttp.NewDefaultServerConfig()
	cfg.NetAddr.Endpoint = endpoint
	cfg.ReadTimeout = 60 * time.Second
	cfg.ReadHeaderTimeout = 10 * time.Second
	return cfg
}

// Server is one HTTP server on one listener. Its zero value is not running.
type Server struct {
	// Listen is what Start listens with; nil = the network's. It is set before Start.
	Listen ListenFunc

	mu struct {
		sync.Mutex
		http *http.Server
		addr net.Addr
		done chan struct{} // closed when serving has ended
	}
}

// Start listens and serves handler as cfg says, TLS, authentication and CORS included. cfg is not changed.
func (s *Server) Start(ctx context.Context, cfg confighttp.ServerConfig, host component.Host, tel *telemetry.Telemetry,
	handler http.Handler) error {
	var extensions map[component.ID]component.Component
	if host != nil {
		extensions = host.GetExtensions()
	}
	srv, err := cfg.ToServer(ctx, extensions, tel.Component(), handler) // writes defaults into cfg, which is a copy
	if err != nil {
		return fmt.Errorf("serve on %q: %w", cfg.NetAddr.Endpoint, err)
	}
	ln, err := s.listen(ctx, cfg)
	if err != nil {
		return ListenError(cfg.NetAddr.Endpoint, err)
	}
	s.Serve(ln, srv, tel.Logger)
	telemetry.Always(tel.Logger).Info("Listening", zap.String("address", ln.Addr().String()),
		zap.Bool("tls", cfg.TLS.HasValue()), zap.Bool("auth", cfg.Auth.HasValue()))
	return nil
}

// listen is the settings' ToListener with a socket that may be open already.
func (s *Server) listen(ctx context.Context, cfg confighttp.ServerConfig) (net.Listener, error) {
	if s.Listen == nil {
		return cfg.ToListener(ctx)
	}
	var secure *tls.Config
	if cfg.TLS.HasValue() {
		var err error
		if secure, err = cfg.TLS.Get().LoadTLSConfig(ctx); err != nil {
			return nil, err
		}
		secure.NextProtos = []string{"h2", "http/1.1"}
	}
	ln, err := s.Listen(ctx, string(cfg.NetAddr.Transport), cfg.NetAddr.Endpoint)
	if err != nil || secure == nil {
		return ln, err
	}
	return tls.NewListener(ln, secure), nil
}

// Serve serves on ln, which becomes the server's.
func (s *Server) Serve(ln net.Listener, srv *http.Server, log *zap.Logger) {
	done := make(chan struct{})
	s.mu.Lock()
	s.mu.http, s.mu.addr, s.mu.done = srv, ln.Addr(), done
	s.mu.Unlock()
	go func() {
		defer close(done)
		if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("Stopped listening", zap.String("address", ln.Addr().String()), zap.Error(err))
		}
	}()
}

// Addr is where the server listens, nil if it does not.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.addr
}

// Stop closes the listener, lets running requests end until ctx does, then cuts them.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	srv, done := s.mu.http, s.mu.done
	s.mu.http, s.mu.addr = nil, nil
	s.mu.Unlock()
	if srv == nil {
		return nil
	}
	err := srv.Shutdown(ctx)
	if err != nil {
		_ = srv.Close() // what did not end in time is cut; Shutdown's error says so
	}
	<-done
	return err
}

// ListenError says where listening went wrong, and why in words where the system's are none.
func ListenError(endpoint string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %q: the port is taken by another process or component: %w", endpoint, err)
	}
	return fmt.Errorf("listen on %q: %w", endpoint, err)
}

// Limit bounds what requests may cost: LimitSize, and 10 s, after which the context ends.
func Limit(next http.Handler) http.Handler {
	return LimitSize(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	}))
}

// LimitSize serves eight requests at once (503) of 1 MiB each (413).
func LimitSize(next http.Handler) http.Handler {
	slots := make(chan struct{}, maxRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
			return
		}
		if r.ContentLength > maxRequestBytes {
			http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequestBytes)
		next.ServeHTTP(w, r)
	})
}

// ReadOnly answers everything but GET and HEAD with 405.
func ReadOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}
