// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestATapSeesWhatTheLogIsNotToldAndChangesNothingInIt(t *testing.T) {
	var seen []string
	lines := logs(t, nil, func(c *config.TelemetryLogs) {
		c.Level, c.Sampling.Initial, c.Sampling.Thereafter = "warn", 1, 1000
	}, func(log *zap.Logger) {
		log = telemetry.Tap(log, func(e zapcore.Entry) bool { return strings.HasPrefix(e.Message, "Failover: ") },
			func(e zapcore.Entry, fields []zapcore.Field) {
				m := zapcore.NewMapObjectEncoder()
				for _, f := range fields {
					f.AddTo(m)
				}
				seen = append(seen, fmt.Sprint(e.Level, " ", e.Message, " ", m.Fields["signal"], " ", m.Fields["level"]))
			})
		log = log.With(zap.String("signal", "traces"))
		for range 3 {
			log.Info("Failover: level is back", zap.Int("level", 0))
			log.Warn("something else")
			telemetry.Always(log).Warn("what is always said")
		}
		log.Debug("Failover: too fine")
		telemetry.Always(log).Warn("Failover: level is down", zap.Int("level", 1))
	})
	want := []string{"info Failover: level is back traces 0", "info Failover: level is back traces 0",
		"info Failover: level is back traces 0", "warn Failover: level is down traces 1"}
	if !slices.Equal(seen, want) {
		t.Errorf("the tap saw %q, want %q", seen, want)
	}
	if got := len(lines); got != 1+3+1 {
		t.Errorf("the log has %d lines, want one that was thinned out, three of Always and the last: %q", got, lines)
	}
}
