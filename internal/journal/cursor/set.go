// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor

import (
	"math/bits"
	"sort"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	// From so many ranges, or bytes of them in a slot, a Set is Full. What is leased at that moment may still be
	// resolved, so a slot has room for more: 65,536 bytes less head, names and drops.
	maxRanges     = 4096
	maxRangeBytes = 48 << 10
)

// Set is the numbers a destination has resolved: all up to the floor, and ranges above it. The zero value has resolved
// nothing. Numbers begin at 1; above MaxSeq there are none, and adding them does nothing.
//
// It is not guarded: one goroutine at a time, or the owner's lock. A copy by assignment shares the ranges and must not
// be changed or outlive a change; Clone does not.
//
// Invariant: floor + 1 < first of a range <= its last, and its last + 1 < the first of the next one. So floor + 1 and
// the number behind each range are unresolved. encoded is what the ranges take in a slot.
type Set struct {
	floor   queue.Seq
	encoded int
	// The ranges are ring[lo:hi]. Room is kept on both sides: numbers are resolved nearly in order, so ranges come and
	// go at the ends, and neither end should move the others.
	ring   []span
	lo, hi int
}

// span is the numbers first to last.
type span struct{ first, last queue.Seq }

func (r span) records() uint64 { return uint64(r.last-r.first) + 1 }

// overlap is how many numbers both have.
func (r span) overlap(o span) uint64 {
	first, last := max(r.first, o.first), min(r.last, o.last)
	if first > last {
		return 0
	}
	return span{first, last}.records()
}

// bytes is what the range takes in a slot behind one that ends at previous.
func (r span) bytes(previous queue.Seq) int {
	return varintBytes(uint64(r.first-previous)) + varintBytes(uint64(r.last-r.first))
}

