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
		tag, start, stop := head(m, i)
		if stop < 0 {
			return s.fail(b, at, stop, k)
		}
		var f field
		if number := tag >> 3; number < maxField {
			f = schema[k][number]
		}
		if f.shape != shapeMessage || tag&7 != wireLen {
			if i = f.shape.skip(m, start, stop, tag); i < 0 {
				return s.fail(b, at, i, k)
			}
			continue
		}
		if f.child == kindKeyValue && depth < MaxDepth && plainAttribute(m[start:stop]) {
			i = stop
			continue
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

// skip steps over a field of shape h of which head returned tag, start and end, and checks what is in it.
func (h shape) skip(b []byte, start, end int, tag uint) int {
	wire := tag & 7
	switch h {
	case shapeUnknown:
		return other(b, end, tag, 0)
	case shapeVarint:
		if wire == wireVarint {
			_, end = varint(b, end)
			return end
		}
	case shapeI64:
		if wire == wireI64 {
			return fixed(b, end, 8)
		}
	case shapeI32:
		if wire == wireI32 {
			return fixed(b, end, 4)
		}
	case shapeBytes:
		if wire == wireLen {
			return end
		}
	case shapeID16:
		if wire == wireLen {
			return identifier(start, end, 16)
		}
	case shapeID8:
		if wire == wireLen {
			return identifier(start, end, 8)
		}
	case shapeVarints:
		switch wire {
		case wireVarint:
			_, end = varint(b, end)
			return end
		case wireLen:
			return packedVarints(b[:end], start)
		}
	case shapeI64s:
		switch wire {
		case wireI64:
			return fixed(b, end, 8)
		case wireLen:
			if (end-start)%8 != 0 {
				return badPacked
			}
			return end
		}
	}
	return badWireType
}

// identifier returns end if there are n bytes from start to it, or none.
func identifier(start, end, n int) int {
	if end != start && end-start != n {
		return badID
	}
	return end
}

// packedVarints steps over the varints from i to the end of b.
func packedVarints(b []byte, i int) int {
	for i >= 0 && i < len(b) {
		_, i = varint(b, i)
	}
	return i
}
