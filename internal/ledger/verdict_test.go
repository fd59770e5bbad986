// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base is when the runs of these tests begin, in microseconds since 1970.
const base = 1_795_000_000_000_000

// story is a run in short: what a producer was told, and what sinks noted, one note per line with spaces for tabs. Times
// count from base. Headers and end lines are added.
type story struct {
	load    string
	sinks   map[string]string
	metrics string
	faults  []ledger.Fault
	options ledger.Options
	run     func(*ledger.Run)
	notes   func(*testing.T, *ledger.Notes)
}

// sent is a producer whose one request of ten spans was acknowledged.
const sent = `I 100 s 1 1 1 1 10
R 200 s 1 1 1 acked OK -`

// stored is a sink that has them.
const stored = `S 150 1 s 1 1 1 10 1 OK -`

func (s story) read(t *testing.T) *ledger.Notes {
	t.Helper()
	run, err := ledger.NewRun("tale", time.UnixMicro(base), 1)
	if err != nil {
		t.Fatal(err)
	}
	if s.run != nil {
		s.run(run)
	}
	n := &ledger.Notes{Run: run, Faults: s.faults}
	if err := n.AddProducer("load-1", book("load", s.load, 1000)); err != nil {
		t.Fatal(err)
	}
	for name, text := range s.sinks {
		if err := n.AddSink(name, book("sink", text, 9_000_000)); err != nil {
			t.Fatal(err)
		}
	}
	if s.notes != nil {
		s.notes(t, n)
	}
	return n
}

// book makes a notes file out of its lines.
func book(kind, text string, end int64) *strings.Reader {
	var b strings.Builder
	fmt.Fprintf(&b, "#holdfast-ledger 1 %s tale", kind)
	if kind == "sink" {
		fmt.Fprintf(&b, " base=%d", base)
	}
	b.WriteByte('\n')
	lines := 0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var t int64
		_, _ = fmt.Sscan(f[1], &t)
		f[1] = fmt.Sprint(base + t)
		for i := range f {
			if f[i] == "-" {
				f[i] = ""
			}
		}
		b.WriteString(strings.Join(f, "\t") + "\n")
		lines++
	}
	fmt.Fprintf(&b, "E\t%d\t%d\n", base+end, lines)
	return strings.NewReader(b.String())
}

