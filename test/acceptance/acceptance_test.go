// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFiguresAreJudgedByTheirBounds(t *testing.T) {
	table := newTable(t.TempDir())
	for figure, values := range map[string][]float64{
		figEight:        {0.1, 0.61, 0.9}, // the median holds
		figMany:         {0.74, 0.7, 0.9},
		figWritten100:   {1.04, 1.06, 1.05, 1.05},
		figHealthyReads: {0, 0, 0, 8}, // one read is one too many
		figCycle:        {20},
	} {
		for _, v := range values {
			table.add(figure, v)
		}
	}
	missed := map[string]bool{}
	for _, b := range table.missed() {
		missed[b.figure] = true
	}
	for _, b := range bounds {
		if want := b.figure == figMany || b.figure == figHealthyReads; missed[b.figure] != want {
			t.Errorf("%s: missed %v, want %v", b.figure, missed[b.figure], want)
		}
	}
	text := table.String()
	for _, want := range []string{
		"| " + figEight + " | 0.61 | 0.10 | 0.90 | >= 0.6 | holds |",
		"| " + figMany + " | 0.74 | 0.70 | 0.90 | >= 0.75 | **MISSED** |",
		"| " + figDrain + " | – | – | – | >= 0.5 | not measured |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestARunCountsWhatItMeasured(t *testing.T) {
	o := options{bytes: 1 << 20}
	for _, l := range []load{{appenders: 4, size: 16 * kib}, {appenders: 4, size: 16 * kib, destinations: 3}} {
		p, err := o.run(t.Context(), filepath.Join(t.TempDir(), "store"), l)
		if err != nil {
			t.Fatal(err)
		}
		if p.bytes != 1<<20 || p.wall <= 0 || p.cpu <= 0 {
			t.Errorf("%+v: %d bytes in %s with %s of CPU", l, p.bytes, p.wall, p.cpu)
		}
		if got := p.disk.written.Load(); got < 1<<20 {
			t.Errorf("%+v: %d bytes passed the border", l, got)
		}
		if p.records.Load() != 64 || p.groups.Load() < 16 || p.group() < 1 || p.group() > 4 {
			t.Errorf("%+v: %d records in %d groups", l, p.records.Load(), p.groups.Load())
		}
	}
}

func TestTheBareLoopAndTheRawDiskWriteWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	raw, err := writeRaw(filepath.Join(dir, "raw"), 1<<20, 512*kib)
	if err != nil || raw.bytes != 1<<20 || raw.rate() <= 0 {
		t.Errorf("%+v, %v", raw, err)
	}
	bare, err := writeBare(filepath.Join(dir, "bare"), 1<<20, 100*kib, 3)
	if err != nil || bare.bytes != 4*300*kib || bare.cpuPerByte() <= 0 {
		t.Errorf("%+v, %v", bare, err)
	}
	if rate, err := readAll([]string{filepath.Join(dir, "raw"), filepath.Join(dir, "bare")}); err != nil || rate <= 0 {
		t.Errorf("%v, %v", rate, err)
	}
}
