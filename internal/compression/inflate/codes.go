// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"io"
	"math/bits"
)

const (
	maxLiterals  = 288 // in the fixed code; 286 have a meaning
	maxDistances = 32  // in the fixed code; 30 have a meaning
	endOfBlock   = 256

	// A code of up to so many bits is found at once, a longer one in a second table behind the first.
	preBits      = 7
	literalBits  = 11
	distanceBits = 8
	// The most entries all tables of one code can have together: those of every complete code of 288 symbols, or 32, with
	// 15 bits at most (the bound is zlib's, its tool examples/enough.c finds it).
	literalTable  = 2342
	distanceTable = 402
)

// entry is what a code stands for.
//
//	bit 31      a literal, bits 16–23
//	bit 15      neither literal, length nor distance: bit 14 = continued in a second table that begins at bits 16–30 and has
//	            bits 8–11 bits; bit 13 = end of block; else no code at all
//	bits 16–30  the smallest length or distance, and to be added: the bits behind the code
//	bits 8–11   length of the code
//	bits 0–5    length of the code and of the bits behind it
type entry = uint32

const (
	isLiteral entry = 1 << 31
	isOther   entry = 1 << 15
	isTable   entry = 1 << 14
	isEnd     entry = 1 << 13
)

// What each symbol stands for, but for the length of its code (RFC 1951, 3.2.5 and 3.2.7).
var (
	preSymbols      [19]entry
	literalSymbols  [maxLiterals]entry
	distanceSymbols [maxDistances]entry
)

// preOrder is the order in which the lengths of the code of code lengths come.
var preOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func init() {
	for i := range preSymbols {
		preSymbols[i] = entry(i) << 16
	}
	for i := range endOfBlock {
		literalSymbols[i] = isLiteral | entry(i)<<16
	}
	literalSymbols[endOfBlock] = isOther | isEnd
	length, extra := 3, 0
	for i := endOfBlock + 1; i < 285; i++ {
		literalSymbols[i] = entry(length)<<16 | entry(extra)
		length += 1 << extra
		if i >= 264 && i%4 == 0 {
			extra++
		}
	}
	literalSymbols[285] = 258 << 16
	literalSymbols[286], literalSymbols[287] = isOther, isOther
	dist, extra := 1, 0
	for i := range 30 {
		distanceSymbols[i] = entry(dist)<<16 | entry(extra)
		dist += 1 << extra
		if i >= 3 && i%2 == 1 {
			extra++
		}
	}
	distanceSymbols[30], distanceSymbols[31] = isOther, isOther
}

// useFixed makes the tables of the fixed codes (RFC 1951, 3.2.6).
func (d *Decoder) useFixed() {
	if d.fixed {
		return
	}
	for i := range maxLiterals {
		switch {
		case i < 144:
			d.lengths[i] = 8
		case i < 256:
			d.lengths[i] = 9
		case i < 280:
			d.lengths[i] = 7
		default:
			d.lengths[i] = 8
		}
	}
	for i := range maxDistances {
		d.lengths[maxLiterals+i] = 5
	}
	build(d.literal[:], literalBits, d.lengths[:maxLiterals], literalSymbols[:])
	build(d.dist[:], distanceBits, d.lengths[maxLiterals:], distanceSymbols[:])
	d.fixed = true
}

// readCodes reads the codes of a block that brings its own (RFC 1951, 3.2.7).
func (d *Decoder) readCodes() error {
	d.fixed = false
	head, err := d.take(14)
	if err != nil {
		return err
	}
	literals, distances, pre := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if literals > 286 || distances > 30 {
		return errLengths
	}
	var lengths [19]uint8
	for _, at := range preOrder[:pre] {
		n, err := d.take(3)
		if err != nil {
			return err
		}
		lengths[at] = uint8(n)
	}
	if !build(d.pre[:], preBits, lengths[:], preSymbols[:]) {
		return errLengths
	}
	if err := d.readLengths(literals + distances); err != nil {
		return err
	}
	if !build(d.literal[:], literalBits, d.lengths[:literals], literalSymbols[:]) ||
		!build(d.dist[:], distanceBits, d.lengths[literals:literals+distances], distanceSymbols[:]) {
		return errLengths
	}
	return nil
}

