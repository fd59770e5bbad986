// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package words writes numbers and times for people, the same way in every line of a drill and a demo.
//
// It stands beside everything below internal/drill that talks, and knows nothing else.
package words

import (
	"fmt"
	"strings"
	"time"
)

// maxError is what is shown of an error, in characters.
const maxError = 90

// Seconds writes a time for people: below one second in milliseconds.
func Seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// Count writes a number with commas.
func Count[N int64 | uint64 | int](n N) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Because is an error behind a line, cut.
func Because(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return ""
	}
	if at := strings.LastIndex(text, "connection refused"); at >= 0 { // the last words are the news
		text = "connection refused"
	}
	if r := []rune(text); len(r) > maxError {
		text = string(r[:maxError-3]) + "..."
	}
	return ": " + text
}
