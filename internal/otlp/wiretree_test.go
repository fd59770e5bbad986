// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// node is one field of a message, taken apart far enough to be changed and written again.
type node struct {
	number  int
	wire    int
	bits    uint64 // varint, fixed
	bytes   []byte // length-delimited, not a message; or verbatim, for wire -1
	message string // type, if it is one
	kids    []node
}

const verbatim = -1 // wire of a node whose bytes are written as they are, without a tag

// parse takes message b apart; what does not fit becomes a verbatim node.
func parse(message string, b []byte) []node {
	var out []node
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 >= 1<<29 {
			return append(out, node{wire: verbatim, bytes: b})
		}
		rest := b[n:]
		nd := node{number: int(tag >> 3), wire: int(tag & 7)}
		switch nd.wire {
		case 0:
			v, m := binary.Uvarint(rest)
			if m <= 0 {
				return append(out, node{wire: verbatim, bytes: b})
			}
			nd.bits, rest = v, rest[m:]
		case 1, 5:
			size := map[int]int{1: 8, 5: 4}[nd.wire]
			if len(rest) < size {
				return append(out, node{wire: verbatim, bytes: b})
			}
			nd.bits = binary.LittleEndian.Uint64(append(slices.Clone(rest[:size]), make([]byte, 8)...))
			rest = rest[size:]
		case 2:
			l, m := binary.Uvarint(rest)
			if m <= 0 || l > uint64(len(rest)-m) {
				return append(out, node{wire: verbatim, bytes: b})
			}
			nd.bytes, rest = rest[m:m+int(l)], rest[m+int(l):]
			if typ := typeOf(message, nd.number); isMessage(typ) {
				nd.message, nd.kids, nd.bytes = typ, parse(typ, nd.bytes), nil
			}
		default:
			nd.bytes = nil // group tags stand alone
		}
		out = append(out, nd)
		b = rest
	}
	return out
}

// write puts a message together again. With odd > 0, one number in odd is written in more bytes than it needs.
func write(r *rand.Rand, nodes []node, odd int) []byte {
	var b []byte
	number := func(v uint64) {
		b = binary.AppendUvarint(b, v)
		if odd > 0 && r.IntN(odd) == 0 {
			for extra := r.IntN(11); extra > 0; extra-- {
				b[len(b)-1] |= 0x80
				b = append(b, 0)
			}
		}
	}
	for _, n := range nodes {
		if n.wire == verbatim {
			b = append(b, n.bytes...)
			continue
		}
		tag := uint64(n.number)<<3 | uint64(n.wire)
		if odd > 0 && r.IntN(8*odd) == 0 {
			tag |= 1 << (35 + r.IntN(29)) // beyond the field number
		}
		number(tag)
		switch n.wire {
		case 0:
			number(n.bits)
		case 1:
			b = binary.LittleEndian.AppendUint64(b, n.bits)
		case 5:
			b = binary.LittleEndian.AppendUint32(b, uint32(n.bits))
		case 2:
			content := n.bytes
			if n.message != "" {
				content = write(r, n.kids, odd)
			}
			number(uint64(len(content)))
			b = append(b, content...)
		}
	}
	return b
}

