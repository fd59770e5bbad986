// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func level(timeout time.Duration, own string, exporters ...string) failover.PlannedLevel {
	l := failover.PlannedLevel{Timeout: timeout, Retry: exporter.DefaultRetry(), Emergency: own == "write"}
	for _, id := range exporters {
		l.Members = append(l.Members, failover.PlannedMember{Exporter: id, Config: "1", OwnProbe: own})
	}
	return l
}

func TestRoutesWithEqualSettingsShareABreaker(t *testing.T) {
	h := newHouse(t)
	levels := []failover.PlannedLevel{level(time.Second, "empty", "otlp/a"), level(time.Second, "empty", "otlp/b")}
	one := h.add(failover.RouteID{Connector: "failover/1", Signal: otlp.Traces}, config(nil), levels)
	two := h.add(failover.RouteID{Connector: "failover/2", Signal: otlp.Traces}, config(nil), levels)
	logs := h.add(failover.RouteID{Connector: "failover/2", Signal: otlp.Logs}, config(nil), levels)
	other := h.add(failover.RouteID{Connector: "failover/3", Signal: otlp.Traces},
		config(func(c *failover.Config) { c.Detector.Consecutive = 5 }), levels)
	h.open()
	id := func(w *wing) failover.BreakerID { return w.view.Levels[0].Members[0].Breaker }
	if id(one) != id(two) || id(one) == id(logs) || id(one) == id(other) {
		t.Errorf("breakers %d %d, logs %d, other settings %d", id(one), id(two), id(logs), id(other))
	}
	h.set("otlp/a", refused)
	h.send(one)
	h.at(time.Second)
	if one.view.Active != 1 || two.view.Active != 1 {
		t.Errorf("active levels %d and %d after a trip in one of two", one.view.Active, two.view.Active)
	}
}

// A breaker in several routes keeps the gap of each.
func TestSharedBreakerKeepsTheGapOfEveryRoute(t *testing.T) {
	h := newHouse(t)
	a := level(time.Second, "empty", "otlp/a")
	quick := config(func(c *failover.Config) { c.RetryGap = time.Second })
	h.add(failover.RouteID{Connector: "failover/1", Signal: otlp.Traces}, quick, []failover.PlannedLevel{a, level(time.Second, "empty", "otlp/b")})
	w := h.add(failover.RouteID{Connector: "failover/2", Signal: otlp.Traces}, config(nil), []failover.PlannedLevel{a, level(time.Second, "empty", "otlp/c")})
	h.open()
	at := h.watchProbes("otlp/a")
	h.set("otlp/a", refused)
	h.send(w)
	h.at(10 * time.Second)
	h.set("otlp/a", takes)
	h.at(50 * time.Second)
	if want := []time.Duration{30 * time.Second, 40 * time.Second}; !slices.Equal(*at, want) {
		t.Errorf("probed at %v, want %v", *at, want)
	}
}

// Members that only wait for a batch do not keep another one from coming back.
func TestWaitingForBatchesStarvesNobody(t *testing.T) {
	h := newHouse(t)
	w := h.add(traces, config(func(c *failover.Config) { c.MaxRetries = 0 }), []failover.PlannedLevel{
		level(time.Second, "empty", "otlp/a"), level(time.Second, "empty", "otlp/b1", "otlp/b2", "otlp/b3", "otlp/b4"),
		level(time.Second, "empty", "otlp/c"),
	})
	h.open()
	for id := range h.endpoints {
		h.set(id, refused)
	}
	h.send(w)
	h.at(10 * time.Second)
	h.set("otlp/a", takes)
	h.at(20 * time.Second)
	for _, id := range []string{"otlp/b1", "otlp/b2", "otlp/b3", "otlp/b4"} {
		h.set(id, takes)
	}
	h.at(5 * time.Minute)
	at := h.watchProbes("otlp/c")
	h.at(35 * time.Minute)
	if len(*at) < 15 {
		t.Errorf("the last level was probed %d times in half an hour", len(*at))
	}
}

