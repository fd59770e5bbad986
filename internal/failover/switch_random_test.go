// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// FuzzSwitch lives through random outages, loads, reloads and wishes of operators. Whatever happens: a breaker is in
// one state at a time and moves along the transitions there are; its generation rises with each trip and return and at
// no other time; recovery keeps the gap; a throttled endpoint is left alone; nothing returns but by a canary; there is
// always a next look at what is not healthy; and once all is well, all levels are back and everything is delivered.
func FuzzSwitch(f *testing.F) {
	for seed := range sample(3, 24) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		c := newChaos(t, seed)
		c.live(20 * time.Minute)
		c.heal()
	})
}

type chaos struct {
	*house
	r       *rand.Rand
	cfgs    []*failover.Config
	watched map[failover.BreakerID]*watched
	probed  map[failover.RouteID]time.Time
	views   map[failover.RouteID]*failover.View
}

// watched is what is known of a breaker from outside.
type watched struct {
	state      breaker.State
	generation uint64
	silence    time.Time
	canaries   int // on their way, of this generation: an operator's hold makes what is under way count no more
	emergency  bool
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{
		house: newHouse(t), r: rand.New(rand.NewPCG(seed, 1)), watched: map[failover.BreakerID]*watched{},
		probed: map[failover.RouteID]time.Time{}, views: map[failover.RouteID]*failover.View{},
	}
	c.stepped, c.attempted = c.check, c.attempt1
	c.plan.Jitter = func() float64 { return 2*c.r.Float64() - 1 }
	for range 1 + c.r.IntN(3) {
		c.cfgs = append(c.cfgs, c.config())
	}
	c.routes()
	c.open()
	return c
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (c *chaos) config() *failover.Config {
	r, cfg := c.r, failover.Default().(*failover.Config)
	cfg.RetryInterval = pick(r, 5*time.Second, 15*time.Second, 30*time.Second)
	cfg.RetryGap = pick(r, 0, 2*time.Second, 10*time.Second)
	cfg.MaxRetries = pick(r, 0, 3, 10)
	cfg.FailoverDelay = pick(r, 0, 0, 0, 10*time.Second)
	cfg.Return.HoldDown = pick(r, 0, 5*time.Second, time.Minute)
	cfg.Return.HoldDownMax = pick(r, time.Minute, 5*time.Minute)
	cfg.Return.FlapWindow = pick(r, time.Minute, 5*time.Minute)
	cfg.Return.Ramp = pick(r, 0, 30*time.Second, 5*time.Minute)
	cfg.Return.RampStart = pick(r, 0, 0.1, 0.25, 1)
	cfg.Detector.SlowAfter = pick[any](r, nil, "auto", "250ms")
	cfg.Return.Mode = pick(r, "auto", "auto", "auto", "manual")
	cfg.ShareHealth = r.IntN(4) > 0
	cfg.Detector.Consecutive = pick(r, 1, 3, 5)
	cfg.Detector.Startup = pick(r, 1, 1, 3)
	successes := pick(r, 1, 2, 3, 5)
	cfg.Probe.Successes = &successes
	cfg.Probe.Trips = r.IntN(3) == 0
	if r.IntN(3) == 0 {
		cfg.Probe.Kind, cfg.Probe.URL = "http", "http://localhost/health"
	}
	return cfg
}

// routes makes the wings: every configuration for one or two signals, with exporters that some of them share.
func (c *chaos) routes() {
	for i, cfg := range c.cfgs {
		shared := c.r.IntN(2) == 0
		var levels []failover.PlannedLevel
		for j := range 1 + c.r.IntN(3) {
			l := failover.PlannedLevel{Timeout: pick(c.r, time.Second, 5*time.Second, 20*time.Second), Retry: exporter.DefaultRetry()}
			for k := range 1 + c.r.IntN(2) {
				name := fmt.Sprintf("otlp/%d-%d", j, k)
				if !shared {
					name = fmt.Sprintf("otlp/%d-%d-%d", i, j, k)
				}
				l.Members = append(l.Members, failover.PlannedMember{Exporter: name, OwnProbe: pick(c.r, "empty", "empty", "live")})
			}
			levels = append(levels, l)
		}
		if len(levels) > 1 && c.r.IntN(3) == 0 {
			levels = append(levels, failover.PlannedLevel{Emergency: true, Timeout: time.Second, Retry: exporter.DefaultRetry(),
				Members: []failover.PlannedMember{{Exporter: fmt.Sprintf("file/%d", i), OwnProbe: "write"}}})
		}
		for _, s := range []otlp.Signal{otlp.Traces, otlp.Logs}[:1+c.r.IntN(2)] {
			c.add(failover.RouteID{Connector: fmt.Sprintf("failover/%d", i), Signal: s}, cfg, levels)
		}
	}
}

// live lets things happen for so long.
func (c *chaos) live(d time.Duration) {
	end := c.now.Add(d)
	var names []string
	for _, w := range c.wings {
		w.limit = 20
		c.load(w, pick(c.r, 200*time.Millisecond, time.Second, 7*time.Second), 1_000_000)
		for _, l := range w.view.Levels {
			for _, m := range l.Members {
				names = append(names, m.Exporter)
			}
		}
	}
	for c.now.Before(end) {
		c.at(c.now.Sub(c.start) + time.Duration(c.r.Int64N(int64(20*time.Second))))
		switch w := pick(c.r, c.wings...); c.r.IntN(12) {
		case 10:
			c.tell(failover.Event{Kind: failover.EventHold, Route: w.id, Level: c.r.IntN(4),
				For: time.Duration(c.r.Int64N(int64(10 * time.Minute))), Force: c.r.IntN(2) == 0})
		case 11:
			c.tell(failover.Event{Kind: failover.EventRelease, Route: w.id, Level: c.r.IntN(4) - 1})
		case 0:
			c.tell(failover.Event{Kind: failover.EventProbeNow, Route: w.id, Level: c.r.IntN(4) - 1})
		case 1:
			c.reload()
		case 2:
			for _, name := range slices.Sorted(maps.Keys(c.endpoints)) { // all at once
				c.endpoints[name].live, c.endpoints[name].probe = pick(c.r, replies...), pick(c.r, replies...)
			}
		default:
			e := c.endpoints[pick(c.r, names...)]
			e.live = pick(c.r, replies...)
			e.probe = e.live
			if c.r.IntN(4) == 0 {
				e.probe = pick(c.r, replies...)
			}
			e.since, e.up, e.down = c.now, 0, 0
			if c.r.IntN(5) == 0 {
				e.up, e.down = time.Duration(c.r.Int64N(int64(time.Minute))+1), time.Duration(c.r.Int64N(int64(time.Minute)))
			}
			e.fails = max(c.r.IntN(20)-10, 0)
		}
	}
}

var replies = []reply{
	takes, takes, takes, {class: breaker.Delivered, took: 300 * time.Millisecond},
	{class: breaker.Delivered, took: 9 * time.Second}, {class: breaker.Retry, text: "refused"},
	{class: breaker.Retry, took: 2 * time.Second, text: "reset"}, {hang: true}, {lost: true},
	{class: breaker.Retry, vague: true, text: "500"}, {class: breaker.Misconfigured, text: "401"},
	{class: breaker.Rejected, text: "400"}, {class: breaker.Local, text: "stopped"},
	{class: breaker.RetryAfter}, {class: breaker.RetryAfter, after: 3 * time.Second},
	{class: breaker.RetryAfter, after: 40 * time.Second}, {class: breaker.RetryAfter, after: time.Hour},
}

// reload changes settings, of one configuration, or none.
func (c *chaos) reload() {
	i := c.r.IntN(len(c.cfgs))
	if c.r.IntN(2) == 0 {
		c.cfgs[i].RetryInterval = pick(c.r, 5*time.Second, 15*time.Second, 30*time.Second)
		c.cfgs[i].MaxRetries = pick(c.r, 0, 3, 10)
	}
	plan := c.plan
	plan.Routes = nil
	for _, old := range c.plan.Routes {
		var levels []failover.PlannedLevel
		for _, l := range old.Levels {
			p := failover.PlannedLevel{Emergency: l.Emergency, Retry: exporter.DefaultRetry()}
			for _, m := range l.Members {
				own := m.Probe.Kind
				if own == "http" {
					own = "empty"
				}
				p.Timeout = m.Settings.SendTimeout
				p.Members = append(p.Members, failover.PlannedMember{Exporter: m.Exporter, Config: m.Config, OwnProbe: own})
			}
			levels = append(levels, p)
		}
		var n int
		if _, err := fmt.Sscanf(old.Connector, "failover/%d", &n); err != nil {
			c.t.Fatal(err)
		}
		plan.Routes = append(plan.Routes, c.cfgs[n].Plan(old.RouteID, levels))
	}
	c.plan = plan
	c.tell(failover.Event{Kind: failover.EventReconfigure, Plan: &plan})
}

// heal makes everything well, and waits for as long as it may take.
func (c *chaos) heal() {
	for _, e := range c.endpoints {
		*e = endpoint{live: takes, probe: takes}
	}
	for range 75 { // throttled for an hour at most, and then the way back
		for _, w := range c.wings { // the manual ones
			c.tell(failover.Event{Kind: failover.EventRelease, Route: w.id, Level: -1})
		}
		if c.at(c.now.Sub(c.start) + time.Minute); c.unwell() == "" {
			break
		}
	}
	if left := c.unwell(); left != "" {
		c.t.Error(left)
	}
	for _, w := range c.wings {
		done := w.dead
		for _, n := range w.delivered {
			done += n
		}
		if rest := w.flying + w.late; done+rest != w.sent {
			c.t.Errorf("%s %s: %d batches sent, %d ended, %d on their way", w.id.Connector, w.id.Signal, w.sent, done, rest)
		}
	}
}

// unwell is what is not as it should be once all is well; empty = nothing.
func (c *chaos) unwell() string {
	for _, w := range c.wings {
		for i, l := range w.view.Levels {
			// A level below the active one may wait for a canary that nobody has to send.
			if _, canary := l.Wanted(); l.State != failover.Healthy && (i == 0 || !canary) {
				return fmt.Sprintf("%s %s level %d is %s though all is well", w.id.Connector, w.id.Signal, i, l.State)
			}
		}
		if w.view.Active != 0 || w.view.AllDown || len(w.held)+len(w.waiting) > 0 {
			return fmt.Sprintf("%s %s: active level %d, all down %v, %d held", w.id.Connector, w.id.Signal, w.view.Active,
				w.view.AllDown, len(w.held)+len(w.waiting))
		}
	}
	return ""
}

func (c *chaos) failf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s: %s", c.now.Sub(c.start), fmt.Sprintf(format, args...))
}

