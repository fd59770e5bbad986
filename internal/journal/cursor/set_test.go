// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// model is a Set as a map of numbers, up to a last one.
type model map[queue.Seq]bool

func (m model) add(first, last queue.Seq) (added uint64) {
	for seq := max(first, 1); seq <= last; seq++ {
		if !m[seq] {
			m[seq] = true
			added++
		}
	}
	return added
}

// check compares everything a set says with the model.
func (m model) check(t *testing.T, s *cursor.Set, limit queue.Seq, r *rand.Rand) {
	t.Helper()
	floor := queue.Seq(0)
	for m[floor+1] {
		floor++
	}
	var want [][2]queue.Seq
	var encoded []byte
	previous := floor
	for seq := floor + 1; seq <= limit; seq++ {
		if !m[seq] {
			continue
		}
		first := seq
		for m[seq+1] {
			seq++
		}
		want = append(want, [2]queue.Seq{first, seq})
		encoded = binary.AppendUvarint(encoded, uint64(first-previous))
		encoded = binary.AppendUvarint(encoded, uint64(seq-first))
		previous = seq
	}
	if s.Floor() != floor || !slices.Equal(pairs(s), want) || s.Len() != len(want) || s.High() != previous ||
		s.EncodedBytes() != len(encoded) {
		t.Fatalf("floor %d, high %d, %d bytes, ranges %v; want %d, %d, %d, %v",
			s.Floor(), s.High(), s.EncodedBytes(), pairs(s), floor, previous, len(encoded), want)
	}
	for range 8 {
		first := queue.Seq(r.Uint64N(uint64(limit)))
		last := first + queue.Seq(r.Uint64N(uint64(limit)/8))
		count, next := uint64(0), max(first, 1)
		for seq := max(first, 1); seq <= last; seq++ {
			if m[seq] {
				count++
			}
		}
		for m[next] {
			next++
		}
		numbers := uint64(last - max(first, 1) + 1)
		if last == 0 {
			numbers = 0
		}
		if s.Count(first, last) != count || s.Covers(first, last) != (count == numbers) || s.Next(first) != next ||
			s.Has(max(first, 1)) != m[max(first, 1)] {
			t.Fatalf("%d..%d in %v above %d: count %d, covers %v, next %d, has %v; want %d of %d, %d",
				first, last, want, floor, s.Count(first, last), s.Covers(first, last), s.Next(first), s.Has(first),
				count, numbers, next)
		}
	}
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// TestASetIsWhatAMapSays walks through orders of resolving: in order, in streams, backwards, anywhere, long ranges.
func TestASetIsWhatAMapSays(t *testing.T) {
	for seed := range uint64(60) {
		r := newRandom(seed)
		limit := queue.Seq(64 + r.IntN(2000))
		var s cursor.Set
		m := model{}
		streams := make([]queue.Seq, 10)
		for i := range streams {
			streams[i] = queue.Seq(r.Uint64N(uint64(limit)))
		}
		down := limit
		for step := range 400 {
			var first queue.Seq
			length := queue.Seq(0)
			switch r.IntN(7) {
			case 0:
				first = s.Next(0)
			case 1, 2:
				at := &streams[r.IntN(len(streams))]
				*at++
				first = *at
			case 3:
				first = down
				down -= min(down, queue.Seq(1+r.IntN(3)))
			case 4:
				first, length = queue.Seq(r.Uint64N(uint64(limit))), queue.Seq(r.Uint64N(1<<r.IntN(9)))
			default:
				first = queue.Seq(r.Uint64N(uint64(limit)))
			}
			last := min(first+length, limit)
			if got, want := s.Add(first, last), m.add(first, last); got != want {
				t.Fatalf("seed %d, step %d: %d..%d added %d numbers, want %d", seed, step, first, last, got, want)
			}
			if step%5 == 0 {
				if r.IntN(20) == 0 {
					last := queue.Seq(r.Uint64N(uint64(limit)))
					if s.Cut(last); r.IntN(4) == 0 {
						last = 0
						s.Cut(last)
					}
					maps.DeleteFunc(m, func(seq queue.Seq, _ bool) bool { return seq > last })
				}
				if r.IntN(10) == 0 {
					s = s.Clone()
				}
				m.check(t, &s, limit, r)
			}
		}
		m.check(t, &s, limit, r)
		if rest := s.Add(1, limit); s.Floor() != limit || s.Len() != 0 || s.EncodedBytes() != 0 || rest != m.add(1, limit) {
			t.Fatalf("seed %d: all resolved, the floor is %d with %d ranges", seed, s.Floor(), s.Len())
		}
	}
}

func TestNumbersOutOfBoundsAreNotResolved(t *testing.T) {
	var s cursor.Set
	if s.Add(0, 0) != 0 || s.Add(5, 4) != 0 || s.Add(cursor.MaxSeq+1, ^queue.Seq(0)) != 0 || s.High() != 0 {
		t.Errorf("resolved up to %d", s.High())
	}
	if n := s.Add(cursor.MaxSeq-1, ^queue.Seq(0)); n != 2 || s.High() != cursor.MaxSeq {
		t.Errorf("%d numbers up to %d", n, s.High())
	}
	if n := s.Add(0, cursor.MaxSeq); n != uint64(cursor.MaxSeq)-2 || s.Floor() != cursor.MaxSeq || s.Len() != 0 {
		t.Errorf("%d numbers, floor %d", n, s.Floor())
	}
	if s.Next(^queue.Seq(0)) != ^queue.Seq(0) || s.Count(0, ^queue.Seq(0)) != uint64(cursor.MaxSeq) ||
		s.Covers(1, cursor.MaxSeq+1) || !s.Covers(1, cursor.MaxSeq) {
		t.Error("what lies above the largest number")
	}
	s.Reset(^queue.Seq(0))
	if s.Floor() != cursor.MaxSeq {
		t.Errorf("floor %d", s.Floor())
	}
}

func TestASetIsFullAtItsBounds(t *testing.T) {
	var s cursor.Set
	for i := range queue.Seq(4096) {
		if s.Full() {
			t.Fatalf("full with %d ranges", s.Len())
		}
		s.Add(3+2*i, 3+2*i)
	}
	if !s.Full() {
		t.Error("not full with 4,096 ranges")
	}
	if s.Add(4, 4); s.Full() {
		t.Error("still full")
	}
	s.Reset(0)
	for i := range queue.Seq(1 << 20) {
		if s.Full() {
			break
		}
		s.Add(i<<45+2, i<<45+1<<44)
	}
	if s.Len() >= 4096 || s.EncodedBytes() < 48<<10 || s.EncodedBytes() > 48<<10+20 {
		t.Errorf("full with %d ranges in %d bytes", s.Len(), s.EncodedBytes())
	}
}

func TestACloneSharesNothing(t *testing.T) {
	a := small(1)
	b := a.Clone()
	before := b.Clone()
	a.Resolved.Add(150, 350)
	a.Resolved.Add(1, 120)
	a.Book(cursor.Drop{First: 1, Last: 2, Reason: cursor.Corrupt})
	a.Drops[0].At, a.Exporters[0] = 1, "changed"
	if !same(&b, &before) {
		t.Errorf("%+v, was %+v", b, before)
	}
}

func TestResolvingNearlyInOrderAllocatesNothing(t *testing.T) {
	for what, order := range orders {
		var s cursor.Set
		next := order(1 << 40)
		for range 1 << 12 { // the room it needs
			seq := next()
			s.Add(seq, seq)
		}
		if n := testing.AllocsPerRun(5000, func() { seq := next(); s.Add(seq, seq) }); n != 0 {
			t.Errorf("%s: %v allocations for each number", what, n)
		}
	}
}
