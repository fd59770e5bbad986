// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package extension_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

func running(pipelines ...extension.PipelineHealth) *extension.Health {
	return &extension.Health{Phase: extension.Running, UpSince: epoch, Pipelines: pipelines}
}

func accepting(id string) extension.PipelineHealth {
	return extension.PipelineHealth{ID: id, Accepting: true}
}

func refusing(id string, since float64) extension.PipelineHealth {
	return extension.PipelineHealth{ID: id, RefusingSince: at(since)}
}

func TestReadinessFollowsThePhase(t *testing.T) {
	var r extension.Readiness
	for phase, want := range map[extension.Phase]bool{
		extension.Starting: false, extension.Running: true, extension.Stopping: false,
	} {
		if got, _ := r.Ready(&extension.Health{Phase: phase}, epoch); got != want {
			t.Errorf("%s: ready %t", phase, got)
		}
	}
}

func TestNotReadyWhenEveryPipelineRefusedForTenSecondsBackAfterTwoOfAccepting(t *testing.T) {
	var r extension.Readiness
	check := func(second float64, want bool, h *extension.Health) {
		t.Helper()
		if got, reasons := r.Ready(h, at(second)); got != want {
			t.Errorf("at %v s: ready %t, want %t (%v)", second, got, want, reasons)
		}
	}
	check(0, true, running(accepting("traces"), accepting("logs")))
	check(9.9, true, running(refusing("traces", 0), refusing("logs", 0)))
	check(10, true, running(refusing("traces", 0), accepting("logs")))
	check(10, true, running(refusing("traces", 0), refusing("logs", 5)))
	check(15, false, running(refusing("traces", 0), refusing("logs", 5)))
	check(16, false, running(accepting("traces"), refusing("logs", 5)))
	check(17, false, running(refusing("traces", 16.5), refusing("logs", 5))) // gave up again at once
	check(18, false, running(accepting("traces"), refusing("logs", 5)))
	check(19.9, false, running(accepting("traces"), refusing("logs", 5)))
	check(20, true, running(accepting("traces"), refusing("logs", 5)))
	check(21, true, running(refusing("traces", 21), refusing("logs", 5)))
}

func TestAKnownTimeOfAcceptingCounts(t *testing.T) {
	var r extension.Readiness
	r.Ready(running(refusing("traces", 0)), at(20))
	p := accepting("traces")
	p.AcceptingSince = at(21)
	if ready, _ := r.Ready(running(p), at(22)); ready {
		t.Error("ready after 1 s")
	}
	if ready, _ := r.Ready(running(p), at(23)); !ready {
		t.Error("not ready after 2 s")
	}
}

func TestAShortRefusalLeavesNoMark(t *testing.T) {
	var r extension.Readiness
	r.Ready(running(refusing("traces", 0)), at(5))
	if ready, _ := r.Ready(running(accepting("traces")), at(6)); !ready {
		t.Error("not ready after a refusal of 6 s")
	}
}

func TestAnEmptyConfigurationIsReady(t *testing.T) {
	var r extension.Readiness
	if ready, _ := r.Ready(running(), epoch); !ready {
		t.Error("not ready without pipelines")
	}
}

func TestOnlyALoopSilentForThirtySecondsIsStuck(t *testing.T) {
	h := running()
	h.Loops = []extension.LoopHealth{
		{Name: "accept traces", LastTick: at(0)}, {Name: "deliver otlp", LastTick: at(20)}, {Name: "not begun"},
	}
	if got := h.Stuck(at(30)); got != nil {
		t.Errorf("after 30 s: %v", got)
	}
	got := h.Stuck(at(31))
	if len(got) != 1 || got[0] != "accept traces: no sign of life for 31s" {
		t.Errorf("after 31 s: %v", got)
	}
	h.Phase = extension.Stopping
	if got := h.Stuck(at(300)); got != nil {
		t.Errorf("while stopping: %v", got)
	}
}

func TestADestinationFailsAfterEnoughYoungFailuresWithoutADelivery(t *testing.T) {
	f := extension.Failing{Threshold: 5, Interval: 30 * time.Second}
	check := func(want bool, failed int64, last float64, now float64) {
		t.Helper()
		d := &extension.DestinationHealth{Name: "otlp", Failed: failed, LastFailure: at(last)}
		if got := f.Fails(d, at(now)); got != want {
			t.Errorf("%d failures, last %v s ago: fails %t", failed, now-last, got)
		}
	}
	check(false, 4, 0, 1)
	check(true, 5, 0, 1)
	check(true, 500, 0, 29.9)
	check(false, 500, 0, 30)
	check(false, 0, 0, 0)
	if d := (extension.Failing{}); d.Fails(&extension.DestinationHealth{}, epoch) {
		t.Error("a destination without failures fails")
	}
}

func TestHealthGaugesAreOneWhileTheCheckPasses(t *testing.T) {
	reg := telemetry.NewRegistry()
	h := running(accepting("traces"))
	h.UpSince = time.Now()
	extension.RegisterHealth(reg, func() extension.Health { return *h })
	expect := func(want string) {
		t.Helper()
		var got []string
		for _, s := range reg.Snapshot() {
			value := "0"
			if s.Value == 1 {
				value = "1"
			}
			got = append(got, s.Name+"/"+s.Labels[1]+"="+value)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	expect("holdfast_health/live=1 holdfast_health/pipelines=1 holdfast_health/ready=1")
	h.Loops = []extension.LoopHealth{{Name: "x", LastTick: time.Now().Add(-time.Hour)}}
	h.Destinations = []extension.DestinationHealth{{Name: "otlp", Failed: 5, LastFailure: time.Now()}}
	h.Pipelines[0] = extension.PipelineHealth{ID: "traces", RefusingSince: time.Now().Add(-time.Minute)}
	expect("holdfast_health/live=0 holdfast_health/pipelines=0 holdfast_health/ready=0")
}
