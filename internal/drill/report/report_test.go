// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
)

// hostile is what a name or an error may hold.
const hostile = `<script>alert("x")</script>&'`

func full() *report.Report {
	return &report.Report{Version: "1", Config: []string{hostile}, Began: time.Unix(0, 0), Took: 3 * time.Second,
		Backends: []string{hostile, "b"}, Weak: []string{hostile},
		Scenarios: []*report.Scenario{
			{Name: "control", Outcome: report.Passed, Acked: 100},
			{Name: "refused:" + hostile, Outcome: report.Failed, Acked: 10, Lost: 3,
				Broken:  []report.Broken{{Promise: "nothing is lost", Text: hostile, Items: []string{"logs producer 1, 4-6"}}},
				Samples: []report.Sample{{At: 0, Delivered: []uint64{0, 0}}, {At: 2, Acked: 10, Delivered: []uint64{7}, Queued: 3}},
				Events:  []report.Event{{At: 1, Who: "log", Text: hostile}},
				Faults:  []report.Fault{{From: 0.5, To: 1.5, Where: hostile, Text: "refuse", Hits: 2}}},
			{Name: "kill", Outcome: report.Inconclusive, Doubts: []string{"no backlog"}},
			{Name: "expired:b", Outcome: report.NotApplicable, Why: "no TLS"},
		}}
}

func TestOneFailureFailsTheDrillAndADoubtLeavesItOpen(t *testing.T) {
	for want, outcomes := range map[report.Outcome][]report.Outcome{
		report.Passed:       {report.Passed, report.NotApplicable},
		report.Failed:       {report.Passed, report.Inconclusive, report.Failed},
		report.Inconclusive: {report.Passed, report.Inconclusive},
	} {
		r := &report.Report{}
		for _, o := range outcomes {
			r.Scenarios = append(r.Scenarios, &report.Scenario{Outcome: o})
		}
		if r.Judge(); r.Outcome != want {
			t.Errorf("%v come to %s", outcomes, r.Outcome)
		}
	}
	r := &report.Report{Scenarios: []*report.Scenario{{Outcome: report.NotApplicable}}}
	if r.Judge(); r.Outcome != report.Inconclusive || r.ExitCode() != 2 {
		t.Error("what played nothing proves nothing")
	}
}

func TestThePageIsWellFormedAndEscapesWhatOthersWrote(t *testing.T) {
	r := full()
	r.Judge()
	page := r.HTML()
	if strings.Contains(page, "<script") {
		t.Error("a script got in")
	}
	for _, outside := range []string{"http://", "https://", "src="} {
		if strings.Contains(page, outside) {
			t.Errorf("the page needs something else: %s", outside)
		}
	}
	for _, words := range []string{"Holdfast drill: failed", "logs producer 1, 4-6", "<path", "<rect", "broke promises in 1 of 3 scenarios: nothing is lost", "no TLS"} {
		if !strings.Contains(page, words) {
			t.Errorf("%q is not on the page", words)
		}
	}
	at := strings.Index(page, "<svg")
	end := strings.Index(page, "</svg>")
	d := xml.NewDecoder(strings.NewReader(page[at : end+len("</svg>")]))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture: %v", err)
		}
	}
}

func TestAllFormsAreWrittenAndSayTheSame(t *testing.T) {
	r := full()
	r.Judge()
	dir := filepath.Join(t.TempDir(), "new", "dir")
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back report.Report
	if err := json.Unmarshal(text, &back); err != nil || back.Outcome != report.Failed || len(back.Scenarios) != 4 {
		t.Errorf("%v, %+v", err, back)
	}
	junit, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	if err := xml.Unmarshal(junit, &suite); err != nil || suite.Tests != 4 || suite.Failures != 1 || suite.Errors != 1 || suite.Skipped != 1 {
		t.Errorf("%v, %+v", err, suite)
	}
	for _, words := range []string{"FAILED, 4 scenarios", "nothing is lost: ", "no backlog", "expired:b"} {
		if !strings.Contains(r.Text(), words) {
			t.Errorf("%q is not in\n%s", words, r.Text())
		}
	}
}

func TestTheSameOfSeveralSignalsIsOneLineOfThePage(t *testing.T) {
	r := full()
	r.Scenarios[1].Events = []report.Event{
		{At: 1.0, Who: "log", Text: "level is down signal=traces exporter=a"}, {At: 1.1, Who: "drill", Text: "a: refuse"},
		{At: 1.2, Who: "log", Text: "level is down signal=logs exporter=a"}, {At: 1.3, Who: "log", Text: "level is down signal=logs exporter=a"},
		{At: 9.0, Who: "log", Text: "level is down signal=logs exporter=a"},
	}
	page := r.HTML()
	for _, line := range []string{"   1.0 s  log    level is down exporter=a (traces, logs) ×3\n", "   9.0 s  log    level is down exporter=a (logs)"} {
		if strings.Count(page, line) != 1 {
			t.Errorf("%q is not on the page once", line)
		}
	}
}

func TestTheVerdictIsASentence(t *testing.T) {
	for want, r := range map[string]*report.Report{
		"kept every promise in all 1 scenarios that it has: of 1,200 acknowledged items 0 were lost, 3 arrived twice": {Outcome: report.Passed,
			Scenarios: []*report.Scenario{{Outcome: report.Passed, Acked: 1200, Twice: 3}, {Outcome: report.NotApplicable, Why: "x"}}},
		"1 of 2 scenarios came to no end that could be judged": {Outcome: report.Inconclusive,
			Scenarios: []*report.Scenario{{Outcome: report.Passed}, {Outcome: report.Inconclusive, Doubts: []string{"x"}}}},
	} {
		if got := r.Sentence(); !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
		for _, s := range r.Scenarios {
			if !strings.Contains(r.HTML(), s.Sentence()) {
				t.Errorf("%q is not on the page", s.Sentence())
			}
		}
	}
}
