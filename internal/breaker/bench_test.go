// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker_test

import (
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// load is a mix of outcomes for a breaker that carries: all delivered, or some of them failed.
type load struct {
	name  string
	every int // a failure; 0 = none
}

var loads = []load{{"healthy", 0}, {"suspect", 4}}

func (l load) run(n int) func(b *breaker.Breaker) {
	ok, bad := outcome(breaker.Delivered), outcome(breaker.Retry)
	ok.Generation, bad.Generation = 1, 1
	var out []breaker.Change
	now := start
	return func(b *breaker.Breaker) {
		for i := range n {
			now = now.Add(200 * time.Microsecond)
			o := &ok
			if l.every > 0 && i%l.every == 1 {
				o = &bad
			}
			out = b.Attempted(now, o, false, out[:0])
		}
	}
}

func TestOutcomesAllocateNothing(t *testing.T) {
	for _, l := range loads {
		b := breaker.New(numbers(nil), nil, start)
		run := l.run(1000)
		run(b)
		if n := testing.AllocsPerRun(20, func() { run(b) }); n > 0 {
			t.Errorf("%s: %v allocations in a thousand outcomes", l.name, n)
		}
		if b.Generation() != 1 {
			t.Errorf("%s: tripped", l.name)
		}
	}
}

func BenchmarkOutcome(b *testing.B) {
	for _, l := range loads {
		b.Run(l.name, func(b *testing.B) {
			b.ReportAllocs()
			br := breaker.New(numbers(nil), nil, start)
			l.run(8)(br)
			b.ResetTimer()
			l.run(b.N)(br)
		})
	}
}
