// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import "math/bits"

// pageBits is how many numbers one page of a bitmap holds.
const pageBits = 4096

// bitmap is a set of item numbers. Pages are made where they are needed, so a damaged number costs one page.
type bitmap map[uint64]*[pageBits / 64]uint64

func (b bitmap) has(n uint64) bool {
	p := b[n/pageBits]
	return p != nil && p[n%pageBits/64]&(1<<(n%64)) != 0
}

// add reports whether n is new.
func (b bitmap) add(n uint64) bool {
	p := b[n/pageBits]
	if p == nil {
		p = new([pageBits / 64]uint64)
		b[n/pageBits] = p
	}
	word, bit := &p[n%pageBits/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (b bitmap) len() uint64 {
	var sum int
	for _, p := range b {
		for _, w := range p {
			sum += bits.OnesCount64(w)
		}
	}
	return uint64(sum)
}

// shelf is what one place holds of one producer's items.
type shelf struct {
	stored bitmap            // by number
	extra  map[uint64]uint32 // arrivals above the first, for those that came more than once
	seen   bitmap            // arrived, stored or not
}

func newShelf() *shelf {
	return &shelf{stored: make(bitmap), extra: make(map[uint64]uint32), seen: make(bitmap)}
}

func (s *shelf) put(n uint64, stored bool) {
	s.seen.add(n)
	if stored && !s.stored.add(n) {
		s.extra[n]++
	}
}

// times is how often n was stored.
func (s *shelf) times(n uint64) uint32 {
	if !s.stored.has(n) {
		return 0
	}
	return 1 + s.extra[n]
}
