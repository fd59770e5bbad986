// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// maxLine bounds one line of a log, in bytes.
const maxLine = 1 << 20

// Line is one line of a collector's log.
type Line struct {
	At     time.Time
	Level  string
	Text   string
	Fields map[string]any
}

// Parse reads a line of the console encoding: time, level, words, and fields as JSON, between tabs.
func Parse(text string) (Line, bool) {
	parts := strings.Split(text, "\t")
	if len(parts) < 3 {
		return Line{}, false
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z0700", parts[0])
	if err != nil {
		return Line{}, false
	}
	l := Line{At: at, Level: parts[1], Text: parts[len(parts)-1]}
	if last := parts[len(parts)-1]; len(parts) > 3 && strings.HasPrefix(last, "{") && json.Unmarshal([]byte(last), &l.Fields) == nil {
		l.Text = parts[len(parts)-2]
	}
	return l, true
}

// Field is a field as text, empty if there is none.
func (l *Line) Field(name string) string {
	if v, ok := l.Fields[name]; ok {
		return fmt.Sprint(v)
	}
	return ""
}