func (c *chaos) of(id failover.BreakerID) *watched {
	w := c.watched[id]
	if w == nil {
		w = &watched{generation: 1}
		c.watched[id] = w
	}
	return w
}

// check holds what the Switch says against what may be.
func (c *chaos) check(ev *failover.Event, effects []failover.Effect) {
	c.t.Helper()
	told := map[failover.BreakerID]int{} // how many changes came of this step, by the first route they are told of
	first := map[failover.BreakerID]failover.RouteID{}
	for i := range effects {
		switch e := &effects[i]; e.Kind {
		case failover.EffectPublish:
			if before := c.views[e.Route]; before != nil && e.View.Number != before.Number+1 {
				c.failf("view %d after %d", e.View.Number, before.Number)
			}
			c.views[e.Route] = e.View
		case failover.EffectChanged:
			if id, ok := first[e.Breaker]; ok && id != e.Route {
				continue
			}
			first[e.Breaker] = e.Route
			told[e.Breaker]++
			c.changed(ev, e)
		}
	}
	for i := range effects {
		if e := &effects[i]; e.Kind == failover.EffectStartProbe {
			c.probe(e)
		}
	}
	unwell := false
	for id, v := range c.views {
		for i := range v.Levels {
			l := &v.Levels[i]
			unwell = unwell || l.State != failover.Healthy
			state := failover.Healthy
			for _, m := range l.Members {
				w := c.of(m.Breaker)
				state = max(state, failover.LevelState(w.state))
				if m.Generation != w.generation {
					c.failf("%s: a view shows generation %d, it is %d", m.Exporter, m.Generation, w.generation)
				}
				c.token(id, l, &m, w)
			}
			if state != l.State || l.Eligible != (state <= failover.Ramping) {
				c.failf("level %d shows %s, eligible %v; its members are %s", i, l.State, l.Eligible, state)
			}
		}
	}
	wake := c.wake
	for i := range effects {
		if e := &effects[i]; e.Kind == failover.EffectWakeAt {
			wake = e.At
		}
	}
	if unwell && wake.IsZero() {
		c.failf("nobody will look again")
	}
}