func TestReturnMakesASiblingLook(t *testing.T) {
	h := newHouse(t)
	levels := []failover.PlannedLevel{level(time.Second, "empty", "otlp/a"), level(time.Second, "empty", "otlp/b")}
	cfg := config(func(c *failover.Config) { c.MaxRetries = 1 })
	one := h.add(failover.RouteID{Connector: "failover", Signal: otlp.Traces}, cfg, levels)
	two := h.add(failover.RouteID{Connector: "failover", Signal: otlp.Logs}, cfg, levels)
	h.open()
	h.set("otlp/a", refused)
	h.send(one)
	h.at(20 * time.Second)
	h.set("otlp/a", takes)
	h.endpoints["otlp/a"].only = map[otlp.Signal]reply{otlp.Logs: refused}
	h.at(31 * time.Second) // its probe at 30 s failed: the next one is due at 330 s
	h.set("otlp/a", takes)
	h.load(one, time.Second, 60)
	h.load(two, time.Second, 100)
	h.at(80 * time.Second)
	if one.view.Active != 0 || two.view.Active != 0 {
		t.Errorf("active levels %d and %d", one.view.Active, two.view.Active)
	}
}

func TestTokenIsHiddenWhileAnotherMemberIsThrottled(t *testing.T) {
	h := newHouse(t)
	w := h.add(traces, config(nil), []failover.PlannedLevel{
		level(time.Second, "empty", "otlp/a", "otlp/b"), level(time.Second, "empty", "otlp/c"),
	})
	h.open()
	h.set("otlp/b", refused)
	h.send(w)
	h.at(10 * time.Second)
	h.set("otlp/b", takes)
	h.at(45 * time.Second)
	a := &w.view.Levels[0].Members[0]
	h.tell(failover.Event{Kind: failover.EventAttempted, Breaker: a.Breaker, Outcome: breaker.Outcome{
		Class: breaker.RetryAfter, After: 20 * time.Second, Generation: a.Generation,
	}})
	h.at(60 * time.Second)
	if proof, _ := w.view.Levels[0].Wanted(); proof {
		t.Error("a canary is asked for, which would call a throttled member")
	}
	h.at(65 * time.Second)
	if _, canary := w.view.Levels[0].Wanted(); !canary {
		t.Error("no canary is asked for after the silence")
	}
}

func TestThrottledIsNotDown(t *testing.T) {
	h, w := ladder(t, 2, nil)
	h.open()
	h.load(w, 100*time.Millisecond, 10_000)
	h.at(time.Second)
	h.set("otlp/1", refused)
	h.set("otlp/0", reply{class: breaker.RetryAfter, after: 2 * time.Minute})
	h.at(20 * time.Second)
	if l := w.view.Levels; l[0].State != failover.Down || l[1].State != failover.Down || w.view.AllDown {
		t.Fatalf("%s, %s, all down %v", l[0].State, l[1].State, w.view.AllDown)
	}
	h.set("otlp/0", reply{class: breaker.RetryAfter, after: 40 * time.Second})
	h.at(140 * time.Second) // the first probe asks for more silence
	if l := w.view.Levels; l[0].State != failover.Probing || w.view.AllDown {
		t.Errorf("%s, all down %v", l[0].State, w.view.AllDown)
	}
	h.set("otlp/0", refused)
	h.at(190 * time.Second)
	if !w.view.AllDown {
		t.Error("not all down though both levels are")
	}
}

func TestActiveLevel(t *testing.T) {
	down := func(h *house, w *wing, exporters ...string) {
		for _, id := range exporters {
			h.set(id, refused)
		}
		h.load(w, 100*time.Millisecond, 100)
		h.at(h.now.Sub(h.start) + 20*time.Second)
	}
	levels := []failover.PlannedLevel{
		level(time.Second, "empty", "otlp/a"), level(time.Second, "empty", "otlp/b"), level(time.Second, "write", "file/c"),
	}
	for _, when := range []string{"all_down", "queue_high"} {
		h := newHouse(t)
		w := h.add(traces, config(func(c *failover.Config) { c.Emergency.When = when }), levels)
		h.open()
		if w.view.Active != 0 || w.view.Number != 1 {
			t.Errorf("at first %+v", w.view)
		}
		down(h, w, "otlp/a")
		if w.view.Active != 1 || w.view.AllDown {
			t.Errorf("without a: %d, all down %v", w.view.Active, w.view.AllDown)
		}
		down(h, w, "otlp/b")
		want := 2
		if when == "queue_high" { // whether the queue is full the Switch does not know
			want = -1
		}
		if w.view.Active != want || !w.view.AllDown || !w.view.Levels[2].Eligible {
			t.Errorf("%s: without a and b: %d, all down %v", when, w.view.Active, w.view.AllDown)
		}
	}
	for _, stay := range []bool{false, true} {
		h := newHouse(t)
		w := h.add(traces, config(func(c *failover.Config) {
			if stay {
				c.OnFailure = "stay"
			}
		}), levels)
		h.open()
		h.send(w)
		h.at(10 * time.Second)
		h.set("otlp/a", reply{class: breaker.Ambiguous, text: "timeout"})
		h.endpoints["otlp/a"].probe = reply{hang: true}
		h.send(w)
		h.at(11 * time.Second)
		if silent := w.view.Levels[0].Silent; !silent || w.view.Active == 0 != stay {
			t.Errorf("stay %v: silent %v, active level %d", stay, silent, w.view.Active)
		}
	}
}

