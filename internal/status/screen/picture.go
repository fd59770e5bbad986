// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package screen

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/status"
)

// ranks are the tones; of several the last one is shown.
var ranks = []string{"rest", "good", "busy", "warn", "bad"}

// place is a destination with everything that is alike in all its pipelines and signals.
type place struct {
	name      string
	receivers []string
	in, out   float64
	items     int64
	oldest    float64
	kept      string
	levels    []rung
}

// rung is a level of a place, over all signals.
type rung struct {
	name, tone, word string
	since            time.Time
	signals          []string // of which the word is true
	all              int
	out              float64
	parked           int64
}

// places gathers what goes the same way.
func places(s *status.Status) []*place {
	var out []*place
	for i := range s.Destinations {
		d := &s.Destinations[i]
		at := slices.IndexFunc(s.Pipelines, func(p status.Pipeline) bool { return p.ID == d.Pipeline })
		if at < 0 || d.State == "parked" {
			continue
		}
		p := find(out, d.Name)
		if p == nil {
			p = &place{name: d.Name, kept: "no queue, the sender waits"}
			out = append(out, p)
		}
		p.in, p.out = p.in+d.InPerSecond, p.out+d.OutPerSecond
		for _, r := range s.Pipelines[at].Receivers {
			if !slices.Contains(p.receivers, r) {
				p.receivers = append(p.receivers, r)
			}
		}
		if q := d.Queue; q != nil {
			p.items, p.oldest = p.items+q.Items, max(p.oldest, q.OldestSeconds)
			if p.kept = "on disk"; !q.Durable {
				p.kept = "in memory"
			}
		}
	}
	for i := range s.Failover {
		r := &s.Failover[i]
		p := find(out, r.Connector)
		if p == nil {
			continue
		}
		for k := range r.Levels {
			if k == len(p.levels) {
				p.levels = append(p.levels, rung{name: r.Levels[k].Name, tone: "rest"})
			}
			p.levels[k].add(r, &r.Levels[k])
		}
	}
	return out
}

func find(all []*place, name string) *place {
	for _, p := range all {
		if p.name == name {
			return p
		}
	}
	return nil
}

// add takes a signal's level in. The worst word is shown, and of words alike the one that is true for longest.
func (g *rung) add(r *status.Route, l *status.Level) {
	var since time.Time
	for i := range l.Members {
		if at := l.Members[i].DownSince; !at.IsZero() && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	g.all++
	g.out += l.OutPerSecond
	if l.Emergency {
		g.parked += r.Emergency.Items
	}
	was, is := slices.Index(ranks, g.tone), slices.Index(ranks, l.Tone)
	switch {
	case g.word == "" || is > was:
		g.tone, g.word, g.since, g.signals = l.Tone, l.Word, since, []string{r.Signal}
	case is == was:
		g.signals = append(g.signals, r.Signal)
		if !since.IsZero() && since.Before(g.since) {
			g.word, g.since = l.Word, since
		}
	}
}

// picture draws where the data goes.
func picture(s *status.Status, o *Options) []line {
	all := places(s)
	if len(all) == 0 {
		return nil
	}
	out := []line{{title("WHERE THE DATA GOES")}}
	arrow, branch, end := "──▶", "├─ ", "└─ "
	if o.ASCII {
		arrow, branch, end = "-->", "|- ", "`- "
	}
	for _, p := range all {
		from := strings.Join(p.receivers, ", ")
		wait := fmt.Sprintf("  %s waiting", status.Number(p.items))
		if p.oldest >= 1 {
			wait += ", oldest " + status.Long(p.oldest)
		}
		if strings.HasPrefix(p.kept, "no") {
			wait = ""
		}
		out = append(out, line{{" " + from + " ", bold}, {status.Rate(p.in) + " " + arrow + " ", blue}, {p.name, bold},
			{wait + ", " + p.kept, plain}})
		name, rate := 0, 0
		for i := range p.levels {
			name, rate = max(name, len([]rune(p.levels[i].name))), max(rate, len(status.Rate(p.levels[i].out)))
		}
		for i := range p.levels {
			g := &p.levels[i]
			rail := branch
			if i == len(p.levels)-1 {
				rail = end
			}
			word := g.word
			if len(g.signals) < g.all {
				word += " (" + strings.Join(g.signals, ", ") + ")"
			}
			if g.parked > 0 {
				word += fmt.Sprintf("; %s items in it, safe", status.Number(g.parked))
			}
			flow := dim
			if g.out > 0 {
				flow = blue
			}
			out = append(out, line{{"    " + rail, dim}, o.mark(g.tone), {" ", plain}, {fmt.Sprintf("%-*s", name, g.name), bold},
				{fmt.Sprintf("  %*s", rate, status.Rate(g.out)), flow}, {"  ", plain}, {word, tones[g.tone]}})
		}
	}
	return out
}
