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
		if tag == 6<<3|wireLen && i < len(b) && b[i] < 0x80 && int(b[i]) < len(b)-i {
			a := b[i+1:][:b[i]]
			if i += 1 + len(a); plainAttribute(a) || s.anyAttribute(a) {
				continue
			}
			return false
		}
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindLogRecord)
			}
		}
		start := i
		if tag&7 == wireLen {
			if i < len(b) && b[i] < 0x80 && int(b[i]) < len(b)-i {
				start = i + 1
				i = start + int(b[i])
			} else if start, i = extent(b, i); i < 0 {
				return s.fail(b, at, i, kindLogRecord)
			}
		}
		ok := true
		switch tag {
		case 6<<3 | wireLen: // attributes, with a long tag or length
			ok = s.anyAttribute(b[start:i])
		case 5<<3 | wireLen: // body
			ok = s.anyValue(b[start:i])
		case 1<<3 | wireI64, 11<<3 | wireI64: // time, observed time
			i = fixed(b, i, 8)
		case 2<<3 | wireVarint, 7<<3 | wireVarint: // severity number, dropped attributes
			if i < len(b) && b[i] < 0x80 {
				i++
			} else {
				_, i = varint(b, i)
			}
		case 3<<3 | wireLen, 12<<3 | wireLen: // severity text, event name
		case 8<<3 | wireI32: // flags
			i = fixed(b, i, 4)
		case 9<<3 | wireLen: // trace_id
			if n := i - start; n != 16 && n != 0 {
				i = badID
			}
		case 10<<3 | wireLen: // span_id
			if n := i - start; n != 8 && n != 0 {
				i = badID
			}
		default:
			i = other(b, i, tag, logRecordFields)
		}
		if !ok {
			return false
		}
		if i < 0 {
			return s.fail(b, at, i, kindLogRecord)
		}
	}
	return true
}
