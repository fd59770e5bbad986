// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/child"
	"github.com/holdfast-telemetry/holdfast/internal/drill/words"
)

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
func story(l *child.Line) (event, bool) {
	e := event{at: l.At, who: "log", text: strings.TrimPrefix(l.Text, "Failover: "), part: l.Field("signal")}
	_, exporter, _ := strings.Cut(l.Field("exporter"), "/")
	switch {
	case !strings.HasPrefix(l.Text, "Failover: "):
		return e, other(l, &e)
	case e.text == "active level changed":
		e.text += fmt.Sprintf(": %s -> %s", levelName(l.Field("from")), levelName(l.Field("to")))
	case strings.HasPrefix(e.text, "level is down"):
		e.text = exporter + ": " + e.text + words.Because(l.Field("error"))
	case e.text == "retry probe failed":
		e.text = exporter + ": " + e.text + words.Because(l.Field("error"))
	case e.text == "retry probe succeeded", strings.HasPrefix(e.text, "level is back"):
		e.text = exporter + ": " + e.text
	case e.text == "backfill begins":
		e.text += fmt.Sprintf(": %s items in the emergency file, the oldest for %s", number(l, "items"), age(l.Fields["oldest"]))
		return e, true
	case e.text == "backfill ends":
		e.text += fmt.Sprintf(": %s items delivered, %s left", number(l, "delivered"), number(l, "left"))
		return e, true
	case strings.HasPrefix(e.text, "all levels down"):
	default:
		return e, l.Level == "warn" || l.Level == "error"
	}
	return e, true
}

// other is the story of lines that are not about failover.
func other(l *child.Line, e *event) bool {
	switch {
	case l.Text == "Queue: opened" && l.Fields["recovered"] == true:
		e.text = fmt.Sprintf("queue opened again: %s items are still owed", number(l, "items"))
		e.part, _, _ = strings.Cut(l.Field("otelcol.pipeline.id"), "/")
		return true
	case l.Text == "Emergency file: opened" && l.Field("items") != "0":
		e.text = fmt.Sprintf("emergency file opened again: %s items", number(l, "items"))
		return true
	}
	return l.Level == "error"
}

// age reads a duration as the log writes it, in seconds.
func age(v any) string {
	s, _ := v.(float64)
	return words.Seconds(time.Duration(s * float64(time.Second)))
}

// number is a field as a count.
func number(l *child.Line, name string) string {
	if v, ok := l.Fields[name].(float64); ok {
		return words.Count(int64(v))
	}
	return "?"
}
