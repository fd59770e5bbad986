// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// fixedWords begin the lines that tell of transitions. Sampling would drop just the line an operator greps for, so
// these pass it by (compat, 7). They are printed once per transition, or thinned out by whoever prints them.
var fixedWords = [...]string{
	"Starting holdfast", "Everything is ready.", "Received signal from OS", "Starting shutdown", "Shutdown ",
	"Queue: ", "Queue parked", "Failover: ", "Config ", "Listening", "Limits in force",
	"Exporting failed", "Partial success", "Memory usage ",
}

// Always returns a logger whose lines are never thinned out. Lines that begin with fixed words need it not.
func Always(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(unthinned))
}

func unthinned(c zapcore.Core) zapcore.Core {
	switch c := c.(type) {
	case *samplingCore:
		return c.Core
	case *tapCore:
		out := *c
		out.Core = unthinned(c.Core)
		return &out
	}
	return c
}

// samplingCore asks a sampler about every line but those with fixed words. Both cores write to one place and carry
// the same fields.
type samplingCore struct {
	zapcore.Core // writes everything
	sampler      zapcore.Core
}

func newSamplingCore(c zapcore.Core, cfg config.LogSampling) zapcore.Core {
	return &samplingCore{Core: c, sampler: zapcore.NewSamplerWithOptions(c, cfg.Tick, cfg.Initial, cfg.Thereafter)}
}

// With implements zapcore.Core.
func (s *samplingCore) With(fields []zapcore.Field) zapcore.Core {
	return &samplingCore{Core: s.Core.With(fields), sampler: s.sampler.With(fields)}
}

// Check implements zapcore.Core.
func (s *samplingCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	for _, words := range fixedWords {
		if strings.HasPrefix(e.Message, words) {
			return s.Core.Check(e, ce)
		}
	}
	return s.sampler.Check(e, ce)
}
