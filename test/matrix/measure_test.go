// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// base is when the stories of these tests begin.
var base = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return base.Add(time.Duration(seconds * float64(time.Second))) }

// story is what notes and log say: the primary fails at 10 s and is well at 30 s.
func story() (*ledger.Notes, []seedbed.Line) {
	n := &ledger.Notes{}
	places := map[string]ledger.PlaceIndex{}
	for _, p := range []string{seedbed.Primary, seedbed.Secondary} {
		places[p] = n.AddPlace(ledger.AtSink, p)
	}
	arrive := func(seconds float64, place string, first, last uint64, stored bool) {
		n.Arrivals = append(n.Arrivals, ledger.Arrival{T: at(seconds).UnixMicro(), Place: places[place], Signal: item.Traces,
			Producer: 1, First: first, Last: last, Stored: stored})
	}
	acked := func(seconds float64, first, last uint64) {
		a := ledger.Tried{T: at(seconds).UnixMicro(), Ended: at(seconds).UnixMicro(), Result: ledger.Result{State: ledger.Acked}}
		a.Signal, a.Producer, a.First, a.Last = item.Traces, 1, first, last
		n.Tried = append(n.Tried, a)
	}
	arrive(5, seedbed.Primary, 1, 10, true)
	arrive(9, seedbed.Primary, 11, 20, true)
	acked(10.5, 21, 30)
	arrive(11, seedbed.Primary, 21, 30, false)
	arrive(11.05, seedbed.Secondary, 21, 30, true)
	acked(11, 31, 40)
	arrive(13, seedbed.Primary, 31, 40, false)
	arrive(14, seedbed.Secondary, 31, 40, true)
	acked(20, 41, 50)
	arrive(20.1, seedbed.Secondary, 41, 50, true)
	arrive(45.5, seedbed.Secondary, 51, 60, true) // in flight when the share got whole
	arrive(50, seedbed.Primary, 61, 70, true)
	line := func(seconds float64, text string, level float64) seedbed.Line {
		return seedbed.Line{Time: at(seconds), Text: text, Fields: map[string]any{"signal": "traces", "level": level}}
	}
	return n, []seedbed.Line{
		line(3, "Failover: level is back", 0), line(12, "Failover: level is down, data goes to the next level", 0),
		line(13, "Failover: level is down, data is held", 1), line(40, "Failover: level is back", 0),
		line(45, "Failover: level has its whole share again", 0),
	}
}

func TestMeasuresAreTakenFromNotesAndLog(t *testing.T) {
	n, lines := story()
	m := measure(n, lines, at(10), at(30))
	for what, d := range map[string][2]time.Duration{
		"interval":             {m.interval["traces"], 4 * time.Second},
		"first":                {m.first["traces"].Sub(at(10)), 1050 * time.Millisecond},
		"first handover":       {m.handover["traces"].first, 50 * time.Millisecond},
		"longest handover":     {m.handover["traces"].most, time.Second},
		"what was queued":      {m.followed["traces"], 4 * time.Second},
		"down":                 {m.down["traces"], 2 * time.Second},
		"back after it healed": {m.back["traces"], 10 * time.Second},
		"takes all again":      {m.whole["traces"], 15 * time.Second},
	} {
		if d[0] != d[1] {
			t.Errorf("%s: %s, want %s", what, d[0], d[1])
		}
	}
	if m.below != 0 {
		t.Errorf("%d items below after the return, want none", m.below)
	}
	late := n.Arrivals[len(n.Arrivals)-2]
	late.T = at(46.5).UnixMicro()
	n.Arrivals = append(n.Arrivals, late)
	if m := measure(n, lines, at(10), at(30)); m.below != 10 {
		t.Errorf("%d items below after the return, want 10", m.below)
	}
}

