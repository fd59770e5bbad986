// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func filled(t *testing.T, results ...result) *table {
	return played(t, benchCase{name: "a case"}, results...)
}

func played(t *testing.T, c benchCase, results ...result) *table {
	table := newTable([]system{{name: "reference"}, {name: "holdfast"}}, t.TempDir())
	for i, r := range results {
		table.add(c, table.systems[i%2], r)
	}
	return table
}

func run(cpu time.Duration, acked, unknown int64, delivered ...int64) result {
	return result{cpu: cpu, wall: time.Second, items: acked, acked: acked, unknown: unknown, delivered: delivered, peak: 5e6}
}

func TestATableShowsMedianBoundsAndRatio(t *testing.T) {
	text := filled(t, run(4*time.Second, 1e6, 0, 1e6), run(time.Second, 1e6, 0, 1e6),
		run(9*time.Second, 1e6, 0, 1e6), run(2*time.Second, 1e6, 0, 1e6),
		run(6*time.Second, 1e6, 0, 1e6), run(3*time.Second, 1e6, 0, 1e6)).String()
	for _, want := range []string{
		"| a case | reference | 6.00 | 4.00 | 9.00 |  | 5 | – | – | 1000 | 3000000 | 3000000 |",
		"|  | holdfast | 2.00 | 1.00 | 3.00 | 3.0x | 5 | – | – | 1000 | 3000000 | 3000000 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}

func TestAStoredCaseShowsWhatStorageCost(t *testing.T) {
	r := run(time.Second, 1e6, 0, 1e6)
	r.payload, r.written, r.read = 100e6, 123e6, 4e6
	text := played(t, benchCase{name: "a case", stored: true}, r, r).String()
	if want := "| 5 | 1.23 | 4.0 | 1000 |"; strings.Count(text, want) != 2 {
		t.Errorf("not twice %q in\n%s", want, text)
	}
}

func TestACaseBesideItselfNamesBothRowsAfterHoldfast(t *testing.T) {
	c := benchCase{name: "a case", beside: "holdfast, without", least: 0.95}
	base := run(1000*time.Millisecond, 1e6, 0, 1e6)
	table := played(t, c, base, run(1040*time.Millisecond, 1e6, 0, 1e6))
	for _, want := range []string{"| a case | holdfast, without | 1.00 |", "|  | holdfast | 1.04 | 1.04 | 1.04 | 0.962x |"} {
		if text := table.String(); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if missed := table.missed(); missed != nil {
		t.Errorf("missed %q", missed)
	}
	missed := played(t, c, base, run(1060*time.Millisecond, 1e6, 0, 1e6)).missed()
	if len(missed) != 1 || !strings.Contains(missed[0], "0.943x less CPU than holdfast, without, 0.95x is the target") {
		t.Errorf("missed %q", missed)
	}
	if s := c.system(0, []system{{name: "reference"}, {name: "holdfast", file: 1}}); s.name != "holdfast" || s.file != 0 {
		t.Errorf("the first row is played by %+v", s)
	}
}

func TestMissedTargetsAreNamed(t *testing.T) {
	c := benchCase{name: "a case", stored: true, least: 4, most: 1.05}
	good := run(time.Second, 1e6, 0, 1e6)
	good.payload, good.written = 100e6, 105e6
	slow, wasteful, reading := good, good, good
	slow.cpu, wasteful.written, reading.misses = 1100*time.Millisecond, 106e6, 3
	reference := run(4*time.Second, 1e6, 0, 1e6)
	for _, test := range []struct {
		name string
		r    result
		want string
	}{
		{"everything as it should be", good, ""},
		{"too much CPU", slow, "3.6x less CPU"},
		{"too much written", wasteful, "1.06 bytes written"},
		{"something read", reading, "3 records read"},
	} {
		missed := played(t, c, reference, test.r).missed()
		if len(missed) > 1 || (len(missed) == 0) != (test.want == "") || !strings.Contains(strings.Join(missed, ""), test.want) {
			t.Errorf("%s: %q, want %q", test.name, missed, test.want)
		}
	}
	if missed := played(t, c, reference).missed(); missed != nil {
		t.Errorf("a system that did not run missed %q", missed)
	}
}

func TestOwnMetricsAreSummedByName(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE a_total counter\na_total{b=\"x y\"} 3\na_total{b=\"z\"} 4\na_total_more 9\nplain 2\n")
	}))
	defer server.Close()
	p := &process{metrics: strings.TrimPrefix(server.URL, "http://")}
	for name, want := range map[string]int64{"a_total": 7, "plain": 2, "absent": -1} {
		if got, err := p.sum(t.Context(), name); got != want || err != nil {
			t.Errorf("%s: %d, %v, want %d", name, got, err, want)
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
		err := filled(t, c.r).verdict()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if c.want != "" && !strings.Contains(c.r.String(), c.want) {
			t.Errorf("%s: progress says %q", c.name, c.r)
		}
	}
	if newTable(nil, t.TempDir()).verdict() == nil {
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
			if n := strings.Count(string(text), "storage: file_storage"); n != 0 && n != c.sinks || (n > 0) != c.stored {
				t.Errorf("%s: %s stores %d of %d queues; stored says %v", c.name, f, n, c.sinks, c.stored)
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
