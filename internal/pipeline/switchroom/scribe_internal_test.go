// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package switchroom

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// F16. A real switch lives through random outages; whatever it does to a level is in the log, is counted, and stands in
// the status with what it was decided on.
func TestEveryTransitionIsExplained(t *testing.T) {
	seen := map[breaker.Transition]bool{}
	long := os.Getenv("HOLDFAST_LONG") != ""
	for seed := uint64(0); seed < 8 || long && seed < 80; seed++ {
		o := newOutage(t, seed)
		o.run(1500)
		for tr := range o.seen {
			seen[tr] = true
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	rare := missing(seen)
	if !long && len(rare) > 8 { // some take dozens of outages to come
		t.Errorf("%d transitions never came", len(rare))
	}
	for _, tr := range rare {
		if long {
			t.Errorf("%s → %s (%s) never came: is it still possible?", tr.From, tr.To, tr.Reason)
		}
	}
}

// missing are the transitions that have not come.
func missing(seen map[breaker.Transition]bool) (out []breaker.Transition) {
	for _, emergency := range []bool{false, true} {
		for _, tr := range breaker.Transitions(emergency) {
			if !seen[tr] {
				out = append(out, tr)
			}
		}
	}
	return out
}

// outage is a switch, a scribe, and a world that treats exporters badly.
type outage struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	tel    *telemetry.Telemetry
	lines  *observer.ObservedLogs
	scribe *scribe
	sw     *failover.Switch
	plan   *failover.SwitchPlan
	wake   time.Time
	views  map[failover.RouteID]*failover.View
	probes []failover.Effect // under way
	mood   map[string]breaker.Class
	seen   map[breaker.Transition]bool
	batch  uint64
	slow   string // who takes his time
}

func newOutage(t *testing.T, seed uint64) *outage {
	core, lines := observer.New(zap.DebugLevel)
	o := &outage{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC), lines: lines,
		tel:   &telemetry.Telemetry{Logger: zap.New(core), Metrics: telemetry.NewRegistry()},
		views: map[failover.RouteID]*failover.View{}, mood: map[string]breaker.Class{}, seen: map[breaker.Transition]bool{},
	}
	level := func(emergency bool, probe string, ids ...string) failover.PlannedLevel {
		l := failover.PlannedLevel{Emergency: emergency, Timeout: 5 * time.Second, Retry: exporter.DefaultRetry()}
		for _, id := range ids {
			l.Members = append(l.Members, failover.PlannedMember{Exporter: id, OwnProbe: probe})
		}
		return l
	}
	plain := failover.Default().(*failover.Config)
	plain.Detector.SlowAfter = "auto"
	checked := failover.Default().(*failover.Config)
	checked.Detector = failover.Detector{Consecutive: 3, Startup: 2, Ratio: 0.3, Window: 30 * time.Second, MinAttempts: 4}
	checked.Detector.Consecutive = 2
	checked.Detector.SlowAfter, checked.Detector.SlowRatio, checked.Return.Ramp = "auto", 0.2, time.Minute
	checked.Probe.Kind, checked.Probe.URL, checked.Probe.Trips = "http", "http://127.0.0.1:1/", true
	o.plan = &failover.SwitchPlan{Routes: []failover.SwitchRoute{
		plain.Plan(failover.RouteID{Connector: "failover", Signal: otlp.Traces}, []failover.PlannedLevel{
			level(false, "empty", "otlp/a"), level(false, "empty", "otlp/b", "otlp/c"), level(true, "write", "file/x"),
		}),
		plain.Plan(failover.RouteID{Connector: "failover", Signal: otlp.Logs}, []failover.PlannedLevel{
			level(false, "empty", "otlp/a"), level(false, "live", "kafka"),
		}),
		checked.Plan(failover.RouteID{Connector: "failover/checked", Signal: otlp.Metrics}, []failover.PlannedLevel{
			level(false, "empty", "otlp/d"), level(false, "empty", "otlp/e"),
		}),
	}}
	o.scribe = newScribe(o.plan, o.tel)
	var before []failover.Remembered
	if seed%4 == 1 {
		before = append(before, failover.Remembered{Connector: "failover", Signal: "traces", Exporter: "otlp/a", At: o.now,
			Reason: "consecutive", Error: "connection refused"})
	}
	o.sw = failover.NewSwitch(o.plan, before, o.now)
	o.step(failover.Event{Kind: failover.EventTick})
	return o
}