// generate makes up a sound message of about size fields, those of the messages in it included. Most of them are in the
// items.
func generate(r *rand.Rand, message string, size int) []node {
	var out []node
	fields := protoSchema[message]
	for range min(size, r.IntN(8)) {
		f := fields[r.IntN(len(fields))]
		if (message == "AnyValue" && f.number == 8 || message == "KeyValue" && f.number == 3) && r.IntN(30) != 0 {
			f = fields[0] // references to the string table seldom lead somewhere
		}
		if !slices.Contains(children[message], f.typ) {
			out = append(out, generateField(r, f, min(size/4, 12)))
		}
	}
	if spine := children[message]; len(spine) > 0 && size > 1 { // the way to the items
		n := 1 + r.IntN(4)
		for range n {
			typ := spine[r.IntN(len(spine))]
			i := slices.IndexFunc(fields, func(f protoField) bool { return f.typ == typ })
			f := fields[i]
			if last := fields[len(fields)-1]; last.typ == typ && r.IntN(4) == 0 {
				f = last // the deprecated field
			}
			out = append(out, generateField(r, f, size/n))
		}
	}
	if r.IntN(8) == 0 {
		out = append(out, stranger(r))
	}
	switch r.IntN(3) {
	case 0:
		slices.SortStableFunc(out, func(a, b node) int { return a.number - b.number })
	case 1:
		slices.SortStableFunc(out, func(a, b node) int { return b.number - a.number })
	default:
		r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	return out
}

func generateField(r *rand.Rand, f protoField, size int) node {
	n := node{number: f.number, wire: 2, bits: r.Uint64() >> r.IntN(64)}
	if r.IntN(2) == 0 {
		n.bits %= 4 // small, so that references to the string table resolve now and then
	}
	switch f.typ {
	case "varint":
		n.wire = 0
	case "i64":
		n.wire = 1
	case "i32":
		n.wire = 5
	case "bytes":
		n.bytes = letters(r, r.IntN(12))
		if r.IntN(20) == 0 {
			n.bytes = letters(r, 100+r.IntN(300))
		}
	case "id16":
		n.bytes = letters(r, 16*r.IntN(2))
	case "id8":
		n.bytes = letters(r, 8*r.IntN(2))
	case "varints":
		if n.wire = 2 * r.IntN(2); n.wire == 2 {
			for range r.IntN(5) {
				n.bytes = binary.AppendUvarint(n.bytes, r.Uint64()>>r.IntN(64))
			}
		}
	case "i64s":
		if n.wire = 1 + r.IntN(2); n.wire == 2 {
			n.bytes = letters(r, 8*r.IntN(4))
		}
	default:
		n.message, n.kids = f.typ, generate(r, f.typ, size)
	}
	return n
}

// stranger makes up a field that no message has.
func stranger(r *rand.Rand) node {
	n := node{number: 17 + r.IntN(2000), wire: []int{0, 1, 2, 5}[r.IntN(4)], bits: r.Uint64(), bytes: letters(r, r.IntN(9))}
	if n.number == 1000 {
		n.number++
	}
	return n
}

func letters(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return b
}

// mutate changes a message in a few places: order, repetition, loss, field numbers, wire types, lengths, bits, groups.
func mutate(r *rand.Rand, nodes []node, changes int) []node {
	out := slices.Clone(nodes)
	for range changes {
		if len(out) == 0 {
			return append(out, stranger(r))
		}
		i := r.IntN(len(out))
		n := &out[i]
		switch r.IntN(14) {
		case 0:
			r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		case 1:
			out = slices.Insert(out, r.IntN(len(out)+1), *n)
		case 2:
			out = slices.Delete(out, i, i+1)
		case 3:
			n.number = r.IntN(20)
		case 4:
			n.number = []int{1000, 1 << 28, 1<<29 - 1}[r.IntN(3)]
		case 5:
			n.wire = r.IntN(8)
		case 6:
			n.bits = r.Uint64() >> r.IntN(64)
		case 7:
			if n.message == "" {
				n.bytes = letters(r, r.IntN(20))
			}
		case 8:
			out = slices.Insert(out, i, stranger(r))
		case 9:
			out = slices.Insert(out, i, node{number: 1 + r.IntN(30), wire: 3 + r.IntN(2)})
		default:
			if n.message != "" {
				n.kids = mutate(r, n.kids, 1+r.IntN(2))
			}
		}
	}
	return out
}

// reversed returns the message with the fields of every message in it in the opposite order.
func reversed(nodes []node) []node {
	out := slices.Clone(nodes)
	slices.Reverse(out)
	for i := range out {
		out[i].kids = reversed(out[i].kids)
	}
	return out
}
