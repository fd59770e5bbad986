// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/report"
	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
	"github.com/holdfast-telemetry/holdfast/internal/drill/verdict"
	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// base is when the run of the notes began, in microseconds since 1970.
const base = 1_795_293_255_000_000

// span is a request of 25 items, acknowledged or stored at a second of the run.
type span struct{ request, second int }

// notes writes what a producer of logs and two sinks noted.
func notes(t *testing.T, acked, primary, secondary []span) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, head string, ends int, lines []string) {
		text := head + "\n" + strings.Join(lines, "")
		text += fmt.Sprintf("E\t%d\t%d\n", base+ends*1_000_000, len(lines))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := fmt.Sprintf(`{"format":1,"run":"r","tag":"454349e422f0","base_us":%d,"seed":1,"signals":["logs"],"producers":{"logs":1},`+
		`"item_bytes":200,"mode":"retry","want":"any","max_duplicates":0}`, base)
	if err := os.WriteFile(filepath.Join(dir, "run.json"), []byte(run), 0o600); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range acked {
		at := base + s.second*1_000_000
		lines = append(lines, fmt.Sprintf("I\t%d\tl\t1\t%d\t1\t%d\t%d\n", at, s.request, s.request*25-24, s.request*25),
			fmt.Sprintf("R\t%d\tl\t1\t%d\t1\tacked\tOK\t\n", at+1000, s.request))
	}
	write("load-1.tsv", "#holdfast-ledger 1 load r", 9, lines)
	for name, at := range map[string][]span{"otlp-primary": primary, "otlp-secondary": secondary} {
		lines = nil
		for _, s := range at {
			lines = append(lines, fmt.Sprintf("S\t%d\t1\tl\t1\t%d\t%d\t%d\t1\tOK\t\n", base+s.second*1_000_000+2000, s.request, s.request*25-24,
				s.request*25))
		}
		write("sink-"+name+".tsv", fmt.Sprintf("#holdfast-ledger 1 sink r base=%d", base), 20, lines)
	}
	return dir
}