func (s story) verify(t *testing.T) *ledger.Verdict {
	t.Helper()
	n := s.read(t)
	o := s.options
	if s.metrics != "" {
		m, err := ledger.ParseMetrics(strings.NewReader(s.metrics))
		if err != nil {
			t.Fatal(err)
		}
		o.Metrics = m
	} else {
		o.AllPlaces = true
	}
	if len(s.faults) == 0 {
		o.NoControl = true
	}
	v, err := ledger.Verify(n, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// check fails unless the outcome and the quantities it is for are exactly these.
func (s story) check(t *testing.T, want ledger.Outcome, quantities ...string) *ledger.Verdict {
	t.Helper()
	v := s.verify(t)
	findings := v.Failures
	if want == ledger.Inconclusive {
		findings = v.Doubts
	}
	var got []string
	for _, f := range findings {
		if len(got) == 0 || got[len(got)-1] != f.Quantity {
			got = append(got, f.Quantity)
		}
	}
	if v.Outcome != want || strings.Join(got, " ") != strings.Join(quantities, " ") {
		t.Errorf("outcome %s for %q, want %s for %q:\n%s", v.Outcome, got, want, quantities, v.Text())
	}
	return v
}

func sinks(pairs ...string) map[string]string {
	out := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// books is a scrape with one equation.
func books(accepted, delivered, queued, parked, rejected, dropped int) string {
	const labels = `{pipeline="traces",destination="otlp/primary",signal="traces"`
	return fmt.Sprintf(`# HELP ignored
holdfast_ledger_accepted_items_total%[1]s} %[2]d
holdfast_ledger_delivered_items_total%[1]s} %[3]d
holdfast_ledger_queued_items%[1]s} %[4]d
holdfast_ledger_parked_items%[1]s} %[5]d
holdfast_ledger_rejected_items_total%[1]s} %[6]d
holdfast_ledger_dropped_items_total%[1]s,reason="expired"} %[7]d
holdfast_ledger_imbalance_items%[1]s} 0
other_series{x="y"} not-a-number
`, labels, accepted, delivered, queued, parked, rejected, dropped)
}

func TestWhatWasAcknowledgedAndStoredPasses(t *testing.T) {
	v := story{load: sent, sinks: sinks("primary", stored), metrics: books(10, 10, 0, 0, 0, 0)}.check(t, ledger.Pass)
	if v.Totals.Acked != 10 || v.Places[0].Items != 10 || v.Balance.Difference() != 0 || !v.Balance.Known {
		t.Errorf("verdict %+v", v)
	}
}

func TestLostItemsFailAndAreNamed(t *testing.T) {
	v := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 4 1 OK -\nS 160 1 s 1 1 5 10 0 UNAVAILABLE -")}.
		check(t, ledger.Fail, "lost")
	if v.Lost != 6 || len(v.LostItems) != 1 || v.LostItems[0].First != 5 || v.LostItems[0].Last != 10 {
		t.Errorf("lost %d: %+v", v.Lost, v.LostItems)
	}
	if seen := v.LostItems[0].Seen; !strings.Contains(seen, "primary") || !strings.Contains(seen, "UNAVAILABLE, not stored") {
		t.Errorf("last seen: %s", seen)
	}
	if text := v.Text(); !strings.Contains(text, "LOST 6   traces producer 1   5-10") {
		t.Errorf("report:\n%s", text)
	}
}

func TestWhatMayStillBeQueuedIsInconclusiveNotLost(t *testing.T) {
	half := sinks("primary", "S 150 1 s 1 1 1 4 1 OK -")
	story{load: sent, sinks: half, metrics: books(10, 4, 6, 0, 0, 0)}.check(t, ledger.Inconclusive, "lost", "quiet")
	n := story{load: sent, sinks: half}
	o := ledger.Options{NoControl: true} // neither metrics nor queues
	v, err := ledger.Verify(n.read(t), o)
	if err != nil || v.Outcome != ledger.Inconclusive || v.Lost != 6 {
		t.Errorf("%v %+v", err, v)
	}
	story{load: sent, sinks: half, metrics: books(10, 4, 0, 6, 0, 0)}.check(t, ledger.Inconclusive, "lost")
}

func TestItemsInTheQueueTheFileAndDeadLettersAreNotLost(t *testing.T) {
	for _, kind := range []ledger.PlaceKind{ledger.Queued, ledger.Parked, ledger.Dead, ledger.InFile} {
		s := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 4 1 OK -")}
		s.notes = func(_ *testing.T, n *ledger.Notes) { rest(n, kind) }
		if v := s.check(t, ledger.Pass); v.Places[1].Items != 6 {
			t.Errorf("%s: %+v", kind, v.Places)
		}
	}
	s := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 4 1 OK -")}
	s.notes = func(_ *testing.T, n *ledger.Notes) { rest(n, ledger.Bad) }
	s.check(t, ledger.Fail, "lost")
}

// rest puts items 5 to 10 into a place.
func rest(n *ledger.Notes, kind ledger.PlaceKind) {
	p := n.AddPlace(kind, "otlp/primary")
	n.Arrivals = append(n.Arrivals, ledger.Arrival{Place: p, Signal: 's', Producer: 1, First: 5, Last: 10, Stored: true})
}

func TestEachWantsEverySinkToHaveEverything(t *testing.T) {
	s := story{load: sent, sinks: sinks("a", stored, "b", "S 150 1 s 1 1 1 9 1 OK -")}
	s.check(t, ledger.Pass)
	s.options.Want = "each:a,b"
	if v := s.check(t, ledger.Fail, "lost"); v.Lost != 1 || v.LostItems[0].At != "b" || v.Duplicates.Across != 0 {
		t.Errorf("%+v", v)
	}
	s.options.Want = "each:a,c"
	if _, err := ledger.Verify(s.read(t), s.options); err == nil {
		t.Error("a sink without notes can be wanted")
	}
	s.options.Want = "some"
	if _, err := ledger.Verify(s.read(t), s.options); err == nil {
		t.Error("anything can be wanted")
	}
}

func TestDeclaredDropsFailUnlessTheScenarioAllowsThem(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 4 1 OK -"), metrics: books(10, 4, 0, 0, 0, 6)}
	s.check(t, ledger.Fail, "declared")
	s.options.AllowDrop = []string{"expired"}
	if v := s.check(t, ledger.Pass); v.Declared != 6 || v.Lost != 0 {
		t.Errorf("declared %d lost %d", v.Declared, v.Lost)
	}
	s.sinks = sinks("primary", "S 150 1 s 1 1 1 5 1 OK -") // one more is there than was declared
	s.metrics = books(10, 4, 0, 0, 0, 6)
	s.check(t, ledger.Fail, "declared")
	s.sinks = sinks("primary", "S 150 1 s 1 1 1 4 1 OK -")
	s.metrics = books(10, 4, 0, 0, 0, 5) // one is missing that nobody declared
	s.check(t, ledger.Fail, "balance", "lost")
}

func TestRejectedItemsAreDeclaredUnlessTheyAreDeadLetters(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 4 1 OK -"), metrics: books(10, 4, 0, 0, 6, 0)}
	s.check(t, ledger.Fail, "declared")
	s.options.AllowDrop = []string{"rejected"}
	s.check(t, ledger.Pass)
	s.options.AllowDrop = nil
	s.notes = func(_ *testing.T, n *ledger.Notes) { rest(n, ledger.Dead) }
	s.check(t, ledger.Pass)
}

func TestPhantomsFail(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", stored+"\nS 160 1 s 1 2 11 12 1 OK -")}
	if v := s.check(t, ledger.Fail, "phantom"); v.Phantom != 2 {
		t.Errorf("phantom %d", v.Phantom)
	}
	s.sinks = sinks("primary", stored+"\nS 160 1 l 9 2 1 1 0 INTERNAL -") // not even stored
	s.check(t, ledger.Fail, "phantom")
}

func TestCorruptedItemsFail(t *testing.T) {
	v := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 9 1 OK -\nS 150 1 s 1 1 10 10 1 OK c")}.
		check(t, ledger.Fail, "corrupted")
	if v.Corrupted != 1 {
		t.Errorf("corrupted %d", v.Corrupted)
	}
	story{load: sent, sinks: sinks("primary", stored+"\nF 150 1 s 0 1 1 OK")}.check(t, ledger.Fail, "corrupted")
}

func TestASinkThatLearnedAnotherBaseSawWrongTimes(t *testing.T) {
	s := story{load: sent, notes: func(t *testing.T, n *ledger.Notes) {
		text := fmt.Sprintf("#holdfast-ledger 1 sink tale base=%d\nS\t%d\t1\ts\t1\t1\t1\t10\t1\tOK\t\nE\t%d\t1\n", base+1, base+150, base+9_000_000)
		if err := n.AddSink("primary", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}}
	s.check(t, ledger.Fail, "corrupted")
}

func TestUndeadItemsFail(t *testing.T) {
	s := story{load: sent + "\nI 300 s 1 2 1 11 20\nR 400 s 1 2 1 refused INVALID_ARGUMENT no", sinks: sinks("primary", stored)}
	s.check(t, ledger.Pass)
	s.sinks = sinks("primary", stored+"\nS 350 1 s 1 2 11 20 1 OK -")
	if v := s.check(t, ledger.Fail, "undead"); v.Undead != 10 || v.Totals.Refused != 10 {
		t.Errorf("undead %d", v.Undead)
	}
}

func TestUnknownItemsMayArriveOrNot(t *testing.T) {
	s := story{load: sent + "\nI 300 s 1 2 1 11 20\nR 400 s 1 2 1 unknown UNAVAILABLE eof", sinks: sinks("primary", stored)}
	s.check(t, ledger.Pass)
	s.sinks = sinks("primary", stored+"\nS 350 1 s 1 2 11 15 1 OK -")
	if v := s.check(t, ledger.Pass); v.Recovered != 5 || v.Totals.Unknown != 10 {
		t.Errorf("recovered %d unknown %d", v.Recovered, v.Totals.Unknown)
	}
	// An attempt without an answer is as good as unknown.
	s.load = sent + "\nI 300 s 1 2 1 11 20"
	s.check(t, ledger.Pass)
}

func TestDuplicatesOfOursFailAboveTheBound(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", stored+"\nS 160 1 s 1 1 1 3 1 OK -")}
	if v := s.check(t, ledger.Fail, "duplicates"); v.Duplicates.Ours != 3 || v.Duplicates.Resent != 0 {
		t.Errorf("%+v", v.Duplicates)
	}
	bound := int64(3)
	s.options.MaxDuplicates = &bound
	s.check(t, ledger.Pass)
	s.options.MaxDuplicates = nil
	s.run = func(r *ledger.Run) { r.MaxDuplicates = 2 }
	s.check(t, ledger.Fail, "duplicates")
}

func TestTheProducersOwnResendsAreNotOurs(t *testing.T) {
	twice := "I 50 s 1 1 1 1 10\nR 90 s 1 1 1 unknown TIMEOUT -\nI 100 s 1 1 2 1 10\nR 200 s 1 1 2 acked OK -"
	s := story{load: twice, sinks: sinks("primary", stored+"\n"+stored)}
	if v := s.check(t, ledger.Pass); v.Duplicates.Resent != 10 || v.Duplicates.Ours != 0 {
		t.Errorf("%+v", v.Duplicates)
	}
	// A third copy is ours, and a refused attempt explains none.
	s.sinks = sinks("primary", stored+"\n"+stored+"\n"+stored)
	if v := s.check(t, ledger.Fail, "duplicates"); v.Duplicates.Ours != 10 {
		t.Errorf("%+v", v.Duplicates)
	}
	s.load = strings.ReplaceAll(twice, "unknown TIMEOUT", "refused UNAVAILABLE")
	s.sinks = sinks("primary", stored+"\n"+stored)
	s.check(t, ledger.Fail, "duplicates")
}

func TestCopiesInTwoSinksAreCountedAcross(t *testing.T) {
	v := story{load: sent, sinks: sinks("a", stored, "b", stored)}.check(t, ledger.Pass)
	if v.Duplicates.Across != 10 || v.Duplicates.Ours != 0 {
		t.Errorf("%+v", v.Duplicates)
	}
}

func TestPartialRequestsAreProvenByNumber(t *testing.T) {
	s := story{load: "I 100 s 1 1 1 1 10\nR 200 s 1 1 1 partial(3) OK some", sinks: sinks("primary", "S 150 1 s 1 1 2 8 1 OK -")}
	if v := s.check(t, ledger.Pass); v.Totals.Acked != 7 || v.Totals.Partial != 3 {
		t.Errorf("%+v", v.Totals)
	}
	s.sinks = sinks("primary", "S 150 1 s 1 1 2 7 1 OK -")
	if v := s.check(t, ledger.Fail, "lost"); v.Lost != 1 {
		t.Errorf("lost %d", v.Lost)
	}
}

func TestMisroutedItemsFailOutsideTheirWindow(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", "S 3500000 1 s 1 1 1 10 1 OK -")}
	window := func(text string) {
		w, err := ledger.ParseWindow(text, time.UnixMicro(base))
		if err != nil {
			t.Fatal(err)
		}
		s.options.Allow = []ledger.Window{w}
	}
	window("primary:+3s..+4s")
	s.check(t, ledger.Pass)
	window("primary:+1s..+2500ms") // within the slack of a second
	s.check(t, ledger.Pass)
	window("primary:+5s..")
	if v := s.check(t, ledger.Fail, "misrouted"); v.Misrouted != 10 {
		t.Errorf("misrouted %d", v.Misrouted)
	}
	window(fmt.Sprintf("primary:..%d", base+1_000_000))
	s.check(t, ledger.Fail, "misrouted")
	window("secondary:+5s..")
	s.check(t, ledger.Pass)
	for _, bad := range []string{"primary", "primary:1s", ":..", "primary:x..y"} {
		if _, err := ledger.ParseWindow(bad, time.UnixMicro(base)); err == nil {
			t.Errorf("window %q is taken", bad)
		}
	}
}

func TestAnUnequalBalanceFails(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", stored)}
	for name, metrics := range map[string]string{
		"terms do not add up":      books(10, 9, 0, 0, 0, 0),
		"accepted below acked":     books(9, 9, 0, 0, 0, 0),
		"accepted above what was":  books(11, 11, 0, 0, 0, 0),
		"imbalance says so itself": strings.Replace(books(10, 10, 0, 0, 0, 0), "imbalance_items{pipeline=\"traces\",destination=\"otlp/primary\",signal=\"traces\"} 0", "imbalance_items{pipeline=\"traces\",destination=\"otlp/primary\",signal=\"traces\"} 1", 1),
	} {
		s.metrics = metrics
		if v := s.verify(t); v.Outcome != ledger.Fail || v.Failures[0].Quantity != "balance" {
			t.Errorf("%s:\n%s", name, v.Text())
		}
	}
	// More delivered than arrived.
	s.sinks = sinks("primary", "S 150 1 s 1 1 1 4 1 OK -")
	s.metrics = books(10, 10, 0, 0, 0, 0)
	s.check(t, ledger.Fail, "balance", "lost")
}

func TestTheBalanceMustHoldAtEverySample(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", stored), metrics: books(10, 10, 0, 0, 0, 0)}
	s.notes = func(_ *testing.T, n *ledger.Notes) {
		n.Samples = []ledger.Sample{{T: base, Metrics: books(5, 2, 3, 0, 0, 0)}, {T: base + 1, Metrics: books(7, 2, 3, 0, 0, 0)}}
	}
	s.check(t, ledger.Fail, "balance")
}

func TestAResentRequestMayBeAcceptedTwice(t *testing.T) {
	twice := "I 50 s 1 1 1 1 10\nR 90 s 1 1 1 unknown TIMEOUT -\nI 100 s 1 1 2 1 10\nR 200 s 1 1 2 acked OK -"
	story{load: twice, sinks: sinks("primary", stored+"\n"+stored), metrics: books(20, 20, 0, 0, 0, 0)}.check(t, ledger.Pass)
}

func TestARunThatCouldNotProveAnythingIsInconclusive(t *testing.T) {
	good := story{load: sent, sinks: sinks("primary", stored)}
	story{load: "", sinks: sinks("primary", "")}.check(t, ledger.Inconclusive, "acked")

	quiet := good
	quiet.options.QuietFor = 10 * time.Second
	quiet.check(t, ledger.Inconclusive, "quiet")

	stripped := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 10 1 OK t")}
	stripped.check(t, ledger.Inconclusive, "stripped")
	stripped.options.AllowStripped = true
	stripped.check(t, ledger.Pass)

	noEnd := good
	noEnd.sinks = nil
	noEnd.notes = func(t *testing.T, n *ledger.Notes) {
		text := fmt.Sprintf("#holdfast-ledger 1 sink tale base=%d\nS\t%d\t1\ts\t1\t1\t1\t10\t1\tOK\t\n", base, base+150)
		if err := n.AddSink("primary", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	noEnd.check(t, ledger.Inconclusive, "notes")
}

func TestFaultsNeedHitsAndAControlRun(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", stored), faults: []ledger.Fault{{T0: base, T1: base + 1, Where: "primary", Fault: "refuse"}}}
	s.options.NoControl = true
	s.check(t, ledger.Inconclusive, "fault")
	s.faults[0].Hits = 1
	s.check(t, ledger.Pass)
	s.options.NoControl = false
	s.check(t, ledger.Inconclusive, "control")
	control := story{load: sent, sinks: sinks("primary", stored)}.check(t, ledger.Pass)
	s.options.Control = control
	s.check(t, ledger.Pass)
	control.Duplicates.Ours = 1
	s.check(t, ledger.Inconclusive, "control")
	control.Outcome = ledger.Fail
	s.check(t, ledger.Inconclusive, "control")
}

func TestWhatWasExpectedMustHaveHappened(t *testing.T) {
	s := story{load: sent + "\nI 300 s 1 2 1 11 20\nR 400 s 1 2 1 unknown UNAVAILABLE eof", sinks: sinks("primary", stored),
		metrics: books(10, 10, 0, 0, 0, 0) + "holdfast_failover_transitions_total{a=\"b\"} 2\n",
		faults: []ledger.Fault{{T0: base, T1: base + 1, Where: "primary", Fault: "hang", Hits: 7},
			{T0: base, T1: base, Where: "holdfast", Fault: ledger.Restart, Hits: 1}}}
	s.options.NoControl = true
	for _, text := range []string{"primary.stored>0", "primary.stored=10", "primary.hits>=7", "unknown==1", "restarts<2",
		"transitions != 3", "primary.stored<=10", "queued=0", "parked=0"} {
		s.options.Expect = []string{text}
		s.check(t, ledger.Pass)
	}
	for _, text := range []string{"primary.stored>10", "primary.hits>7", "unknown=0", "restarts>1", "transitions>2", "other.stored>0",
		"weather>0", "unknown", "queued>0", "parked=1"} {
		s.options.Expect = []string{text}
		s.check(t, ledger.Inconclusive, "expect")
	}
	s.options.Expect = nil
	s.run = func(r *ledger.Run) { r.Expect = []string{"restarts>1"} }
	s.check(t, ledger.Inconclusive, "expect")
}

func TestFilteredAndForeignItemsAreAllowedWhenDeclared(t *testing.T) {
	s := story{load: sent, sinks: sinks("primary", "S 150 1 s 1 1 1 4 1 OK -\nF 150 1 s 3 0 1 OK")}
	s.options.AllowFiltered = true
	if v := s.check(t, ledger.Pass); v.Filtered != 6 || v.Foreign != 3 {
		t.Errorf("filtered %d foreign %d", v.Filtered, v.Foreign)
	}
	s.options.Strict = true
	s.check(t, ledger.Fail, "foreign")
}

func TestTimingIsReported(t *testing.T) {
	v := story{load: sent + "\nI 2000000 s 1 2 1 11 20\nR 2100000 s 1 2 1 acked OK -",
		sinks:   sinks("primary", stored+"\nS 6000000 1 s 1 2 11 15 1 OK -\nS 5000000 1 s 1 2 16 20 1 OK -", "secondary", "S 2050000 1 s 1 2 11 15 1 OK -"),
		faults:  []ledger.Fault{{T0: base + 1_000_000, T1: base + 4_000_000, Where: "primary", Fault: "refuse", Hits: 1}},
		options: ledger.Options{NoControl: true},
	}.check(t, ledger.Pass)
	want := "secondary after 1.1 s, primary back after 1.0 s, drained after 2.0 s"
	if len(v.Timing) != 1 || v.Timing[0] != want {
		t.Errorf("timing %q, want %q", v.Timing, want)
	}
}
