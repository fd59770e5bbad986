// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func guideText(t *testing.T) string {
	text, err := os.ReadFile("../../test/compat/seeds/000-02-pod-crash-recovery-with-persistent-queues.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryChangeOfEveryScenarioMeetsTheGuide(t *testing.T) {
	at := places("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "/queue")
	for _, s := range scenarios {
		for _, changes := range [][]change{s.changes, hardened} {
			for _, limit := range []change{guideLimit(80), referenceLimit(80)} {
				text, err := adapt(guideText(t), at, shortened, changes, []change{limit})
				if err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
				for _, rest := range []string{"/var/lib", "observability", "0.0.0.0", "mib: 4096"} {
					if strings.Contains(text, rest) {
						t.Errorf("%s: %q is still in\n%s", s.name, rest, text)
					}
				}
			}
		}
	}
}

func TestAGuideThatReadsDifferentlyIsNoticed(t *testing.T) {
	for _, text := range []string{"", "a: 1\na: 1"} {
		if _, err := adapt(text, []change{{old: "a: 1", new: "a: 2"}}); err == nil {
			t.Errorf("%q was adapted", text)
		}
	}
	if text, err := adapt("a a", []change{{old: "a", new: "b", places: 2}}); text != "b b" || err != nil {
		t.Errorf("two places: %q, %v", text, err)
	}
}

func TestOnlyHoldfastLosingAndRunsThatProveNothingAreErrors(t *testing.T) {
	played := func(lost uint64) outcome { return outcome{judged: true, verdict: verdict{Lost: lost}} }
	doubtful := played(0)
	doubtful.verdict.Doubts = []finding{{"fault", "refuse at backend has no hits"}}
	for _, c := range []struct {
		name                string
		reference, holdfast outcome
		want                string
	}{
		{"nothing lost", played(0), played(0), ""},
		{"the reference loses", played(7), played(0), ""},
		{"holdfast loses", played(0), played(7), "LOST: 7"},
		{"no proof", doubtful, played(0), "reference: proved nothing"},
		{"not started", played(0), outcome{err: errors.New("no\nlog")}, "holdfast: could not be played: no"},
		{"skipped", outcome{skipped: "no root"}, outcome{skipped: "no root"}, ""},
	} {
		table := &table{systems: pair()}
		table.add(scenario{name: "a fault"}, []outcome{c.reference, c.holdfast})
		err := table.verdict()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if (&table{}).verdict() == nil {
		t.Error("a comparison without a fault passes")
	}
}

func TestTheTableShowsLossesAndWhatWasNotPlayed(t *testing.T) {
	lost := outcome{judged: true, remarks: []string{"took 9 s to stop"}}
	lost.verdict.Totals.Acked, lost.verdict.Lost, lost.verdict.Duplicates.Ours = 1234567, 4500, 12
	lost.verdict.Places = append(lost.verdict.Places, struct {
		Items uint64 `json:"items"`
	}{1230067})
	table := &table{systems: pair()}
	table.add(scenario{name: "a fault", told: "it breaks"}, []outcome{lost, {skipped: "needs root"}})
	text := table.String()
	for _, want := range []string{
		"| a fault | reference | 1,234,567 | 1,230,067 | **4,500** | 12 | took 9 s to stop |\n",
		"|  | holdfast | – | – | – | – | not played: needs root |\n",
		"- **a fault**: it breaks.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestSeriesAreSummedByTheirWholeName(t *testing.T) {
	in := "# HELP q x\nq{a=\"b c\"} 3\nq{a=\"d\"} 4\nq_more 9\n"
	if sum, err := sumOf(strings.NewReader(in), "q"); sum != 7 || err != nil {
		t.Errorf("%v, %v", sum, err)
	}
	if _, err := sumOf(strings.NewReader(in), "absent"); err == nil {
		t.Error("an absent series is read as a value")
	}
}

func TestAChildThatDoesNotListenToSIGTERMIsKilled(t *testing.T) {
	c, err := spawn(t.TempDir(), "deaf", "sh", []string{"-c", "trap '' TERM; echo ready >&2; while :; do sleep 1; done"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.kill()
	for tail(c.log) != "ready" {
		if err := pause(5 * time.Millisecond)(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.end(ctx, syscall.SIGTERM); err == nil {
		t.Error("nothing tells that it had to be killed")
	}
	if !c.ended() {
		t.Error("it goes on")
	}
}

func pair() []system {
	return []system{{name: "reference", limit: referenceLimit}, {name: "holdfast", limit: guideLimit}}
}
