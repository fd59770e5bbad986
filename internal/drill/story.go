// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// maxLine bounds one line of a log, in bytes, and maxError what a story shows of an error, in characters.
const (
	maxLine  = 1 << 20
	maxError = 90
)

// logLine is one line of a collector's log.
type logLine struct {
	at     time.Time
	level  string
	text   string
	fields map[string]any
}

// parseLine reads a line of the console encoding: time, level, words, and fields as JSON, between tabs.
func parseLine(text string) (logLine, bool) {
	parts := strings.Split(text, "\t")
	if len(parts) < 3 {
		return logLine{}, false
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z0700", parts[0])
	if err != nil {
		return logLine{}, false
	}
	l := logLine{at: at, level: parts[1], text: parts[len(parts)-1]}
	if last := parts[len(parts)-1]; len(parts) > 3 && strings.HasPrefix(last, "{") && json.Unmarshal([]byte(last), &l.fields) == nil {
		l.text = parts[len(parts)-2]
	}
	return l, true
}

// field is a field as text, empty if there is none.
func (l *logLine) field(name string) string {
	if v, ok := l.fields[name]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// number is a field as a count.
func (l *logLine) number(name string) string {
	if v, ok := l.fields[name].(float64); ok {
		return count(int64(v))
	}
	return "?"
}

// levelNames are what the levels of the demo's connector are called.
var levelNames = []string{"primary", "secondary", "emergency file"}

func levelName(level string) string {
	for i, name := range levelNames {
		if level == fmt.Sprint(i) {
			return name
		}
	}
	return "nowhere, it is held"
}

// story is what a line of the log says in the demo's words, which are the log's own; false if it is not worth an event.
func (l *logLine) story() (event, bool) {
	e := event{at: l.at, who: "log", text: strings.TrimPrefix(l.text, "Failover: "), part: l.field("signal")}
	_, exporter, _ := strings.Cut(l.field("exporter"), "/")
	switch {
	case !strings.HasPrefix(l.text, "Failover: "):
		return e, l.other(&e)
	case e.text == "active level changed":
		e.text += fmt.Sprintf(": %s -> %s", levelName(l.field("from")), levelName(l.field("to")))
	case strings.HasPrefix(e.text, "level is down"):
		e.text = exporter + ": " + e.text + because(l.field("error"))
	case e.text == "retry probe failed":
		e.text = exporter + ": " + e.text + because(l.field("error"))
	case e.text == "retry probe succeeded", strings.HasPrefix(e.text, "level is back"):
		e.text = exporter + ": " + e.text
	case e.text == "backfill begins":
		e.text += fmt.Sprintf(": %s items in the emergency file, the oldest for %s", l.number("items"), age(l.fields["oldest"]))
		return e, true
	case e.text == "backfill ends":
		e.text += fmt.Sprintf(": %s items delivered, %s left", l.number("delivered"), l.number("left"))
		return e, true
	case strings.HasPrefix(e.text, "all levels down"):
	default:
		return e, l.level == "warn" || l.level == "error"
	}
	return e, true
}

// other is the story of lines that are not about failover.
func (l *logLine) other(e *event) bool {
	switch {
	case l.text == "Queue: opened" && l.fields["recovered"] == true:
		e.text = fmt.Sprintf("queue opened again: %s items are still owed", l.number("items"))
		e.part, _, _ = strings.Cut(l.field("otelcol.pipeline.id"), "/")
		return true
	case l.text == "Emergency file: opened" && l.field("items") != "0":
		e.text = fmt.Sprintf("emergency file opened again: %s items", l.number("items"))
		return true
	}
	return l.level == "error"
}

// because is an error behind a line, cut.
func because(text string) string {
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

// age reads a duration as the log writes it, in seconds.
func age(v any) string {
	s, _ := v.(float64)
	return seconds(time.Duration(s * float64(time.Second)))
}

// seconds writes a time for people: below one second in milliseconds.
func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// count writes a number with commas.
func count(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