func varintBytes(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// Floor is the number up to which all are resolved.
func (s *Set) Floor() queue.Seq { return s.floor }

// High is the highest resolved number.
func (s *Set) High() queue.Seq {
	if s.lo == s.hi {
		return s.floor
	}
	return s.ring[s.hi-1].last
}

// Len is the number of ranges above the floor.
func (s *Set) Len() int { return s.hi - s.lo }

// EncodedBytes is what the ranges take in a slot.
func (s *Set) EncodedBytes() int { return s.encoded }

// Full says that no new gaps should be made: only numbers below High are to be handed out, which closes gaps.
func (s *Set) Full() bool { return s.Len() >= maxRanges || s.encoded >= maxRangeBytes }

// Reset forgets everything and resolves the numbers up to floor.
func (s *Set) Reset(floor queue.Seq) {
	s.floor, s.encoded = min(floor, MaxSeq), 0
	s.lo = len(s.ring) / 2
	s.hi = s.lo
}

// Cut forgets the numbers above last.
func (s *Set) Cut(last queue.Seq) {
	if last <= s.floor {
		s.Reset(last)
		return
	}
	for s.hi > s.lo && s.ring[s.hi-1].first > last {
		s.encoded -= s.bytes(s.hi-1, s.hi)
		s.hi--
	}
	if i := s.hi - 1; i >= s.lo && s.ring[i].last > last {
		s.encoded -= s.bytes(i, s.hi)
		s.ring[i].last = last
		s.encoded += s.bytes(i, s.hi)
	}
	if s.lo == s.hi {
		s.lo = len(s.ring) / 2
		s.hi = s.lo
	}
}

// Clone is a copy that shares nothing.
func (s *Set) Clone() Set {
	return Set{floor: s.floor, encoded: s.encoded, ring: append([]span(nil), s.ring[s.lo:s.hi]...), hi: s.Len()}
}

// Ranges calls what for each range above the floor, ascending.
func (s *Set) Ranges(what func(first, last queue.Seq)) {
	for _, r := range s.ring[s.lo:s.hi] {
		what(r.first, r.last)
	}
}

// Has says whether seq is resolved.
func (s *Set) Has(seq queue.Seq) bool { return s.Covers(seq, seq) }

// Covers says whether every number from first to last is resolved.
func (s *Set) Covers(first, last queue.Seq) bool {
	first = max(first, s.floor+1)
	if first > last {
		return true
	}
	i := s.search(first)
	return i < s.hi && s.ring[i].first <= first && last <= s.ring[i].last
}

// Count is how many of the numbers first to last are resolved.
func (s *Set) Count(first, last queue.Seq) (resolved uint64) {
	want := span{max(first, 1), last}
	resolved = span{1, s.floor}.overlap(want)
	for i := s.search(want.first); i < s.hi && s.ring[i].first <= last; i++ {
		resolved += s.ring[i].overlap(want)
	}
	return resolved
}

// Next is the first number at or after from that is not resolved.
func (s *Set) Next(from queue.Seq) queue.Seq {
	from = max(from, 1)
	if from <= s.floor {
		return s.floor + 1
	}
	if i := s.search(from); i < s.hi && s.ring[i].first <= from {
		return s.ring[i].last + 1
	}
	return from
}

// search returns the first range that ends at or after seq, or hi. It looks at both ends first.
func (s *Set) search(seq queue.Seq) int {
	switch {
	case s.lo == s.hi || seq <= s.ring[s.lo].last:
		return s.lo
	case seq > s.ring[s.hi-1].last:
		return s.hi
	case s.hi-s.lo == 2 || seq > s.ring[s.hi-2].last:
		return s.hi - 1
	}
	live := s.ring[s.lo+1 : s.hi-1]
	return s.lo + 1 + sort.Search(len(live), func(i int) bool { return live[i].last >= seq })
}

// Add resolves the numbers from first to last and says how many of them were not resolved before. In order it moves the
// floor; beside a range it makes that one longer; else it costs a binary search and a move of the fewer ranges on one
// side. It allocates when the room for ranges doubles.
func (s *Set) Add(first, last queue.Seq) (added uint64) {
	add := span{max(first, s.floor+1), min(last, MaxSeq)}
	if add.first > add.last {
		return 0
	}
	if add.first == s.floor+1 {
		return s.raise(add)
	}
	i := s.search(add.first - 1)
	j, merged, added := s.touched(i, add)
	s.encoded -= s.bytes(i, j+1)
	if i == j {
		i = s.open(i)
	} else {
		i = s.cut(i+1, j) - 1
	}
	s.ring[i] = merged
	s.encoded += s.bytes(i, i+2)
	return added
}

// raise moves the floor over add, which begins right above it, and over the ranges it meets.
func (s *Set) raise(add span) (added uint64) {
	if s.lo == s.hi {
		s.floor = add.last
		return add.records()
	}
	j, merged, added := s.touched(s.lo, add)
	s.encoded -= s.bytes(s.lo, j+1)
	s.floor, s.lo = merged.last, j
	if s.lo == s.hi {
		s.lo = len(s.ring) / 2
		s.hi = s.lo
	}
	s.encoded += s.bytes(s.lo, s.lo+1)
	return added
}

// touched says what becomes of add and the ranges i to j-1, which touch it: one range, with so many numbers more than
// they have now.
func (s *Set) touched(i int, add span) (j int, merged span, added uint64) {
	merged, added = add, add.records()
	for j = i; j < s.hi && s.ring[j].first <= add.last+1; j++ {
		added -= s.ring[j].overlap(add)
		merged.first, merged.last = min(merged.first, s.ring[j].first), max(merged.last, s.ring[j].last)
	}
	return j, merged, added
}

// bytes is what the ranges i to j-1 take in a slot, as far as there are so many.
func (s *Set) bytes(i, j int) (total int) {
	previous := s.floor
	if i > s.lo {
		previous = s.ring[i-1].last
	}
	for ; i < min(j, s.hi); i++ {
		total += s.ring[i].bytes(previous)
		previous = s.ring[i].last
	}
	return total
}

// open makes place i free for one more range and returns where that is now.
func (s *Set) open(i int) int {
	before, after := i-s.lo, s.hi-i
	if before < after {
		if s.lo == 0 {
			s.centre()
		}
		copy(s.ring[s.lo-1:], s.ring[s.lo:s.lo+before])
		s.lo--
		return s.lo + before
	}
	if s.hi == len(s.ring) {
		s.centre()
	}
	i = s.hi - after
	copy(s.ring[i+1:], s.ring[i:s.hi])
	s.hi++
	return i
}

// cut takes the ranges i to j-1 out and returns where the next one is now.
func (s *Set) cut(i, j int) int {
	if n := j - i; i-s.lo < s.hi-j {
		copy(s.ring[s.lo+n:], s.ring[s.lo:i])
		s.lo += n
		return j
	}
	s.hi = i + copy(s.ring[i:], s.ring[j:s.hi])
	return i
}

// centre leaves room on both sides, an eighth of the ranges at least, so that what it costs is shared by as many adds.
func (s *Set) centre() {
	const least = 16
	n, ring := s.Len(), s.ring
	if len(ring) < n+n/4+least {
		ring = make([]span, 2*n+least)
	}
	lo := (len(ring) - n) / 2
	copy(ring[lo:], s.ring[s.lo:s.hi])
	s.ring, s.lo, s.hi = ring, lo, lo+n
}