// readLengths reads the first n of d.lengths.
func (d *Decoder) readLengths(n int) error {
	for i := 0; i < n; {
		d.fill()
		e := d.pre[d.bits&(1<<preBits-1)]
		if e&isOther != 0 {
			return errLengths
		}
		used := uint(e & 63)
		if used > d.n {
			return io.ErrUnexpectedEOF
		}
		d.bits >>= used
		d.n -= used
		symbol := e >> 16
		if symbol < 16 {
			d.lengths[i] = uint8(symbol)
			i++
			continue
		}
		var value uint8
		var extra uint
		var times int
		switch symbol {
		case 16:
			if i == 0 {
				return errLengths
			}
			value, extra, times = d.lengths[i-1], 2, 3
		case 17:
			extra, times = 3, 3
		case 18:
			extra, times = 7, 11
		}
		more, err := d.take(extra)
		if err != nil {
			return err
		}
		times += int(more)
		if times > n-i {
			return errLengths
		}
		for range times {
			d.lengths[i] = value
			i++
		}
	}
	return nil
}

// build makes the tables of the canonical code with these lengths, the first of them having tableBits bits. It says whether
// there is such a code: every sequence of bits has to begin with one of its words. Two codes may be incomplete, since
// they are what encoders write where there is one symbol or none: one word of one bit, and no word.
func build(table []entry, tableBits uint, lengths []uint8, symbols []entry) bool {
	var count, next [16]int
	for _, l := range lengths {
		count[l&15]++
	}
	count[0] = 0
	longest := uint(15)
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	code, place := 0, 0
	var sorted [maxLiterals]uint16
	for l := uint(1); l <= longest; l++ {
		code = code<<1 + count[l]
		next[l] = place
		place += count[l]
	}
	if code != 1<<longest {
		if longest > 1 || code > 1 {
			return false
		}
		for i := range table[:1<<tableBits] {
			table[i] = isOther
		}
	}
	for s, l := range lengths {
		if l > 0 {
			sorted[next[l&15]] = uint16(s)
			next[l&15]++
		}
	}
	code, place = 0, 0
	for l := uint(1); l <= min(longest, tableBits); l++ {
		own := entry(l)<<8 | entry(l)
		for range count[l] {
			e := symbols[sorted[place]] + own
			for i := int(bits.Reverse16(uint16(code)) >> (16 - l)); i < 1<<tableBits; i += 1 << l {
				table[i] = e
			}
			code++
			place++
		}
		code <<= 1
	}
	if longest > tableBits {
		buildLong(table, tableBits, longest, code, &count, symbols, sorted[place:])
	}
	return true
}

// buildLong makes the second tables, of the words that have more than tableBits bits: all that begin alike are in one, and
// they follow each other.
func buildLong(table []entry, tableBits, longest uint, code int, count *[16]int, symbols []entry, sorted []uint16) {
	free, begin, prefix := 1<<tableBits, 0, -1
	var own uint // bits of the second table at hand
	place := 0
	for l := tableBits + 1; l <= longest; l++ {
		rest := l - tableBits
		for ; count[l] > 0; count[l]-- {
			word := int(bits.Reverse16(uint16(code)) >> (16 - l))
			if p := word & (1<<tableBits - 1); p != prefix {
				prefix, begin, own = p, free, rest
				for used := count[l]; used < 1<<own; used = used<<1 + count[tableBits+own] {
					own++
				}
				free += 1 << own
				table[p] = isOther | isTable | entry(begin)<<16 | entry(own)<<8 | entry(tableBits)
			}
			e := symbols[sorted[place]] + entry(rest)<<8 + entry(rest)
			for i := word >> tableBits; i < 1<<own; i += 1 << rest {
				table[begin+i] = e
			}
			code++
			place++
		}
		code <<= 1
	}
}
