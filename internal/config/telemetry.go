// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap/zapcore"
)

// Telemetry is service::telemetry: keys and defaults as the Collector's (compat, 4.5).
type Telemetry struct {
	Resource map[string]any   `mapstructure:"resource"`
	Logs     TelemetryLogs    `mapstructure:"logs"`
	Metrics  TelemetryMetrics `mapstructure:"metrics"`
	Traces   TelemetryTraces  `mapstructure:"traces"`
}

// TelemetryLogs configures the logger.
type TelemetryLogs struct {
	Level             string         `mapstructure:"level"`    // debug, info, warn, error
	Encoding          string         `mapstructure:"encoding"` // console, json
	Development       bool           `mapstructure:"development"`
	DisableCaller     bool           `mapstructure:"disable_caller"`
	DisableStacktrace bool           `mapstructure:"disable_stacktrace"`
	Sampling          LogSampling    `mapstructure:"sampling"`
	OutputPaths       []string       `mapstructure:"output_paths"`
	ErrorOutputPaths  []string       `mapstructure:"error_output_paths"`
	InitialFields     map[string]any `mapstructure:"initial_fields"`
	Processors        []any          `mapstructure:"processors"`
	DisableResource   bool           `mapstructure:"disable_zap_resource"`
}

// LogSampling thins out repeated lines.
type LogSampling struct {
	Enabled    bool          `mapstructure:"enabled"`
	Tick       time.Duration `mapstructure:"tick"`
	Initial    int           `mapstructure:"initial"`
	Thereafter int           `mapstructure:"thereafter"`
}

// TelemetryMetrics configures Holdfast's own metrics.
type TelemetryMetrics struct {
	Level   string         `mapstructure:"level"` // none, basic, normal, detailed
	Readers []MetricReader `mapstructure:"readers"`
	Views   []any          `mapstructure:"views"`
	Address string         `mapstructure:"address"`
}

// MetricReader is one entry of readers. Pull with a Prometheus exporter is served; Periodic is told apart so that
// the error can name it.
type MetricReader struct {
	Pull     *PullReader    `mapstructure:"pull"`
	Periodic map[string]any `mapstructure:"periodic"`
}

// PullReader is readers[].pull.
type PullReader struct {
	Exporter struct {
		Prometheus *PrometheusReader `mapstructure:"prometheus"`
	} `mapstructure:"exporter"`
}

// PrometheusReader is readers[].pull.exporter.prometheus; nil switches mean the Collector's defaults.
type PrometheusReader struct {
	Host              string `mapstructure:"host"`
	Port              int    `mapstructure:"port"`
	WithoutScopeInfo  *bool  `mapstructure:"without_scope_info"`
	WithoutTypeSuffix *bool  `mapstructure:"without_type_suffix"`
	WithoutUnits      *bool  `mapstructure:"without_units"`
	WithResource      any    `mapstructure:"with_resource_constant_labels"`
}

// TelemetryTraces is accepted; internal traces are not made.
type TelemetryTraces struct {
	Level       string   `mapstructure:"level"`
	Processors  []any    `mapstructure:"processors"`
	Propagators []string `mapstructure:"propagators"`
	Sampler     any      `mapstructure:"sampler"`
}

// DefaultTelemetry returns the defaults.
func DefaultTelemetry() Telemetry {
	return Telemetry{
		Logs: TelemetryLogs{
			Level: "info", Encoding: "console",
			Sampling:         LogSampling{Enabled: true, Tick: 10 * time.Second, Initial: 10, Thereafter: 100},
			OutputPaths:      []string{"stderr"},
			ErrorOutputPaths: []string{"stderr"},
		},
		Metrics: TelemetryMetrics{Level: "normal"},
	}
}

// Validate implements confmap.Validator.
func (l *TelemetryLogs) Validate() error {
	var errs []error
	if _, err := zapcore.ParseLevel(l.Level); err != nil {
		errs = append(errs, fmt.Errorf("`level` %q is none of debug, info, warn, error", l.Level))
	}
	if l.Encoding != "console" && l.Encoding != "json" {
		errs = append(errs, fmt.Errorf("`encoding` %q is none of console, json", l.Encoding))
	}
	if s := l.Sampling; s.Enabled && (s.Tick <= 0 || s.Initial < 0 || s.Thereafter < 0) {
		errs = append(errs, errors.New("`sampling`: tick must be positive, initial and thereafter not negative"))
	}
	return errors.Join(errs...)
}

// Validate implements confmap.Validator.
func (m *TelemetryMetrics) Validate() error {
	switch m.Level {
	case "", "none", "basic", "normal", "detailed":
		return nil
	}
	return fmt.Errorf("`level` %q is none of none, basic, normal, detailed", m.Level)
}

// Validate implements confmap.Validator.
func (r *MetricReader) Validate() error {
	switch {
	case r.Periodic != nil:
		return errors.New("`periodic` readers are not supported; use pull: {exporter: {prometheus: {host, port}}}")
	case r.Pull == nil || r.Pull.Exporter.Prometheus == nil:
		return errors.New("only pull with a prometheus exporter is supported")
	}
	return nil
}

// Validate implements confmap.Validator.
func (p *PrometheusReader) Validate() error {
	if p.Host == "" || p.Port < 0 || p.Port > 65535 {
		return errors.New("`host` and a `port` up to 65535 are needed")
	}
	return nil
}
