// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

const profileFields = 1<<12 - 2 // 1 to 11

// profile checks one Profile and counts its samples.
func (s *scanner) profile(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag, start, end := head(b, i)
		if end < 0 {
			return s.fail(b, at, end, kindProfile)
		}
		i = end
		ok := true
		switch tag {
		case 2<<3 | wireLen: // samples
			s.items++
			ok = s.walk(b[start:end], kindSample, 0)
		case 1<<3 | wireLen, 5<<3 | wireLen: // sample type, period type
			ok = s.walk(b[start:end], kindValueType, 0)
		case 3<<3 | wireI64: // time
			i = fixed(b, i, 8)
		case 4<<3 | wireVarint, 6<<3 | wireVarint, 8<<3 | wireVarint: // duration, period, dropped attributes
			_, i = varint(b, i)
		case 7<<3 | wireLen: // profile_id
			i = identifier(start, end, 16)
		case 9<<3 | wireLen, 10<<3 | wireLen: // original payload and its format
		case 11<<3 | wireVarint: // attribute indices
			_, i = varint(b, i)
		case 11<<3 | wireLen: // attribute indices, packed
			i = packedVarints(b[:end], start)
		default:
			i = other(b, i, tag, profileFields)
		}
		if !ok {
			return false
		}
		if i < 0 {
			return s.fail(b, at, i, kindProfile)
		}
	}
	return true
}
