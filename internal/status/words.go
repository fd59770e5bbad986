// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The tones: how something is, for colours and marks. Whoever shows one also shows the word.
const (
	toneGood = "good" // data goes there
	toneBusy = "busy" // on its way back
	toneRest = "rest" // well, and not needed
	toneWarn = "warn" // it may be ill, or somebody took it out
	toneBad  = "bad"  // no data goes there
)

const emergencyName = "emergency file"

// name gives every level its name, tone and word.
func name(s *Status) {
	short := shortNames(s.Failover)
	for i := range s.Failover {
		r := &s.Failover[i]
		for k := range r.Levels {
			l := &r.Levels[k]
			if l.Name = ""; l.Emergency {
				l.Name = emergencyName
			} else {
				names := make([]string, len(l.Members))
				for m := range l.Members {
					names[m] = short[l.Members[m].Exporter]
				}
				l.Name = strings.Join(names, "+")
			}
			l.Tone, l.Word = l.describe(r, s.Time)
		}
	}
}

// shortNames are the part of exporters' IDs behind the slash, where that tells them apart.
func shortNames(routes []Route) map[string]string {
	short, taken := map[string]string{}, map[string]string{}
	for i := range routes {
		for k := range routes[i].Levels {
			for m := range routes[i].Levels[k].Members {
				id := routes[i].Levels[k].Members[m].Exporter
				_, part, ok := strings.Cut(id, "/")
				if other, there := taken[part]; !ok || there && other != id {
					short[id], short[other] = id, other
					continue
				}
				taken[part], short[id] = id, part
			}
		}
	}
	return short
}

// worst is the member that says how the level is, and since when the first of them does not carry.
func (l *Level) worst() (worst *Member, since time.Time) {
	rank := map[string]int{"held": 5, "down": 4, "probing": 3, "ramping": 2, "suspect": 1}
	for i := range l.Members {
		m := &l.Members[i]
		if worst == nil || rank[m.State] > rank[worst.State] {
			worst = m
		}
		if at := m.DownSince; !at.IsZero() && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	return worst, since
}

// describe is the tone and the word of a level.
func (l *Level) describe(r *Route, now time.Time) (tone, word string) {
	m, since := l.worst()
	if m == nil {
		return toneRest, "no exporter"
	}
	active := l.Level == r.ActiveLevel
	long := ""
	if !since.IsZero() {
		long = " for " + ago(since, now)
	}
	switch {
	case m.State == "held":
		return toneWarn, "held by an operator" + long
	case m.ThrottledSeconds > 0:
		return toneWarn, "asks for silence, another " + seconds(m.ThrottledSeconds)
	case m.State == "probing" && m.ReturnsWhen == aLiveBatch && r.ActiveLevel >= 0 && r.ActiveLevel < l.Level && !active:
		return toneRest, "standby, answers again"
	case m.State == "down" || m.State == "probing":
		return toneBad, "down" + long + colon(m)
	case m.State == "ramping":
		return toneBusy, "ramping, " + percent(m.Share)
	case m.Silent:
		return toneWarn, "does not answer"
	case m.State == "suspect":
		return toneWarn, "suspect" + colon(m)
	case active:
		return toneGood, "serving"
	case l.Emergency:
		return toneRest, "ready"
	}
	return toneRest, "standby"
}

func ago(since, now time.Time) string {
	return seconds(max(now.Sub(since), 0).Round(time.Second).Seconds())
}

func colon(m *Member) string {
	if why := ShortCause(m.Evidence.Error); why != "" {
		return ": " + why
	}
	return ""
}

// causes are what errors of transport and of backends mean, the first that matches: words and what they say.
var causeWords = [...][2]string{
	{"connection refused", "connection refused"},
	{"no such host", "name not found"},
	{"certificate", "certificate not accepted"},
	{"tls:", "TLS failed"},
	{"unauthenticated", "credentials refused"},
	{"permissiondenied", "permission denied"},
	{" 401", "credentials refused"},
	{" 403", "permission denied"},
	{" 404", "wrong path"},
	{"unimplemented", "signal not known there"},
	{"deadline exceeded", "no answer in time"},
	{"deadlineexceeded", "no answer in time"},
	{"timeout", "no answer in time"},
	{"no route to host", "no route"},
	{"network is unreachable", "network unreachable"},
	{"connection reset", "connection cut"},
	{": eof", "connection cut"},
	{"no space left", "disk full"},
	{"resourceexhausted", "overloaded"},
	{" 429", "overloaded"},
	{"unavailable", "unavailable"},
	{" 503", "unavailable"},
}

// ShortCause is an error in a few words, empty if there is none; the whole text stands beside it.
func ShortCause(text string) string {
	lower := strings.ToLower(text)
	for _, w := range causeWords {
		if strings.Contains(lower, w[0]) {
			return w[1]
		}
	}
	return cut(text, 60)
}

// finding is what is wrong with a configuration, without its place and what else is.
func finding(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	text, _, _ = strings.Cut(text, `\n`) // as the log has it
	if _, what, ok := strings.Cut(text, ": error: "); ok {
		text = what
	}
	return cut(text, 110)
}

func cut(text string, most int) string {
	if utf8.RuneCountInString(text) > most {
		return string([]rune(text)[:most-1]) + "…"
	}
	return text
}

// Number is a number of items for people.
func Number(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Long is a time in seconds that people can read at a glance.
func Long(s float64) string { return seconds(s) }

// Outlook is when a queue will be full or empty, if there is anything in it that waits; empty = there is not.
func Outlook(d *Destination) string {
	switch q := d.Queue; {
	case q == nil || q.Items == 0 || q.OldestSeconds < backlogAge.Seconds():
		return ""
	case d.FullIn != nil && *d.FullIn < outlookFor.Seconds():
		return "full in " + seconds(*d.FullIn)
	case d.FullIn != nil:
		return "growing"
	case d.EmptyIn != nil:
		return "empty in " + seconds(*d.EmptyIn)
	}
	return ""
}

// outlookFor is how far anybody looks ahead.
const outlookFor = 48 * time.Hour

// Rate is items per second for people.
func Rate(perSecond float64) string {
	if perSecond > 0 && perSecond < 10 {
		return fmt.Sprintf("%.1f/s", perSecond)
	}
	return Number(int64(perSecond+0.5)) + "/s"
}

// Items is Rate with what it counts.
func Items(perSecond float64) string { return strings.TrimSuffix(Rate(perSecond), "/s") + " items/s" }

// things is a number and what it counts.
func things(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Number(n) + " " + many
}

// the is a level's name in a sentence.
func the(name string) string {
	if strings.HasPrefix(name, emergencyName) {
		return "the " + name
	}
	return name
}

// sentence begins with a capital, unless it begins with an ID, and ends with a full stop.
func sentence(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if r, n := utf8.DecodeRuneInString(text); n > 0 && !strings.ContainsAny(first, "/_") && !strings.Contains(first, "::") {
		text = string(unicode.ToUpper(r)) + text[n:]
	}
	if strings.HasSuffix(text, "…") {
		return text
	}
	return strings.TrimRight(text, ". ") + "."
}
