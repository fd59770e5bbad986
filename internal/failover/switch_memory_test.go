// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// What is down is told when it goes down, again every retry_interval while it is, and once more when it is not; read back
// it takes down the same exporter of the same route, if it is young.
func TestWhatIsDownIsRememberedForAWhile(t *testing.T) {
	h, w := ladder(t, 2, nil)
	h.open()
	var told []time.Duration
	h.seen = func(e *failover.Effect) {
		if e.Kind == failover.EffectRemember {
			told = append(told, h.now.Sub(h.start))
		}
	}
	h.load(w, 100*time.Millisecond, 10_000)
	h.at(5 * time.Second)
	if len(told) > 0 {
		t.Fatalf("all is well, and something was told at %v", told)
	}
	h.set("otlp/0", refused)
	h.at(5 * time.Minute)
	for i := 1; i < len(told); i++ {
		if gap := told[i] - told[i-1]; gap > 30*time.Second {
			t.Errorf("nothing told between %s and %s", told[i-1], told[i])
		}
	}
	if len(h.remembered) != 1 || len(told) > 60 {
		t.Fatalf("told %d times: %+v", len(told), h.remembered)
	}
	text, err := json.Marshal(h.remembered)
	if err != nil {
		t.Fatal(err)
	}
	var read []failover.Remembered
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if m := read[0]; m.Exporter != "otlp/0" || m.Connector != traces.Connector || m.Signal != "traces" || m.Reason == "" ||
		m.Error != "connection refused" || m != h.sw.Remember(m.At)[0] {
		t.Errorf("%s", text)
	}
	age := func(d time.Duration, change func(*failover.Remembered)) failover.LevelState {
		m := read[0]
		if change != nil {
			change(&m)
		}
		return started(t, h, m, m.At.Add(d))
	}
	for name, c := range map[string]struct {
		got  failover.LevelState
		down bool
	}{
		"young":                 {age(59*time.Second, nil), true},
		"old":                   {age(time.Minute, nil), false},
		"from a little ahead":   {age(-time.Second, nil), true},
		"from a broken clock":   {age(-time.Hour, nil), false},
		"another exporter":      {age(0, func(m *failover.Remembered) { m.Exporter = "otlp/7" }), false},
		"another configuration": {age(0, func(m *failover.Remembered) { m.Config = "2" }), false},
		"another connector":     {age(0, func(m *failover.Remembered) { m.Connector = "failover/x" }), false},
		"another signal":        {age(0, func(m *failover.Remembered) { m.Signal = "logs" }), false},
		"an unknown reason":     {age(0, func(m *failover.Remembered) { m.Reason = "because" }), true},
	} {
		if down := c.got != failover.Healthy; down != c.down {
			t.Errorf("%s: it starts %s", name, c.got)
		}
	}
	h.set("otlp/0", takes)
	h.at(7 * time.Minute)
	if len(h.remembered) != 0 {
		t.Errorf("it is back, and remembered is %+v", h.remembered)
	}
}

// started is the state of the first level in a process that starts with what is remembered.
func started(t *testing.T, h *house, m failover.Remembered, now time.Time) failover.LevelState {
	t.Helper()
	sw := failover.NewSwitch(&h.plan, []failover.Remembered{m}, now)
	for _, e := range sw.Step(now, failover.Event{Kind: failover.EventTick}, nil) {
		if e.Kind == failover.EffectPublish {
			return e.View.Levels[0].State
		}
	}
	t.Fatal("no view")
	return 0
}
