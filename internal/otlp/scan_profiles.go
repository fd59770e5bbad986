// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

const profileFields = 1<<12 - 2 // 1 to 11

// profile checks one Profile and counts its samples.
func (s *scanner) profile(b []byte) bool {
	for i := 0; i < len(b); {
		at := i
		tag := uint(b[i])
		i++
		if tag >= 0x80 {
			if tag, i = longTag(b, at); i < 0 {
				return s.fail(b, at, i, kindProfile)
			}
		}
		var start int
		switch tag {
		case 2<<3 | wireLen: // samples
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindSample, 0) {
				return false
			}
			s.items++
		case 1<<3 | wireLen, 5<<3 | wireLen: // sample type, period type
			if start, i = extent(b, i); i >= 0 && !s.walk(b[start:i], kindValueType, 0) {
				return false
			}
		case 3<<3 | wireI64: // time
			i = fixed(b, i, 8)
		case 4<<3 | wireVarint, 6<<3 | wireVarint, 8<<3 | wireVarint: // duration, period, dropped attributes
			_, i = varint(b, i)
		case 7<<3 | wireLen: // profile_id
			i = identifier(b, i, 16)
		case 9<<3 | wireLen, 10<<3 | wireLen: // original payload and its format
			_, i = extent(b, i)
		case 11<<3 | wireVarint: // attribute indices
			_, i = varint(b, i)
		case 11<<3 | wireLen:
			i = packedVarints(b, i)
		default:
			i = other(b, i, tag, profileFields)
		}
		if i < 0 {
			return s.fail(b, at, i, kindProfile)
		}
	}
	return true
}
