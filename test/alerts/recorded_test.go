// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package alerts

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

// The recording (test/outage) has a scrape a second. It is played slower, a scrape every half minute, so that five minutes
// hold the windows and the `for` of the rules, which are minutes and hours. Every value is one that a process showed; only
// the clock is another. What follows from that:
//
//   - Counters rise as they did, but over thirty times the time: rates are a thirtieth. No rule compares a rate of ours with
//     anything but 0 or with another rate.
//   - What is itself a time on the process's clock, an age or how long until something, is thirty times as long on the
//     slower one, and is shown so (clocks).
//   - How long the disk took is what it took, and certificates expire by the calendar: neither is stretched.
//   - Times in the configurations of the recorded processes are a thirtieth of what they are by default, so that retries and
//     probes come as often between two scrapes as they would.
//
// Not a process's own are `up` and the kubelet's count of restarts, which the recorder keeps, since it starts what ended;
// and one process, books, is a build that is wrong on purpose. The expectations below follow from the windows of the rules,
// and were written with other recordings: this one was made after them.
const (
	recorded = "testdata/outage.gz"
	slower   = 30
)

// clocks are the series that measure time on the process's clock, in seconds.
var clocks = []string{
	"holdfast_journal_oldest_seconds", "holdfast_journal_seconds_until_full", "otelcol_process_uptime",
	"holdfast_config_trial_remaining_seconds",
}

// recording is what was scraped and what was done.
type recording struct {
	every   time.Duration // between two scrapes, as it is played
	scrapes int
	marks   []mark
	series  map[string][]string // values by scrape; - = not there
}

type mark struct {
	scrape         int
	instance, what string
}

