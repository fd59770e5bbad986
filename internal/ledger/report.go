// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// maxShown bounds the ranges of lost items a report shows.
const maxShown = 20

// num writes a number with commas.
func num(n int64) string {
	text := strconv.FormatInt(n, 10)
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// clock writes a moment of a run, in microseconds since 1970, to a tenth of a second.
func clock(t int64) string { return time.UnixMicro(t).UTC().Format("15:04:05.0") }

// time reports, for every fault, when items came to the other sinks, when they came back, and when what had been sent
// until its end was there.
func (c *count) time() {
	for _, f := range c.notes.Faults {
		if c.named(f.Where) < 0 || f.T1 <= f.T0 {
			continue
		}
		var parts []string
		for i, p := range c.notes.Places {
			if p.Kind != AtSink || p.Name == f.Where {
				continue
			}
			if t := c.firstStored(PlaceIndex(i), f.T0); t != 0 && t <= f.T1 {
				parts = append(parts, p.Name+" after "+seconds(t-f.T0))
			}
		}
		if t := c.firstStored(c.named(f.Where), f.T1); t != 0 {
			parts = append(parts, f.Where+" back after "+seconds(t-f.T1))
		}
		if t := c.drained(f.T1); t > f.T1 {
			parts = append(parts, "drained after "+seconds(t-f.T1))
		}
		if len(parts) > 0 {
			c.v.Timing = append(c.v.Timing, strings.Join(parts, ", "))
		}
	}
}

func seconds(micros int64) string {
	s := float64(micros) / 1e6
	if s < 10 {
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.0f s", s)
}

// firstStored is the first arrival at a place that was stored after t; 0 if there is none.
func (c *count) firstStored(p PlaceIndex, t int64) (first int64) {
	for i := range c.notes.Arrivals {
		a := &c.notes.Arrivals[i]
		if a.Place == p && a.Stored && a.T >= t && (first == 0 || a.T < first) {
			first = a.T
		}
	}
	return first
}

// drained is when the last item arrived that had been acknowledged before t.
func (c *count) drained(t int64) (last int64) {
	for i := range c.notes.Arrivals {
		a := &c.notes.Arrivals[i]
		if a.T <= t || a.T <= last || !a.Stored || c.notes.Places[a.Place].Kind != AtSink {
			continue
		}
		if track := c.tracks[producerID{a.Signal, a.Producer}]; track != nil {
			if r := track.find(a.First); r != nil && r.best == Acked && r.endedAt < t {
				last = a.T
			}
		}
	}
	return last
}

// lastSeen says where the items of a range were seen last.
func (c *count) lastSeen(l *Lost) string {
	var at *Arrival
	for i := range c.notes.Arrivals {
		a := &c.notes.Arrivals[i]
		if a.Signal.String() == l.Signal && a.Producer == l.Producer && a.First <= l.Last && a.Last >= l.First &&
			(at == nil || a.T >= at.T) {
			at = a
		}
	}
	if at == nil {
		return "nowhere"
	}
	stored := "not stored"
	if at.Stored {
		stored = "stored"
	}
	return fmt.Sprintf("%s, %s, answered %s, %s", c.notes.Places[at.Place].Name, clock(at.T), escape(at.Answer), stored)
}

// escape makes foreign text fit for a terminal.
func escape(text string) string { return string(appendText(nil, text)) }

// Text is the verdict as a table for people, without a colour.
func (v *Verdict) Text() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-18s%s", name, fmt.Sprintf(format, args...)), " ") + "\n")
	}
	var signals []string
	for _, s := range item.Signals {
		if t := v.Signals[s.String()]; t != nil {
			signals = append(signals, fmt.Sprintf("%s %s", s, num(int64(t.Invoked))))
		}
	}
	row("run "+v.Run, "acked %s   unknown %s   refused %s   %s", num(int64(v.Totals.Acked)), num(int64(v.Totals.Unknown)),
		num(int64(v.Totals.Refused)), strings.Join(signals, "  "))
	row("mode", "on unknown %s, want %s", v.Mode, v.Want)
	row("places", "%s", v.placesText())
	row("lost "+num(int64(v.Lost)), "phantom %s   corrupted %s   undead %s   misrouted %s   recovered %s", num(int64(v.Phantom)),
		num(int64(v.Corrupted)), num(int64(v.Undead)), num(int64(v.Misrouted)), num(int64(v.Recovered)))
	d := v.Duplicates
	row("duplicates", "ours %s (bound %s), resent %s, across %s", num(int64(d.Ours)), num(d.Bound), num(int64(d.Resent)),
		num(int64(d.Across)))
	if v.Foreign+v.Stripped+v.Filtered > 0 {
		row("also", "foreign %s   stripped %s   filtered %s", num(int64(v.Foreign)), num(int64(v.Stripped)), num(int64(v.Filtered)))
	}
	if s := v.Balance; s.Known {
		row("balance", "%s = %s delivered + %s queued + %s parked + %s rejected + %s dropped    difference %s", num(s.Accepted),
			num(s.Delivered), num(s.Queued), num(s.Parked), num(s.Rejected), num(s.Dropped), num(s.Difference()))
	}
	for _, f := range v.Faults {
		row("fault", "%s %s %s, %s hits", escape(f.Where), escape(f.Fault), seconds(f.T1-f.T0), num(int64(f.Hits)))
	}
	for _, t := range v.Timing {
		row("time", "%s", escape(t))
	}
	row(strings.ToUpper(string(v.Outcome)), "")
	for _, f := range v.Failures {
		fmt.Fprintf(&b, "  %-12s %s\n", strings.ToUpper(f.Quantity), escape(f.Text))
	}
	for _, f := range v.Doubts {
		fmt.Fprintf(&b, "  %-12s %s\n", f.Quantity, escape(f.Text))
	}
	v.lostText(&b)
	return b.String()
}

