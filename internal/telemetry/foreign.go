// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
)

// maxForeign bounds foreign text in lines, pages and answers, in bytes (faults, D11).
const maxForeign = 1 << 10

// cutMark ends text that was cut.
const cutMark = "…"

// Foreign is a field of text that others chose: backend errors, service names, header values. It is never part of a
// message. See Escape.
func Foreign(key, text string) zap.Field { return zap.String(key, Escape(text)) }

// Escape makes foreign text harmless to terminals and log readers: control and formatting characters (line ends,
// escape sequences, direction marks) and bytes that are no UTF-8 are written as \n, \x1b, \u202e and the like. The
// result is at most 1 KiB; what was cut ends in "…". Plain text comes back as it is, without an allocation.
func Escape(text string) string {
	if len(text) <= maxForeign && !strings.ContainsFunc(text, harmful) {
		return text
	}
	var b strings.Builder
	b.Grow(min(len(text)+16, maxForeign))
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		piece := text[i : i+n]
		if harmful(r) {
			piece = escapeRune(r, text[i], n)
		}
		rest := len(text) - i - n
		if b.Len()+len(piece)+len(cutMark) > maxForeign && (rest > 0 || b.Len()+len(piece) > maxForeign) {
			b.WriteString(cutMark)
			break
		}
		b.WriteString(piece)
		i += n
	}
	return b.String()
}

// harmful also matches utf8.RuneError, which stands for a byte that is no UTF-8 or for itself: either is escaped.
func harmful(r rune) bool {
	if r < utf8.RuneSelf {
		return r < 0x20 || r == 0x7f
	}
	return r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

func escapeRune(r rune, first byte, width int) string {
	switch {
	case r == utf8.RuneError && width == 1:
		return fmt.Sprintf(`\x%02x`, first)
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < utf8.RuneSelf:
		return fmt.Sprintf(`\x%02x`, r)
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
