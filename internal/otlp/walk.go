// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

// maxFrames bounds the stack of walk: three messages for each level of attribute values (value, list, pair), and the
// few in which the first of them can stand.
const maxFrames = 3*MaxDepth + 8

// frame is a message that walk left to read one inside it: where it ends, in the upper 56 bits, and its kind.
type frame uint64

// walk checks the message b of kind k by the schema, with everything inside it. depth says in how many attribute
// values it stands. Only one walk runs at a time: the stack is the scanner's.
func (s *scanner) walk(b []byte, k kind, depth int) bool {
	top, i, end := 0, 0, len(b)
	for {
		for i == end {
			if top == 0 {
				return true
			}
			if k == kindAnyValue {
				depth--
			}
			top--
			k, end = kind(s.stack[top]), int(s.stack[top]>>8)
		}
		m := b[:end]
		at := i
		tag := uint(m[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(m, at); i < 0 {
				return s.fail(b, at, i, k)
			}
		}
		number := tag >> 3
		var f field
		if number < maxField {
			f = schema[k][number]
		}
		if f.shape != shapeMessage {
			if i = value(m, i, tag, f.shape); i < 0 {
				return s.fail(b, at, i, k)
			}
			continue
		}
		if tag&7 != wireLen {
			return s.fail(b, at, badWireType, k)
		}
		start, stop := extent(m, i)
		if stop < 0 {
			return s.fail(b, at, stop, k)
		}
		if f.child == kindAnyValue {
			if depth++; depth > MaxDepth {
				return s.refuse(b, at, ErrTooDeep, k)
			}
		}
		s.stack[top] = frame(end)<<8 | frame(k)
		top++
		k, i, end = f.child, start, stop
	}
}

// value steps over a field that is not a message, whose tag ends at i.
func value(b []byte, i int, tag uint, shape shape) int {
	wire := tag & 7
	switch shape {
	case shapeVarint:
		if wire == wireVarint {
			_, i = varint(b, i)
			return i
		}
	case shapeI64:
		if wire == wireI64 {
			return fixed(b, i, 8)
		}
	case shapeI32:
		if wire == wireI32 {
			return fixed(b, i, 4)
		}
	case shapeBytes:
		if wire == wireLen {
			_, i = extent(b, i)
			return i
		}
	case shapeID16:
		if wire == wireLen {
			return identifier(b, i, 16)
		}
	case shapeID8:
		if wire == wireLen {
			return identifier(b, i, 8)
		}
	case shapeVarints:
		switch wire {
		case wireVarint:
			_, i = varint(b, i)
			return i
		case wireLen:
			return packedVarints(b, i)
		}
	case shapeI64s:
		switch wire {
		case wireI64:
			return fixed(b, i, 8)
		case wireLen:
			start, end := extent(b, i)
			if end >= 0 && (end-start)%8 != 0 {
				return badPacked
			}
			return end
		}
	default:
		return other(b, i, tag, 0)
	}
	return badWireType
}

// identifier steps over an identifier of n bytes, which may also be empty.
func identifier(b []byte, i, n int) int {
	start, end := extent(b, i)
	if end > start && end-start != n {
		return badID
	}
	return end
}

// packedVarints steps over a packed field of varints.
func packedVarints(b []byte, i int) int {
	i, end := extent(b, i)
	for i >= 0 && i < end {
		_, i = varint(b[:end], i)
	}
	if end < 0 {
		return end
	}
	return i
}
