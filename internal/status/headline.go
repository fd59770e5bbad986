// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// backlogAge is from when on what waits in a queue is worth a word: what passes through is younger.
const backlogAge = 3 * time.Second

// sentences are how it is, in the order in which somebody asks who was woken: what is broken, where does the data go, is
// anything lost, how long will it take. It looks at nothing but s, after the verdict was worked out.
func sentences(s *Status) []string {
	var say []string
	add := func(text string) {
		if text != "" {
			say = append(say, sentence(text))
		}
	}
	switch s.Phase {
	case "starting":
		add("Starting: nothing is taken in yet")
	case "stopping":
		add("Stopping: nothing new is taken in, what is here is delivered or kept")
	}
	tales := talesOf(s)
	for i := range tales {
		for text := range strings.SplitSeq(tales[i].text(s, len(tales)), breakMark) {
			add(text)
		}
	}
	add(refusing(s))
	add(brokenQueues(s))
	waits, trial := waiting(s), onTrial(&s.Config)
	offered, why := offered(&s.Config)
	if len(say) > 0 || waits != "" || s.Books.Difference != 0 {
		add(lost(s))
		add(waits)
		add(emergencies(s))
		add(offered)
		add(why)
		add(trial)
		return say
	}
	switch {
	case offered != "":
		add(offered)
		add(why)
	case len(s.Causes) > 0:
		add(s.Causes[0])
	default:
		add("All is well")
		add(flowing(s))
	}
	add(lost(s))
	add(emergencies(s))
	add(trial)
	return say
}

// grave are the kinds of tales, the worst first.
var grave = []string{"stuck", "down", "doubt", "silence", "silent", "held", "ramping", "spare", "spare held"}

// tale is what there is to say of a route, and of others for which it is the same.
type tale struct {
	kind      string // see text
	connector string
	signals   []string
	all       bool   // every signal of the connector
	broken    string // names of levels
	why       string // if there is one reason
	to        string // name of the level that carries
	share     float64
	left      float64 // seconds
	since     time.Time
}

// same reports whether two tales differ in nothing that people tell apart.
func (t *tale) same(o *tale) bool {
	return t.kind == o.kind && t.connector == o.connector && t.broken == o.broken && t.to == o.to && t.why == o.why
}

// talesOf are the routes that are not as they should be, in their order; those of one connector that are alike are one.
func talesOf(s *Status) []tale {
	var out []tale
	signals := map[string]int{}
	for i := range s.Failover {
		r := &s.Failover[i]
		signals[r.Connector]++
		t, ok := r.tale()
		if !ok {
			continue
		}
		at := slices.IndexFunc(out, func(o tale) bool { return o.same(&t) })
		if at < 0 {
			out = append(out, t)
			continue
		}
		o := &out[at]
		o.signals = append(o.signals, t.signals...)
		o.share, o.left = min(o.share, t.share), max(o.left, t.left)
		if o.since.IsZero() || !t.since.IsZero() && t.since.Before(o.since) {
			o.since = t.since
		}
	}
	slices.SortStableFunc(out, func(a, b tale) int { return cmp.Compare(slices.Index(grave, a.kind), slices.Index(grave, b.kind)) })
	for i := range out {
		out[i].all = len(out[i].signals) == signals[out[i].connector]
	}
	return out
}

// tale is what there is to say of one route; false if nothing is.
func (r *Route) tale() (tale, bool) {
	t := tale{connector: r.Connector, signals: []string{r.Signal}, share: 1}
	if a := r.active(); a != nil {
		t.to = a.Name
	}
	for i := range r.Levels {
		l := &r.Levels[i]
		above := r.ActiveLevel < 0 || i < r.ActiveLevel
		m, since := l.worst()
		if m == nil || !above || !l.down() && m.State != "suspect" || l.Emergency && m.State != "down" {
			continue
		}
		why := ShortCause(m.Evidence.Error)
		switch {
		case m.State == "suspect":
			if t.kind == "" {
				t.kind = "doubt"
			}
		case m.State == "held":
			t.kind, why = "held", ""
		case m.ThrottledSeconds > 0 && t.kind == "":
			t.kind, t.left = "silence", max(t.left, m.ThrottledSeconds)
		case t.kind != "held":
			t.kind, t.left = "down", 0
		}
		if t.broken == "" {
			t.why = why
		} else if t.why != why {
			t.why = ""
		}
		t.broken = list(t.broken, l.Name)
		if t.since.IsZero() || !since.IsZero() && since.Before(t.since) {
			t.since = since
		}
	}
	switch {
	case r.ActiveLevel < 0:
		t.kind = "stuck"
		if !r.HasEmergency && t.broken == "" {
			t.broken = r.Connector
		}
		return t, true
	case t.kind != "":
		return t, true
	}
	return r.ailing(t)
}

