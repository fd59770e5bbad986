// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// orders are the ways numbers up to a last one are resolved. Each returns all of them, once.
var orders = map[string]func(last queue.Seq) func() queue.Seq{
	"in order": func(queue.Seq) func() queue.Seq {
		at := queue.Seq(0)
		return func() queue.Seq { at++; return at }
	},
	"10 streams": func(last queue.Seq) func() queue.Seq {
		var at [10]queue.Seq
		i := 0
		return func() queue.Seq {
			i = (i + 3) % len(at)
			at[i]++
			return queue.Seq(i)*(last/10) + at[i]
		}
	},
	"reverse": func(last queue.Seq) func() queue.Seq {
		at := last + 1
		return func() queue.Seq { at--; return at }
	},
	"in order but for a window of 1,024": func(queue.Seq) func() queue.Seq {
		const window = 1024
		order, at := rand.New(rand.NewPCG(1, 2)).Perm(window), queue.Seq(0)
		return func() queue.Seq {
			at++
			return (at-1)/window*window + queue.Seq(order[(at-1)%window]) + 1
		}
	},
	"every second first, 2,000 gaps": func(queue.Seq) func() queue.Seq {
		odd, even := queue.Seq(0), queue.Seq(0)
		return func() queue.Seq {
			if odd < even+2000 {
				odd++
				return 2*odd - 1
			}
			even++
			return 2 * even
		}
	},
}

func BenchmarkSetAdd(b *testing.B) {
	for what, order := range orders {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			var s cursor.Set
			next := order(1 << 40)
			for b.Loop() {
				seq := next()
				s.Add(seq, seq)
			}
		})
	}
	b.Run("anywhere, 4,096 ranges", func(b *testing.B) {
		b.ReportAllocs()
		r := rand.New(rand.NewPCG(1, 2))
		var s cursor.Set
		for b.Loop() {
			if s.Full() {
				s.Reset(0)
			}
			seq := queue.Seq(2 + r.Uint64N(1<<40))
			s.Add(seq, seq)
		}
	})
}

// many is a slot with so many ranges and a full list of drops.
func many(ranges int) *cursor.Slot {
	s := small(1)
	for i := range queue.Seq(ranges) {
		s.Resolved.Add(1000+100*i, 1000+100*i+60)
	}
	s.High = s.Resolved.High()
	for i := range 200 {
		s.Book(cursor.Drop{First: queue.Seq(i), Last: queue.Seq(i), Count: cursor.Count{Records: 1, Items: 10},
			At: int64(i), Reason: cursor.Overflow})
	}
	return s
}

func BenchmarkSlot(b *testing.B) {
	for _, ranges := range []int{0, 64, 4096} {
		s := many(ranges)
		p, err := s.Append(nil)
		ok(b, err)
		b.Run(fmt.Sprintf("append %d ranges", ranges), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Append(p[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("parse %d ranges", ranges), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cursor.ParseSlot(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWrite is a slot on a real disk, with its sync.
func BenchmarkWrite(b *testing.B) {
	for _, ranges := range []int{0, 4096} {
		b.Run(fmt.Sprintf("%d ranges", ranges), func(b *testing.B) {
			s := many(ranges)
			f, err := cursor.Create(vfs.OS(), b.TempDir()+"/otlp.cur", s)
			ok(b, err)
			b.ReportAllocs()
			for b.Loop() {
				ok(b, f.Write(s))
			}
			ok(b, f.Close())
		})
	}
}
