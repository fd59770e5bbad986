// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"strings"
)

// eventWords begin the lines of the log below a warning that are events. A warning always is one.
var eventWords = [...]string{
	"Failover: ", "Config ", "Queue: opened", "Queue: disk is back", "Queue parked", "Emergency file: opened",
	"Starting holdfast", "Everything is ready", "Received signal from OS", "Starting shutdown", "Memory usage back",
}

// dullWords begin those that are not, although they begin with the words above: they say how it was read, not what
// happened.
var dullWords = [...]string{
	"Failover: queue and retry settings", "Failover: retry_gap shortened", "Config store opened", "Config unchanged",
}

// IsEvent reports whether a line of the log may be one, from its words alone.
func IsEvent(message string, warning bool) bool {
	for _, w := range dullWords {
		if strings.HasPrefix(message, w) {
			return false
		}
	}
	for _, w := range eventWords {
		if strings.HasPrefix(message, w) {
			return true
		}
	}
	return warning
}

// EventOf makes an event of a line: its words, and its fields by their keys. named gives a connector's level its name.
// false = it says nothing that happened.
func EventOf(message string, fields map[string]any, named func(connector string, level int64) string) (Event, bool) {
	get := func(key string) string {
		if v, ok := fields[key]; ok {
			return fmt.Sprint(v)
		}
		return ""
	}
	items := func(key string) string {
		n, _ := fields[key].(int64)
		return things(n, "item", "items")
	}
	level := func(key string) string {
		n, _ := fields[key].(int64)
		return named(get("connector"), n)
	}
	e := Event{Detail: first(get("error"), get("detail"))}
	if s := get("signal"); s != "" {
		e.Signals = []string{s}
	}
	text, failover := strings.CutPrefix(message, "Failover: ")
	who := first(get("exporter"), get("connector"), get("storage"), get("otelcol.component.id"))
	switch {
	case failover && text == "active level changed":
		e.Text = fmt.Sprintf("%s: data goes to %s now, before to %s", get("connector"), level("to"), level("from"))
	case failover && strings.HasPrefix(text, "level is "):
		e.Text = who + strings.TrimPrefix(text, "level") // … is down, data goes to the next level
	case failover && strings.HasPrefix(text, "backfill begins"):
		e.Text = fmt.Sprintf("%s: %s; %s in the emergency file", get("connector"), text, items("items"))
	case failover && strings.HasPrefix(text, "backfill ends"):
		e.Text = fmt.Sprintf("%s: %s; %s delivered, %s left", get("connector"), text, items("delivered"), get("left"))
	case strings.HasPrefix(message, "Config "):
		e.Text = strings.Join(nonEmpty(message, reason(get("reason")), "generation "+get("generation")), ", ")
	case strings.HasPrefix(message, "Queue: opened"), strings.HasPrefix(message, "Emergency file: opened"):
		if get("items") == "0" {
			return e, false
		}
		e.Text = strings.Replace(message, "opened", "opened with "+items("items")+" from before", 1)
	case strings.HasPrefix(message, "Received signal"):
		e.Text = message + ": " + get("signal")
		e.Signals = nil
	case strings.HasPrefix(message, "Starting holdfast"):
		e.Text = "Holdfast starts, version " + get("version")
	case strings.HasPrefix(message, "Everything is ready"):
		e.Text = "Everything is ready, data is taken in"
	case who != "":
		e.Text = who + ": " + text
	default:
		e.Text = text
	}
	if p := get("otelcol.pipeline.id"); p != "" && len(e.Signals) == 0 {
		e.Signals = []string{p}
	}
	if why := finding(e.Detail); why != "" && strings.HasPrefix(message, "Config ") {
		e.Text += ": " + why
	} else if why := ShortCause(e.Detail); why != "" {
		e.Text += ": " + why
	}
	return e, true
}

func reason(word string) string {
	if word == "none" {
		return ""
	}
	return strings.ReplaceAll(word, "_", " ")
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func nonEmpty(texts ...string) []string {
	var out []string
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return out
}
