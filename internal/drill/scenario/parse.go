// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

const (
	// maxSteps bounds a scenario; more would not be played within any limit.
	maxSteps = 500
	// usualWithin is for an expectation that does not say.
	usualWithin = 30 * time.Second
	// everyone stands for all backends.
	everyone = "all"
)

// parser reads one file, line by line.
type parser struct {
	t    *topology.Topology
	file string
	line int
	out  *Scenario
	errs []error
}

// Parse reads a scenario of somebody's own for a topology. The error names every line that cannot be read, and the nearest
// word that could.
func Parse(file, text string, t *topology.Topology) (Scenario, error) {
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	out := Scenario{Name: name, Title: "a scenario of your own", Source: filepath.Base(file)}
	p := &parser{t: t, file: file, out: &out}
	for line := range strings.Lines(text) {
		p.line++
		if at := strings.Index(" "+line, " #"); at >= 0 {
			line = line[:at]
		}
		if f := strings.Fields(line); len(f) > 0 {
			p.read(f, strings.TrimSpace(line))
		}
	}
	if len(out.Steps) == 0 && len(p.errs) == 0 {
		p.fails("there is no step in it")
	}
	if len(out.Steps) > maxSteps {
		p.fails("%d steps are too many (%d at most)", len(out.Steps), maxSteps)
	}
	p.supply()
	return out, errors.Join(p.errs...)
}

// supply adds what the steps need.
func (p *parser) supply() {
	journals := int64(0)
	for _, s := range p.t.Storages {
		journals += s.Journals
	}
	for i := range p.out.Steps {
		switch s := &p.out.Steps[i]; {
		case s.Do == Fill:
			p.out.Disk.MiB = diskMiB(journals)
		case s.Do == Slow:
			p.out.Disk.Slow = true
		case s.Do == Reload && s.On[0] == undelivering:
			p.out.Double, p.out.Load.Poison = true, 1
		case s.Do == Fault && slices.ContainsFunc(s.Faults, func(f string) bool { return strings.HasPrefix(f, "reject_marked") }):
			p.out.Load.Rejects = true
			if p.out.Load.Poison == 0 {
				p.out.Load.Poison = poisonEvery
			}
		}
	}
}

func (p *parser) fails(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %s", p.file, p.line, fmt.Sprintf(format, args...)))
}

// unknown says what was not understood, and what was perhaps meant.
func (p *parser) unknown(what, word string, words []string) {
	if near := config.Nearest(word, words); near != "" {
		p.fails("%q is no %s; did you mean %q?", word, what, near)
		return
	}
	p.fails("%q is no %s (%s)", word, what, strings.Join(words, ", "))
}

// heads are the words a line may begin with, besides the name of an exporter.
var heads = []string{"at", "title", "load", "set", "env", "expect", "restore", "expose", "kill", "term", "fill", "slow", "flood", "reload",
	"wait", everyone}

func (p *parser) read(f []string, line string) {
	switch f[0] {
	case "title":
		p.out.Title = strings.TrimSpace(strings.TrimPrefix(line, f[0]))
		return
	case "set", "env":
		pair := strings.TrimSpace(strings.TrimPrefix(line, f[0]))
		if !strings.Contains(pair, "=") {
			p.fails("%s needs KEY=VALUE", f[0])
		} else if f[0] == "set" {
			p.out.Sets = append(p.out.Sets, pair)
		} else {
			p.out.Vars = append(p.out.Vars, pair)
		}
		return
	case "load":
		p.load(f[1:])
		return
	}
	s := Step{Line: p.line}
	if f[0] == "at" {
		if len(f) < 3 {
			p.fails("at needs a time and a step, as in: at 2s all refuse")
			return
		}
		if s.At = p.duration(f[1]); s.At < 0 {
			return
		}
		f = f[2:]
	}
	before := len(p.errs)
	if f[0] == "expect" {
		p.expectation(&s, f[1:])
	} else {
		p.act(&s, f)
	}
	if len(p.errs) == before {
		p.out.Steps = append(p.out.Steps, s)
	}
}

func (p *parser) load(f []string) {
	for _, w := range f {
		key, value, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(value)
		switch {
		case !slices.Contains([]string{"rate", "bytes", "poison"}, key):
			p.unknown("setting of load", key, []string{"rate", "bytes", "poison"})
		case err != nil || n <= 0 || n > 1<<20:
			p.fails("%s=%s: a number from 1 to %d is needed", key, value, 1<<20)
		case key == "rate":
			p.out.Load.Rate = float64(n)
		case key == "bytes":
			p.out.Load.ItemBytes = n
		default:
			p.out.Load.Poison = n
		}
	}
}

