// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// A verdict is what the ledger says of a run, as far as the table shows it.
type verdict struct {
	Outcome  string    `json:"outcome"`
	Failures []finding `json:"failures"`
	Doubts   []finding `json:"doubts"`
	Totals   struct {
		Acked   uint64 `json:"acked"`
		Refused uint64 `json:"refused"`
		Unknown uint64 `json:"unknown"`
	} `json:"totals"`
	Places []struct {
		Items uint64 `json:"items"`
	} `json:"places"`
	Lost       uint64 `json:"lost"`
	Undead     uint64 `json:"undead"`
	Duplicates struct {
		Ours   uint64 `json:"ours"`
		Resent uint64 `json:"resent"`
	} `json:"duplicates"`
}

type finding struct {
	Quantity string `json:"quantity"`
	Text     string `json:"text"`
}

// An outcome is what became of one run.
type outcome struct {
	skipped string // why it was not played
	err     error  // why it could not be played to its end
	judged  bool
	verdict verdict
	remarks []string
}

func (o outcome) delivered() (n uint64) {
	for _, p := range o.verdict.Places {
		n += p.Items
	}
	return n
}

func (o outcome) String() string {
	switch {
	case o.skipped != "":
		return "SKIPPED: " + o.skipped
	case o.err != nil:
		return "could not be played: " + o.err.Error()
	}
	return fmt.Sprintf("acknowledged %d, delivered %d, lost %d, duplicates %d; %s", o.verdict.Totals.Acked, o.delivered(),
		o.verdict.Lost, o.verdict.Duplicates.Ours, strings.Join(o.notes(), "; "))
}

// notes is what the table says besides numbers.
func (o outcome) notes() []string {
	out := append([]string(nil), o.remarks...)
	v := o.verdict
	if v.Totals.Refused > 0 {
		out = append(out, num(v.Totals.Refused)+" refused to the sender")
	}
	if v.Totals.Unknown > 0 {
		out = append(out, num(v.Totals.Unknown)+" left unknown to the sender")
	}
	if v.Duplicates.Resent > 0 {
		out = append(out, num(v.Duplicates.Resent)+" twice because the sender repeated them")
	}
	for _, f := range v.Failures {
		if f.Quantity != "lost" && f.Quantity != "duplicates" {
			out = append(out, f.Text)
		}
	}
	for _, f := range v.Doubts {
		out = append(out, "DOUBT: "+f.Text)
	}
	return out
}

// A table is the comparison.
type table struct {
	systems []system
	rows    []tableRow
}

type tableRow struct {
	scenario scenario
	outcomes []outcome // by system
}

func (t *table) add(s scenario, o []outcome) { t.rows = append(t.rows, tableRow{s, o}) }

// String is one piece of markdown: heading, table, and what was done.
func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s %s/%s", time.Now().UTC().Format("2006-01-02"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, s := range t.systems {
		fmt.Fprintf(&b, "; %s %s", s.name, s.version)
	}
	b.WriteString(". Figures are items.\n\n| fault | system | acknowledged | delivered | lost | duplicates | besides |\n" +
		"|---|---|---|---|---|---|---|\n")
	for _, r := range t.rows {
		title := r.scenario.name
		for i, o := range r.outcomes {
			b.WriteString(line(title, t.systems[i].name, o))
			title = ""
		}
	}
	b.WriteString("\n")
	for _, r := range t.rows {
		fmt.Fprintf(&b, "- **%s**: %s.%s\n", r.scenario.name, r.scenario.told, changed(" In the file: ", r.scenario.changes))
	}
	b.WriteString("\nThe guide's file is played by all, with addresses and paths of this machine, no TLS, a port for own metrics, and:\n\n")
	fmt.Fprintf(&b, "- all: %s\n", changed("", shortened))
	for _, s := range t.systems {
		var own []change
		if c := s.limit(guideLimitMiB); c.old != c.new {
			own = append(own, c)
		}
		if own = append(own, s.hardened...); len(own) > 0 {
			fmt.Fprintf(&b, "- %s: %s\n", s.name, changed("", own))
		}
	}
	return b.String()
}

// changed lists changes of the guide's file.
func changed(head string, all []change) string {
	var out []string
	for _, c := range all {
		out = append(out, fmt.Sprintf("`%s` → `%s`", oneLine(c.old), oneLine(c.new)))
	}
	if len(out) == 0 {
		return ""
	}
	return head + strings.Join(out, "; ")
}

// oneLine writes a piece of YAML in one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func line(title, name string, o outcome) string {
	if !o.judged {
		why := o.skipped
		if o.err != nil {
			why, _, _ = strings.Cut(o.err.Error(), "\n")
		}
		return fmt.Sprintf("| %s | %s | – | – | – | – | not played: %s |\n", title, name, why)
	}
	lost := num(o.verdict.Lost)
	if o.verdict.Lost > 0 {
		lost = "**" + lost + "**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |\n", title, name, num(o.verdict.Totals.Acked), num(o.delivered()), lost,
		num(o.verdict.Duplicates.Ours), strings.Join(o.notes(), "; "))
}

// num writes a number with separators: 12,345.
func num(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// verdict is an error if a run proved nothing, or if Holdfast lost something. What the reference loses is what the table
// is for.
func (t *table) verdict() error {
	var errs []error
	for _, r := range t.rows {
		for i, o := range r.outcomes {
			name := t.systems[i].name
			switch {
			case o.skipped != "":
			case o.err != nil:
				why, _, _ := strings.Cut(o.err.Error(), "\n") // the rest was told when it happened
				errs = append(errs, fmt.Errorf("%s, %s: could not be played: %s", r.scenario.name, name, why))
			case len(o.verdict.Doubts) > 0:
				errs = append(errs, fmt.Errorf("%s, %s: proved nothing: %s", r.scenario.name, name, o.verdict.Doubts[0].Text))
			case name == "holdfast" && o.verdict.Lost > 0:
				errs = append(errs, fmt.Errorf("%s: LOST: %d acknowledged items", r.scenario.name, o.verdict.Lost))
			}
		}
	}
	if len(t.rows) == 0 {
		return errors.New("no fault was played")
	}
	return errors.Join(errs...)
}
