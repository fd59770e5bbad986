// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package debug is a back door that leads to the eye: it shows requests as log lines.
//
// It stands where a backend would while somebody looks. At `basic` it counts and decodes nothing; at `normal` it shows
// a line per item, at `detailed` everything. It promises that what it shows cannot change a terminal: foreign text is
// escaped and cut. It is no place to keep data.
package debug

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// Factory makes exporters of type debug.
func Factory() exporter.Factory {
	return exporter.Factory{
		Type:    "debug",
		Aliases: []string{"logging"},
		Signals: otlp.Signals[:],
		Queue:   exporter.QueueIfWritten,
		Default: func() any { return Default() },
		New: func(set exporter.Settings, cfg any) (exporter.Exporter, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("debug: configuration is a %T", cfg)
			}
			return New(set, c), nil
		},
	}
}

// Exporter writes lines.
type Exporter struct {
	cfg   Config
	inner *zap.Logger
	log   *zap.Logger
	close func()
}

// New makes an exporter; outputs are opened by Start.
func New(set exporter.Settings, cfg *Config) *Exporter {
	return &Exporter{cfg: *cfg, inner: set.Telemetry.Logger}
}

// Start opens the outputs.
func (e *Exporter) Start(context.Context, component.Host) error {
	core := e.inner.Core()
	e.close = func() {}
	if !e.cfg.UseInternalLogger {
		paths := e.cfg.OutputPaths
		if paths == nil {
			paths = []string{"stdout"}
		}
		sink, closeSink, err := zap.Open(paths...)
		if err != nil {
			return fmt.Errorf("open `output_paths`: %w", err)
		}
		e.close = closeSink
		// Neither time nor level: these lines are the output itself.
		lines := zap.NewDevelopmentEncoderConfig()
		lines.TimeKey, lines.LevelKey = "", ""
		core = zapcore.NewCore(zapcore.NewConsoleEncoder(lines), sink, zap.InfoLevel)
	}
	e.log = zap.New(zapcore.NewSamplerWithOptions(core, time.Second, e.cfg.SamplingInitial, e.cfg.SamplingThereafter))
	return nil
}

// words are what a signal and its items are called in a line.
var words = map[otlp.Signal][2]string{
	otlp.Traces:   {"Traces", "spans"},
	otlp.Metrics:  {"Metrics", "data points"},
	otlp.Logs:     {"Logs", "log records"},
	otlp.Profiles: {"Profiles", "samples"},
}

// Send implements exporter.Exporter.
func (e *Exporter) Send(_ context.Context, r *exporter.Request) exporter.Verdict {
	w, ok := words[r.Signal]
	if !ok {
		return exporter.Verdict{Kind: exporter.Rejected, Err: fmt.Errorf("show %s: no such signal", r.Signal)}
	}
	var texts []string
	if e.cfg.Verbosity != basic {
		parts, free, err := wire.Plain(r)
		if err != nil {
			return exporter.Verdict{Kind: exporter.Rejected, Err: err}
		}
		for _, p := range parts {
			text, err := show(r.Signal, p, e.cfg.Verbosity == detailed)
			if err != nil {
				free()
				return exporter.Verdict{Kind: exporter.Rejected, Err: fmt.Errorf("show %s: %w", r.Signal, err)}
			}
			texts = append(texts, text)
		}
		free()
	}
	e.log.Info(w[0], zap.Int("requests", len(r.Parts)), zap.Uint32(w[1], r.Items), zap.Int64("bytes", r.Size))
	for _, text := range texts {
		e.log.Info(text)
	}
	return exporter.Deliver()
}

// Stop closes the outputs.
func (e *Exporter) Stop(context.Context) error {
	if e.close != nil {
		e.close()
		e.close = nil
	}
	return nil
}

var _ exporter.Exporter = (*Exporter)(nil)