// act reads a step that does something.
func (p *parser) act(s *Step, f []string) {
	rest := f[1:]
	switch f[0] {
	case "restore":
		s.Do = Restore
		for _, w := range rest {
			s.On = append(s.On, p.backends(w)...)
		}
		return
	case "kill", "term", "flood":
		s.Do = Verb(f[0])
	case "fill":
		if s.Do = Fill; !p.disk(rest, 1) {
			return
		}
		rest = rest[1:]
	case "slow":
		if s.Do = Slow; !p.disk(rest, 2) {
			return
		}
		s.For, rest = p.duration(rest[1]), rest[2:]
	case "wait":
		if s.Do = Wait; len(rest) > 0 {
			s.For, rest = p.duration(rest[0]), rest[1:]
		} else {
			p.fails("wait needs a time, as in: wait 3s")
		}
	case "expose", "reload":
		s.Do, rest = Verb(f[0]), p.within(s, rest)
		if len(rest) == 0 {
			p.fails("%s needs a name", f[0])
			return
		}
		if s.Do == Expose {
			s.On = p.backends(rest[0])
		} else if s.On = rest[:1]; !slices.Contains(offers, rest[0]) {
			p.unknown("configuration to reload", rest[0], offers)
		}
		rest = rest[1:]
	default:
		p.fault(s, f)
		return
	}
	if len(rest) > 0 {
		p.fails("%q is too much", strings.Join(rest, " "))
	}
}

// disk reads the word disk, and says whether n words are there.
func (p *parser) disk(f []string, n int) bool {
	if len(f) < n || f[0] != "disk" {
		p.fails("this is written: fill disk, or: slow disk 250ms")
		return false
	}
	if len(p.t.Storages) == 0 {
		p.fails("no queue of this configuration is on disk")
		return false
	}
	return true
}

// fault reads who does what wrong.
func (p *parser) fault(s *Step, f []string) {
	s.Do = Fault
	if len(find(f[0], all(p.t))) == 0 && f[0] != everyone {
		p.unknown("step and no exporter", f[0], append(slices.Clone(heads), all(p.t)...))
		return
	}
	if s.On = p.backends(f[0]); len(f) < 2 {
		p.fails("what does %s do? For instance: refuse", f[0])
		return
	}
	for _, w := range f[1:] {
		if _, err := mockbackend.ParseFault(w); err != nil {
			hint := ""
			if kind, _, _ := strings.Cut(w, ":"); config.Nearest(kind, mockbackend.Kinds()) != "" && config.Nearest(kind, mockbackend.Kinds()) != kind {
				hint = fmt.Sprintf("; did you mean %q?", config.Nearest(kind, mockbackend.Kinds()))
			}
			p.fails("%s%s", err, hint)
			continue
		}
		s.Faults = append(s.Faults, w)
	}
}

// backends are the exporters that a word means.
func (p *parser) backends(word string) []string {
	if word == everyone {
		return all(p.t)
	}
	return p.one("exporter that sends to a backend", word, all(p.t))
}

// one finds a name, or its part behind the slash if that is said of one only.
func (p *parser) one(what, word string, names []string) []string {
	found := find(word, names)
	switch len(found) {
	case 0:
		p.unknown(what, word, names)
	case 1:
	default:
		p.fails("%q may be %s", word, strings.Join(found, " or "))
	}
	return found
}

func find(word string, names []string) (found []string) {
	for _, n := range names {
		if n == word {
			return []string{n}
		}
		if _, name, ok := strings.Cut(n, "/"); ok && name == word {
			found = append(found, n)
		}
	}
	return found
}

func (p *parser) duration(word string) time.Duration {
	d, err := time.ParseDuration(word)
	if err != nil || d < 0 || d > time.Hour {
		p.fails("%q is no time (as 500ms, 3s, 1m; an hour at most)", word)
		return -1
	}
	return d
}

// within cuts "within TIME" off the end.
func (p *parser) within(s *Step, f []string) []string {
	s.Within = usualWithin
	if n := len(f); n >= 2 && f[n-2] == "within" {
		s.Within = p.duration(f[n-1])
		return f[:n-2]
	}
	return f
}