// changed follows a breaker along its transitions.
func (c *chaos) changed(ev *failover.Event, e *failover.Effect) {
	w, ch := c.of(e.Breaker), &e.Change
	w.emergency = c.views[e.Route].Levels[e.Level].Emergency
	if ch.From != w.state {
		if ev.Kind == failover.EventReconfigure || w.generation == 1 && w.state == breaker.Healthy {
			w.state = ch.From // a copy of another one
		} else {
			c.failf("%s goes from %s, but it was %s", e.Exporter, ch.From, w.state)
		}
	}
	if !ch.Until.IsZero() && ch.Until.After(w.silence) {
		w.silence = ch.Until
	}
	if ch.Kind != breaker.Moved {
		if ch.To != ch.From || ch.Generation != w.generation && w.generation != 1 {
			c.failf("%s: %+v", e.Exporter, ch)
		}
		return
	}
	trip := ch.To == breaker.Down && ch.From.Carries()
	back := (ch.To == breaker.Healthy || ch.To == breaker.Ramping) && !ch.From.Carries() && ch.From != breaker.Held
	held := ch.To == breaker.Held
	allowed := trip || back || held || ch.From == breaker.Held && ch.To == breaker.Probing ||
		ch.From == breaker.Ramping && ch.To == breaker.Healthy ||
		ch.From == breaker.Healthy && ch.To == breaker.Suspect || ch.From == breaker.Suspect && ch.To == breaker.Healthy ||
		ch.From == breaker.Down && ch.To == breaker.Probing || ch.From == breaker.Probing && ch.To == breaker.Down
	move := breaker.Transition{From: ch.From, To: ch.To, Reason: ch.Reason}
	if !slices.Contains(breaker.Transitions(w.emergency), move) {
		c.failf("%s makes a move that is not listed: %+v", e.Exporter, move)
	}
	if !allowed || w.emergency && !trip && !back {
		c.failf("%s goes from %s to %s", e.Exporter, ch.From, ch.To)
	}
	want := w.generation
	if trip || back || held {
		want++
	}
	if ch.Generation != want && !(w.generation == 1 && ch.Generation > want) {
		c.failf("%s: generation %d after %d, %s to %s", e.Exporter, ch.Generation, w.generation, ch.From, ch.To)
	}
	if back && !w.emergency && (ev.Kind != failover.EventCanaryDone || ev.Breaker != e.Breaker ||
		ev.Outcome.Class != breaker.Delivered) {
		c.failf("%s returned without a canary", e.Exporter)
	}
	if (ch.To == breaker.Down || held) && (ch.Next.IsZero() || !ch.Next.After(c.now)) {
		c.failf("%s is down, and the next probe is at %v", e.Exporter, ch.Next)
	}
	if ch.Generation != w.generation {
		w.canaries = 0
	}
	w.state, w.generation = ch.To, ch.Generation
}

