// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// together is how far apart, in seconds, the same is still one event of several signals.
	together = 1.5
	// maxEvents are shown of one scenario; all are in report.json.
	maxEvents = 60
)

// merged are the events with what is the same for several signals, or again and again, in one line.
func merged(events []Event) (out []Event) {
	type line struct {
		at      int // in out
		signals []string
		times   int
	}
	open := map[string]*line{}
	for _, e := range events {
		text, signal := e.Text, ""
		if before, after, ok := strings.Cut(e.Text, " signal="); ok {
			var rest string
			if signal, rest, ok = strings.Cut(after, " "); ok {
				rest = " " + rest
			}
			text = before + rest
		}
		key := e.Who + text
		if l := open[key]; l != nil && e.Who == "log" && e.At-out[l.at].At <= together {
			if l.times++; signal != "" && !slices.Contains(l.signals, signal) {
				l.signals = append(l.signals, signal)
			}
			out[l.at].Text = said(text, l.signals, l.times)
			continue
		}
		l := &line{at: len(out), times: 1}
		if signal != "" {
			l.signals = []string{signal}
		}
		open[key] = l
		out = append(out, Event{At: e.At, Who: e.Who, Text: said(text, l.signals, 1)})
	}
	return out
}

func said(text string, signals []string, times int) string {
	if len(signals) > 0 {
		text += " (" + strings.Join(signals, ", ") + ")"
	}
	if times > max(len(signals), 1) {
		text += fmt.Sprintf(" ×%d", times)
	}
	return text
}

// number writes a count with commas.
func number(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Sentence is the verdict on a scenario, in words.
func (s *Scenario) Sentence() string {
	switch s.Outcome {
	case NotApplicable:
		return "Not applicable: " + s.Why + "."
	case Inconclusive:
		if len(s.Doubts) > 0 {
			return "Inconclusive, which is not a pass: " + s.Doubts[0] + "."
		}
		return "Inconclusive, which is not a pass."
	case Failed:
		return "A promise was broken: " + strings.Join(s.promises(), "; ") + "."
	}
	twice := "none arrived twice"
	if s.Twice > 0 {
		twice = number(s.Twice) + " arrived twice, within the bound"
	}
	return fmt.Sprintf("Every promise was kept: of %s acknowledged items none is lost, %s.", number(s.Acked), twice)
}

// promises are the names of those that were broken, each once.
func (s *Scenario) promises() (out []string) {
	for _, b := range s.Broken {
		if !slices.Contains(out, b.Promise) {
			out = append(out, b.Promise)
		}
	}
	return out
}

// Sentence is the verdict on everything, in words.
func (r *Report) Sentence() string {
	counts := map[Outcome]int{}
	var acked, lost, twice uint64
	var broken []string
	for _, s := range r.Scenarios {
		counts[s.Outcome]++
		acked, lost, twice = acked+s.Acked, lost+s.Lost, twice+s.Twice
		for _, p := range s.promises() {
			if !slices.Contains(broken, p) {
				broken = append(broken, p)
			}
		}
	}
	played := len(r.Scenarios) - counts[NotApplicable]
	items := fmt.Sprintf("of %s acknowledged items %s were lost, %s arrived twice", number(acked), number(lost), number(twice))
	switch r.Outcome {
	case Passed:
		return fmt.Sprintf("This configuration kept every promise in all %d scenarios that it has: %s, within the bound.", played, items)
	case Failed:
		return fmt.Sprintf("This configuration broke promises in %d of %d scenarios: %s. In all of them together, %s.", counts[Failed], played,
			strings.Join(broken, "; "), items)
	}
	return fmt.Sprintf("Not everything is proven: %d of %d scenarios came to no end that could be judged. In all of them together, %s.",
		counts[Inconclusive], played, items)
}
