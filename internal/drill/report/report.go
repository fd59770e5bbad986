// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package report is what a drill hands over: one result as JSON, as JUnit, as a table and as a page with pictures.
//
// It stands behind internal/drill and knows no process and no ledger. What others wrote, names and errors, is escaped in
// every form. The page needs nothing but itself.
package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Outcome is what a scenario came to.
type Outcome string

// The outcomes.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	Inconclusive  Outcome = "inconclusive"
	NotApplicable Outcome = "not applicable"
)

// Report is one drill.
type Report struct {
	Version  string        `json:"version"`
	Config   []string      `json:"config"`
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took_ns"`
	Outcome  Outcome       `json:"outcome"`
	Backends []string      `json:"backends"`
	// Weak says what the plan alone shows; Replaced and Hurried what was not as the user wrote it.
	Weak     []string `json:"weaknesses"`
	Replaced []string `json:"replaced"`
	Hurried  []string `json:"hurried"`

	Scenarios []*Scenario `json:"scenarios"`
}

// Scenario is what became of one.
type Scenario struct {
	Name    string        `json:"name"`
	Title   string        `json:"title"`
	Outcome Outcome       `json:"outcome"`
	Why     string        `json:"why,omitempty"` // of what is not applicable
	Broken  []Broken      `json:"broken_promises,omitempty"`
	Doubts  []string      `json:"doubts,omitempty"`
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took_ns"`
	Acked   uint64        `json:"acknowledged_items"`
	Lost    uint64        `json:"lost_items"`
	Twice   uint64        `json:"duplicate_items"`
	Places  []Place       `json:"places,omitempty"`
	Samples []Sample      `json:"samples,omitempty"`
	Events  []Event       `json:"events,omitempty"`
	Faults  []Fault       `json:"faults,omitempty"`
}

// Broken is a promise that was not kept, by its name, and which items show it.
type Broken struct {
	Promise string   `json:"promise"`
	Text    string   `json:"text"`
	Items   []string `json:"items,omitempty"`
}

// Place is where items were in the end.
type Place struct {
	Name  string `json:"name"`
	Items uint64 `json:"items"`
}

// Sample is one moment; times are seconds since the scenario began.
type Sample struct {
	At        float64  `json:"t"`
	Acked     uint64   `json:"acked"`
	Delivered []uint64 `json:"delivered"` // by Report.Backends
	Queued    uint64   `json:"queued"`
	Parked    uint64   `json:"parked"`
}

// Event is a line of the story.
type Event struct {
	At   float64 `json:"t"`
	Who  string  `json:"who"` // drill, or log: the collector says so itself
	Text string  `json:"text"`
}

// Fault is a time in which something was wrong on purpose.
type Fault struct {
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Where string  `json:"where"`
	Text  string  `json:"text"`
	Hits  uint64  `json:"hits"`
}

// Breaks notes a promise that was not kept.
func (s *Scenario) Breaks(promise string, items []string, format string, args ...any) {
	s.Broken = append(s.Broken, Broken{Promise: promise, Text: fmt.Sprintf(format, args...), Items: items})
}

// Doubt notes why a scenario proves nothing.
func (s *Scenario) Doubt(format string, args ...any) {
	s.Doubts = append(s.Doubts, fmt.Sprintf(format, args...))
}

// Tell adds an event that is at the end of everything.
func (s *Scenario) Tell(who, text string) {
	s.Events = append(s.Events, Event{At: time.Since(s.Began).Seconds(), Who: who, Text: text})
}

// Judge works out the outcome of all scenarios together: one that failed fails the drill, one that proved nothing leaves
// it open.
func (r *Report) Judge() {
	r.Outcome = Passed
	passed := false
	for _, s := range r.Scenarios {
		switch s.Outcome {
		case Failed:
			r.Outcome = Failed
			return
		case Inconclusive:
			r.Outcome = Inconclusive
		case Passed:
			passed = true
		}
	}
	if !passed {
		r.Outcome = Inconclusive
	}
}

