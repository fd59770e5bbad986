// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package item

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// The padding of an item is printable text: the mean length in decimal, a colon, then letters drawn from the identity.
// Its length is drawn from the identity too, between half and three halves of the mean. So the text says by itself what
// it must be, and a sink needs to be told nothing.
//
//	400:ftzqk^n|cd...

// pad is the generator of one item's text.
type pad struct{ state uint64 }

func newPad(tag Tag, id ID) pad {
	var seed [8]byte
	copy(seed[2:], tag[:])
	h := mix(binary.BigEndian.Uint64(seed[:]))
	h = mix(h ^ uint64(id.Signal)<<16 ^ uint64(id.Producer))
	return pad{state: mix(h ^ id.Seq)}
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// next returns eight characters out of ] ^ _ ` a-z { | : none of them is escaped in JSON.
func (p *pad) next() uint64 {
	p.state = mix(p.state)
	return p.state&0x1f1f1f1f1f1f1f1f + 0x5d5d5d5d5d5d5d5d
}

// padSize is the whole length of the text, its head included.
func padSize(p pad, mean, head int) int {
	return max(head, mean/2+int(mix(p.state^0xa5a5a5a5)%uint64(mean+1)))
}

// AppendPad appends the padding of an item; mean is its mean length in bytes, 0 to MaxMeanPad.
func AppendPad(b []byte, tag Tag, id ID, mean int) []byte {
	start := len(b)
	b = strconv.AppendInt(b, int64(mean), 10)
	b = append(b, ':')
	p := newPad(tag, id)
	left := padSize(p, mean, len(b)-start) - (len(b) - start)
	for ; left >= 8; left -= 8 {
		b = binary.LittleEndian.AppendUint64(b, p.next())
	}
	if left > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], p.next())
		b = append(b, last[:left]...)
	}
	return b
}

// CheckPad reports whether text is the padding of an item.
func CheckPad(text []byte, tag Tag, id ID) bool {
	head, rest, found := bytes.Cut(text, []byte{':'})
	if !found || len(head) > 8 {
		return false
	}
	mean, ok := parseNumber(head)
	if !ok && string(head) != "0" || mean > MaxMeanPad {
		return false
	}
	p := newPad(tag, id)
	if padSize(p, int(mean), len(head)+1) != len(text) {
		return false
	}
	for ; len(rest) >= 8; rest = rest[8:] {
		if binary.LittleEndian.Uint64(rest) != p.next() {
			return false
		}
	}
	if len(rest) == 0 {
		return true
	}
	var last [8]byte
	binary.LittleEndian.PutUint64(last[:], p.next())
	return bytes.Equal(rest, last[:len(rest)])
}
