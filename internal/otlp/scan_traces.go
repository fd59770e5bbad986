// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

const (
	spanFields = 1<<17 - 2 // 1 to 16

	// The two bytes of the tag of flags, the only known field of a span whose tag needs more than one.
	flagsTag0 = 0x80 | (16<<3|wireI32)&0x7f
	flagsTag1 = (16<<3 | wireI32) >> 7
)

// span checks one Span. It is the hottest loop of the package: attributes are taken first, and lengths and numbers of
// one byte without a call.
func (s *scanner) span(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag == 9<<3|wireLen && i < len(b) && b[i] < 0x80 && int(b[i]) < len(b)-i {
			a := b[i+1:][:b[i]]
			if i += 1 + len(a); plainAttribute(a) || s.anyAttribute(a) {
				continue
			}
			return false
		}
		if tag == flagsTag0 && i < len(b) && b[i] == flagsTag1 {
			tag = 16<<3 | wireI32
			i++
		} else if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindSpan)
			}
		}
		start := i
		if tag&7 == wireLen {
			if i < len(b) && b[i] < 0x80 && int(b[i]) < len(b)-i {
				start = i + 1
				i = start + int(b[i])
			} else if start, i = extent(b, i); i < 0 {
				return s.fail(b, at, i, kindSpan)
			}
		}
		ok := true
		switch tag {
		case 9<<3 | wireLen: // attributes, with a long tag or length
			ok = s.anyAttribute(b[start:i])
		case 1<<3 | wireLen: // trace_id
			if n := i - start; n != 16 && n != 0 {
				i = badID
			}
		case 2<<3 | wireLen, 4<<3 | wireLen: // span_id, parent_span_id
			if n := i - start; n != 8 && n != 0 {
				i = badID
			}
		case 3<<3 | wireLen, 5<<3 | wireLen: // trace_state, name
		case 6<<3 | wireVarint, 10<<3 | wireVarint, 12<<3 | wireVarint, 14<<3 | wireVarint: // kind, dropped counts
			if i < len(b) && b[i] < 0x80 {
				i++
			} else {
				_, i = varint(b, i)
			}
		case 7<<3 | wireI64, 8<<3 | wireI64: // start and end
			i = fixed(b, i, 8)
		case 16<<3 | wireI32: // flags
			i = fixed(b, i, 4)
		case 11<<3 | wireLen: // events
			ok = s.walk(b[start:i], kindSpanEvent, 0)
		case 13<<3 | wireLen: // links
			ok = s.walk(b[start:i], kindSpanLink, 0)
		case 15<<3 | wireLen: // status
			if i-start != 2 || b[start] != 3<<3|wireVarint || b[start+1] >= 0x80 { // more than a code
				ok = s.walk(b[start:i], kindSpanStatus, 0)
			}
		default:
			i = other(b, i, tag, spanFields)
		}
		if !ok {
			return false
		}
		if i < 0 {
			return s.fail(b, at, i, kindSpan)
		}
	}
	return true
}
