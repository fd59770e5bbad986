// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Several pipelines lead to one connector: its level shows what all of them may send, and nothing of those that ended.
func TestTheLimitsOfALevelAreThoseOfAllPipelines(t *testing.T) {
	set := &Settings{Telemetry: telemetry.Nop()}
	d := &plan.Destination{Label: "failover", Destination: queue.Destination{Name: "failover"},
		Levels: []plan.Level{{Exporters: []string{"otlp"}}}}
	shows := func(window, pace float64) {
		t.Helper()
		for name, want := range map[string]float64{"holdfast_failover_window": window, "holdfast_failover_pace": pace} {
			if v := set.Telemetry.Metrics.Sum(name, func([]string) bool { return true }); v != want {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
	}
	one, two := newMeter(set, d), newMeter(set, d)
	one.drains(0, failover.Drain{Window: 3, Pace: 1000.5})
	two.drains(0, failover.Drain{Window: 5})
	shows(8, 1000)
	one.drains(0, failover.Drain{Window: 1, Pace: 20})
	shows(6, 20)
	one.leave()
	shows(5, 0)
	two.leave()
	two.leave()
	shows(0, 0)
}
