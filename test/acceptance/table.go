// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// The figures, by the words of the table.
const (
	figEight        = "synced 100 KiB appends, 8 appenders, against raw bandwidth"
	figMany         = "synced 100 KiB appends, 64 appenders, against raw bandwidth"
	figCPU          = "CPU per byte, 8 appenders, against a bare loop of CRC, pwritev, fdatasync"
	figWritten16    = "bytes written per payload byte, 16 KiB, 8 appenders"
	figWritten100   = "bytes written per payload byte, 100 KiB, 8 appenders"
	figThree        = "bytes written for 3 destinations against 1"
	figPut          = "put, 8 workers, 100 KiB, against file_storage with fsync"
	figCycle        = "put, delivered, acknowledged, against file_storage with fsync"
	figDrain        = "draining a cold backlog against sequential read of its files"
	figOpening      = "bytes read to open a backlog, of the 64 MiB + 40 KiB per segment allowed"
	figHealthyReads = "bytes read on a healthy path"
)

// A bound is what a figure must be.
type bound struct {
	figure      string
	least, most float64 // one of them is meant: most if least is 0
}

// bounds is the acceptance table; which acknowledged records are lost is for the tests.
var bounds = []bound{
	{figure: figEight, least: 0.60},
	{figure: figMany, least: 0.75},
	{figure: figCPU, most: 1.6},
	{figure: figWritten16, most: 1.05},
	{figure: figWritten100, most: 1.05},
	{figure: figThree, most: 1.02},
	{figure: figPut, least: 8},
	{figure: figCycle, least: 20},
	{figure: figDrain, least: 0.5},
	{figure: figOpening, most: 1},
	{figure: figHealthyReads, most: 0},
}

func (b bound) String() string {
	if b.least > 0 {
		return fmt.Sprintf(">= %g", b.least)
	}
	return fmt.Sprintf("<= %g", b.most)
}

func (b bound) holds(v float64) bool {
	if b.least > 0 {
		return v >= b.least
	}
	return v <= b.most
}

// A table collects figures over rounds.
type table struct {
	disk, busy string
	values     map[string][]float64
	notes      []string // of the last round: absolute figures, which only tell what machine this was
}

func newTable(dir string) *table {
	t := &table{disk: "unknown file system", busy: "unknown", values: map[string][]float64{}}
	if u, err := vfs.OS().Usage(dir); err == nil {
		t.disk = u.Kind
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		t.busy, _, _ = strings.Cut(string(text), " ")
	}
	return t
}

func (t *table) add(figure string, v float64) { t.values[figure] = append(t.values[figure], v) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// judged is the value a bound is asked about: the median, but the worst where nothing at all is allowed.
func (t *table) judged(b bound) float64 {
	v := slices.Sorted(slices.Values(t.values[b.figure]))
	if b.least == 0 && b.most == 0 {
		return v[len(v)-1]
	}
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// missed are the bounds that do not hold. What was not measured is not missed.
func (t *table) missed() (out []bound) {
	for _, b := range bounds {
		if len(t.values[b.figure]) > 0 && !b.holds(t.judged(b)) {
			out = append(out, b)
		}
	}
	return out
}

// String is the table as markdown.
func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s %s/%s, %d CPUs, %s, load average %s at the start\n\n", time.Now().UTC().Format("2006-01-02"),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), t.disk, t.busy)
	b.WriteString("| figure | median | min | max | must be | |\n|---|---|---|---|---|---|\n")
	for _, bound := range bounds {
		v := t.values[bound.figure]
		if len(v) == 0 {
			fmt.Fprintf(&b, "| %s | – | – | – | %s | not measured |\n", bound.figure, bound)
			continue
		}
		verdict := "holds"
		if !bound.holds(t.judged(bound)) {
			verdict = "**MISSED**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", bound.figure, short(t.judged(bound)), short(slices.Min(v)),
			short(slices.Max(v)), bound, verdict)
	}
	b.WriteString("\n")
	for _, n := range t.notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	return b.String()
}

// short is a figure with as many digits as it deserves.
func short(v float64) string {
	if v >= 10 || v == 0 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