func TestSilentExporterWithoutProbesAsksForABatchASecond(t *testing.T) {
	h := newHouse(t)
	w := h.add(traces, config(nil), []failover.PlannedLevel{level(time.Second, "live", "hosted/a"), level(time.Second, "empty", "otlp/b")})
	h.open()
	h.send(w)
	h.at(10 * time.Second)
	h.set("hosted/a", reply{hang: true})
	sends := 0
	h.attempted = func(_ *wing, level int, m *failover.MemberView, canary, over bool) {
		if level == 0 && !over {
			sends++
			if canary || h.now.Sub(h.start) > 11*time.Second && m.Token == nil {
				t.Errorf("%s: canary %v, token %v", h.now.Sub(h.start), canary, m.Token)
			}
		}
	}
	h.load(w, 100*time.Millisecond, 200)
	h.at(13900 * time.Millisecond)
	if w.view.Levels[0].State != failover.Down || sends < 11 || sends > 13 {
		t.Errorf("%s after %d batches", w.view.Levels[0].State, sends)
	}
}

func TestReloadKeepsBreakersAndTheirNames(t *testing.T) {
	h := newHouse(t)
	a, b, c := level(time.Second, "empty", "otlp/a"), level(time.Second, "empty", "otlp/b"), level(time.Second, "empty", "otlp/c")
	one := h.add(failover.RouteID{Connector: "failover/1", Signal: otlp.Traces}, config(nil), []failover.PlannedLevel{a, b})
	two := h.add(failover.RouteID{Connector: "failover/2", Signal: otlp.Traces}, config(nil), []failover.PlannedLevel{a, c})
	h.open()
	h.set("otlp/a", refused)
	h.send(one)
	h.at(31 * time.Second)
	before := one.view.Levels[0].Members[0]
	// The second connector's settings change: it goes on with what was known when the two shared a breaker.
	plan := h.plan
	plan.Routes = []failover.SwitchRoute{h.plan.Routes[0], config(func(c *failover.Config) {
		c.RetryInterval = 7 * time.Second
	}).Plan(two.id, []failover.PlannedLevel{a, c})}
	h.tell(failover.Event{Kind: failover.EventReconfigure, Plan: &plan})
	if after := one.view.Levels[0].Members[0]; after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	if m := two.view.Levels[0].Members[0]; m.Breaker == before.Breaker || two.view.Levels[0].State == failover.Healthy {
		t.Errorf("the copy is %s: %+v", two.view.Levels[0].State, m)
	}
	// Then nobody knows the exporter's configuration any more.
	plan.Routes = plan.Routes[:1]
	a.Members[0].Config = "2"
	plan.Routes[0] = config(nil).Plan(one.id, []failover.PlannedLevel{a, b})
	h.tell(failover.Event{Kind: failover.EventReconfigure, Plan: &plan})
	if m := one.view.Levels[0].Members[0]; m.Breaker == before.Breaker || one.view.Active != 0 {
		t.Errorf("another endpoint: %+v, active level %d", m, one.view.Active)
	}
	// What was on its way under the old name changes nothing.
	n := one.view.Number
	h.tell(failover.Event{Kind: failover.EventAttempted, Breaker: before.Breaker, Outcome: breaker.Outcome{
		Class: breaker.Retry, Counted: true, Generation: before.Generation,
	}})
	if one.view.Number != n {
		t.Error("an outcome of a breaker that is gone changed a view")
	}
}

