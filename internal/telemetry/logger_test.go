// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// logs makes a logger that writes to a file, runs f, and returns the lines.
func logs(t *testing.T, resource map[string]string, change func(*config.TelemetryLogs), f func(*zap.Logger)) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	cfg := config.DefaultTelemetry().Logs
	cfg.OutputPaths, cfg.ErrorOutputPaths = []string{file}, []string{file}
	cfg.Sampling.Tick = time.Hour
	if change != nil {
		change(&cfg)
	}
	log, stop, err := telemetry.NewLogger(cfg, resource)
	if err != nil {
		t.Fatal(err)
	}
	f(log)
	stop()
	stop() // twice is fine
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func TestConsoleLinesAreTimeLevelCallerMessageFields(t *testing.T) {
	lines := logs(t, map[string]string{"service.name": "holdfast"}, nil, func(log *zap.Logger) {
		log.Debug("too fine")
		log.Info("Everything is ready.", zap.Int("n", 3))
	})
	if len(lines) != 1 {
		t.Fatalf("want one line, got %q", lines)
	}
	fields := strings.Split(lines[0], "\t")
	if len(fields) != 5 {
		t.Fatalf("want 5 columns, got %q", fields)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z0700", fields[0]); err != nil {
		t.Errorf("time: %v", err)
	}
	if fields[1] != "info" || !strings.HasPrefix(fields[2], "telemetry/logger_test.go:") ||
		fields[3] != "Everything is ready." {
		t.Errorf("columns are %q", fields)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(fields[4]), &got); err != nil {
		t.Fatal(err)
	}
	if got["n"] != 3.0 || got["resource"].(map[string]any)["service.name"] != "holdfast" {
		t.Errorf("fields are %v", got)
	}
}

func TestJSONLinesCarryInitialFieldsAndNoMoreThanAskedFor(t *testing.T) {
	lines := logs(t, map[string]string{"service.name": "x"}, func(c *config.TelemetryLogs) {
		c.Encoding, c.Level = "json", "warn"
		c.DisableCaller, c.DisableResource, c.DisableStacktrace = true, true, true
		c.InitialFields = map[string]any{"site": "b", "rack": 4}
	}, func(log *zap.Logger) {
		log.Info("not this")
		log.Error("this")
	})
	if len(lines) != 1 {
		t.Fatalf("want one line, got %q", lines)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	if got["level"] != "error" || got["msg"] != "this" || got["site"] != "b" || got["rack"] != 4.0 {
		t.Errorf("line is %v", got)
	}
	for _, key := range []string{"caller", "resource", "stacktrace"} {
		if _, there := got[key]; there {
			t.Errorf("%s is there", key)
		}
	}
}

func TestSamplingThinsOutRepeatedLines(t *testing.T) {
	lines := logs(t, nil, func(c *config.TelemetryLogs) {
		c.Sampling.Initial, c.Sampling.Thereafter = 3, 5
	}, func(log *zap.Logger) {
		for range 13 {
			log.Info("again and again")
		}
	})
	if len(lines) != 3+2 {
		t.Errorf("13 lines became %d, want the first 3 and every 5th of the other 10", len(lines))
	}
}

func TestTransitionLinesBypassSampling(t *testing.T) {
	words := []string{
		"Starting holdfast...", "Everything is ready. Begin running and processing data.", "Received signal from OS",
		"Starting shutdown...", "Shutdown complete.", "Queue: opened", "Queue: backlog grows",
		"Queue: 80 percent full", "Queue: records dropped", "Exporting failed. Will retry the request after interval.",
		"Exporting failed. Record set aside after error", "Partial success, items refused by the backend",
		"Memory usage is above soft limit. Refusing data.",
		"Memory usage back within limits. Resuming normal operation.", "Listening", "Limits in force",
		"Failover: level is down, data goes to the next level", "Failover: level is back", "Queue parked",
		"Config switched, trial begins", "Config rolled back", "Shutdown step done",
	}
	lines := logs(t, nil, func(c *config.TelemetryLogs) {
		c.Sampling.Initial, c.Sampling.Thereafter = 1, 1000
	}, func(log *zap.Logger) {
		log = log.With(zap.String("otelcol.component.id", "otlp"))
		for range 4 {
			for _, w := range words {
				log.Info(w)
			}
		}
	})
	counts := map[string]int{}
	for _, line := range lines {
		if !strings.Contains(line, `"otelcol.component.id": "otlp"`) {
			t.Errorf("%q lost its fields", line)
		}
		counts[strings.Split(line, "\t")[3]]++
	}
	for _, w := range words {
		if counts[w] != 4 {
			t.Errorf("%q was printed %d times, want 4", w, counts[w])
		}
	}
}

func TestAlwaysBypassesSamplingAndKeepsFields(t *testing.T) {
	lines := logs(t, nil, func(c *config.TelemetryLogs) {
		c.Sampling.Initial, c.Sampling.Thereafter = 1, 1000
	}, func(log *zap.Logger) {
		always := telemetry.Always(log.With(zap.String("before", "b"))).With(zap.String("after", "a"))
		for range 5 {
			always.Info("words of my own")
		}
		for range 5 {
			log.Info("ordinary words")
		}
	})
	if len(lines) != 6 {
		t.Fatalf("want 5 lines and 1, got %q", lines)
	}
	for _, line := range lines[:5] {
		if !strings.Contains(line, `{"before": "b", "after": "a"}`) {
			t.Errorf("%q lost its fields", line)
		}
	}
	telemetry.Always(zap.NewNop()).Info("a logger without sampling is fine too")
}

func TestLevelsHoldForLinesThatBypassSampling(t *testing.T) {
	lines := logs(t, nil, func(c *config.TelemetryLogs) { c.Level = "error" }, func(log *zap.Logger) {
		log.Info("Queue: opened")
		telemetry.Always(log).Info("anything")
	})
	if len(lines) != 0 {
		t.Errorf("printed %q at level error", lines)
	}
}

func TestBadLogSettingsNameTheKey(t *testing.T) {
	check := func(key string, change func(*config.TelemetryLogs)) {
		t.Helper()
		cfg := config.DefaultTelemetry().Logs
		change(&cfg)
		_, _, err := telemetry.NewLogger(cfg, nil)
		if err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("want an error about %s, got %v", key, err)
		}
	}
	check("level", func(c *config.TelemetryLogs) { c.Level = "loud" })
	check("encoding", func(c *config.TelemetryLogs) { c.Encoding = "xml" })
	check("sampling", func(c *config.TelemetryLogs) { c.Sampling.Tick = 0 })
	check("sampling", func(c *config.TelemetryLogs) { c.Sampling.Initial = -1 })
	check("output_paths", func(c *config.TelemetryLogs) { c.OutputPaths = []string{filepath.Join(t.TempDir(), "no", "dir")} })
	check("error_output_paths", func(c *config.TelemetryLogs) { c.ErrorOutputPaths = []string{filepath.Join(t.TempDir(), "no", "dir")} })
}

func TestForeignTextCannotForgeALine(t *testing.T) {
	lines := logs(t, nil, nil, func(log *zap.Logger) {
		log.Warn("Partial success, items refused by the backend",
			telemetry.Foreign("message", "ok\n2026-11-20T10:00:00.000Z\tinfo\tShutdown complete.\x1b[2J"))
	})
	if len(lines) != 1 || strings.ContainsRune(lines[0], 0x1b) {
		t.Errorf("printed %q", lines)
	}
}
