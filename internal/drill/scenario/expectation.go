// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// offers are the configurations that a reload can offer.
var offers = []string{"broken", undelivering, "good"}

const undelivering = "undelivering"

// expected are the words behind expect.
var expected = []string{"met", "active", "away", "down", "backlog", "accepted", "refused", "delivered", "home", "caught", "silent",
	"rolled", "lost", "twice", "no"}

// expectation reads a step that waits for something.
func (p *parser) expectation(s *Step, f []string) {
	if len(f) == 0 {
		p.fails("what is expected? One of: %s", strings.Join(expected, ", "))
		return
	}
	word, rest := f[0], p.within(s, f[1:])
	rest = p.named(s, word, rest)
	if s.Do == "" {
		return
	}
	switch s.Do {
	case Backlog, Lost, Twice:
		rest = p.count(s, rest, true)
	case Accepted, Delivered:
		s.Count = 1
		rest = p.count(s, rest, false)
	case Silent:
		s.For = 2 * time.Second
		if len(rest) == 2 && rest[0] == "for" {
			s.For, rest = p.duration(rest[1]), nil
		}
	}
	if s.Do == Lost && s.Count > 0 {
		p.fails("nothing that was acknowledged may be lost: lost 0 is all that can be expected")
	}
	if s.Do == Twice {
		n := s.Count
		p.out.MaxTwice = &n
	}
	if len(rest) > 0 {
		p.fails("%q is too much", strings.Join(rest, " "))
	}
}

// named reads what is expected, and of whom.
func (p *parser) named(s *Step, word string, rest []string) []string {
	two := func(second string, v Verb) []string {
		if len(rest) == 0 || rest[0] != second {
			p.fails("this is written: expect %s %s", word, second)
			return nil
		}
		s.Do = v
		return rest[1:]
	}
	switch word {
	case "no":
		return two("gap", NoGap)
	case "caught":
		return two("up", CaughtUp)
	case "rolled":
		return two("back", RolledBack)
	case "backlog", "accepted", "refused", "home", "lost", "twice":
		s.Do = Verb(word)
		return rest
	case "met", "away", "delivered", "silent":
		if len(rest) == 0 {
			p.fails("%s of which exporter?", word)
			return nil
		}
		s.Do, s.On = Verb(word), p.one("exporter that sends to a backend", rest[0], all(p.t))
		return rest[1:]
	case "down", "active":
		if len(rest) == 0 {
			p.fails("%s of which connector?", word)
			return nil
		}
		s.Do, s.On = Verb(word), p.one("connector with levels", rest[0], p.t.Connectors())
		if rest = rest[1:]; word == "down" {
			return rest
		}
		if len(rest) == 0 {
			p.fails("to which exporter does %s send, or %s?", s.On, Nowhere)
			return nil
		}
		if len(s.On) == 1 {
			s.On = append(s.On, p.level(s.On[0], rest[0])...)
		}
		return rest[1:]
	}
	p.unknown("expectation", word, expected)
	return nil
}

// level finds an exporter of a connector, also one that writes a file.
func (p *parser) level(connector, word string) []string {
	if word == Nowhere {
		return []string{Nowhere}
	}
	var names []string
	for _, pl := range p.t.Pipelines {
		for _, d := range pl.Destinations {
			for _, l := range d.Levels {
				if d.Label == connector {
					names = append(names, l...)
				}
			}
		}
	}
	for _, n := range find(word, names) { // the same one for several signals
		return []string{n}
	}
	p.unknown("exporter of "+connector, word, append(names, Nowhere))
	return nil
}

func (p *parser) count(s *Step, f []string, must bool) []string {
	if len(f) == 0 {
		if must {
			p.fails("%s needs a number", s.Do)
		}
		return nil
	}
	n, err := strconv.ParseUint(strings.ReplaceAll(f[0], ",", ""), 10, 32)
	if err != nil {
		p.fails("%q is no number", f[0])
	}
	s.Count = n
	return f[1:]
}

// Text writes the scenario as a file that Parse reads.
func (s *Scenario) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "title %s\n", s.Title)
	if s.Why != "" {
		fmt.Fprintf(&b, "# not applicable: %s\n", s.Why)
	}
	var load string
	if s.Load.Rate > 0 {
		load += fmt.Sprintf(" rate=%.0f", s.Load.Rate)
	}
	if s.Load.ItemBytes > 0 {
		load += fmt.Sprintf(" bytes=%d", s.Load.ItemBytes)
	}
	if load != "" {
		b.WriteString("load" + load + "\n")
	}
	for _, set := range s.Sets {
		fmt.Fprintf(&b, "set %s\n", set)
	}
	for _, v := range s.Vars {
		fmt.Fprintf(&b, "env %s\n", v)
	}
	for i := range s.Steps {
		b.WriteString(s.Steps[i].text())
	}
	return b.String()
}

func (s *Step) text() (out string) {
	at := ""
	if s.At > 0 {
		at = fmt.Sprintf("at %s ", s.At)
	}
	if s.Do == Fault {
		for _, id := range s.On {
			out += at + id + " " + strings.Join(s.Faults, " ") + "\n"
		}
		return out
	}
	if out = at; s.Expectation() {
		out += "expect "
	}
	out += string(s.Do)
	if len(s.On) > 0 {
		out += " " + strings.Join(s.On, " ")
	}
	switch s.Do {
	case Silent:
		return out + fmt.Sprintf(" for %s\n", s.For)
	case Wait, Slow:
		return out + fmt.Sprintf(" %s\n", s.For)
	case Backlog, Accepted, Delivered, Lost, Twice:
		out += fmt.Sprintf(" %d", s.Count)
	}
	if s.Within > 0 && s.Do != Lost && s.Do != Twice && s.Do != NoGap {
		out += fmt.Sprintf(" within %s", s.Within)
	}
	return out + "\n"
}
