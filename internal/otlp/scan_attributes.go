// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

const (
	keyValueFields = 1<<1 | 1<<2 | 1<<3
	anyValueFields = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8
)

// plainAttribute reports whether b is a key and a string, number or boolean, with one-byte lengths, and nothing else.
// Nearly every attribute is. Encoders write it in either order:
//
//	0a len key… 12 len value…
//	12 len value… 0a len key…
func plainAttribute(b []byte) bool {
	if len(b) < 6 || b[1] >= 0x80 {
		return false
	}
	at := int(b[1]) + 2
	if at+2 > len(b) {
		return false
	}
	tail := b[at:]
	if int(tail[1]) != len(tail)-2 || len(tail) >= 0x82 {
		return false
	}
	value := tail
	if b[0] == 2<<3|wireLen {
		if tail[0] != 1<<3|wireLen {
			return false
		}
		value = b[:at]
	} else if b[0] != 1<<3|wireLen || tail[0] != 2<<3|wireLen {
		return false
	}
	if len(value) < 4 {
		return false
	}
	if value[2] == 1<<3|wireLen {
		return int(value[3]) == len(value)-4
	}
	return plainNumber(value[2:])
}

// plainNumber reports whether an AnyValue of at least two bytes is one boolean or number.
func plainNumber(b []byte) bool {
	switch b[0] {
	case 2<<3 | wireVarint, 3<<3 | wireVarint:
		_, end := varint(b, 1)
		return end == len(b)
	case 4<<3 | wireI64:
		return len(b) == 9
	}
	return false
}

// anyAttribute checks a KeyValue of any form.
func (s *scanner) anyAttribute(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return s.fail(b, at, end, kindKeyValue)
		}
		i = end
		switch tag {
		case 1<<3 | wireLen: // key
		case 2<<3 | wireLen: // value
			if !s.anyValue(b[start:end]) {
				return false
			}
		case 3<<3 | wireVarint: // key by reference
			_, i = varint(b, i)
		default:
			i = other(b, i, tag, keyValueFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindKeyValue)
		}
	}
	return true
}

// anyValue checks an AnyValue that stands in no other.
func (s *scanner) anyValue(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return s.fail(b, at, end, kindAnyValue)
		}
		i = end
		ok := true
		switch tag {
		case 1<<3 | wireLen, 7<<3 | wireLen: // string, bytes
		case 2<<3 | wireVarint, 3<<3 | wireVarint, 8<<3 | wireVarint: // boolean, integer, string by reference
			_, i = varint(b, i)
		case 4<<3 | wireI64: // double
			i = fixed(b, i, 8)
		case 5<<3 | wireLen:
			ok = s.walk(b[start:end], kindArrayValue, 1)
		case 6<<3 | wireLen:
			ok = s.walk(b[start:end], kindKeyValueList, 1)
		default:
			i = other(b, i, tag, anyValueFields)
		}
		if !ok {
			return false
		}
		if i < 0 {
			return s.fail(b, at, i, kindAnyValue)
		}
	}
	return true
}
