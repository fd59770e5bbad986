// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// highShare is how full a queue or a directory may be without being a cause.
const highShare = 0.8

// refuseTime is how long every pipeline must refuse to be more than a hiccup.
const refuseTime = 10 * time.Second

// cause is one reason not to be content.
type cause struct {
	verdict Verdict
	text    string
}

// Judge works out the sums and the verdict from what is in s, and lists its causes, worst first.
func Judge(s *Status) {
	s.Books = Books{}
	for i := range s.Destinations {
		s.Destinations[i].Books.Balance()
		s.Books.add(&s.Destinations[i].Books)
	}
	var all []cause
	say := func(v Verdict, format string, args ...any) {
		all = append(all, cause{v, fmt.Sprintf(format, args...)})
	}
	name(s)
	if s.Phase != "running" {
		say(Degraded, "the process is %s", s.Phase)
	}
	judgePipelines(s, say)
	for i := range s.Failover {
		judgeRoute(&s.Failover[i], say)
	}
	for i := range s.Destinations {
		judgeDestination(&s.Destinations[i], say)
	}
	for i := range s.Storage {
		if d := &s.Storage[i]; d.LimitBytes > 0 && float64(d.Bytes) >= highShare*float64(d.LimitBytes) {
			say(Degraded, "storage %s is %s full", d.Name, percent(float64(d.Bytes)/float64(d.LimitBytes)))
		}
	}
	if s.Books.Difference != 0 {
		say(Unhealthy, "the books do not balance: %d items are not accounted for", s.Books.Difference)
	}
	for _, text := range s.Degraded {
		say(Degraded, "%s", text)
	}
	slices.SortStableFunc(all, func(a, b cause) int { return cmp.Compare(b.verdict, a.verdict) })
	worst := OK
	s.Causes = make([]string, 0, len(all))
	for _, c := range all {
		worst = max(worst, c.verdict)
		s.Causes = append(s.Causes, c.text)
	}
	s.Verdict = worst.String()
	s.Sentences = sentences(s)
	s.Headline = strings.Join(s.Sentences, " ")
}

// judgePipelines looks at the doors: one that refuses is a degradation, all of them for a while are the end of service.
func judgePipelines(s *Status, say func(Verdict, string, ...any)) {
	refusing := 0
	for i := range s.Pipelines {
		if p := &s.Pipelines[i]; !p.Accepting && p.RefusingSeconds >= refuseTime.Seconds() {
			refusing++
		}
	}
	v := Degraded
	if refusing == len(s.Pipelines) {
		v = Unhealthy
	}
	for i := range s.Pipelines {
		if p := &s.Pipelines[i]; !p.Accepting && s.Phase == "running" {
			say(v, "pipeline %s refuses data, for %s", p.ID, seconds(p.RefusingSeconds))
		}
	}
}

// judgeRoute: a level down is degraded; all-down without an emergency level that takes the data is unhealthy.
func judgeRoute(r *Route, say func(Verdict, string, ...any)) {
	name := r.Connector + " (" + r.Signal + ")"
	if r.AllDown {
		switch {
		case r.ActiveLevel < 0 && !r.HasEmergency:
			say(Unhealthy, "%s: all levels are down, data is held: %d items%s", name, r.Queue.Items, oldest(&r.Queue))
		case r.ActiveLevel < 0:
			say(Unhealthy, "%s: all levels are down and the emergency file takes nothing, data is held: %d items%s", name,
				r.Queue.Items, oldest(&r.Queue))
		default:
			say(Degraded, "%s: all levels are down, data goes to the emergency file", name)
		}
	}
	for i := range r.Levels {
		l := &r.Levels[i]
		if l.Emergency && !l.down() || r.AllDown && !l.Emergency || l.standsBy(r.ActiveLevel) {
			continue
		}
		for k := range l.Members {
			judgeMember(name, l, &l.Members[k], say)
		}
	}
}

func oldest(q *RouteQueue) string {
	if q.OldestSeconds <= 0 {
		return ""
	}
	return ", the oldest for " + seconds(q.OldestSeconds)
}

func judgeMember(name string, l *Level, m *Member, say func(Verdict, string, ...any)) {
	switch {
	case m.State == "down" || m.State == "probing" || m.State == "held":
		text := fmt.Sprintf("%s: level %d (%s) is %s", name, l.Level, m.Exporter, m.State)
		if m.Reason != "none" && m.State != "held" {
			text += ", " + m.Reason
		}
		if m.Evidence.Error != "" && m.State != "held" {
			text += ": " + m.Evidence.Error
		}
		say(Degraded, "%s", text)
	case m.ThrottledSeconds > 0:
		say(Degraded, "%s: level %d (%s) asks for silence for another %s", name, l.Level, m.Exporter,
			seconds(m.ThrottledSeconds))
	case m.Silent:
		say(Degraded, "%s: level %d (%s) does not answer, it is looked at", name, l.Level, m.Exporter)
	}
}

func judgeDestination(d *Destination, say func(Verdict, string, ...any)) {
	name := d.Name + " of " + d.Pipeline
	if q := d.Queue; q != nil {
		if q.Capacity > 0 {
			q.Share = float64(q.Size) / float64(q.Capacity)
		}
		switch {
		case q.State == "full":
			say(Degraded, "the queue of %s is full", name)
		case q.State != "ok" && q.State != "":
			say(Unhealthy, "the queue of %s is %s", name, q.State)
		case q.Share >= highShare:
			say(Degraded, "the queue of %s is %s full%s", name, percent(q.Share), fullIn(d.FullIn))
		}
	}
	switch {
	case d.Parked:
		d.State = "parked"
		if d.Queue != nil && d.Queue.Items > 0 {
			say(Degraded, "%d items wait for %s, which left the configuration", d.Queue.Items, name)
		}
	case d.Fails:
		d.State = Failing.String()
		say(Failing, "%s: %d failed attempts since the last delivery%s", name, d.Failed, because(d.LastError))
	case d.Failed > 0:
		d.State = Degraded.String()
		say(Degraded, "%s: %d failed attempts since the last delivery%s", name, d.Failed, because(d.LastError))
	default:
		d.State = OK.String()
	}
}

func because(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func fullIn(in *float64) string {
	if in == nil {
		return ""
	}
	return ", " + seconds(*in) + " until it is"
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// seconds is a time that people can read at a glance: two units are enough.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return units(d.Round(time.Second), time.Minute, "m", time.Second, "s")
	case d < 48*time.Hour:
		return units(d.Round(time.Minute), time.Hour, "h", time.Minute, "m")
	}
	return units(d, 24*time.Hour, "d", time.Hour, "h")
}

func units(d, big time.Duration, bigWord string, small time.Duration, smallWord string) string {
	text := fmt.Sprintf("%d%s", d/big, bigWord)
	if rest := d % big / small; rest > 0 {
		text += fmt.Sprintf("%d%s", rest, smallWord)
	}
	return text
}

// standsBy reports whether a level below the active one is well as far as probes can tell: it waits for a live batch, and
// none goes there while a better one carries.
func (l *Level) standsBy(active int) bool {
	if l.Level <= active || active < 0 {
		return false
	}
	for k := range l.Members {
		if m := &l.Members[k]; m.State != "healthy" && !(m.State == "probing" && m.ReturnsWhen == aLiveBatch) {
			return false
		}
	}
	return true
}

// aLiveBatch is what a member waits for whose probes were good (failover.MemberStatus).
const aLiveBatch = "a live batch"