// token checks that only what can be sent to is shown a token, and that nobody is called in its silence.
func (c *chaos) token(id failover.RouteID, l *failover.LevelView, m *failover.MemberView, w *watched) {
	if m.Token == nil {
		return
	}
	for _, o := range l.Members {
		if o.Token == nil && !c.of(o.Breaker).state.Carries() {
			c.failf("%s has a token, but %s of its level takes nothing", m.Exporter, o.Exporter)
		}
	}
	if m.Canary && w.state != breaker.Probing || !m.Canary && w.state != breaker.Suspect {
		c.failf("%s: a token, canary %v, while %s", m.Exporter, m.Canary, w.state)
	}
}

// probe checks a probe against silence and gap.
func (c *chaos) probe(e *failover.Effect) {
	w := c.of(e.Breaker)
	if c.now.Before(w.silence) {
		c.failf("%s is probed %s before it wanted to be called", e.Exporter, w.silence.Sub(c.now))
	}
	if e.Order.Probe.Purpose != breaker.ByRecovery {
		return
	}
	exempt := false
	var keeps []failover.RouteID
	for id, v := range c.views {
		for i := range v.Levels {
			for _, m := range v.Levels[i].Members {
				if m.Breaker == e.Breaker {
					exempt = exempt || v.AllDown || v.Levels[i].Emergency
					keeps = append(keeps, id)
				}
			}
		}
	}
	if exempt {
		return
	}
	for _, id := range keeps {
		gap := time.Duration(0)
		for i := range c.plan.Routes {
			if c.plan.Routes[i].RouteID == id {
				gap = c.plan.Routes[i].Gap
			}
		}
		if last, ok := c.probed[id]; ok && c.now.Sub(last) < gap {
			c.failf("%s %s: probed after %s, the gap is %s", id.Connector, id.Signal, c.now.Sub(last), gap)
		}
		c.probed[id] = c.now
	}
}

func (c *chaos) attempt1(w *wing, level int, m *failover.MemberView, canary, over bool) {
	if !canary || !m.Canary {
		return
	}
	b := c.of(m.Breaker)
	if over {
		if m.Generation == b.generation {
			b.canaries--
		}
		return
	}
	if c.now.Before(b.silence) {
		c.failf("%s gets a canary %s before it wanted to be called", m.Exporter, b.silence.Sub(c.now))
	}
	if b.canaries++; b.canaries > 1 {
		c.failf("%s gets two canaries at once", m.Exporter)
	}
}
