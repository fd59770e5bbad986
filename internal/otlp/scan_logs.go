// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

const logRecordFields = (1<<13 - 2) &^ (1 << 4) // 1 to 12 without 4

// logRecord checks one LogRecord.
func (s *scanner) logRecord(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindLogRecord)
			}
		}
		var start int
		switch tag {
		case 6<<3 | wireLen: // attributes
			if start, i = extent(b, i); i >= 0 && !s.attribute(b[start:i]) {
				return false
			}
		case 5<<3 | wireLen: // body
			if start, i = extent(b, i); i >= 0 && !s.anyValue(b[start:i]) {
				return false
			}
		case 1<<3 | wireI64, 11<<3 | wireI64: // time, observed time
			i = fixed(b, i, 8)
		case 2<<3 | wireVarint, 7<<3 | wireVarint: // severity number, dropped attributes
			_, i = varint(b, i)
		case 3<<3 | wireLen, 12<<3 | wireLen: // severity text, event name
			_, i = extent(b, i)
		case 8<<3 | wireI32: // flags
			i = fixed(b, i, 4)
		case 9<<3 | wireLen: // trace_id
			i = identifier(b, i, 16)
		case 10<<3 | wireLen: // span_id
			i = identifier(b, i, 8)
		default:
			i = other(b, i, tag, logRecordFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindLogRecord)
		}
	}
	return true
}
