// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// defaultReader is where metrics are served if nothing else is said.
const (
	defaultHost = "localhost"
	defaultPort = 8888
)

// Server serves a registry at /metrics of every reader that is configured.
type Server struct {
	log     *zap.Logger
	readers []*reader
	mu      struct {
		sync.Mutex
		running []*reader
		wg      sync.WaitGroup
	}
}

type reader struct {
	key  string // where in the configuration
	addr string // host:port as configured
	http *http.Server
	ln   net.Listener
}

// NewServer makes a server of the readers in cfg: those written, else one on `address`, else localhost:8888; none if
// the level is none. It listens on nothing yet. An error names the key, and is also what readers of another kind get:
// Holdfast's metrics are fetched, it does not push them.
func NewServer(cfg config.TelemetryMetrics, tel *Telemetry) (*Server, error) {
	s := &Server{log: tel.Logger}
	if cfg.Level == "none" {
		return s, nil
	}
	if !slices.Contains([]string{"", "basic", "normal", "detailed"}, cfg.Level) {
		return nil, fmt.Errorf("service::telemetry::metrics::level: %q is none of none, basic, normal, detailed", cfg.Level)
	}
	opts := Options{
		Detailed: cfg.Level == "detailed", Resource: tel.Resource, Version: tel.Resource["service.version"],
		Log: tel.Logger,
	}
	switch {
	case len(cfg.Readers) > 0:
		for i := range cfg.Readers {
			if err := s.addReader(i, &cfg.Readers[i], tel, opts); err != nil {
				return nil, err
			}
		}
	case cfg.Address != "":
		host, port, err := splitAddress(cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("service::telemetry::metrics::address: %w", err)
		}
		s.add("service::telemetry::metrics::address", host, port, NewHandler(tel.Metrics, opts))
	default:
		s.add("service::telemetry::metrics", defaultHost, defaultPort, NewHandler(tel.Metrics, opts))
	}
	return s, nil
}

func (s *Server) addReader(i int, r *config.MetricReader, tel *Telemetry, opts Options) error {
	key := fmt.Sprintf("service::telemetry::metrics::readers[%d]", i)
	if r.Periodic != nil {
		return fmt.Errorf("%s: periodic readers are not supported; use pull: {exporter: {prometheus: {host, port}}}", key)
	}
	if r.Pull == nil || r.Pull.Exporter.Prometheus == nil {
		return fmt.Errorf("%s: only pull with a prometheus exporter is supported", key)
	}
	p := r.Pull.Exporter.Prometheus
	if p.Host == "" || p.Port < 0 || p.Port > 65535 {
		return fmt.Errorf("%s::pull::exporter::prometheus: host and a port up to 65535 are needed", key)
	}
	// A written reader shows suffixes, units and scopes unless it says without, as the Collector's does.
	opts.WithScopeInfo = !isTrue(p.WithoutScopeInfo)
	opts.WithTypeSuffix = !isTrue(p.WithoutTypeSuffix)
	opts.WithUnits = !isTrue(p.WithoutUnits)
	constant, err := constantLabels(p.WithResource, tel.Resource)
	if err != nil {
		return fmt.Errorf("%s::pull::exporter::prometheus::with_resource_constant_labels: %w", key, err)
	}
	opts.Constant = constant
	s.add(key, p.Host, p.Port, NewHandler(tel.Metrics, opts))
	return nil
}

func (s *Server) add(key, host string, port int, handler http.Handler) {
	mux := http.NewServeMux()
	mux.Handle("/metrics", handler)
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute, // longer than scrapes are apart
	}
	if std, err := zap.NewStdLogAt(s.log, zapcore.WarnLevel); err == nil {
		srv.ErrorLog = std
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	s.readers = append(s.readers, &reader{key: key, addr: net.JoinHostPort(host, strconv.Itoa(port)), http: srv})
}

// Start listens on every reader's port and serves. After an error nothing listens.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.readers {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", r.addr)
		if err != nil {
			for _, open := range s.readers[:i] {
				_ = open.ln.Close() // nothing was served on it
			}
			return r.listenError(err)
		}
		r.ln = ln
	}
	s.mu.running = s.readers
	for _, r := range s.readers {
		s.mu.wg.Go(func() {
			if err := r.http.Serve(r.ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("Metrics are no longer served", zap.String("address", r.addr), zap.Error(err))
			}
		})
		s.log.Info("Listening", zap.String("address", r.ln.Addr().String()), zap.String("purpose", "metrics"),
			zap.Bool("tls", false), zap.Bool("auth", false))
	}
	return nil
}

func (r *reader) listenError(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: listen on %q for metrics: the port is taken by another process; choose another or set "+
			"level: none: %w", r.key, r.addr, err)
	}
	return fmt.Errorf("%s: listen on %q for metrics: %w", r.key, r.addr, err)
}

// Addrs are the addresses listened on, in the order of the configuration.
func (s *Server) Addrs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.mu.running {
		out = append(out, r.ln.Addr().String())
	}
	return out
}

// Stop closes the listeners, lets running scrapes end until ctx does, then cuts them. It may be called more than
// once and without Start.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	running := s.mu.running
	s.mu.running = nil
	s.mu.Unlock()
	var errs []error
	for _, r := range running {
		if err := r.http.Shutdown(ctx); err != nil {
			_ = r.http.Close() // what did not end in time is cut; Shutdown's error says so
			errs = append(errs, fmt.Errorf("%s: %w", r.key, err))
		}
	}
	s.mu.wg.Wait()
	return errors.Join(errs...)
}

func splitAddress(address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q is no number up to 65535", text)
	}
	return host, int(port), nil
}

func isTrue(b *bool) bool { return b != nil && *b }