func TestOperatorIsAnsweredOrRefused(t *testing.T) {
	h, w := ladder(t, 2, nil)
	h.open()
	at := 0
	h.seen = func(e *failover.Effect) {
		if e.Kind == failover.EffectStartProbe {
			at++
		}
	}
	h.tell(failover.Event{Kind: failover.EventProbeNow, Route: traces, Level: -1})
	if at != 2 || h.refused != "" {
		t.Errorf("%d probes of two healthy levels, refused %q", at, h.refused)
	}
	for _, ev := range []failover.Event{
		{Kind: failover.EventProbeNow, Route: traces, Level: 2}, {Kind: failover.EventProbeNow, Route: failover.RouteID{Connector: "x"}},
		{Kind: failover.EventHold, Route: traces}, {Kind: failover.EventRelease, Route: traces},
	} {
		h.refused = ""
		if h.tell(ev); h.refused == "" {
			t.Errorf("event %d was not refused", ev.Kind)
		}
	}
	if w.view.Number != 1 {
		t.Errorf("view %d", w.view.Number)
	}
}

func TestStatusSaysWhatHasToCome(t *testing.T) {
	h, w := ladder(t, 2, nil)
	h.open()
	h.load(w, 100*time.Millisecond, 170)
	h.at(5 * time.Second)
	h.set("otlp/0", refused)
	h.at(20 * time.Second)
	when := func() string {
		t.Helper()
		st := h.sw.Status(h.now)
		if len(st) != 1 || st[0].Active != 1 || st[0].Levels[1].State != failover.Healthy {
			t.Fatalf("%+v", st)
		}
		return st[0].Levels[0].Members[0].ReturnsWhen
	}
	if got := when(); got != "2 good probes 10s apart, then a live batch" {
		t.Error(got)
	}
	m := h.sw.Status(h.now)[0].Levels[0].Members[0]
	if m.State != breaker.Down || m.Reason != breaker.Consecutive || m.NextProbe != 17100*time.Millisecond || m.HoldDown != m.NextProbe ||
		m.Evidence.Error != "connection refused" || m.Evidence.Strikes != 3 {
		t.Errorf("%+v", m)
	}
	h.set("otlp/0", takes)
	h.at(38 * time.Second)
	if got := when(); got != "a good probe, then a live batch" {
		t.Error(got)
	}
	h.at(60 * time.Second)
	if got := when(); got != "a live batch" {
		t.Error(got)
	}
}

func TestTimeThatFallsIsHeldStill(t *testing.T) {
	h, w := ladder(t, 2, nil)
	h.open()
	h.send(w)
	h.at(time.Hour)
	m := w.view.Levels[0].Members[0]
	fail := failover.Event{Kind: failover.EventAttempted, Breaker: m.Breaker, Outcome: breaker.Outcome{
		Class: breaker.Retry, Counted: true, Generation: m.Generation,
	}}
	h.tell(fail)
	for range 3 {
		h.now = h.now.Add(-10 * time.Minute)
		h.tell(fail) // no second passes between them
	}
	if w.view.Levels[0].State != failover.Suspect {
		t.Error(w.view.Levels[0].State)
	}
}

// Whoever claims a level's tokens has all of them or none, whatever happens beside.
func TestTokensAreClaimedAllOrNone(t *testing.T) {
	for range 200 {
		a, b := new(failover.Token), new(failover.Token)
		both := failover.LevelView{Members: []failover.MemberView{{Token: a}, {}, {Token: b}}}
		turned := failover.LevelView{Members: []failover.MemberView{{Token: b}, {Token: a}}}
		alone := failover.LevelView{Members: []failover.MemberView{{Token: b}}}
		var got [3]atomic.Int32
		var workers sync.WaitGroup
		for range 4 {
			for i, l := range []*failover.LevelView{&both, &turned, &alone} {
				workers.Go(func() {
					if l.Claim() {
						got[i].Add(1)
					}
				})
			}
		}
		workers.Wait()
		n := got[0].Load() + got[1].Load()
		if n+got[2].Load() > 1 {
			t.Fatalf("claimed %d and %d times", n, got[2].Load())
		}
		if n == 1 && (a.Claim() || b.Claim()) {
			t.Fatal("a token of a claimed level was free")
		}
		if n == 0 && !a.Claim() {
			t.Fatal("a token that nobody got is not free")
		}
	}
}

