// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package screen

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

var verdictTones = map[string]string{"ok": "good", "degraded": "warn", "failing": "bad", "unhealthy": "bad"}

// verdict is the word and what it stands on.
func verdict(s *status.Status, o *Options) []line {
	if !o.Silent.IsZero() {
		return silent(s, o)
	}
	tone := verdictTones[s.Verdict]
	if tone == "" {
		tone = "bad"
	}
	who := fmt.Sprintf("holdfast %s  process %d  %s", s.Version, s.PID, s.Time.Local().Format(time.TimeOnly))
	out := []line{top(strings.ToUpper(s.Verdict), tone, who, o)}
	for i, text := range lead(s.Sentences, s.Headline) {
		look := plain
		if i == 0 {
			look = bold
		}
		for _, l := range wrap(text, o.Width-2) {
			out = append(out, line{{" " + l, look}})
		}
	}
	return out
}

// lead parts the first sentence from the others.
func lead(sentences []string, whole string) []string {
	if len(sentences) < 2 {
		return []string{whole}
	}
	return []string{sentences[0], strings.Join(sentences[1:], " ")}
}

// top is the first line: a word that is seen from afar, and who it is about.
func top(word, tone, who string, o *Options) line {
	l := line{{" " + word + " ", tones[tone] + ";" + banner}}
	if left := o.Width - l.width() - len(who); left > 1 {
		return append(l, piece{strings.Repeat(" ", left), plain}, piece{who, dim})
	}
	return l
}

// silent says that nobody answers.
func silent(s *status.Status, o *Options) []line {
	if o.Silent.IsZero() {
		return []line{{{" asking", dim}}}
	}
	gone := max(o.Now.Sub(o.Silent).Round(time.Second), time.Second)
	out := []line{top("NOT ANSWERING", "bad", "", o),
		{{fmt.Sprintf(" Not answering since %s, for %s.", o.Silent.Local().Format(time.TimeOnly), gone), bold}}}
	if s != nil {
		for _, l := range wrap("Below is how it was then: "+s.Headline, o.Width-2) {
			out = append(out, line{{" " + l, plain}})
		}
	}
	return out
}

// title is the head of a block.
func title(text string) piece { return piece{" " + text, bold} }

func queues(s *status.Status, o *Options) []line {
	if len(s.Destinations) == 0 {
		return nil
	}
	name := 0
	for i := range s.Destinations {
		name = max(name, len(s.Destinations[i].Name)+1+len(s.Destinations[i].Pipeline))
	}
	name = min(max(name, 12), max(o.Width-56, 16))
	row := func(cells ...string) string {
		return fmt.Sprintf(" %-*s %9s %7s %8s %9s %9s  %s", name, o.cut(cells[0], name), cells[1], cells[2], cells[3], cells[4], cells[5], cells[6])
	}
	out := []line{{{row("QUEUES", "items", "full", "oldest", "in", "out", ""), bold}}}
	for i := range s.Destinations {
		d := &s.Destinations[i]
		items, full, oldest := "-", "-", "-"
		if q := d.Queue; q != nil {
			items = status.Number(q.Items)
			if q.Capacity > 0 {
				full = fmt.Sprintf("%.0f %%", 100*q.Share)
			}
			if q.OldestSeconds > 0 {
				oldest = status.Long(q.OldestSeconds)
			}
		}
		note, look := status.Outlook(d), plain
		if d.State != "ok" {
			note = strings.TrimSpace(d.State + "  " + note)
			look = amber
		}
		out = append(out, line{{row(d.Name+" "+d.Pipeline, items, full, oldest, status.Rate(d.InPerSecond), status.Rate(d.OutPerSecond), ""), plain}, {note, look}})
	}
	return out
}

func books(s *status.Status, o *Options) []line {
	b := &s.Books
	text := fmt.Sprintf("%s accepted = %s delivered + %s queued + %s parked + %s rejected + %s dropped", status.Number(int64(b.Accepted)),
		status.Number(int64(b.Delivered)), status.Number(int64(b.Queued)), status.Number(int64(b.Parked)), status.Number(int64(b.Rejected)),
		status.Number(int64(b.Dropped)))
	var out []line
	for _, l := range wrap(text, o.Width-2) {
		out = append(out, line{{" " + l, plain}})
	}
	if b.Difference != 0 {
		return append(out, line{{" ", plain}, o.mark("bad"), {" " + status.Number(b.Difference) + " items are not accounted for", red}})
	}
	return append(out, line{{" ", plain}, o.mark("good"), {" every item accounted for", green}})
}

func config(s *status.Status, o *Options) []line {
	c := &s.Config
	if c.Running.SHA256 == "" {
		return nil
	}
	l := line{title("CONFIGURATION"), {fmt.Sprintf("  %s  %s", c.Running.SHA256[:min(12, len(c.Running.SHA256))], strings.Join(c.Running.Sources, ", ")), plain}}
	switch {
	case !c.ConfirmUntil.IsZero():
		l = append(l, piece{"  to be confirmed within " + status.Long(max(c.TrialSeconds, 1)), blue})
	case c.TrialSeconds > 0:
		l = append(l, piece{"  on trial, another " + status.Long(max(c.TrialSeconds, 1)), blue})
	case c.Drift:
		l = append(l, piece{"  another one is on offer and does not run", amber})
	}
	return []line{l}
}

var eventTones = map[string]string{"warn": "warn", "error": "bad"}

func events(s *status.Status, o *Options) []line {
	if len(s.Events) == 0 {
		return nil
	}
	out := []line{{title("WHAT HAPPENED")}}
	for i := range s.Events {
		e := &s.Events[i]
		tone := eventTones[e.Level]
		if tone == "" {
			tone = "rest"
		}
		who := strings.Join(e.Signals, ", ")
		if e.Times > 1 {
			who += fmt.Sprintf(" x%d", e.Times)
		}
		head := line{{" " + e.Time.Local().Format(time.TimeOnly) + " ", dim}, o.mark(tone), {" ", plain}}
		room := o.Width - head.width() - 1
		text := o.cut(e.Text, room)
		head = append(head, piece{text, plain})
		if who != "" && len([]rune(text))+2+len([]rune(who)) <= room {
			head = append(head, piece{"  " + who, dim})
		}
		out = append(out, head)
	}
	return out
}
