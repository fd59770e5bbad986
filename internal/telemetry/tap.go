// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Tap returns a logger like log whose lines are also given to take, whatever level the log itself has: those that wanted
// chooses, which is asked about every line of level info and above. Lines that sampling thins out are given all the same.
// Both functions are called by whoever logs, must return at once, and may not log.
func Tap(log *zap.Logger, wanted func(zapcore.Entry) bool, take func(zapcore.Entry, []zapcore.Field)) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return &tapCore{Core: c, wanted: wanted, take: take}
	}))
}

// tapCore writes nothing itself but to take; what is below it writes the line.
type tapCore struct {
	zapcore.Core
	fields []zapcore.Field // of With
	wanted func(zapcore.Entry) bool
	take   func(zapcore.Entry, []zapcore.Field)
}

// Enabled implements zapcore.Core.
func (t *tapCore) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel || t.Core.Enabled(l) }

// With implements zapcore.Core.
func (t *tapCore) With(fields []zapcore.Field) zapcore.Core {
	out := *t
	out.Core = t.Core.With(fields)
	out.fields = append(t.fields[:len(t.fields):len(t.fields)], fields...)
	return &out
}

// Check implements zapcore.Core.
func (t *tapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if t.Core.Enabled(e.Level) {
		ce = t.Core.Check(e, ce)
	}
	if e.Level >= zapcore.InfoLevel && t.wanted(e) {
		ce = ce.AddCore(e, t)
	}
	return ce
}

// Write implements zapcore.Core.
func (t *tapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	t.take(e, append(t.fields[:len(t.fields):len(t.fields)], fields...))
	return nil
}