// A batch that claims the canary while the Switch wants another one is still the only one on its way.
func TestClaimBesideTheSwitchIsNoticed(t *testing.T) {
	h, w := ladder(t, 2, nil)
	h.open()
	h.set("otlp/0", refused)
	h.send(w)
	h.at(10 * time.Second)
	h.set("otlp/0", takes)
	h.at(51 * time.Second)
	l := w.view.Levels[0]
	if !l.Claim() || l.Claim() {
		t.Fatal("not claimed, or claimed twice")
	}
	h.at(5*time.Second + 50*time.Second)
	// The refresh that was due finds it taken; no other one is shown, and no probe is sent.
	at := h.watchProbes("otlp/0")
	h.at(84 * time.Second)
	if proof, _ := w.view.Levels[0].Wanted(); proof || len(*at) > 0 {
		t.Errorf("another canary is wanted: %v, probes %v", proof, *at)
	}
	h.tell(failover.Event{Kind: failover.EventCanaryLost, Breaker: l.Members[0].Breaker, Outcome: breaker.Outcome{
		Generation: l.Members[0].Generation,
	}})
	if _, canary := w.view.Levels[0].Wanted(); !canary || w.view.Levels[0].Members[0].Token == l.Members[0].Token {
		t.Error("no other canary is wanted after the first was lost")
	}
}

// Views and tokens are read and claimed while the Switch goes on.
func TestViewsAreReadBesideTheSwitch(t *testing.T) {
	h, w := ladder(t, 2, func(c *failover.Config) { c.RetryInterval, c.RetryGap = 100*time.Millisecond, 0 })
	h.open()
	var claims atomic.Int64
	var readers sync.WaitGroup
	views := make([]chan *failover.View, 4)
	for i := range views {
		views[i] = make(chan *failover.View, 1)
		readers.Go(func() {
			for v := range views[i] { // while the Switch goes on
				for i := range v.Levels {
					if proof, _ := v.Levels[i].Wanted(); proof && v.Levels[i].Claim() {
						claims.Add(1)
					}
				}
			}
		})
	}
	h.endpoints["otlp/0"].live = refused
	for i := 0; i < 2000 || claims.Load() < 20 && i < 100_000; i++ {
		m := w.view.Levels[0].Members[0]
		kind := failover.EventAttempted
		if w.view.Levels[0].State == failover.Probing {
			kind = failover.EventCanaryDone
		}
		h.now = h.now.Add(20 * time.Millisecond)
		h.tell(failover.Event{Kind: kind, Breaker: m.Breaker, Outcome: breaker.Outcome{
			Class: []breaker.Class{breaker.Retry, breaker.Local}[i%2], Counted: true, Generation: m.Generation,
		}})
		for len(h.todo) > 0 && !h.todo[0].at.After(h.now) {
			h.at(h.now.Sub(h.start))
		}
		for _, c := range views {
			c <- w.view
		}
	}
	for _, c := range views {
		close(c)
	}
	readers.Wait()
	if claims.Load() < 20 {
		t.Error("nothing was ever claimed: this proves nothing")
	}
}

func TestVerdictsBecomeOutcomes(t *testing.T) {
	some := config(func(c *failover.Config) {
		c.Condition.Error.Contains, c.Condition.Error.Permanent = []any{"Refused", "quota"}, true
	}).Conditions()
	all := config(nil).Conditions()
	long := errors.New(strings.Repeat("é", 1000))
	for _, c := range []struct {
		name    string
		v       exporter.Verdict
		class   breaker.Class
		counted bool // without conditions
		matches bool // with them
	}{
		{"delivered", exporter.Deliver(), breaker.Delivered, false, false},
		{"retry", exporter.Verdict{Kind: exporter.Retry, Err: errors.New("connection REFUSED")}, breaker.Retry, true, true},
		{"another text", exporter.Verdict{Kind: exporter.Retry, Err: errors.New("reset")}, breaker.Retry, true, false},
		{"ambiguous", exporter.Verdict{Kind: exporter.Ambiguous, Err: long}, breaker.Ambiguous, true, false},
		{"misconfigured", exporter.Verdict{Kind: exporter.Misconfigured, Err: errors.New("no quota")}, breaker.Misconfigured, true, true},
		{"rejected", exporter.Verdict{Kind: exporter.Rejected, Err: errors.New("quota")}, breaker.Rejected, false, true},
		{"retry after", exporter.Verdict{Kind: exporter.RetryAfter, After: time.Second, Err: errors.New("quota")}, breaker.RetryAfter, false, false},
		{"none", exporter.Verdict{}, breaker.Local, false, false},
		{"unknown", exporter.Verdict{Kind: 77}, breaker.Local, false, false},
	} {
		o := all.Outcome(&c.v)
		if o.Class != c.class || o.Counted != c.counted || o.After != c.v.After || len(o.Text) > 1024 {
			t.Errorf("%s: %+v", c.name, o)
		}
		if got := some.Outcome(&c.v).Counted; got != c.matches {
			t.Errorf("%s: counted %v under the conditions", c.name, got)
		}
	}
}