// ailing is the tale of a route whose first level carries.
func (r *Route) ailing(t tale) (tale, bool) {
	for i := range r.Levels {
		l := &r.Levels[i]
		m, since := l.worst()
		if m == nil || l.standsBy(r.ActiveLevel) && !l.down() {
			continue
		}
		t.broken, t.since, t.why = l.Name, since, ShortCause(m.Evidence.Error)
		switch {
		case m.State == "ramping":
			t.kind, t.share, t.why = "ramping", m.Share, ""
			if t.to = ""; i+1 < len(r.Levels) && !r.Levels[i+1].Emergency {
				t.to = r.Levels[i+1].Name
			}
		case m.ThrottledSeconds > 0:
			t.kind, t.left = "silence", m.ThrottledSeconds
		case m.Silent:
			t.kind = "silent"
		case i > r.ActiveLevel && l.down() && !l.standsBy(r.ActiveLevel):
			t.kind = "spare"
			if m.State == "held" {
				t.kind = "spare held"
			}
		default:
			continue
		}
		return t, true
	}
	return t, false
}

// active is the level that carries, nil if none does.
func (r *Route) active() *Level {
	if r.ActiveLevel < 0 || r.ActiveLevel >= len(r.Levels) {
		return nil
	}
	return &r.Levels[r.ActiveLevel]
}

// breakMark parts the sentences of a tale.
const breakMark = "\x00"

// text is a tale in words; of is how many there are.
func (t *tale) text(s *Status, of int) string {
	long, why := "", ""
	if !t.since.IsZero() {
		long = " for " + ago(t.since, s.Time)
	}
	if t.why != "" {
		why = " (" + t.why + ")"
	}
	who, what := "", "Everything"
	if !t.all {
		who, what = strings.Join(t.signals, " and ")+": ", "All of it"
	}
	if of > 1 && !oneConnector(s) {
		who, what = t.connector+", "+strings.Join(t.signals, " and ")+": ", "All of it"
	}
	goes := breakMark + what + " goes to " + the(t.to)
	who += t.broken
	switch t.kind {
	case "stuck":
		held := "data waits in the queue"
		if !queued(s, t.connector) {
			held = "senders are told to keep it and come back"
		}
		return who + " down" + long + why + breakMark + "Nothing is delivered; " + held
	case "down":
		return who + " down" + long + why + goes
	case "held":
		return who + " held by an operator" + long + goes
	case "doubt":
		return who + " fails" + why + " and is looked at; meanwhile data goes to " + the(t.to)
	case "silence":
		if t.to == "" || t.to == t.broken {
			goes = ""
		}
		return who + " asks for silence for another " + seconds(t.left) + goes
	case "ramping":
		rest := ""
		if t.to != "" {
			rest = ", the rest goes to " + the(t.to)
		}
		return who + " is back and takes " + percent(t.share) + " of what is new" + rest
	case "silent":
		return who + " does not answer; it is being asked"
	case "spare held":
		return who + " held by an operator" + long + "; " + the(t.to) + " carries everything"
	}
	return who + " down" + long + why + "; " + the(t.to) + " carries everything"
}

// queued reports whether any destination of a connector has a queue.
func queued(s *Status, connector string) bool {
	return slices.ContainsFunc(s.Destinations, func(d Destination) bool { return d.Name == connector && d.Queue != nil })
}

func oneConnector(s *Status) bool {
	for i := range s.Failover {
		if s.Failover[i].Connector != s.Failover[0].Connector {
			return false
		}
	}
	return true
}

func list(have, more string) string {
	if have == "" {
		return more
	}
	return strings.ReplaceAll(have, " and ", ", ") + " and " + more
}
