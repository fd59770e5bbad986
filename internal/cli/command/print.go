// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/holdfast-telemetry/holdfast/internal/config"
)

// PrintJSON prints one document, for people and for jq.
func PrintJSON(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// PrintFindings prints what was found in a configuration, a line each.
func PrintFindings(w io.Writer, findings []config.Finding) {
	for _, f := range findings {
		fmt.Fprintln(w, Escape(f.String()))
	}
}

// Escape shows what a terminal would act upon: a configuration is foreign text.
func Escape(s string) string {
	if strings.IndexFunc(s, Unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if Unprintable(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Unprintable says whether a terminal might act upon r.
func Unprintable(r rune) bool { return !unicode.IsPrint(r) }
