// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package pprof serves the Go runtime's profiles over HTTP at /debug/pprof/.
//
// It is off unless configured and listens on loopback unless told otherwise (faults, D10). It knows nothing of the
// program it looks into.
package pprof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	httppprof "net/http/pprof"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Profiler serves profiles.
type Profiler struct {
	set    extension.Settings
	cfg    *Config
	server extension.Server

	file          *os.File // of save_to_file, while it is written
	mutexFraction int      // what was set before; -1 = untouched
}

// Factory makes pprof extensions.
func Factory() extension.Factory {
	return extension.Factory{
		Type: "pprof", Default: Default, Supplied: true,
		New: func(set extension.Settings, cfg any) (extension.Extension, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T", cfg)
			}
			return New(set, c), nil
		},
	}
}

// New returns a profiler that does not listen yet. cfg is not changed.
func New(set extension.Settings, cfg *Config) *Profiler {
	return &Profiler{set: set, cfg: cfg, mutexFraction: -1}
}

// Start implements extension.Extension.
func (p *Profiler) Start(ctx context.Context, _ component.Host) error {
	listen := p.set.Listen
	if listen == nil {
		listen = (&net.ListenConfig{}).Listen
	}
	ln, err := listen(ctx, string(p.cfg.Transport), p.cfg.Endpoint)
	if err != nil {
		return extension.ListenError(p.cfg.Endpoint, err)
	}
	if err := p.startFile(); err != nil {
		return errors.Join(err, ln.Close())
	}
	// The rates are the process's. They are set last, when nothing can fail any more.
	if p.cfg.BlockProfileFraction > 0 {
		runtime.SetBlockProfileRate(p.cfg.BlockProfileFraction)
	}
	if p.cfg.MutexProfileFraction > 0 {
		p.mutexFraction = runtime.SetMutexProfileFraction(p.cfg.MutexProfileFraction)
	}
	log := p.set.Telemetry.Logger
	srv := &http.Server{
		Handler:           extension.LimitSize(routes()),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		// No write timeout: a profile takes as long as was asked for.
	}
	if std, err := zap.NewStdLogAt(log, zapcore.ErrorLevel); err == nil {
		srv.ErrorLog = std
	}
	p.server.Serve(ln, srv, log)
	telemetry.Always(log).Info("Listening", zap.String("address", ln.Addr().String()),
		zap.Bool("tls", false), zap.Bool("auth", false))
	return nil
}

func routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", httppprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", httppprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", httppprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", httppprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", httppprof.Trace)
	return mux
}

func (p *Profiler) startFile() error {
	if p.cfg.SaveToFile == "" {
		return nil
	}
	f, err := os.OpenFile(p.cfg.SaveToFile, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("save profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("save profile to %q: %w", p.cfg.SaveToFile, err), f.Close())
	}
	p.file = f
	return nil
}

// Stop implements extension.Extension. The profile of save_to_file is whole when it returns.
func (p *Profiler) Stop(ctx context.Context) error {
	err := p.server.Stop(ctx)
	if p.file != nil {
		pprof.StopCPUProfile()
		err = errors.Join(err, p.file.Close())
		p.file = nil
	}
	if p.cfg.BlockProfileFraction > 0 {
		runtime.SetBlockProfileRate(0)
	}
	if p.mutexFraction >= 0 {
		runtime.SetMutexProfileFraction(p.mutexFraction)
		p.mutexFraction = -1
	}
	return err
}

// Addr is where the profiler listens, nil if it does not.
func (p *Profiler) Addr() net.Addr { return p.server.Addr() }

var _ extension.Extension = (*Profiler)(nil)