// ExitCode is what the command ends with: 0 passed, 1 failed, 2 inconclusive.
func (r *Report) ExitCode() int {
	switch r.Outcome {
	case Passed:
		return 0
	case Failed:
		return 1
	}
	return 2
}

// Write writes report.json, junit.xml and report.html into a directory, which is made.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	doc, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	junit, err := r.JUnit()
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"report.json": append(doc, '\n'), "junit.xml": junit, "report.html": []byte(r.HTML())} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Line is a scenario's row in the table of verdicts.
func (s *Scenario) Line() string {
	text := fmt.Sprintf("%-36s %-14s", s.Name, s.Outcome)
	if s.Outcome == NotApplicable {
		return strings.TrimRight(text+" "+s.Why, " ")
	}
	text += fmt.Sprintf(" %5.1f s %9d acked %6d lost %6d twice", s.Took.Seconds(), s.Acked, s.Lost, s.Twice)
	return text
}

// Reasons are why a scenario did not pass, a line each.
func (s *Scenario) Reasons() (out []string) {
	for _, b := range s.Broken {
		out = append(out, b.Promise+": "+b.Text)
		for _, i := range b.Items {
			out = append(out, "  "+i)
		}
	}
	if s.Outcome == Inconclusive {
		out = append(out, s.Doubts...)
	}
	return out
}

// Text is the table of verdicts for a terminal.
func (r *Report) Text() string {
	var b strings.Builder
	for _, s := range r.Scenarios {
		b.WriteString(s.Line() + "\n")
		for _, why := range s.Reasons() {
			b.WriteString("    " + why + "\n")
		}
	}
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			b.WriteString("\n" + title + "\n  " + strings.Join(lines, "\n  ") + "\n")
		}
	}
	list("What this configuration costs by its plan, whatever a drill shows:", r.Weak)
	list("Not as you wrote it, besides addresses and paths:", r.Replaced)
	list("Shorter than you wrote it (--hurry=false plays it as written):", r.Hurried)
	fmt.Fprintf(&b, "\n%s, %d scenarios in %s\n", strings.ToUpper(string(r.Outcome)), len(r.Scenarios), r.Took.Round(time.Second))
	return b.String()
}

type suite struct {
	XMLName  xml.Name `xml:"testsuite"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Time     string   `xml:"time,attr"`
	Cases    []junit  `xml:"testcase"`
}

type junit struct {
	Class   string `xml:"classname,attr"`
	Name    string `xml:"name,attr"`
	Time    string `xml:"time,attr"`
	Failure *why   `xml:"failure"`
	Error   *why   `xml:"error"`
	Skipped *why   `xml:"skipped"`
}

type why struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit is the drill as a test suite: what is inconclusive is an error.
func (r *Report) JUnit() ([]byte, error) {
	out := suite{Name: "holdfast drill", Tests: len(r.Scenarios), Time: fmt.Sprintf("%.3f", r.Took.Seconds())}
	for _, s := range r.Scenarios {
		c := junit{Class: "holdfast.drill", Name: s.Name, Time: fmt.Sprintf("%.3f", s.Took.Seconds())}
		text := why{Text: strings.Join(s.Reasons(), "\n")}
		switch s.Outcome {
		case Failed:
			var names []string
			for _, b := range s.Broken {
				names = append(names, b.Promise)
			}
			text.Message = strings.Join(names, ", ")
			c.Failure = &text
			out.Failures++
		case Inconclusive:
			text.Message = "inconclusive"
			c.Error = &text
			out.Errors++
		case NotApplicable:
			c.Skipped = &why{Message: s.Why}
			out.Skipped++
		}
		out.Cases = append(out.Cases, c)
	}
	doc, err := xml.MarshalIndent(out, "", "  ")
	return append([]byte(xml.Header), append(doc, '\n')...), err
}
