// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

func TestTheHistoryIsBoundedAndNewestFirst(t *testing.T) {
	h := status.NewHistory(3)
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for i := range 5 {
		h.Add(status.Event{Time: now, Level: "info", Text: fmt.Sprint(i)})
	}
	all, last := h.Newest(10)
	if len(all) != 3 || all[0].Text != "4" || all[2].Text != "2" || last != 5 || all[0].ID != 5 {
		t.Errorf("%+v, last %d", all, last)
	}
	if two, _ := h.Newest(2); len(two) != 2 || two[0].Text != "4" {
		t.Errorf("%+v", two)
	}
	h.Keep(1)
	if all, _ := h.Newest(10); len(all) != 1 || all[0].Text != "4" {
		t.Errorf("after it was made shorter: %+v", all)
	}
}

func TestTheSignalsOfOneOutageAreOneEvent(t *testing.T) {
	h := status.NewHistory(10)
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	say := func(after time.Duration, text, signal string) {
		h.Add(status.Event{Time: now.Add(after), Level: "warn", Text: text, Signals: []string{signal}})
	}
	say(0, "a is down", "traces")
	before, _ := h.Newest(1)
	say(time.Second, "a is down", "metrics")
	say(time.Second, "b is down", "logs")
	say(2*time.Second, "a is down", "logs")
	say(3*time.Second, "a is down", "logs")
	say(12*time.Second, "a is down", "logs")
	all, last := h.Newest(10)
	if len(all) != 3 || last != 6 {
		t.Fatalf("%d events, last %d: %+v", len(all), last, all)
	}
	if e := all[2]; fmt.Sprint(e.Signals) != "[logs metrics traces]" || e.Times != 2 || !e.Time.Equal(now) || e.ID != 5 {
		t.Errorf("gathered: %+v", e)
	}
	if e := all[0]; fmt.Sprint(e.Signals) != "[logs]" || e.Times != 0 {
		t.Errorf("much later: %+v", e)
	}
	if fmt.Sprint(before[0].Signals) != "[traces]" {
		t.Errorf("what was handed out has changed: %+v", before[0])
	}
}

func TestLinesOfTheLogBecomeEventsForPeople(t *testing.T) {
	named := func(_ string, level int64) string { return []string{"otlp/a", "otlp/b"}[level] }
	for _, tc := range []struct {
		message string
		fields  map[string]any
		want    string // empty = it is none
	}{
		{"Failover: level is down, data goes to the next level",
			map[string]any{"connector": "failover", "signal": "traces", "exporter": "otlp/a", "error": "dial: connection refused"},
			"otlp/a is down, data goes to the next level: connection refused [traces]"},
		{"Failover: level is back", map[string]any{"connector": "failover", "signal": "logs", "exporter": "otlp/a"},
			"otlp/a is back [logs]"},
		{"Failover: active level changed", map[string]any{"connector": "failover", "signal": "logs", "from": int64(0), "to": int64(1)},
			"failover: data goes to otlp/b now, before to otlp/a [logs]"},
		{"Failover: retry probe failed", map[string]any{"exporter": "otlp/a", "signal": "logs", "error": "no such host"},
			"otlp/a: retry probe failed: name not found [logs]"},
		{"Failover: backfill begins", map[string]any{"connector": "failover", "signal": "logs", "items": int64(8800)},
			"failover: backfill begins; 8,800 items in the emergency file [logs]"},
		{"Failover: backfill ends", map[string]any{"connector": "failover", "signal": "logs", "delivered": int64(8800), "left": int64(0)},
			"failover: backfill ends; 8,800 items delivered, 0 left [logs]"},
		{"Config rolled back", map[string]any{"generation": uint64(3), "reason": "exports_fail", "sha256": "ab"},
			"Config rolled back, exports fail, generation 3 []"},
		{"Config committed", map[string]any{"generation": uint64(3), "reason": "none"}, "Config committed, generation 3 []"},
		{"Queue: opened", map[string]any{"items": int64(0), "otelcol.pipeline.id": "traces"}, ""},
		{"Queue: opened", map[string]any{"items": int64(300), "otelcol.pipeline.id": "traces"},
			"Queue: opened with 300 items from before [traces]"},
		{"Received signal from OS", map[string]any{"signal": "hangup"}, "Received signal from OS: hangup []"},
		{"Starting holdfast...", map[string]any{"version": "1.0"}, "Holdfast starts, version 1.0 []"},
		{"Queue: 80 percent full", map[string]any{"storage": "file_storage"}, "file_storage: Queue: 80 percent full []"},
		{"something unforeseen", map[string]any{}, "something unforeseen []"},
	} {
		e, ok := status.EventOf(tc.message, tc.fields, named)
		if got := fmt.Sprint(e.Text, " ", e.Signals); ok != (tc.want != "") || ok && got != tc.want {
			t.Errorf("%s: %q (%v), want %q", tc.message, got, ok, tc.want)
		}
	}
}

func TestOnlyLinesThatTellWhatHappenedAreEvents(t *testing.T) {
	for _, tc := range []struct {
		message string
		warning bool
		want    bool
	}{
		{"Failover: level is back", false, true},
		{"Failover: queue and retry settings of otlp/a belong to the connector", false, false},
		{"Listening", false, false},
		{"Status: OK", false, false},
		{"batches are made behind the queue of traces", false, false},
		{"whatever", true, true},
		{"Config committed", false, true},
		{"Config store opened", false, false},
	} {
		if got := status.IsEvent(tc.message, tc.warning); got != tc.want {
			t.Errorf("%q, a warning: %v, is an event: %v", tc.message, tc.warning, got)
		}
	}
}