// judge judges notes of a pipeline with the given destinations, whose queue was in memory and is gone.
func judge(t *testing.T, dir string, destinations []topology.Destination, change func(*verdict.Notes)) *report.Scenario {
	t.Helper()
	books, err := ledger.ParseMetrics(strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	n := &verdict.Notes{Dir: dir, Books: books, Restarts: 1, Memory: "logs → x",
		Topology: &topology.Topology{Backends: []topology.Backend{{ID: "otlp/primary"}, {ID: "otlp/secondary"}},
			Pipelines: []topology.Pipeline{{ID: "logs", Signal: "logs", Receivers: []string{"otlp"}, Destinations: destinations}}},
		Via: map[verdict.Source]string{{Signal: item.Logs, Producer: 1}: "otlp"}}
	if change != nil {
		change(n)
	}
	out := &report.Scenario{Name: "kill", Began: time.UnixMicro(base)}
	if err := n.Judge(out); err != nil {
		t.Fatal(err)
	}
	return out
}

func levels(ids ...string) []topology.Destination {
	d := topology.Destination{Label: "failover", Connector: true, Queued: true}
	for _, id := range ids {
		d.Levels = append(d.Levels, []string{id})
	}
	return []topology.Destination{d}
}

func broken(out *report.Scenario) (names []string) {
	for _, b := range out.Broken {
		names = append(names, b.Promise)
	}
	return names
}

var all = []span{{1, 1}, {2, 2}, {3, 3}}

func TestWhatIsAtSomeLevelIsDelivered(t *testing.T) {
	out := judge(t, notes(t, all, all[:2], all[2:]), levels("otlp/primary", "otlp/secondary"), func(n *verdict.Notes) { n.NoGap = true })
	if len(out.Broken)+len(out.Doubts) > 0 || out.Acked != 75 || out.Lost != 0 {
		t.Errorf("%+v", out)
	}
	if len(out.Events) != 1 || !strings.Contains(out.Events[0].Text, "of every second and signal (3) everything acknowledged is at a backend") ||
		!strings.Contains(out.Events[0].Text, "longest silence of all of them together was 1.0 s") {
		t.Errorf("%+v", out.Events)
	}
}

func TestWhatIsNowhereIsNamedWithItsSecondAndItsQueue(t *testing.T) {
	out := judge(t, notes(t, all, all[:1], all[2:]), levels("otlp/primary", "otlp/secondary"), func(n *verdict.Notes) { n.NoGap = true })
	if got := broken(out); !slices.Equal(got, []string{verdict.Lost, verdict.NoGap}) || out.Lost != 25 {
		t.Fatalf("%s, %d lost, doubts %s", got, out.Lost, out.Doubts)
	}
	if b := out.Broken[0]; !strings.Contains(b.Text, "in memory is the queue of logs → x") || !strings.Contains(b.Items[0], "logs producer 1, 26-50") {
		t.Errorf("%+v", b)
	}
	if b := out.Broken[1]; len(b.Items) != 1 || b.Items[0] != "logs acknowledged in second 2: 25 of 25 are nowhere" {
		t.Errorf("%+v", b)
	}
}

func TestEveryDestinationIsOwedEverything(t *testing.T) {
	both := []topology.Destination{{Label: "otlp/primary", Queued: true, Levels: [][]string{{"otlp/primary"}}},
		{Label: "otlp/secondary", Queued: true, Levels: [][]string{{"otlp/secondary"}}}}
	out := judge(t, notes(t, all, all, all[:1]), both, nil)
	if got := broken(out); !slices.Equal(got, []string{verdict.Each}) || out.Lost != 50 ||
		!strings.Contains(out.Broken[0].Text, "logs → otlp/secondary: 50 acknowledged logs") {
		t.Errorf("%+v", out)
	}
	// A processor may take items out on purpose: then only that nothing else changed is proven.
	out = judge(t, notes(t, all, all[:2], nil), both, func(n *verdict.Notes) { n.Topology.Filtered = []string{"filter/debug"} })
	if len(out.Broken) > 0 || len(out.Events) != 1 || !strings.Contains(out.Events[0].Text, "filter/debug may take items out") {
		t.Errorf("%+v", out)
	}
}

func TestDuplicatesAreBounded(t *testing.T) {
	twice := append(slices.Clone(all), span{1, 4})
	for bound, want := range map[int64]int{0: 1, 24: 1, 25: 0} {
		out := judge(t, notes(t, all, twice, nil), levels("otlp/primary"), func(n *verdict.Notes) { n.Bound = bound })
		if len(out.Broken) != want || out.Twice != 25 {
			t.Errorf("bound %d: %v, %d twice", bound, broken(out), out.Twice)
		}
	}
	none := uint64(0)
	out := judge(t, notes(t, all, twice, nil), levels("otlp/primary"), func(n *verdict.Notes) { n.Bound, n.MaxTwice = 1000, &none })
	if got := broken(out); !slices.Equal(got, []string{verdict.Twice}) {
		t.Errorf("who allows none gets %v", got)
	}
}

func TestAFileThatAConnectorEmptiesIsNotCheckedAsADestination(t *testing.T) {
	file := []topology.Destination{{Label: "file/last", Levels: [][]string{{"file/last"}}}, levels("otlp/primary", "file/last")[0]}
	out := judge(t, notes(t, all, all, nil), file, func(n *verdict.Notes) {
		n.Topology.Files = []topology.File{{ID: "file/last"}}
		n.Files = map[string]string{"file/last": filepath.Join(t.TempDir(), "last.jsonl")}
	})
	if len(out.Broken) > 0 || !slices.ContainsFunc(out.Events, func(e report.Event) bool { return strings.Contains(e.Text, "is not checked") }) {
		t.Errorf("%+v", out)
	}
}