// run lets so many things happen.
func (o *outage) run(n int) {
	series := o.series()
	for range n {
		o.moods()
		o.now = o.now.Add(time.Duration(o.rng.IntN(1500)) * time.Millisecond)
		switch {
		case !o.wake.IsZero() && !o.now.Before(o.wake):
			o.now = o.wake
			o.step(failover.Event{Kind: failover.EventTick})
		case o.rng.IntN(40) == 0:
			o.operator()
		case len(o.probes) > 0 && o.rng.IntN(3) > 0:
			o.answer()
		default:
			o.attempt()
		}
		if o.t.Failed() {
			return
		}
	}
	if now := o.series(); !slices.Equal(now, series) {
		for _, s := range now {
			if !slices.Contains(series, s) {
				o.t.Errorf("series %s was not there from the start", s)
			}
		}
	}
}

// operator holds a level, or lets one go.
func (o *outage) operator() {
	r := &o.plan.Routes[o.rng.IntN(len(o.plan.Routes))]
	ev := failover.Event{Kind: failover.EventRelease, Route: r.RouteID, Level: o.rng.IntN(len(r.Levels)+1) - 1}
	if o.rng.IntN(2) == 0 {
		ev.Kind, ev.Force = failover.EventHold, o.rng.IntN(2) == 0
		ev.For = time.Duration(1+o.rng.IntN(60)) * time.Second
	}
	o.step(ev)
}

// moods changes how an exporter answers, now and then.
func (o *outage) moods() {
	if o.rng.IntN(25) > 0 {
		return
	}
	ids := []string{"otlp/a", "otlp/b", "otlp/c", "file/x", "kafka", "otlp/d", "otlp/e", "door of otlp/d",
		"door of otlp/e"}
	moods := []breaker.Class{
		breaker.Delivered, breaker.Delivered, breaker.Retry, breaker.Ambiguous, breaker.Misconfigured, breaker.RetryAfter, 0,
	}
	o.mood[ids[o.rng.IntN(len(ids))]] = moods[o.rng.IntN(len(moods))]
	if o.rng.IntN(3) == 0 {
		o.slow = ids[o.rng.IntN(len(ids))]
	}
}

// outcome is an answer of an exporter; a mood of 0 is a coin.
func (o *outage) outcome(id string) breaker.Outcome {
	class, known := o.mood[id]
	switch {
	case !known:
		class = breaker.Delivered
	case class == 0 && o.rng.IntN(2) == 0:
		class = breaker.Delivered
	case class == 0:
		class = breaker.Retry
	}
	out := breaker.Outcome{Class: class, Counted: class != breaker.Delivered && class != breaker.RetryAfter}
	switch class {
	case breaker.RetryAfter:
		out.After = time.Duration(1+o.rng.IntN(60)) * time.Second
	case breaker.Delivered:
		if o.slow == id {
			out.Took = 4 * time.Second
		}
	default:
		out.Text = "connection refused by\n" + id
	}
	return out
}

func (o *outage) answer() {
	i := o.rng.IntN(len(o.probes))
	p := o.probes[i]
	o.probes = slices.Delete(o.probes, i, i+1)
	out := o.outcome(p.Exporter)
	if p.Order.What.Kind == "http" { // another door than the data's
		out = o.outcome("door of " + p.Exporter)
	}
	out.Generation = p.Order.Probe.Generation
	v := exporter.Verdict{Kind: exporter.Kind(min(out.Class, breaker.Rejected))}
	o.scribe.probed(p.Breaker, &p.Order, &v)
	o.step(failover.Event{Kind: failover.EventProbed, Breaker: p.Breaker, Probe: p.Order.Probe, Outcome: out})
}

// attempt sends a batch to a level that takes one.
func (o *outage) attempt() {
	r := &o.plan.Routes[o.rng.IntN(len(o.plan.Routes))]
	v := o.views[r.RouteID]
	i := o.rng.IntN(len(v.Levels))
	l := &v.Levels[i]
	proof, canary := l.Wanted()
	if !l.Eligible && !canary || l.ThrottledUntil.After(o.now) || proof && !l.Claim() {
		o.step(failover.Event{Kind: failover.EventTick})
		return
	}
	o.batch++
	for k := range l.Members {
		m := &l.Members[k]
		ev := failover.Event{Kind: failover.EventAttempted, Breaker: m.Breaker, Outcome: o.outcome(m.Exporter)}
		ev.Outcome.Generation, ev.Outcome.Batch = m.Generation, o.batch
		if m.Token != nil {
			ev.Proof = !m.Canary
			if m.Canary {
				ev.Kind = failover.EventCanaryDone
			}
		}
		o.step(ev)
	}
}