func (v *Verdict) placesText() string {
	var parts []string
	sums := map[PlaceKind]uint64{}
	for _, p := range v.Places {
		if p.Kind == AtSink {
			text := escape(p.Name) + " " + num(int64(p.Items))
			if p.Inverted > 0 {
				text += fmt.Sprintf(" (%s out of order)", num(int64(p.Inverted)))
			}
			parts = append(parts, text)
			continue
		}
		sums[p.Kind] += p.Items
	}
	for _, k := range []PlaceKind{InFile, Queued, Parked, Dead, Bad} {
		if n := sums[k]; n > 0 || k == Queued || k == Parked || k == Dead {
			parts = append(parts, fmt.Sprintf("%s %s", k, num(int64(n))))
		}
	}
	return strings.Join(append(parts, "declared "+num(v.Declared)), "   ")
}

func (v *Verdict) lostText(b *strings.Builder) {
	for i, l := range v.LostItems {
		if i == maxShown {
			fmt.Fprintf(b, "  … and %d ranges more\n", len(v.LostItems)-maxShown)
			return
		}
		at := ""
		if l.At != "" {
			at = " at " + escape(l.At)
		}
		fmt.Fprintf(b, "LOST %s   %s producer %d   %s-%s%s   acked %s\n           last seen: %s\n", num(int64(l.Last-l.First+1)),
			l.Signal, l.Producer, num(int64(l.First)), num(int64(l.Last)), at, clock(l.AckedAt), l.Seen)
	}
}

// JSON is the verdict as one document.
func (v *Verdict) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string     `xml:"classname,attr"`
	Name    string     `xml:"name,attr"`
	Failure *junitText `xml:"failure,omitempty"`
	Skipped *junitText `xml:"skipped,omitempty"`
}

type junitText struct {
	Message string `xml:"message,attr"`
}

// JUnit is the verdict as a test suite: a case per quantity. What is inconclusive counts as skipped, never as passed.
func (v *Verdict) JUnit() ([]byte, error) {
	s := junitSuite{Name: "ledger " + v.Run}
	cases := map[string]*junitCase{}
	for _, q := range []string{"lost", "declared", "phantom", "corrupted", "undead", "duplicates", "misrouted", "balance"} {
		cases[q] = &junitCase{Class: v.Run, Name: q}
	}
	put := func(fs []Finding, to func(*junitCase, *junitText)) {
		for _, f := range fs {
			if cases[f.Quantity] == nil {
				cases[f.Quantity] = &junitCase{Class: v.Run, Name: f.Quantity}
			}
			to(cases[f.Quantity], &junitText{Message: escape(f.Text)})
		}
	}
	put(v.Doubts, func(c *junitCase, t *junitText) { c.Skipped = t })
	put(v.Failures, func(c *junitCase, t *junitText) { c.Failure, c.Skipped = t, nil })
	for _, c := range cases {
		s.Tests++
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Skipped != nil:
			s.Skipped++
		}
		s.Cases = append(s.Cases, *c)
	}
	sort.Slice(s.Cases, func(i, j int) bool { return s.Cases[i].Name < s.Cases[j].Name })
	text, err := xml.MarshalIndent(s, "", "  ")
	return append([]byte(xml.Header), append(text, '\n')...), err
}

// Write writes verdict.json, verdict.txt and junit.xml into dir.
func (v *Verdict) Write(dir string) error {
	text, err := v.JSON()
	if err != nil {
		return err
	}
	units, err := v.JUnit()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"verdict.json": text, "verdict.txt": []byte(v.Text()), "junit.xml": units} {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// ReadVerdict reads verdict.json of a directory, as a control run has one.
func ReadVerdict(dir string) (*Verdict, error) {
	text, err := os.ReadFile(filepath.Join(dir, "verdict.json")) //nolint:gosec // the directory is the caller's
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	var v Verdict
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	return &v, nil
}
