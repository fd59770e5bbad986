// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import "encoding/binary"

const (
	keyValueFields = 1<<1 | 1<<2 | 1<<3
	anyValueFields = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8
)

// attribute checks one KeyValue.
func (s *scanner) attribute(b []byte) bool {
	return plainAttribute(b) || s.anyAttribute(b)
}

// plainAttribute reports whether b is a key and a string, in this order and with one-byte lengths, and nothing else.
// Nearly every attribute is:
//
//	0a len key… 12 len 0a len string…
func plainAttribute(b []byte) bool {
	if len(b) < 6 || b[0] != 1<<3|wireLen || b[1] >= 0x80 {
		return false
	}
	at := 2 + int(b[1])
	if at+4 > len(b) {
		return false
	}
	v := b[at:]
	n := len(v)
	return n < 0x82 &&
		binary.LittleEndian.Uint32(v) == uint32(2<<3|wireLen|(n-2)<<8|(1<<3|wireLen)<<16|(n-4)<<24)
}

// anyAttribute checks a KeyValue of any form.
func (s *scanner) anyAttribute(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindKeyValue)
			}
		}
		switch tag {
		case 1<<3 | wireLen:
			_, i = extent(b, i)
		case 2<<3 | wireLen:
			var start int
			if start, i = extent(b, i); i >= 0 && !s.anyValue(b[start:i]) {
				return false
			}
		case 3<<3 | wireVarint:
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
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindAnyValue)
			}
		}
		switch tag {
		case 1<<3 | wireLen, 7<<3 | wireLen:
			_, i = extent(b, i)
		case 2<<3 | wireVarint, 3<<3 | wireVarint, 8<<3 | wireVarint:
			_, i = varint(b, i)
		case 4<<3 | wireI64:
			i = fixed(b, i, 8)
		case 5<<3 | wireLen:
			var start int
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindArrayValue, 1) {
				return false
			}
		case 6<<3 | wireLen:
			var start int
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindKeyValueList, 1) {
				return false
			}
		default:
			i = other(b, i, tag, anyValueFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindAnyValue)
		}
	}
	return true
}