// step tells the switch, lets the scribe write it down, and checks what was written.
func (o *outage) step(ev failover.Event) {
	effects := o.sw.Step(o.now, ev, nil)
	for i, e := range effects {
		switch e.Kind {
		case failover.EffectStartProbe:
			o.probes = append(o.probes, e)
		case failover.EffectWakeAt:
			o.wake = e.At
		case failover.EffectChanged:
			o.changed(&e)
		case failover.EffectPublish:
			o.views[e.Route] = e.View
			o.published(&e)
		case failover.EffectRefused:
			if ev.Kind == failover.EventHold || ev.Kind == failover.EventRelease {
				continue
			}
			o.t.Errorf("effect %d: refused %s", i, e.Why)
		}
	}
	if len(effects) > 0 {
		o.checkStatus()
	}
}

func (o *outage) changed(e *failover.Effect) {
	c := &e.Change
	tr := breaker.Transition{From: c.From, To: c.To, Reason: c.Reason}
	at := seat{e.Route, e.Level, e.Exporter}
	count := func() int64 { return o.scribe.moveOf(o.scribe.seats[at], at, tr).Value() }
	before := int64(0)
	if c.Kind == breaker.Moved {
		before = count()
	}
	o.lines.TakeAll()
	o.scribe.changed(o.now, e)
	written := o.lines.TakeAll()
	if len(written) != 1 || !strings.HasPrefix(written[0].Message, "Failover: ") {
		o.t.Errorf("%+v has the lines %v, want one", c, written)
		return
	}
	fields := written[0].ContextMap()
	for key, want := range map[string]any{
		"connector": e.Route.Connector, "signal": e.Route.Signal.String(), "level": int64(e.Level), "exporter": e.Exporter,
		"from": c.From.String(), "to": c.To.String(), "reason": c.Reason.String(), "strikes": int64(c.Evidence.Strikes),
		"failed": int64(c.Evidence.Failed), "delivered": int64(c.Evidence.Delivered), "generation": c.Generation,
	} {
		if fields[key] != want {
			o.t.Errorf("%q: field %s is %v, want %v", written[0].Message, key, fields[key], want)
		}
	}
	if text, ok := fields["error"].(string); !ok || strings.Contains(text, "\n") {
		o.t.Errorf("%q: field error is %q, want escaped text", written[0].Message, text)
	}
	if c.Kind != breaker.Moved {
		return
	}
	o.seen[tr] = true
	if after := count(); after != before+1 {
		o.t.Errorf("the counter of %+v went from %d to %d", tr, before, after)
	}
	if c.To == breaker.Down && (fields["next_probe"] == nil || c.From.Carries() && written[0].Level < zap.WarnLevel) {
		o.t.Errorf("%q at %s with %v: a trip is a warning that names the next probe", written[0].Message, written[0].Level, fields)
	}
}

func (o *outage) published(e *failover.Effect) {
	o.lines.TakeAll()
	o.scribe.published(o.now, e)
	r := o.scribe.routes[e.Route]
	if got := r.active.Value(); got != int64(e.View.Active) {
		o.t.Errorf("active level is shown as %v, is %d", got, e.View.Active)
	}
	if got := r.allDown.Value(); (got == 1) != e.View.AllDown {
		o.t.Errorf("all_down is shown as %v, is %v", got, e.View.AllDown)
	}
	if e.Before == nil || e.Before.Active == e.View.Active {
		return
	}
	said := o.lines.TakeAll()
	if len(said) == 0 || said[0].Message != "Failover: active level changed" ||
		said[0].ContextMap()["from"] != int64(e.Before.Active) || said[0].ContextMap()["to"] != int64(e.View.Active) {
		o.t.Errorf("level %d → %d: lines %v", e.Before.Active, e.View.Active, said)
	}
}

// checkStatus compares what the status says with the gauges, and looks for its reasons.
func (o *outage) checkStatus() {
	for _, r := range o.sw.Status(o.now) {
		for i, l := range r.Levels {
			for _, m := range l.Members {
				x := o.scribe.seats[seat{r.RouteID, i, m.Exporter}]
				for st, g := range x.states {
					if (g.Value() == 1) != (failover.LevelState(m.State) == failover.LevelState(st)) {
						o.t.Errorf("%s level %d %s is %s, and its gauge for %s is %d", r.Connector, i, m.Exporter, m.State,
							failover.LevelState(st), g.Value())
					}
				}
				if m.State.Carries() != (m.ReturnsWhen == "") {
					o.t.Errorf("%s is %s and returns when %q", m.Exporter, m.State, m.ReturnsWhen)
				}
				e := &m.Evidence
				if !m.State.Carries() && (m.Reason == breaker.NoReason || m.Reason != breaker.Throttled &&
					m.Reason != breaker.ByOperator && e.Error == "" && e.Strikes+e.Failed+e.Slow == 0) {
					o.t.Errorf("%s is %s for %s with the evidence %+v", m.Exporter, m.State, m.Reason, *e)
				}
			}
		}
	}
}

