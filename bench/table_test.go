// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

func filled(results ...result) *table {
	t := newTable([]system{{name: "reference"}, {name: "holdfast"}})
	for i, r := range results {
		t.add(benchCase{name: "a case"}, t.systems[i%2], r)
	}
	return t
}

func run(cpu time.Duration, acked, unknown int64, delivered ...int64) result {
	return result{cpu: cpu, wall: time.Second, items: acked, acked: acked, unknown: unknown, delivered: delivered, peak: 5e6}
}

func TestATableShowsMedianBoundsAndRatio(t *testing.T) {
	text := filled(run(4*time.Second, 1e6, 0, 1e6), run(time.Second, 1e6, 0, 1e6),
		run(9*time.Second, 1e6, 0, 1e6), run(2*time.Second, 1e6, 0, 1e6),
		run(6*time.Second, 1e6, 0, 1e6), run(3*time.Second, 1e6, 0, 1e6)).String()
	for _, want := range []string{
		"| a case | reference | 6.00 | 4.00 | 9.00 |  | 5 | 0.0 | 1000 | 3000000 | 3000000 |",
		"|  | holdfast | 2.00 | 1.00 | 3.00 | 3.0x | 5 | 0.0 | 1000 | 3000000 | 3000000 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}

func TestARunThatLosesOrMultipliesItemsFails(t *testing.T) {
	cases := []struct {
		name string
		r    result
		want string
	}{
		{"everything arrived", run(time.Second, 100, 0, 100, 100), ""},
		{"one sink lacks an item", run(time.Second, 100, 0, 100, 99), "LOST"},
		{"one sink has an item too many", run(time.Second, 100, 0, 101, 100), "EXTRA"},
		{"what was never answered arrived", run(time.Second, 100, 10, 110), ""},
		{"what was never answered does not cover a loss", run(time.Second, 100, 10, 99), "LOST"},
	}
	for _, c := range cases {
		err := filled(c.r).verdict()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if c.want != "" && !strings.Contains(c.r.String(), c.want) {
			t.Errorf("%s: progress says %q", c.name, c.r)
		}
	}
	if newTable(nil).verdict() == nil {
		t.Error("a benchmark without a case passes")
	}
}

func TestUsageCountsTheCPUTimeOfTheProcess(t *testing.T) {
	// A shell that counts for a while, then says so and waits.
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	u, err := (&process{cmd: cmd}).usage()
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	_ = cmd.Wait() // read fails at the end of its input
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if d := used - u.cpu; d < -2*clockTick || d > 2*clockTick+used/4 || u.cpu == 0 {
		t.Errorf("usage says %s, the kernel said %s at the end", u.cpu, used)
	}
	if u.peak < u.resident || u.resident < 100<<10 || u.peak > 1<<30 {
		t.Errorf("memory: %+v", u)
	}
}

func TestEveryCaseHasItsConfigurations(t *testing.T) {
	files, err := configurations.ReadDir("cases")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, c := range cases {
		for _, f := range c.files {
			text, err := configurations.ReadFile("cases/" + f)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if n := strings.Count(string(text), "${env:BENCH_SINK_"); n != c.sinks {
				t.Errorf("%s: %s names %d sinks, the case has %d", c.name, f, n, c.sinks)
			}
			used[f] = true
		}
	}
	for _, f := range files {
		if !used[f.Name()] {
			t.Errorf("cases/%s belongs to no case", f.Name())
		}
	}
}
