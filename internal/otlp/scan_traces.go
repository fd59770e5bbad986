// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

const spanFields = 1<<17 - 2 // 1 to 16

// span checks one Span.
func (s *scanner) span(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindSpan)
			}
		}
		var start int
		switch tag {
		case 9<<3 | wireLen: // attributes
			if start, i = extent(b, i); i >= 0 && !s.attribute(b[start:i]) {
				return false
			}
		case 1<<3 | wireLen: // trace_id
			i = identifier(b, i, 16)
		case 2<<3 | wireLen, 4<<3 | wireLen: // span_id, parent_span_id
			i = identifier(b, i, 8)
		case 3<<3 | wireLen, 5<<3 | wireLen: // trace_state, name
			_, i = extent(b, i)
		case 6<<3 | wireVarint, 10<<3 | wireVarint, 12<<3 | wireVarint, 14<<3 | wireVarint: // kind, dropped counts
			_, i = varint(b, i)
		case 7<<3 | wireI64, 8<<3 | wireI64: // start and end
			i = fixed(b, i, 8)
		case 16<<3 | wireI32: // flags
			i = fixed(b, i, 4)
		case 11<<3 | wireLen: // events
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindSpanEvent, 0) {
				return false
			}
		case 13<<3 | wireLen: // links
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindSpanLink, 0) {
				return false
			}
		case 15<<3 | wireLen: // status
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindSpanStatus, 0) {
				return false
			}
		default:
			i = other(b, i, tag, spanFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindSpan)
		}
	}
	return true
}
