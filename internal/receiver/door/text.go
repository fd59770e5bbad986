// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package door

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes foreign text fit to be passed on: valid UTF-8, no control characters, 1 KiB at most (faults, D11).
func Clean(text string) string {
	if len(text) > maxMessage {
		end := maxMessage
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
