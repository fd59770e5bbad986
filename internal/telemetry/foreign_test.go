// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestForeignTextIsEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		"connection refused":     "connection refused",
		"größe 大 ✓":              "größe 大 ✓",
		"two\nlines\r\n":         `two\nlines\r\n`,
		"tab\there":              `tab\there`,
		"\x1b[31mred\x1b[0m\x07": `\x1b[31mred\x1b[0m\x07`,
		"del\x7f nul\x00":        `del\x7f nul\x00`,
		"c1 \u009b31m":           `c1 \u009b31m`,
		"rtl \u202egpj.exe":      `rtl \u202egpj.exe`,
		"zero\u200bwidth":        `zero\u200bwidth`,
		"line\u2028sep":          `line\u2028sep`,
		"bad \xff\xfe utf-8":     `bad \xff\xfe utf-8`,
		"real \ufffd mark":       `real \ufffd mark`,
		"tag \U000e0041":         `tag \U000e0041`,
	} {
		if got := telemetry.Escape(text); got != want {
			t.Errorf("Escape(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestForeignTextIsAtMostOneKiB(t *testing.T) {
	exact := strings.Repeat("x", 1024)
	if got := telemetry.Escape(exact); got != exact {
		t.Errorf("1 KiB of plain text was changed to %d bytes", len(got))
	}
	for name, text := range map[string]string{
		"one byte more":   exact + "x",
		"megabytes":       strings.Repeat("x", 1<<22),
		"escapes grow":    strings.Repeat("\x1b", 400),
		"wide characters": strings.Repeat("大", 500),
	} {
		got := telemetry.Escape(text)
		if len(got) > 1024 || !strings.HasSuffix(got, "…") {
			t.Errorf("%s: %d bytes ending in %q", name, len(got), got[len(got)-4:])
		}
		if len(got) < 1000 {
			t.Errorf("%s: only %d bytes left", name, len(got))
		}
	}
	if f := telemetry.Foreign("error", "a\nb"); f.Key != "error" || f.String != `a\nb` {
		t.Errorf("field is %q: %q", f.Key, f.String)
	}
}

func FuzzForeignTextIsHarmless(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b]0;title\x07")
	f.Add(strings.Repeat("\u202e", 400))
	f.Add(strings.Repeat("a", 1023) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := telemetry.Escape(text)
		if len(got) > 1024 {
			t.Fatalf("%d bytes", len(got))
		}
		if !utf8.ValidString(got) {
			t.Fatalf("%q is no UTF-8", got)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf) }); i >= 0 {
			t.Fatalf("%q holds a control character at %d", got, i)
		}
	})
}
