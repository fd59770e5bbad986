// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// shortHash is how much of a hash is worth showing.
const shortHash = 12

// textWidth is how wide a screen is taken to be.
const textWidth = 118

// Text is the status as one screen for people. What others wrote, the errors, must have been escaped.
func Text(s *Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  holdfast %s, process %d, %s%s\n", strings.ToUpper(s.Verdict), s.Version, s.PID, s.Phase, uptime(s))
	b.WriteString(wrap(s.Headline, textWidth))
	for _, c := range s.Causes {
		fmt.Fprintf(&b, "  - %s\n", c)
	}
	if r := &s.Config.Running; r.SHA256 != "" {
		fmt.Fprintf(&b, "\nConfiguration  sha256 %s  %s\n", r.SHA256[:min(len(r.SHA256), shortHash)], strings.Join(r.Sources, ", "))
		switch {
		case !s.Config.ConfirmUntil.IsZero():
			fmt.Fprintf(&b, "               to be confirmed within %s (holdfast config confirm), else generation %d runs again\n",
				seconds(max(s.Config.TrialSeconds, 1)), s.Config.Good.Generation)
		case s.Config.TrialSeconds > 0:
			fmt.Fprintf(&b, "               on trial for another %s\n", seconds(s.Config.TrialSeconds))
		}
	}
	k := &s.Books
	fmt.Fprintf(&b, "\nBooks in items  accepted %d = delivered %d + queued %d + parked %d + rejected %d + dropped %d, difference %d\n",
		k.Accepted, k.Delivered, k.Queued, k.Parked, k.Rejected, k.Dropped, k.Difference)
	textDestinations(&b, s.Destinations)
	TextRoutes(&b, s.Failover, s.Time)
	for i := range s.Storage {
		d := &s.Storage[i]
		fmt.Fprintf(&b, "\nStorage %s  %s  %s of %s, the volume has %s left%s\n", d.Name, d.Directory, size(d.Bytes),
			limit(d.LimitBytes), size(d.FreeBytes), fullIn(d.FullIn))
	}
	textEvents(&b, s.Events)
	return b.String()
}

// maxTextEvents are how many events the text has; the page has them all.
const maxTextEvents = 8

func textEvents(b *strings.Builder, events []Event) {
	if len(events) == 0 {
		return
	}
	b.WriteString("\nWhat happened, newest first\n")
	table(b, func(w io.Writer) {
		for i := range events[:min(len(events), maxTextEvents)] {
			e := &events[i]
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", e.Time.Local().Format(time.DateTime), e.Level, e.Text, strings.Join(e.Signals, ", "))
		}
	})
}

// wrap breaks a text between words.
func wrap(text string, width int) string {
	var b strings.Builder
	at := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case at == 0:
		case at+1+n > width:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
	return b.String()
}

func uptime(s *Status) string {
	if s.UpSince.IsZero() {
		return ""
	}
	return " for " + seconds(s.Time.Sub(s.UpSince).Seconds())
}

func textDestinations(b *strings.Builder, all []Destination) {
	if len(all) == 0 {
		return
	}
	b.WriteByte('\n')
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "Destination\tpipeline\tstate\titems\tfull\toldest\tin/s\tout/s\t")
		for i := range all {
			d := &all[i]
			items, full, old, note := "-", "-", "-", Outlook(d)
			if q := d.Queue; q != nil {
				items, full, old = fmt.Sprint(q.Items), "-", "-"
				if q.Capacity > 0 {
					full = percent(q.Share)
				}
				if q.OldestSeconds > 0 {
					old = seconds(q.OldestSeconds)
				}
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%.0f\t%.0f\t%s\n", d.Name, d.Pipeline, d.State, items, full, old,
				d.InPerSecond, d.OutPerSecond, note)
		}
	})
}

// TextRoutes writes where data goes and what every level stands on. now is when the routes were looked at.
func TextRoutes(b *strings.Builder, routes []Route, now time.Time) {
	for i := range routes {
		r := &routes[i]
		where := fmt.Sprintf("data goes to level %d", r.ActiveLevel)
		if r.ActiveLevel < 0 {
			where = "data is held"
		}
		if r.AllDown {
			where += ", all levels are down"
		}
		fmt.Fprintf(b, "\n%s (%s)  %s\n", r.Connector, r.Signal, where)
		fmt.Fprintf(b, "  queue %d items, %s full%s; in hand: %d in flight, %d waiting, %d moving, %d held\n", r.Queue.Items,
			percent(r.Queue.Share), oldest(&r.Queue), r.InHand.InFlight, r.InHand.Waiting, r.InHand.Moving, r.InHand.Held)
		if r.Emergency.Items > 0 {
			fmt.Fprintf(b, "  emergency file: %d items, %s\n", r.Emergency.Items, size(r.Emergency.Bytes))
		}
		table(b, func(w io.Writer) {
			for k := range r.Levels {
				for m := range r.Levels[k].Members {
					textMember(w, &r.Levels[k], &r.Levels[k].Members[m], now)
				}
			}
		})
	}
}

func textMember(w io.Writer, l *Level, m *Member, now time.Time) {
	since := ""
	if d := now.Sub(m.Since); !m.Since.IsZero() && d >= 0 {
		since = "for " + seconds(d.Seconds())
	}
	kind := ""
	if l.Emergency {
		kind = "emergency"
	}
	fmt.Fprintf(w, "  %d\t%s\t%s\t%s\t%s\t%s\n", l.Level, m.Exporter, m.State, since, kind, why(m))
}

// why is what a member's state stands on, and what has to come for it to change.
func why(m *Member) string {
	var parts []string
	if m.State != "healthy" {
		e := &m.Evidence
		parts = append(parts, fmt.Sprintf("%s: %d strikes, %d failed, %d delivered", m.Reason, e.Strikes, e.Failed, e.Delivered))
		if e.Error != "" {
			parts[0] += ": " + e.Error
		}
	}
	if m.State == "ramping" {
		parts = append(parts, "takes "+percent(m.Share)+" of new batches")
	}
	if m.Silent {
		parts = append(parts, "silent")
	}
	if m.ThrottledSeconds > 0 {
		parts = append(parts, "asks for silence for "+seconds(m.ThrottledSeconds))
	}
	if m.FailedProbes > 0 {
		parts = append(parts, fmt.Sprintf("%d failed probes", m.FailedProbes))
	}
	if m.HoldDownSeconds > 0 {
		parts = append(parts, "hold-down "+seconds(m.HoldDownSeconds))
	}
	if m.NextProbeSeconds != nil {
		parts = append(parts, "next probe in "+seconds(*m.NextProbeSeconds))
	}
	if m.ReturnsWhen != "" {
		parts = append(parts, "returns with "+m.ReturnsWhen)
	}
	return strings.Join(parts, "; ")
}

// table lines columns up.
func table(b *strings.Builder, fill func(io.Writer)) {
	var raw strings.Builder
	w := tabwriter.NewWriter(&raw, 0, 8, 2, ' ', 0)
	fill(w)
	_ = w.Flush() // a Builder takes everything
	for line := range strings.Lines(raw.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

func limit(n int64) string {
	if n <= 0 {
		return "what the volume allows"
	}
	return size(n)
}

// size is a number of bytes that people can read.
func size(n int64) string {
	const k = 1024
	if n < k {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= k && unit < 5 {
		f, unit = f/k, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTP"[unit])
}
