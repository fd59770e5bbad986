// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// The table in the document lies between these lines.
const (
	tableBegins = "<!-- table -->\n"
	tableEnds   = "<!-- /table -->\n"
)

// table is what a run prints.
type table struct {
	binary  string
	results []*result
}

const (
	alone = "| seed | fault | acknowledged | lost | duplicates | first batch below | began | failed, raw | corrected | what was queued | " +
		"down | switches | back | takes all | below then |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
	joined = "| seed | fault | acknowledged | meanwhile | lost | duplicates | all down | switches | delivered again | back | takes all | " +
		"below then | in the file | repaid |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
)

// String is the table as Markdown: first the primary alone, then what happens when the secondary follows.
func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s %s/%s, %d CPUs, load average %s at the end; %s\n", time.Now().UTC().Format("2006-01-02"),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), loadAverage(), t.version())
	if lines := t.lines(false); lines != "" {
		fmt.Fprintf(&b, "\n### The primary alone\n\n%s%s", alone, lines)
	}
	if lines := t.lines(true); lines != "" {
		fmt.Fprintf(&b, "\n### The secondary too, then all back\n\n%s%s", joined, lines)
	}
	return b.String()
}

func (t *table) lines(both bool) string {
	var b strings.Builder
	for _, seed := range []seedbed.Seed{seedbed.A, seedbed.B} {
		for _, f := range faults {
			for _, r := range t.results {
				if r.both == both && r.seed == seed && r.fault.name == f.name {
					b.WriteString(r.line())
				}
			}
		}
	}
	return b.String()
}

// line is one row.
func (r *result) line() string {
	if r.err != nil || r.verdict == nil {
		return fmt.Sprintf("| %s | %s | **not played to its end** |\n", r.seed, r.fault.name)
	}
	v := r.verdict
	cells := []string{string(r.seed), r.fault.name, num(v.Totals.Acked)}
	if r.both {
		meanwhile := "–"
		if r.holds() {
			meanwhile = num(r.acceptedWhile)
		}
		cells = append(cells, meanwhile, loss(v.Lost), r.duplicates(), short(r.allDown))
	} else {
		cells = append(cells, loss(v.Lost), r.duplicates(), short(worst(r.firstAfter())))
		cells = append(append(cells, r.attempt()...), short(worst(r.m.followed)), short(worst(r.m.down)))
	}
	cells = append(cells, fmt.Sprint(r.switched))
	if r.both {
		cells = append(cells, short(worst(r.m.again)))
	}
	cells = append(cells, short(worst(r.m.back)), short(worst(r.m.whole)), fmt.Sprint(r.m.below))
	if r.both {
		inFile := "–"
		if r.parked > 0 {
			inFile = num(r.parked)
		}
		cells = append(cells, inFile, short(r.repaid))
	}
	if len(r.broken) > 0 {
		cells[1] = "**" + cells[1] + "**"
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func (r *result) duplicates() string {
	d := r.verdict.Duplicates
	return fmt.Sprintf("%s of %s", num(d.Ours+d.Across), num(uint64(r.counted)))
}

// attempt is the time from the first failed attempt to the next level: since it began, since it failed, and that without
// the time in which the collector had no processor.
func (r *result) attempt() []string {
	if !r.switches() {
		return []string{"–", "–", "–"}
	}
	h, most := r.handover(), ""
	if !r.seen {
		most = "≤ "
	}
	began := "–"
	if r.kind == silent {
		began = most + fine(h.began)
	}
	return []string{began, most + fine(h.raw), most + fine(h.corrected)}
}

// fine is short with milliseconds behind the seconds.
func fine(d time.Duration) string {
	if d < time.Second {
		return short(d)
	}
	return fmt.Sprintf("%.3f s", d.Seconds())
}

func loss(n uint64) string {
	if n > 0 {
		return "**" + num(n) + "**"
	}
	return "0"
}

// short is a duration as a person reads it; none is a dash.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// num writes a number with commas.
func num(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func (t *table) version() string {
	out, err := exec.Command(t.binary, "--version").Output() //nolint:gosec // the caller's binary
	if err != nil {
		return "unknown version"
	}
	return strings.TrimSpace(string(out))
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// replaceIn puts the table into a document.
func (t *table) replaceIn(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // the caller's document
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), tableBegins)
	_, tail, closed := strings.Cut(rest, tableEnds)
	if !ok || !closed {
		return fmt.Errorf("%s has no %s", path, strings.TrimSpace(tableBegins))
	}
	return os.WriteFile(path, []byte(head+tableBegins+t.String()+tableEnds+tail), 0o644) //nolint:gosec // a document
}

// verdict is an error if a promise was not kept, or a case not played.
func (t *table) verdict() error {
	var errs []error
	for _, r := range t.results {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name(), r.err))
		}
		for _, text := range r.broken {
			errs = append(errs, fmt.Errorf("%s: %s", r.name(), text))
		}
	}
	if len(t.results) == 0 {
		errs = append(errs, errors.New("no case has such a name"))
	}
	return errors.Join(errs...)
}