func TestASlowHandoverIsBlamedOnTheCollectorUnlessItHadNoProcessor(t *testing.T) {
	n, lines := story()
	r := &result{scenario: scenario{fault: fault{seen: true}, seed: seedbed.B}, failed: at(10), stalls: &stalls{}}
	for i := range n.Arrivals {
		if n.Arrivals[i].T == at(11.05).UnixMicro() {
			n.Arrivals[i].T = at(11.25).UnixMicro()
		}
	}
	r.m = measure(n, lines, at(10), at(30))
	if h := r.handover(); h.raw != 250*time.Millisecond || h.corrected != h.raw || h.late != 150*time.Millisecond {
		t.Errorf("%+v", h)
	}
	for _, p := range []struct{ at, waited float64 }{{10.5, 1}, {11.0, 2}, {11.02, 2.1}, {11.2, 2.2}, {11.3, 2.25}, {12, 9}} {
		r.stalls.samples = append(r.stalls.samples, sample{at(p.at), at(p.waited).Sub(base)})
	}
	if h := r.handover(); h.raw != 250*time.Millisecond || h.corrected > time.Millisecond || h.late != 0 {
		t.Errorf("%+v, although the collector had no processor for 250 ms", h)
	}
	r.raw = true
	if h := r.handover(); h.corrected != h.raw || h.late != 150*time.Millisecond {
		t.Errorf("%+v, although it was the only run", h)
	}
}

func TestWhatTheBackendDoesNotSeeIsReadFromTheCollector(t *testing.T) {
	answers := func(failed, ended, took float64) seedbed.Series {
		s := seedbed.Series{}
		for _, signal := range signals {
			s[attempts+`{exporter="otlp/primary",level="0",signal="`+signal+`",verdict="delivered"}`] = 4
			s[attempts+`{exporter="otlp/primary",level="0",signal="`+signal+`",verdict="ambiguous"}`] = failed
			s[lengths+`_count{level="0",signal="`+signal+`"}`] = ended
			s[lengths+`_sum{level="0",signal="`+signal+`"}`] = took
		}
		return s
	}
	w := &watch{failed: map[string]moment{}, took: map[string]time.Duration{}, before: map[string]seedbed.Series{}}
	all := []seedbed.Series{answers(0, 5, 1), answers(0, 6, 1.2), answers(7, 6, 1.2), answers(7, 7, 6.2), answers(9, 8, 12)}
	for i := range len(all) - 1 {
		w.compare(all[i], all[i+1], moment{at(float64(i + 3)), at(float64(i + 4))})
	}
	n, lines := story()
	r := &result{scenario: scenario{fault: fault{kind: silent}, seed: seedbed.B}, failed: at(2), stalls: &stalls{}, watch: w}
	if r.m = measure(n, lines, at(2), at(30)); r.m.again["traces"] != 15500*time.Millisecond {
		t.Errorf("delivered again after %s", r.m.again["traces"])
	}
	h := r.handover() // failed at 4–5 s after 5 s, below at 11.05 s
	if h.began != 12050*time.Millisecond || h.raw != 7050*time.Millisecond || h.unknown || h.late != 5050*time.Millisecond {
		t.Errorf("%+v", h)
	}
	if r.watch = (&watch{}); !r.handover().unknown {
		t.Error("known without an attempt that failed")
	}
}

func TestTheTableReplacesTheOneInTheDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(path, []byte("before\n"+tableBegins+"old\n"+tableEnds+"behind\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &result{scenario: cases()[0], verdict: &ledger.Verdict{}, broken: []string{"something"}}
	tab := table{binary: "/nonexistent", results: []*result{r}}
	if err := tab.replaceIn(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); !strings.HasPrefix(s, "before\n"+tableBegins) || !strings.HasSuffix(s, tableEnds+"behind\n") ||
		strings.Contains(s, "old") || !strings.Contains(s, "| **blackholed** |") {
		t.Errorf("%s", s)
	}
	if err := tab.verdict(); err == nil || !strings.Contains(err.Error(), "something") {
		t.Errorf("verdict %v", err)
	}
	if err := (&table{}).verdict(); err == nil {
		t.Error("no case at all passes")
	}
}
