// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// Protobuf's wire types. 6 and 7 do not exist.
const (
	wireVarint = 0
	wireI64    = 1
	wireLen    = 2
	wireStart  = 3
	wireEnd    = 4
	wireI32    = 5
)

// What a reader of one field returns instead of a position when the field is broken.
const (
	badEnd       = -1 - iota // the message ends before the field does
	badVarint                // a varint of more than ten bytes
	badLength                // a length below zero
	badField                 // field number zero or below
	badWireType              // wire type 6 or 7, or not the one this field has
	badGroup                 // a group ends that did not start
	badID                    // an identifier of another length than its own or none
	badPacked                // packed fixed-width numbers of a length that is no multiple
	badReference             // a string table index out of range, or a key given twice
)

var badDetails = [...]string{
	"", "field beyond the end of its message", "varint longer than ten bytes", "negative length",
	"illegal field number", "wrong wire type", "unexpected end of group", "identifier of wrong length",
	"packed numbers of wrong length", "invalid reference to the string table",
}

// varint reads a varint of up to ten bytes at i. Bits beyond the 64th are dropped, superfluous zero bytes are
// allowed: so does the reference decoder.
func varint(b []byte, i int) (v uint64, next int) {
	for shift := uint(0); shift < 64; shift += 7 {
		if uint(i) >= uint(len(b)) {
			return 0, badEnd
		}
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	return 0, badVarint
}

// extent reads a length at i and returns where the bytes it announces start and end; end is negative when they are
// not all there.
func extent(b []byte, i int) (start, end int) {
	if i < len(b) && b[i] < 0x80 {
		start = i + 1
		end = start + int(b[i])
		if end > len(b) {
			return 0, badEnd
		}
		return start, end
	}
	v, start := varint(b, i)
	if start < 0 {
		return 0, start
	}
	n := int(v)
	if n < 0 {
		return 0, badLength
	}
	if n > len(b)-start {
		return 0, badEnd
	}
	return start, start + n
}

// maxNumber stands for all higher field numbers, too, none of which is known: so a tag fits into 32 bits.
const maxNumber = 1 << 28

// longTag reads a tag of more than one byte at i. The field number is the low 32 bits of what remains above the wire
// type, as in the reference decoder.
func longTag(b []byte, i int) (tag uint, next int) {
	v, i := varint(b, i)
	if i < 0 {
		return 0, i
	}
	number := int32(v >> 3)
	if number <= 0 {
		return 0, badField
	}
	return uint(min(number, maxNumber))<<3 | uint(v&7), i
}

// fixed steps over n bytes at i.
func fixed(b []byte, i, n int) int {
	if n > len(b)-i {
		return badEnd
	}
	return i + n
}

// unknown steps over a field of the given wire type whose tag ends at i, as the reference decoder does: a group is
// followed through the tags that start and end groups, and left behind with the first field of another kind.
func unknown(b []byte, i int, wire uint) int {
	depth := 0
	for i < len(b) {
		switch wire {
		case wireVarint:
			_, i = varint(b, i)
			return i
		case wireI64:
			return fixed(b, i, 8)
		case wireLen:
			_, i = extent(b, i)
			return i
		case wireI32:
			return fixed(b, i, 4)
		case wireStart:
			depth++
		case wireEnd:
			if depth == 0 {
				return badGroup
			}
			depth--
		default:
			return badWireType
		}
		if depth == 0 {
			return i
		}
		var tag uint
		if tag, i = longTag(b, i); i < 0 {
			return i
		}
		wire = tag & 7
	}
	return badEnd
}

// head reads the tag at i and the length, if the field has one. The content of such a field is b[start:end]; in a
// field of another wire type start and end are where its content starts. end is negative if the field is broken.
func head(b []byte, i int) (tag uint, start, end int) {
	tag = uint(b[i])
	start = i + 1
	if tag >= 0x80 {
		if tag, start = longTag(b, i); start < 0 {
			return 0, 0, start
		}
	}
	if tag&7 != wireLen {
		return tag, start, start
	}
	start, end = extent(b, start)
	return tag, start, end
}

// other steps over a field that a message's own switch did not take; i is what head returned as its end. known holds a
// bit for each field number of the message: such a field can only be here with the wrong wire type.
func other(b []byte, i int, tag uint, known uint64) int {
	number := tag >> 3
	if number == 0 {
		return badField
	}
	if number < 64 && known>>number&1 != 0 {
		return badWireType
	}
	if tag&7 == wireLen {
		return i
	}
	return unknown(b, i, tag&7)
}

// next reads the field at i: its tag, where its content starts (behind the length, if it has one) and where it ends;
// end is negative if it is broken.
func next(b []byte, i int) (tag uint, start, end int) {
	tag, start, end = head(b, i)
	if end >= 0 && tag&7 != wireLen {
		end = unknown(b, start, tag&7)
	}
	return tag, start, end
}