// The figures of both seeds (failover, section 4.2).
func TestPlanOfTheSeeds(t *testing.T) {
	levels := []failover.PlannedLevel{level(10*time.Second, "empty", "otlp/primary"), level(30*time.Second, "empty", "otlp/secondary"),
		level(0, "write", "file/emergency")}
	a := config(func(c *failover.Config) {
		c.RetryInterval, c.RetryGap, c.MaxRetries = 15*time.Second, 30*time.Second, 5
	}).Plan(traces, levels)
	p := a.Levels[0].Members[0].Settings
	if a.Gap != 7500*time.Millisecond || p.RetryInterval != 15*time.Second || p.RareInterval != 150*time.Second || p.MaxRetries != 5 ||
		p.HoldDown != 15*time.Second || p.SendTimeout != 10*time.Second || p.Alone || p.Emergency || p.External || p.Successes != 3 {
		t.Errorf("A: gap %s, %+v", a.Gap, p)
	}
	if e := a.Levels[2]; !e.Emergency || !e.Members[0].Settings.Emergency || e.Members[0].Probe.Kind != "write" {
		t.Errorf("A's file: %+v", e)
	}
	b := config(func(c *failover.Config) {
		c.MaxRetries = 0
		c.Probe.Kind, c.Probe.URL, c.Probe.Trips = "http", "https://primary-backend.example.com/health", true
	}).Plan(traces, levels[:2])
	first, second := b.Levels[0].Members[0], b.Levels[1].Members[0]
	if s := first.Settings; !s.External || s.Every != 30*time.Second || !s.Trips || s.RareInterval != 30*time.Second || s.HoldDown != 30*time.Second {
		t.Errorf("B: %+v", s)
	}
	if s := second.Settings; s.External || s.Every != 0 || second.Probe.Kind != "empty" { // the URL is level 0's
		t.Errorf("B's second level: %+v", s)
	}
	alone := config(nil).Plan(failover.RouteID{Connector: "otlp/only"}, levels[:1])
	if !alone.Levels[0].Members[0].Settings.Alone || !config(nil).Plan(traces, slices.Concat(levels[:1], levels[2:])).Levels[0].Members[0].Settings.Alone {
		t.Error("a lone ordinary level does not know that it is")
	}
}

// A level of many members does not keep the next one from being asked.
func TestWideLevelStarvesNobody(t *testing.T) {
	h := newHouse(t)
	w := h.add(traces, config(func(c *failover.Config) { c.MaxRetries = 0 }), []failover.PlannedLevel{
		level(time.Second, "empty", "otlp/1", "otlp/2", "otlp/3", "otlp/4", "otlp/5", "otlp/6"),
		level(time.Second, "empty", "otlp/b"), level(time.Second, "empty", "otlp/c"),
	})
	h.open()
	for id := range h.endpoints {
		if id != "otlp/c" {
			h.set(id, refused)
		}
	}
	h.load(w, time.Second, 10_000)
	h.at(time.Minute)
	if w.view.Active != 2 {
		t.Fatalf("active level %d", w.view.Active)
	}
	at := h.watchProbes("otlp/b")
	h.at(31 * time.Minute)
	if len(*at) < 20 { // seven members share a probe every ten seconds
		t.Errorf("the next level was probed %d times in half an hour", len(*at))
	}
}