func readRecording(t *testing.T) *recording {
	t.Helper()
	f, err := os.Open(recorded)
	if err != nil {
		t.Fatalf("%v (make record-outage makes it)", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{series: map[string][]string{}}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		switch {
		case fields[0] == "holdfast-outage" && len(fields) == 5 && fields[1] == "1":
			real, err := time.ParseDuration(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			r.every, r.scrapes = slower*real, number(t, fields[3])
		case fields[0] == "mark" && len(fields) == 4:
			r.marks = append(r.marks, mark{number(t, fields[1]), fields[2], fields[3]})
		case fields[0] == "series" && len(fields) == 3:
			r.series[fields[1]] = unfold(t, fields[2])
		default:
			t.Fatalf("%s: a line that is not known: %q", recorded, lines.Text())
		}
	}
	if err := lines.Err(); err != nil || r.scrapes == 0 {
		t.Fatal(err, r.scrapes)
	}
	return r
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// unfold writes repeated values out.
func unfold(t *testing.T, text string) (values []string) {
	t.Helper()
	for field := range strings.FieldsSeq(text) {
		value, times, ok := strings.Cut(field, "*")
		n := 1
		if ok {
			n = number(t, times)
		}
		values = append(values, slices.Repeat([]string{value}, n)...)
	}
	return values
}

// input is the recording as Prometheus takes it in: a series that is not in a scrape any more is stale from there on.
func (r *recording) input(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "load %s\n", r.every)
	for key, values := range r.series {
		if len(values) != r.scrapes {
			t.Fatalf("%s has %d values of %d", key, len(values), r.scrapes)
		}
		name, _, _ := strings.Cut(key, "{")
		clock := slices.Contains(clocks, name)
		b.WriteString("  " + key)
		there := false
		for _, v := range values {
			switch {
			case v == "-" && there:
				v = "stale"
			case v == "-":
				v = "_"
			case clock:
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					t.Fatal(err)
				}
				v = strconv.FormatFloat(f*slower, 'f', -1, 64)
				if math.IsInf(f, 0) {
					v = "Inf"
				}
			case v == "+Inf":
				v = "Inf"
			}
			there = v != "_" && v != "stale"
			b.WriteString(" " + v)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// scrapeOf is when something was done.
func (r *recording) scrapeOf(t *testing.T, instance, what string) int {
	t.Helper()
	for _, m := range r.marks {
		if m.instance == instance && m.what == what {
			return m.scrape
		}
	}
	t.Fatalf("%s: nothing is marked %q", instance, what)
	return 0
}

// alert is one alert of one instance, by its severity too, since one name may have two.
type alert struct{ instance, name, severity string }

// firing is, for every alert, at which scrapes it fired.
type firing map[alert][]int

// replay evaluates all rules at every scrape.
func (r *recording) replay(t *testing.T) firing {
	t.Helper()
	suite, err := promqltest.NewLazyLoader(r.input(t), promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer suite.Close()
	groups := groupsOf(t, suite, r.every, ruleFile)
	out := firing{}
	for n := range r.scrapes {
		now := time.Unix(0, 0).UTC().Add(time.Duration(n) * r.every)
		suite.WithSamplesTill(now, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				g.Eval(suite.Context(), now)
				for _, rule := range alertsOf(g) {
					if rule.LastError() != nil {
						t.Fatalf("%s at scrape %d: %v", rule.Name(), n, rule.LastError())
					}
					for _, a := range rule.ActiveAlerts() {
						if a.State != rules.StateFiring {
							continue
						}
						checkAnnotations(t, rule, a)
						instance := a.Labels.Get("pod") // what kube-state-metrics, an instance itself, says of another
						if instance == "" {
							instance = a.Labels.Get("instance")
						}
						key := alert{instance, rule.Name(), a.Labels.Get("severity")}
						if at := out[key]; len(at) == 0 || at[len(at)-1] != n {
							out[key] = append(at, n)
						}
					}
				}
			}
		})
	}
	return out
}

// expectation says that an alert fires for what is done between two marks: while it lasts, not before, and not for longer
// than it takes to forget. An empty end is the beginning: something that happens at once.
type expectation struct {
	alert
	from, to string
	linger   int // scrapes, by the windows of the rule
}

// How long rules remember: their windows, in scrapes, and one for the scrape that ends it.
const (
	none         = 2
	fiveMinutes  = 10 + none
	quarterHour  = 30 + none
	anHour       = 120 + none
	returning    = 12 + none // it is held down for five seconds of the process's clock at most, then probed, then it ramps
	asked        = 5 + none  // an exporter by itself that is down is asked every five seconds of the process's clock
	draining     = 8         // room comes back with a whole segment that everybody has
	itsOwnWindow = 40        // the process looks back over five minutes of its own clock
	aMinuteOfIt  = 60 + none // the process looks at certificates once a minute of its own clock
)

const critical, warning = "critical", "warning"

// expectations are all that may fire; the rest is silence, and the instance calm has none.
var expectations = []expectation{
	{alert{"levels", "CollectorExportFailure", critical}, "primary refuses", "primary answers", fiveMinutes},
	{alert{"levels", "HoldfastLevelSwitched", warning}, "primary refuses", "secondary refuses", none},
	{alert{"levels", "HoldfastAllLevelsDown", critical}, "secondary refuses", "secondary answers", none},
	{alert{"levels", "HoldfastEmergencyFileInUse", warning}, "secondary refuses", "secondary answers", fiveMinutes},
	{alert{"levels", "HoldfastLevelSwitched", warning}, "secondary answers", "primary answers", returning},
	{alert{"levels", "HoldfastLevelDown", warning}, "primary refuses", "primary answers", returning},

	{alert{"disk", "CollectorExportFailure", critical}, "backend refuses", "backend answers", asked + fiveMinutes},
	{alert{"disk", "HoldfastAllLevelsDown", critical}, "backend refuses", "backend answers", asked},
	{alert{"disk", "HoldfastLevelDown", warning}, "backend refuses", "backend answers", asked},
	{alert{"disk", "HoldfastBacklogGrows", warning}, "backend refuses", "backend answers", asked},
	{alert{"disk", "HoldfastQueueFillsIn4h", warning}, "backend refuses", "backend answers", asked + itsOwnWindow},
	{alert{"disk", "HoldfastDiskRefuses", critical}, "backend refuses", "backend answers", asked + draining},
	{alert{"disk", "HoldfastQueueRefuses", critical}, "backend refuses", "backend answers", asked + draining + fiveMinutes},

	{alert{"memory", "CollectorExportFailure", critical}, "backend refuses", "backend answers", asked + fiveMinutes},
	{alert{"memory", "HoldfastAllLevelsDown", critical}, "backend refuses", "backend answers", asked},
	{alert{"memory", "HoldfastLevelDown", warning}, "backend refuses", "backend answers", asked},
	{alert{"memory", "HoldfastBacklogGrows", warning}, "backend refuses", "backend answers", asked},
	{alert{"memory", "HoldfastQueueFillsIn4h", warning}, "backend refuses", "backend answers", asked},
	{alert{"memory", "CollectorQueueNearFull", warning}, "backend refuses", "backend answers", asked},
	{alert{"memory", "HoldfastQueueRefuses", critical}, "backend refuses", "backend answers", asked + fiveMinutes},

	{alert{"oldest", "CollectorExportFailure", critical}, "backend refuses", "backend answers", asked + fiveMinutes},
	{alert{"oldest", "HoldfastAllLevelsDown", critical}, "backend refuses", "backend answers", asked},
	{alert{"oldest", "HoldfastLevelDown", warning}, "backend refuses", "backend answers", asked},
	{alert{"oldest", "HoldfastBacklogGrows", warning}, "backend refuses", "backend answers", asked}, // until the oldest give way
	{alert{"oldest", "HoldfastDropped", critical}, "backend refuses", "backend answers", asked + quarterHour},

	{alert{"rejects", "CollectorExportFailure", critical}, "backend rejects", "backend answers", fiveMinutes},
	{alert{"rejects", "HoldfastRejected", warning}, "backend rejects", "backend answers", quarterHour},
	{alert{"rejects", "HoldfastDeadLettersEvicted", warning}, "backend rejects much", "backend answers", anHour},

	{alert{"reload", "HoldfastConfigRejected", warning}, "config refused", "", quarterHour},
	{alert{"reload", "HoldfastConfigDrift", warning}, "config refused", "config good", none},
	{alert{"reload", "HoldfastConfigRolledBack", critical}, "config undone", "config good again", quarterHour},
	{alert{"reload", "CollectorExportFailure", critical}, "config undone", "config good again", none}, // undone after 20 scrapes
	{alert{"reload", "HoldfastAllLevelsDown", critical}, "config undone", "config good again", none},
	{alert{"reload", "HoldfastLevelDown", warning}, "config undone", "config good again", none},
	// Then it is in no configuration, and what it is owed is parked.
	{alert{"reload", "HoldfastAllLevelsDown", critical}, "b refuses", "destination removed", none},
	{alert{"reload", "HoldfastLevelDown", warning}, "b refuses", "destination removed", none},
	{alert{"reload", "CollectorExportFailure", critical}, "b refuses", "destination removed", fiveMinutes},
	{alert{"reload", "HoldfastBacklogGrows", warning}, "b refuses", "destination removed", quarterHour},
	{alert{"reload", "HoldfastParkedData", warning}, "destination removed", "destination back", none},

	{alert{"certificates", "HoldfastCertificateExpires", warning}, "door certificate has 20 days", "door certificate has 90 days", aMinuteOfIt},
	{alert{"certificates", "HoldfastCertificateExpires", critical}, "client certificate has 12 hours", "client certificate has 90 days", aMinuteOfIt},

	{alert{"restarts", "HoldfastNotScraped", critical}, "killed, and away", "started", none},
	{alert{"restarts", "HoldfastRestarts", critical}, "killed", "runs on", anHour},
	{alert{"restarts", "CollectorCrashLoop", critical}, "killed", "runs on", anHour},

	// Where no start succeeds no up time begins anew: it takes the kubelet's count.
	{alert{"crashes", "CollectorCrashLoop", critical}, "configuration broken, killed", "runs again", anHour},
	{alert{"crashes", "HoldfastNotScraped", critical}, "configuration broken, killed", "runs again", none},

	{alert{"damage", "CollectorExportFailure", critical}, "backend refuses", "backend answers", asked + fiveMinutes},
	{alert{"damage", "HoldfastAllLevelsDown", critical}, "backend refuses", "backend answers", asked},
	{alert{"damage", "HoldfastDamageFound", critical}, "damaged and started", "", anHour + fiveMinutes},
	{alert{"damage", "HoldfastDropped", critical}, "damaged and started", "", quarterHour + fiveMinutes},

	{alert{"detached", "HoldfastStorageDetached", critical}, "directory moved", "directory back, restarted", none},
	{alert{"detached", "HoldfastQueueRefuses", critical}, "directory moved", "directory back, restarted", fiveMinutes},

	{alert{"door", "HoldfastDoorRefuses", warning}, "crowd comes", "crowd leaves", fiveMinutes},

	{alert{"slow", "HoldfastSlowSync", warning}, "disk slow", "disk fast", fiveMinutes},

	{alert{"sync", "HoldfastSegmentCondemned", warning}, "one sync fails", "", anHour},

	{alert{"broken", "HoldfastDiskBroken", critical}, "disk fails", "disk mended", none},
	{alert{"broken", "HoldfastQueueRefuses", critical}, "disk fails", "disk mended", fiveMinutes},
	{alert{"broken", "HoldfastSegmentCondemned", warning}, "disk fails", "disk mended", anHour},

	// A build that does not book what is refused for good: that is why HoldfastRejected keeps silent.
	{alert{"books", "CollectorExportFailure", critical}, "backend rejects", "backend answers", fiveMinutes},
	{alert{"books", "HoldfastImbalance", critical}, "backend rejects", "right build", none},
}

// Each alert fires for what it is about, while that lasts; not before, not for longer than its windows; and nothing else
// fires. So says Prometheus of what it would have scraped from real processes in real outages.
func TestARecordedOutageFiresWhatItMustAndNothingElse(t *testing.T) {
	r := readRecording(t)
	fired := r.replay(t)
	recorded := map[string]bool{}
	for _, e := range expectations {
		recorded[e.name] = true
		from := r.scrapeOf(t, e.instance, e.from)
		by := from + e.linger // when it must have fired
		end := by
		if e.to != "" {
			by = r.scrapeOf(t, e.instance, e.to)
			end = by + e.linger
		}
		at := fired[e.alert]
		if i := slices.IndexFunc(at, func(n int) bool { return n > from }); i < 0 || at[i] > by {
			t.Errorf("%s: %s (%s) did not fire between %q and %q, scrapes %d to %d; it fired%s", e.instance, e.name, e.severity, e.from,
				e.to, from, by, stretches(at))
		}
		fired[e.alert] = slices.DeleteFunc(at, func(n int) bool { return n > from && n <= end })
	}
	for a, at := range fired {
		if len(at) > 0 {
			t.Errorf("%s: %s (%s) fired where nothing called for it, at scrapes%s", a.instance, a.name, a.severity, stretches(at))
		}
	}
	for _, rule := range alertingRules(t, ruleFile) {
		if !recorded[rule.Name()] {
			t.Errorf("no recorded outage is for %s", rule.Name())
		}
	}
}

// A rule that looks at another name sees nothing: the test above would be no test without its series.
func TestTheRecordingHasTheSeriesOfTheRules(t *testing.T) {
	r := readRecording(t)
	there := map[string]bool{}
	for key := range r.series {
		name, _, _ := strings.Cut(key, "{")
		there[name] = true
	}
	for _, name := range []string{"up", "otelcol_process_uptime", "holdfast_journal_state", "holdfast_ledger_imbalance_items",
		"holdfast_config_drift", "otelcol_exporter_sent_spans", "holdfast_journal_sync_seconds_bucket", "kube_pod_container_status_restarts_total"} {
		if !there[name] {
			t.Errorf("the recording has no %s", name)
		}
	}
	if r.scrapes < 300 {
		t.Errorf("%d scrapes", r.scrapes)
	}
	if got := r.series[`up{job="holdfast",instance="calm"}`]; len(got) == 0 || slices.Contains(got, "0") {
		t.Error("calm was not there all the time")
	}
	// A destination that left and came back is one: sums over its names would count it twice.
	for key := range r.series {
		if strings.Contains(key, `instance="reload"`) && strings.Contains(key, `destination="otlp_grpc/`) {
			t.Errorf("a destination is shown by another name than it is written with: %s", key)
		}
	}
}

// stretches are scrapes in a row, for people.
func stretches(at []int) string {
	var b strings.Builder
	for i := 0; i < len(at); {
		end := i
		for end+1 < len(at) && at[end+1] == at[end]+1 {
			end++
		}
		fmt.Fprintf(&b, " %d-%d", at[i], at[end])
		i = end + 1
	}
	return b.String()
}
