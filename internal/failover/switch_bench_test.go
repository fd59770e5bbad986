// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// busy is a Switch of eight connectors with three levels, and outcomes of the first member of the first.
type busy struct {
	sw   *failover.Switch
	now  time.Time
	ok   failover.Event
	fail failover.Event
	out  []failover.Effect
}

func newBusy(t testing.TB) *busy {
	var plan failover.SwitchPlan
	for i := range 8 {
		cfg := failover.Default().(*failover.Config)
		var levels []failover.PlannedLevel
		for j := range 3 {
			levels = append(levels, failover.PlannedLevel{
				Timeout: 5 * time.Second, Retry: exporter.DefaultRetry(),
				Members: []failover.PlannedMember{{Exporter: fmt.Sprintf("otlp/%d-%d", i, j), OwnProbe: "empty"}},
			})
		}
		id := failover.RouteID{Connector: fmt.Sprintf("failover/%d", i), Signal: otlp.Traces}
		plan.Routes = append(plan.Routes, cfg.Plan(id, levels))
	}
	b := &busy{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	b.sw = failover.NewSwitch(&plan, nil, b.now)
	var m failover.MemberView
	for _, e := range b.sw.Step(b.now, failover.Event{Kind: failover.EventTick}, nil) {
		if e.Kind == failover.EffectPublish && e.Route.Connector == "failover/0" {
			m = e.View.Levels[0].Members[0]
		}
	}
	if m.Breaker == 0 {
		t.Fatal("no view")
	}
	b.ok = failover.Event{Kind: failover.EventAttempted, Breaker: m.Breaker, Outcome: breaker.Outcome{
		Class: breaker.Delivered, Generation: m.Generation,
	}}
	b.fail = b.ok
	b.fail.Outcome = breaker.Outcome{Class: breaker.Retry, Counted: true, Generation: m.Generation, Text: "refused"}
	return b
}

// run tells n outcomes, 5,000 a second; every so many-th failed.
func (b *busy) run(n, every int) {
	for i := range n {
		b.now = b.now.Add(200 * time.Microsecond)
		ev := &b.ok
		if every > 0 && i%every == 1 {
			ev = &b.fail
		}
		b.out = b.sw.Step(b.now, *ev, b.out[:0])
	}
}

func TestSwitchAllocatesNothingWhileNothingChanges(t *testing.T) {
	b := newBusy(t)
	b.run(10, 0)
	if n := testing.AllocsPerRun(20, func() { b.run(100, 0) }); n > 0 {
		t.Errorf("%v allocations in a hundred deliveries", n)
	}
	b.run(8, 4)
	if n := testing.AllocsPerRun(20, func() { b.run(100, 4) }); n > 0 {
		t.Errorf("%v allocations in a hundred outcomes between two strikes", n)
	}
}

func BenchmarkSwitchOutcome(b *testing.B) {
	for _, l := range []struct {
		name  string
		every int
	}{{"healthy", 0}, {"suspect", 4}} {
		b.Run(l.name, func(b *testing.B) {
			b.ReportAllocs()
			s := newBusy(b)
			s.run(8, l.every)
			b.ResetTimer()
			s.run(b.N, l.every)
		})
	}
}

// BenchmarkSwitchSettle is a trip and a return: what is allowed to cost something.
func BenchmarkSwitchTick(b *testing.B) {
	b.ReportAllocs()
	s := newBusy(b)
	for b.Loop() {
		s.now = s.now.Add(time.Second)
		s.out = s.sw.Step(s.now, failover.Event{Kind: failover.EventTick}, s.out[:0])
	}
}
