// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

// bench is a router with three levels, of which the second takes data.
type bench struct {
	r       *failover.Router
	view    *failover.View
	now     time.Time
	out     []failover.RouterEffect
	batch   failover.Batch
	pieces  []*failover.Batch
	results []failover.Result
}

func newBench(tb testing.TB, first failover.LevelView) *bench {
	tb.Helper()
	set := failover.Default().(*failover.Config).Settings()
	for _, id := range []string{"a", "b", "c"} {
		set.Levels = append(set.Levels, failover.LevelSettings{
			Members: []string{id}, Slots: 10, Patience: 30 * time.Second, Timeout: 5 * time.Second,
			Backoff: failover.Backoff{Initial: time.Second, Max: 10 * time.Second, Multiplier: 1.5},
		})
	}
	r, err := failover.NewRouter(set)
	if err != nil {
		tb.Fatal(err)
	}
	member := []failover.MemberView{{}}
	first.Members = member
	up := failover.LevelView{Eligible: true, Members: member}
	b := &bench{
		r: r, now: storyStart, out: make([]failover.RouterEffect, 0, 16), results: make([]failover.Result, 1),
		view: &failover.View{Number: 1, Levels: []failover.LevelView{first, up, up}},
	}
	b.batch.Seqs, b.batch.Items = []uint64{1}, 1000
	b.pieces = []*failover.Batch{&b.batch}
	b.step(failover.RouterEvent{Kind: failover.ViewChanged})
	return b
}

func (b *bench) step(ev failover.RouterEvent) failover.RouterEffect {
	b.out = b.r.Step(b.now, b.view, 0, ev, b.out[:0])
	if len(b.out) == 0 {
		return failover.RouterEffect{}
	}
	return b.out[0]
}

// deliver is a batch's whole stay: two decisions.
func (b *bench) deliver() failover.RouterEffectKind {
	b.now = b.now.Add(time.Microsecond)
	sent := b.step(failover.RouterEvent{Kind: failover.BatchArrived, Pieces: b.pieces})
	b.results[0].Kind = exporter.Delivered
	return b.step(failover.RouterEvent{
		Kind: failover.BatchFinished, Batch: sent.Batch, Try: sent.Try, Results: b.results,
	}).Kind
}

// move is a batch that fails at its first level and is delivered by the next: three decisions.
func (b *bench) move() failover.RouterEffectKind {
	sent := b.step(failover.RouterEvent{Kind: failover.BatchArrived, Pieces: b.pieces})
	b.results[0].Kind = exporter.Retry
	sent = b.step(failover.RouterEvent{
		Kind: failover.BatchFinished, Batch: sent.Batch, Try: sent.Try, Results: b.results,
	})
	b.results[0].Kind = exporter.Delivered
	return b.step(failover.RouterEvent{
		Kind: failover.BatchFinished, Batch: sent.Batch, Try: sent.Try, Results: b.results,
	}).Kind
}

func TestRouterAllocatesNothing(t *testing.T) {
	for name, round := range map[string]func(*bench) failover.RouterEffectKind{
		"deliver": (*bench).deliver, "move": (*bench).move,
	} {
		b := newBench(t, failover.LevelView{Eligible: true})
		if n := testing.AllocsPerRun(1000, func() {
			if round(b) != failover.AckBatch {
				t.Fatal("not delivered")
			}
		}); n != 0 {
			t.Errorf("%s: %.1f allocations a batch", name, n)
		}
	}
}

// BenchmarkRouterDeliver is two decisions: a batch arrives, a batch was delivered.
func BenchmarkRouterDeliver(b *testing.B) {
	x := newBench(b, failover.LevelView{Eligible: true})
	b.ReportAllocs()
	for b.Loop() {
		x.deliver()
	}
}

// BenchmarkRouterDeliverBelow is the same while the first level is down.
func BenchmarkRouterDeliverBelow(b *testing.B) {
	x := newBench(b, failover.LevelView{State: failover.Down})
	b.ReportAllocs()
	for b.Loop() {
		x.deliver()
	}
}

// BenchmarkRouterMove is three decisions: arrives, failed, delivered by the next level.
func BenchmarkRouterMove(b *testing.B) {
	x := newBench(b, failover.LevelView{Eligible: true})
	b.ReportAllocs()
	for b.Loop() {
		x.move()
	}
}
