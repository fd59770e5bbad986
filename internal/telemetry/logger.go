// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// NewLogger makes a logger as service::telemetry::logs says (compat, 7): one line per entry, console (tab-separated
// time, level, caller, message, JSON) or json, to every output path. resource becomes the field "resource" of every
// line unless disable_zap_resource is set.
//
// Repeated lines are thinned out as `sampling` says, but for those that begin with fixed words and those of Always.
//
// The function returned flushes, closes the files that were opened, and may be called more than once; lines written
// afterwards are lost. An error names the key below logs.
func NewLogger(cfg config.TelemetryLogs, resource map[string]string) (*zap.Logger, func(), error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, nil, fmt.Errorf("level: %q is none of debug, info, warn, error", cfg.Level)
	}
	encoder, err := newEncoder(cfg.Encoding)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSampling(cfg.Sampling); err != nil {
		return nil, nil, err
	}
	sink, closeSink, err := zap.Open(cfg.OutputPaths...)
	if err != nil {
		return nil, nil, fmt.Errorf("output_paths: %w", err)
	}
	errSink, closeErrSink, err := zap.Open(cfg.ErrorOutputPaths...)
	if err != nil {
		closeSink()
		return nil, nil, fmt.Errorf("error_output_paths: %w", err)
	}
	core := zapcore.NewCore(encoder, sink, level)
	if len(resource) > 0 && !cfg.DisableResource {
		core = core.With([]zapcore.Field{resourceField(resource)})
	}
	if cfg.Sampling.Enabled {
		core = newSamplingCore(core, cfg.Sampling)
	}
	log := zap.New(core, loggerOptions(cfg, errSink)...)
	if len(cfg.Processors) > 0 {
		log.Warn("service::telemetry::logs::processors are not served: own logs go to output_paths only")
	}
	return log, sync.OnceFunc(func() {
		_ = log.Sync() // terminals and pipes refuse to sync; there is nobody left to tell
		closeSink()
		closeErrSink()
	}), nil
}

func newEncoder(encoding string) (zapcore.Encoder, error) {
	ec := zap.NewProductionEncoderConfig()
	ec.EncodeTime = zapcore.ISO8601TimeEncoder
	switch encoding {
	case "console":
		return zapcore.NewConsoleEncoder(ec), nil
	case "json":
		return zapcore.NewJSONEncoder(ec), nil
	}
	return nil, fmt.Errorf("encoding: %q is none of console, json", encoding)
}

func checkSampling(cfg config.LogSampling) error {
	if !cfg.Enabled {
		return nil
	}
	if cfg.Tick <= 0 || cfg.Initial < 0 || cfg.Thereafter < 0 {
		return errors.New("sampling: tick must be positive, initial and thereafter not negative")
	}
	return nil
}

func loggerOptions(cfg config.TelemetryLogs, errSink zapcore.WriteSyncer) []zap.Option {
	opts := []zap.Option{zap.ErrorOutput(errSink)}
	if cfg.Development {
		opts = append(opts, zap.Development())
	}
	if !cfg.DisableCaller {
		opts = append(opts, zap.AddCaller())
	}
	if !cfg.DisableStacktrace {
		// An error line is news for an operator, not a defect; only a panic wants its stack.
		from := zapcore.DPanicLevel
		if cfg.Development {
			from = zapcore.WarnLevel
		}
		opts = append(opts, zap.AddStacktrace(from))
	}
	fields := make([]zap.Field, 0, len(cfg.InitialFields))
	for _, key := range slices.Sorted(maps.Keys(cfg.InitialFields)) {
		fields = append(fields, zap.Any(key, cfg.InitialFields[key]))
	}
	return append(opts, zap.Fields(fields...))
}

func resourceField(resource map[string]string) zap.Field {
	fields := make([]zap.Field, 0, len(resource))
	for _, key := range slices.Sorted(maps.Keys(resource)) {
		fields = append(fields, zap.String(key, resource[key]))
	}
	return zap.Dict("resource", fields...)
}