// values are all counters and gauges, by name and labels.
func (o *outage) values() map[string]float64 {
	out := map[string]float64{}
	for _, s := range o.tel.Metrics.Snapshot() {
		name := s.Name
		for pair := range slices.Chunk(s.Labels, 2) {
			name += " " + pair[0] + "=" + pair[1]
		}
		out[name] = s.Value
	}
	return out
}

func (o *outage) series() []string {
	var out []string
	for name := range o.values() {
		if !strings.HasPrefix(name, "otelcol_exporter_") { // these are the exporters' own, made with them
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Alerts on failed exports last as long as an outage: a level that is sent nothing fails its probes.
func TestAFailedRecoveryProbeCountsAsAFailedExport(t *testing.T) {
	o := newOutage(t, 1)
	id := o.views[o.plan.Routes[0].RouteID].Levels[0].Members[0].Breaker
	failed := FailedItems(o.tel.Metrics, "otlp/a", otlp.Traces)
	for _, tc := range []struct {
		name    string
		purpose breaker.Purpose
		kind    exporter.Kind
		adds    int64
	}{
		{"a failed recovery probe", breaker.ByRecovery, exporter.Retry, 1},
		{"one with wrong credentials", breaker.ByRecovery, exporter.Misconfigured, 1},
		{"a good one", breaker.ByRecovery, exporter.Delivered, 0},
		{"one that was asked to wait", breaker.ByRecovery, exporter.RetryAfter, 0},
		{"one without a verdict", breaker.ByRecovery, 0, 0},
		{"an evidence probe", breaker.ByEvidence, exporter.Retry, 0},
	} {
		before := failed.Value()
		order := failover.ProbeOrder{Exporter: "otlp/a", Signal: otlp.Traces, Probe: breaker.Probe{Purpose: tc.purpose}}
		o.scribe.probed(id, &order, &exporter.Verdict{Kind: tc.kind})
		if got := failed.Value() - before; got != tc.adds {
			t.Errorf("%s adds %d, want %d", tc.name, got, tc.adds)
		}
	}
}

func TestHeldDataIsRecalledEveryMinute(t *testing.T) {
	o := newOutage(t, 1)
	id := o.plan.Routes[0].RouteID
	said := func() int { return o.lines.FilterMessage(failover.LineAllDown).Len() }
	look := func(v failover.View) {
		o.scribe.remind(o.now, id, &v, func() queue.Fill {
			return queue.Fill{Items: 8112, Size: 20, Capacity: 1000, Oldest: 4 * time.Second}
		})
		o.now = o.now.Add(time.Second)
	}
	for range 200 {
		look(failover.View{AllDown: true, Active: -1})
	}
	if n := said(); n != 3 {
		t.Errorf("%d lines in 200 s, want 3", n)
	}
	fields := o.lines.FilterMessage(failover.LineAllDown).All()[0].ContextMap()
	for key, want := range map[string]string{"items": "8112", "oldest": "4s", "share": "0.02", "connector": "failover"} {
		if got := fmt.Sprint(fields[key]); got != want {
			t.Errorf("field %s is %s, want %s", key, got, want)
		}
	}
	for range 100 { // a file takes it, or a level is back: nothing is held
		look(failover.View{AllDown: true, Active: 2})
		look(failover.View{Active: 0})
	}
	if n := said(); n != 3 {
		t.Errorf("%d lines after the end, want 3", n)
	}
}

func TestTimesOfLevelsAddUp(t *testing.T) {
	m := telemetry.NewRegistry()
	w := newStopwatch(m, "x_seconds_total", "", []string{"level", strconv.Itoa(0)})
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for _, s := range []struct {
		after time.Duration
		on    bool
		want  float64
	}{
		{0, false, 0}, {time.Second, true, 0}, {2 * time.Second, true, 2}, {time.Second, false, 3}, {time.Hour, false, 3},
		{time.Second, true, 3}, {time.Second, true, 4},
	} {
		at = at.Add(s.after)
		w.run(at, s.on)
		if got := w.seconds(at); got != s.want {
			t.Errorf("after %s it shows %v, want %v", s.after, got, s.want)
		}
	}
}
