// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"encoding/binary"
	"io"
)

const (
	// While so much of both is left, a round needs no more checks: it reads 16 bytes at most and writes up to three
	// literals and a match of 258 bytes, in words of eight.
	inMargin  = 16
	outMargin = 3 + 258 + 8
	// A longer match is copied by calls, a shorter one in words.
	longMatch = 40
)

// compressed decodes the symbols of one block: quickly while there is plenty of both sides, carefully at their ends.
func (d *Decoder) compressed() error {
	for {
		ended, err := d.quick()
		if ended || err != nil {
			return err
		}
		if ended, err = d.careful(); ended || err != nil {
			return err
		}
	}
}

// quick decodes until the block has ended or one of the ends is near.
func (d *Decoder) quick() (ended bool, err error) {
	src, dst, in, out := d.src, d.dst, d.in, d.out
	held, n := d.bits, d.n
	lastIn, lastOut := len(src)-inMargin, min(len(dst), d.limit)-outMargin
	literal, dist, begin := &d.literal, &d.dist, d.begin
	for in <= lastIn && out <= lastOut {
		held |= binary.LittleEndian.Uint64(src[in:]) << (n & 63)
		in += int((63 - n) >> 3)
		n |= 56
		e := literal[held&(1<<literalBits-1)]
		if e&isLiteral != 0 {
			held >>= e & 63
			n -= uint(e & 63)
			dst[out] = byte(e >> 16)
			out++
			e = literal[held&(1<<literalBits-1)]
			if e&isLiteral != 0 {
				held >>= e & 63
				n -= uint(e & 63)
				dst[out] = byte(e >> 16)
				out++
				e = literal[held&(1<<literalBits-1)]
				if e&isLiteral != 0 {
					held >>= e & 63
					n -= uint(e & 63)
					dst[out] = byte(e >> 16)
					out++
					continue
				}
			}
		}
		if e&isOther != 0 {
			if e&isTable != 0 {
				held >>= literalBits
				n -= literalBits
				e = literal[uint64(e>>16&0x7fff)+held&(1<<(e>>8&15)-1)]
			}
			if e&isLiteral != 0 {
				held >>= e & 63
				n -= uint(e & 63)
				dst[out] = byte(e >> 16)
				out++
				continue
			}
			if e&isOther != 0 {
				if e&isEnd != 0 {
					held >>= e & 63
					n -= uint(e & 63)
					ended = true
				} else {
					err = errSymbol
				}
				break
			}
		}
		length := int(e>>16) + int(held&(1<<(e&63)-1)>>(e>>8&15))
		held >>= e & 63
		n -= uint(e & 63)

		held |= binary.LittleEndian.Uint64(src[in:]) << (n & 63)
		in += int((63 - n) >> 3)
		n |= 56
		e = dist[held&(1<<distanceBits-1)]
		if e&isOther != 0 {
			if e&isTable != 0 {
				held >>= distanceBits
				n -= distanceBits
				e = dist[uint64(e>>16&0x7fff)+held&(1<<(e>>8&15)-1)]
			}
			if e&isOther != 0 {
				err = errSymbol
				break
			}
		}
		distance := int(e>>16) + int(held&(1<<(e&63)-1)>>(e>>8&15))
		held >>= e & 63
		n -= uint(e & 63)
		if distance > out-begin {
			err = errDistance
			break
		}
		from, end := out-distance, out+length
		switch {
		case length > longMatch:
			repeat(dst[from:end], distance)
		case distance >= 8:
			for ; out < end; out += 8 {
				binary.LittleEndian.PutUint64(dst[out:], binary.LittleEndian.Uint64(dst[from:]))
				from += 8
			}
		default:
			word, whole := pattern(binary.LittleEndian.Uint64(dst[from:]), distance)
			for ; out < end; out += whole {
				binary.LittleEndian.PutUint64(dst[out:], word)
			}
		}
		out = end
	}
	d.in, d.out = in, out
	d.bits, d.n = held&(1<<n-1), n
	return ended, err
}

// pattern repeats the first distance bytes of word, fewer than eight, and returns how many bytes of it are whole repetitions.
func pattern(word uint64, distance int) (repeated uint64, whole int) {
	n := 8 * uint(distance)
	word &= 1<<n - 1
	word |= word << n
	word |= word << (2 * n)
	word |= word << (4 * n)
	return word, 8 - 8%distance
}

// repeat fills b with its first n bytes, over and over: what is copied doubles each time.
func repeat(b []byte, n int) {
	for n < len(b) {
		n += copy(b[n:], b[:n])
	}
}

// careful decodes one symbol. It checks everything, and asks for room.
func (d *Decoder) careful() (ended bool, err error) {
	d.fill()
	e, err := d.symbol(d.literal[:], literalBits)
	switch {
	case err != nil:
		return false, err
	case e&isLiteral != 0:
		if _, err := d.room(); err != nil {
			return false, err
		}
		d.dst[d.out] = byte(e >> 16)
		d.out++
		return false, nil
	case e&isEnd != 0 && e&isOther != 0:
		return true, nil
	}
	length := int(e)
	d.fill()
	if e, err = d.symbol(d.dist[:], distanceBits); err != nil {
		return false, err
	}
	distance := int(e)
	if distance > d.out-d.begin {
		return false, errDistance
	}
	for range length {
		if _, err := d.room(); err != nil {
			return false, err
		}
		d.dst[d.out] = d.dst[d.out-distance]
		d.out++
	}
	return false, nil
}

// symbol takes the next word of a code and the bits behind it: it returns the entry of a literal or of the end of the
// block, or a length or distance.
func (d *Decoder) symbol(table []entry, tableBits uint) (entry, error) {
	e := table[d.bits&(1<<tableBits-1)]
	if e&(isOther|isTable|isLiteral) == isOther|isTable {
		if d.n < tableBits {
			return 0, io.ErrUnexpectedEOF
		}
		d.bits >>= tableBits
		d.n -= tableBits
		e = table[uint64(e>>16&0x7fff)+d.bits&(1<<(e>>8&15)-1)]
	}
	used := uint(e & 63)
	switch {
	case used > d.n:
		return 0, io.ErrUnexpectedEOF
	case e&isLiteral == 0 && e&isOther != 0 && e&isEnd == 0:
		return 0, errSymbol
	}
	behind := d.bits & (1<<used - 1) >> (e >> 8 & 15)
	d.bits >>= used
	d.n -= used
	if e&(isLiteral|isOther) != 0 {
		return e, nil
	}
	return e>>16 + entry(behind), nil
}
