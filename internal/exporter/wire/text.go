// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText is how much of a foreign text is kept, in bytes (faults, D11).
const maxText = 1 << 10

// Clip makes foreign text fit to be shown: control characters and what is not UTF-8 are escaped, and at most 1 KiB is
// kept.
func Clip(s string) string {
	if len(s) <= maxText && plain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		piece := s[i : i+n]
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			piece = strconv.QuoteToGraphic(piece)
			piece = piece[1 : len(piece)-1]
		}
		if b.Len()+len(piece) > maxText-len("…") {
			b.WriteString("…")
			break
		}
		b.WriteString(piece)
		i += n
	}
	return b.String()
}

func plain(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
