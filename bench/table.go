// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A table collects results by case and system and prints them as one piece of markdown.
type table struct {
	systems []system
	disk    string // what temporary directories are on
	busy    string // the machine's load average when the run began: beyond a fraction, somebody else is measured too
	rows    []*row
}

type row struct {
	benchCase
	results [][]result // by system, one for each round
}

// newTable begins a table of runs whose temporary directories are in where.
func newTable(systems []system, where string) *table {
	t := &table{systems: systems, disk: fileSystem(where), busy: "unknown"}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		t.busy, _, _ = strings.Cut(string(text), " ")
	}
	return t
}

func (t *table) add(c benchCase, s system, r result) {
	var at *row
	for _, w := range t.rows {
		if w.name == c.name {
			at = w
		}
	}
	if at == nil {
		at = &row{benchCase: c, results: make([][]result, len(t.systems))}
		t.rows = append(t.rows, at)
	}
	for i := range t.systems {
		if t.systems[i].name == s.name {
			at.results[i] = append(at.results[i], r)
		}
	}
}

// String is the table. A ratio is the first system's median divided by the second's.
func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s %s/%s, %d CPUs, %s, load average %s at the start", time.Now().UTC().Format("2006-01-02"), runtime.Version(), runtime.GOOS,
		runtime.GOARCH, runtime.NumCPU(), t.disk, t.busy)
	for _, s := range t.systems {
		fmt.Fprintf(&b, "; %s %s", s.name, s.version)
	}
	b.WriteString("\n\n| case | system | CPU-s per million items: median | min | max | ratio | peak RSS, MB " +
		"| written per payload byte | read, MB | thousand items/s | acknowledged | at each sink |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, w := range t.rows {
		for i := range t.systems {
			if len(w.results[i]) > 0 {
				b.WriteString(w.line(i, w.label(i, t.systems)))
			}
		}
	}
	return b.String()
}

func (w *row) line(i int, name string) string {
	results := w.results[i]
	memory := func(r result) float64 { return mega(r.peak) }
	title := w.name
	if i > 0 {
		title = ""
	}
	if results[0].items == 0 {
		memory = func(r result) float64 { return mega(r.resident) }
		if title != "" {
			title += ": " + w.note
		}
		return fmt.Sprintf("| %s | %s | – | – | – | %s | %.1f | – | – | – | – | – |\n", title, name, w.ratio(i, memory),
			median(results, memory))
	}
	cpu := result.perMillion
	sums := make([]int64, 1+len(results[0].delivered))
	for _, r := range results {
		sums[0] += r.acked
		for k, d := range r.delivered {
			sums[1+k] += d
		}
	}
	return fmt.Sprintf("| %s | %s | %.2f | %.2f | %.2f | %s | %.0f | %s | %s | %.0f | %d | %s |\n", title, name,
		median(results, cpu), least(results, cpu), -least(results, func(r result) float64 { return -cpu(r) }),
		w.ratio(i, cpu), median(results, memory), w.storage(i, "%.2f", result.writtenPerByte),
		w.storage(i, "%.1f", func(r result) float64 { return mega(r.read) }),
		median(results, func(r result) float64 { return float64(r.items) / r.wall.Seconds() / 1e3 }),
		sums[0], strings.Trim(fmt.Sprint(sums[1:]), "[]"))
}

func (w *row) ratio(i int, of func(result) float64) string {
	if i == 0 || len(w.results[0]) == 0 {
		return ""
	}
	return fmt.Sprintf(w.times(), median(w.results[0], of)/median(w.results[i], of))
}

// times is the format of a ratio: one near 1 needs more digits.
func (w *row) times() string {
	if w.beside != "" {
		return "%.3fx"
	}
	return "%.1fx"
}

// storage is a figure about storage, of a case that has any.
func (w *row) storage(i int, format string, of func(result) float64) string {
	if !w.stored {
		return "–"
	}
	return fmt.Sprintf(format, median(w.results[i], of))
}

// missed says which targets the last system misses.
func (t *table) missed() (out []string) {
	for _, w := range t.rows {
		results := w.results[len(t.systems)-1]
		if len(results) == 0 || results[0].items == 0 {
			continue
		}
		if base := w.results[0]; w.least > 0 && len(base) > 0 {
			ratio := median(base, result.perMillion) / median(results, result.perMillion)
			if ratio < w.least {
				out = append(out, fmt.Sprintf("%s: "+w.times()+" less CPU than %s, %gx is the target", w.name, ratio,
					w.label(0, t.systems), w.least))
			}
		}
		if most := w.most; most > 0 {
			if got := median(results, result.writtenPerByte); got > most {
				out = append(out, fmt.Sprintf("%s: %.2f bytes written per payload byte, %.2f is the target", w.name, got, most))
			}
		}
		if misses := median(results, func(r result) float64 { return float64(r.misses) }); w.stored && misses > 0 {
			out = append(out, fmt.Sprintf("%s: %.0f records read back from storage, none is the target", w.name, misses))
		}
	}
	return out
}

// verdict is an error if any run lost or multiplied anything.
func (t *table) verdict() error {
	var errs []error
	for _, w := range t.rows {
		for i, s := range t.systems {
			for round, r := range w.results[i] {
				if r.lost() > 0 {
					errs = append(errs, fmt.Errorf("LOST: %s, %s, round %d: %d items acknowledged, %v at the sinks", w.name,
						s.name, round+1, r.acked, r.delivered))
				}
				if r.extra() > 0 {
					errs = append(errs, fmt.Errorf("EXTRA: %s, %s, round %d: %d items acknowledged, %d unknown, %v at the sinks",
						w.name, s.name, round+1, r.acked, r.unknown, r.delivered))
				}
			}
		}
	}
	if len(t.rows) == 0 {
		return errors.New("no case was run")
	}
	return errors.Join(errs...)
}

func sorted(results []result, of func(result) float64) []float64 {
	v := make([]float64, len(results))
	for i, r := range results {
		v[i] = of(r)
	}
	slices.Sort(v)
	return v
}

func median(results []result, of func(result) float64) float64 {
	v := sorted(results, of)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func least(results []result, of func(result) float64) float64 { return sorted(results, of)[0] }
