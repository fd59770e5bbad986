// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"strings"
)

// refusing says which doors are shut.
func refusing(s *Status) string {
	var ids []string
	longest := 0.0
	for i := range s.Pipelines {
		if p := &s.Pipelines[i]; !p.Accepting && s.Phase == "running" {
			ids = append(ids, p.ID)
			longest = max(longest, p.RefusingSeconds)
		}
	}
	switch {
	case len(ids) == 0:
		return ""
	case len(ids) == len(s.Pipelines):
		return fmt.Sprintf("New data is refused for %s: senders are told to keep it and come back", seconds(longest))
	}
	return fmt.Sprintf("New data of %s is refused for %s: senders are told to keep it and come back", strings.Join(ids, ", "),
		seconds(longest))
}

func brokenQueues(s *Status) string {
	var say []string
	for i := range s.Destinations {
		d := &s.Destinations[i]
		if q := d.Queue; q != nil && q.State != "ok" && q.State != "" {
			say = append(say, fmt.Sprintf("the queue of %s of %s is %s", d.Name, d.Pipeline, q.State))
		}
	}
	return strings.Join(say, ", ")
}

// flowing is what goes through, where that is the news.
func flowing(s *Status) string {
	in := 0.0
	for i := range s.Pipelines {
		in += s.Pipelines[i].InPerSecond
	}
	if in == 0 {
		return "No data is coming in"
	}
	return Items(in) + " come in and go out"
}

// lost says whether anything is. It never says less than the books do.
func lost(s *Status) string {
	b := &s.Books
	var say []string
	if b.Difference != 0 {
		say = append(say, things(b.Difference, "item is", "items are")+" not accounted for")
	}
	if b.Dropped > 0 {
		say = append(say, things(int64(b.Dropped), "item was", "items were")+" dropped since the start")
	}
	if len(say) == 0 {
		say = append(say, "Nothing lost")
	}
	if b.Rejected > 0 {
		say = append(say, things(int64(b.Rejected), "item", "items")+" rejected by a backend")
	}
	return strings.Join(say, ", ")
}

// waiting is what has to be worked off, and how long that takes; empty if nothing has.
func waiting(s *Status) string {
	var items int64
	oldest, full, empty, volatile, growing := 0.0, 0.0, 0.0, false, false
	steady := true
	for i := range s.Destinations {
		d := &s.Destinations[i]
		q := d.Queue
		if q == nil || q.Items == 0 || q.OldestSeconds < backlogAge.Seconds() {
			continue
		}
		items += q.Items
		oldest = max(oldest, q.OldestSeconds)
		volatile = volatile || !q.Durable
		switch {
		case d.FullIn != nil:
			growing = true
			if full == 0 || *d.FullIn < full {
				full = *d.FullIn
			}
		case d.EmptyIn != nil:
			empty, steady = max(empty, *d.EmptyIn), false
		}
	}
	if items == 0 {
		return ""
	}
	text := things(items, "item waits", "items wait") + ", the oldest for " + seconds(oldest)
	switch {
	case growing && full < outlookFor.Seconds():
		text += ", full in about " + about(full)
	case growing:
		text += ", still growing"
	case !steady:
		text += ", empty in about " + about(empty)
	}
	if volatile {
		text += "; in memory only: a crash would lose them"
	}
	return text
}

// emergencies is what the emergency files owe.
func emergencies(s *Status) string {
	var items int64
	used := false
	for i := range s.Failover {
		r := &s.Failover[i]
		items += r.Emergency.Items
		a := r.active()
		used = used || a != nil && a.Emergency
	}
	switch {
	case items == 0:
		return ""
	case used:
		return things(items, "item is", "items are") + " safe in the emergency file until a backend is back"
	}
	return things(items, "item goes", "items go") + " back from the emergency file to the backends"
}

// offered is what there is to say of a configuration that is on offer and does not run, and why.
func offered(c *Config) (what, why string) {
	if !c.Drift {
		return "", ""
	}
	if len(c.Attempts) > 0 {
		why = finding(c.Attempts[0].Text)
	}
	switch {
	case c.TrialSeconds > 0:
		return "Another configuration is on offer than the one on trial", ""
	case len(c.Attempts) > 0 && c.Attempts[0].State == "rejected":
		return "A new configuration was rejected, the one before it runs on", why
	case len(c.Attempts) > 0 && c.Attempts[0].State == "rolled_back":
		return "A new configuration was rolled back, the one before it runs again", why
	}
	return "The configuration on offer does not run", why
}

// onTrial is for how long it is not known yet whether a new configuration is good. A start with what ran before is no news.
func onTrial(c *Config) string {
	if !c.ConfirmUntil.IsZero() {
		return "The configuration waits for somebody to confirm it (holdfast config confirm) for another " +
			seconds(max(c.TrialSeconds, 1)) + ", then the one before it runs again"
	}
	if c.TrialSeconds <= 0 || c.Good.SHA256 == "" || c.Good.SHA256 == c.Running.SHA256 {
		return ""
	}
	return "The configuration is on trial for another " + seconds(max(c.TrialSeconds, 1))
}

// about is a time that nobody will take for exact.
func about(s float64) string {
	switch {
	case s < 10:
		return fmt.Sprintf("%.0fs", max(s, 1))
	case s < 60:
		return fmt.Sprintf("%.0fs", 5*float64(int(s/5+0.5)))
	case s < 3600:
		return fmt.Sprintf("%.0fm", s/60)
	}
	return fmt.Sprintf("%.0fh", s/3600)
}
