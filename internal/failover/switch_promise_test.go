// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// sample is how many random walks there are: few on every day, all of them under HOLDFAST_LONG=1.
func sample(few, all uint64) uint64 {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return all
	}
	return few
}

// The promises of section 2 of the failover specification, as far as the Switch keeps them.

var traces = failover.RouteID{Connector: "failover/traces", Signal: otlp.Traces}

// ladder is a house with one connector over levels of one exporter each: otlp/0, otlp/1, …
func ladder(t *testing.T, levels int, change func(*failover.Config)) (*house, *wing) {
	t.Helper()
	h := newHouse(t)
	cfg := config(change)
	var planned []failover.PlannedLevel
	cfg.PriorityLevels = nil
	for i := range levels {
		name := fmt.Sprintf("otlp/%d", i)
		cfg.PriorityLevels = append(cfg.PriorityLevels, []string{name})
		planned = append(planned, failover.PlannedLevel{Timeout: 5 * time.Second, Retry: exporter.DefaultRetry(),
			Members: []failover.PlannedMember{{Exporter: name, OwnProbe: "empty"}}})
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	w := h.add(traces, cfg, planned)
	return h, w
}

var refused = reply{class: breaker.Retry, text: "connection refused"}

// break makes an endpoint answer everything the same way.
func (h *house) set(name string, r reply) { *h.endpoints[name] = endpoint{live: r, probe: r} }

// probes notes when recovery probes of an exporter begin.
func (h *house) watchProbes(name string) *[]time.Duration {
	var at []time.Duration
	h.seen = func(e *failover.Effect) {
		if e.Kind == failover.EffectStartProbe && e.Exporter == name && e.Order.Probe.Purpose == breaker.ByRecovery {
			at = append(at, h.now.Sub(h.start))
		}
	}
	return &at
}

// F6.
func TestNoLevelIsEverAbandoned(t *testing.T) {
	for _, retries := range []int{0, 1, 5, 10, 1000}[:sample(3, 5)] {
		r := rand.New(rand.NewPCG(uint64(retries), 6))
		h, w := ladder(t, 2, func(c *failover.Config) { c.MaxRetries = retries })
		h.plan.Jitter = func() float64 { return 2*r.Float64() - 1 }
		h.open()
		h.load(w, 10*time.Second, 1_000_000)
		at := h.watchProbes("otlp/0")
		h.at(time.Minute)
		h.set("otlp/0", refused)
		h.at(72 * time.Hour)
		slowest := 30 * time.Second
		if retries > 0 {
			slowest = 300 * time.Second
		}
		last := time.Minute
		for _, p := range append(*at, 72*time.Hour) {
			if p-last > slowest*11/10+10*time.Second {
				t.Errorf("max_retries %d: no probe between %s and %s", retries, last, p)
			}
			last = p
		}
		h.set("otlp/0", takes)
		// The slow cadence, two more proofs a gap apart, and the batch after that.
		h.at(72*time.Hour + slowest*11/10 + 3*10*time.Second)
		if w.view.Active != 0 {
			t.Errorf("max_retries %d: level 0 is %s", retries, w.view.Levels[0].State)
		}
	}
}

// F7.
func TestOneBurstOneTransition(t *testing.T) {
	h, w := ladder(t, 2, func(c *failover.Config) { c.RetryInterval, c.Return.HoldDown = 5*time.Second, 5*time.Second })
	w.slots[0] = 10_000
	h.open()
	h.send(w)
	h.at(time.Second)
	var strikes, moves, down []string
	h.seen = func(e *failover.Effect) {
		switch {
		case e.Kind == failover.EffectChanged && e.Change.Strike > 0:
			strikes = append(strikes, fmt.Sprintf("%s strike %d", h.now.Sub(h.start), e.Change.Strike))
		case e.Kind == failover.EffectPublish && e.View.Active > e.Before.Active:
			down = append(down, h.now.Sub(h.start).String())
		}
		if e.Kind == failover.EffectChanged && e.Change.Kind == breaker.Moved && e.Change.To == breaker.Down {
			moves = append(moves, h.now.Sub(h.start).String())
		}
	}
	// A thousand attempts are on their way, and all of them fail within one second.
	h.endpoints["otlp/0"].live = reply{class: breaker.Retry, took: 3 * time.Second, text: "reset"}
	for range 1000 {
		h.send(w)
		h.at(h.now.Sub(h.start) + 900*time.Microsecond)
	}
	h.endpoints["otlp/0"].live = takes
	h.at(time.Minute)
	if !slices.Equal(strikes, []string{"4s strike 1"}) || len(moves) > 0 || len(down) > 1 {
		t.Errorf("a burst: strikes %v, trips %v, switches down %v", strikes, moves, down)
	}
	// A thousand more fail before, while and after the level trips and returns: their generation is over.
	h.endpoints["otlp/0"].live = reply{hang: true}
	w.timeouts[0] = 20 * time.Second
	for range 1000 {
		h.send(w)
	}
	strikes, down = nil, nil
	h.set("otlp/0", refused)
	h.load(w, 10*time.Millisecond, 10_000)
	h.at(64 * time.Second)
	h.set("otlp/0", takes)
	h.at(79 * time.Second)
	if !w.view.Levels[0].Eligible || w.flying < 1000 {
		t.Fatalf("%s, %d on their way: this proves nothing", w.view.Levels[0].State, w.flying)
	}
	h.at(3 * time.Minute)
	if len(moves) != 1 || len(down) != 1 || len(strikes) != 3 {
		t.Errorf("strikes %v, trips %v, switches down %v", strikes, moves, down)
	}
}

// F8.
func TestFlappingIsBounded(t *testing.T) {
	type pattern struct{ up, down time.Duration }
	for _, p := range []pattern{
		{20 * time.Second, 20 * time.Second}, {70 * time.Second, 20 * time.Second}, {2 * time.Minute, 5 * time.Second},
		{31 * time.Second, 17 * time.Second}, {9 * time.Minute, time.Minute}, {11 * time.Minute, time.Minute},
	} {
		for seed := range sample(1, 6) {
			r := rand.New(rand.NewPCG(seed, 8))
			h, w := ladder(t, 2, func(c *failover.Config) { c.MaxRetries = 0 })
			h.plan.Jitter = func() float64 { return 2*r.Float64() - 1 }
			h.open()
			var trips []time.Duration
			h.seen = func(e *failover.Effect) {
				if e.Kind == failover.EffectChanged && e.Level == 0 && e.Change.To == breaker.Down && e.Change.From.Carries() {
					trips = append(trips, h.now.Sub(h.start))
				}
			}
			e := h.endpoints["otlp/0"]
			e.up, e.down, e.since = p.up, p.down, h.now.Add(-time.Duration(r.Int64N(int64(p.up+p.down))))
			h.load(w, time.Second, 1_000_000)
			h.at(4 * time.Hour)
			for _, window := range []time.Duration{10 * time.Minute, time.Hour, 4 * time.Hour} {
				// B: hold-down 30 s, at most 15 min, flap window 10 min.
				limit := 1 + math.Ceil(math.Log2(30)) + float64(window)/float64(15*time.Minute) + 2*float64(window)/float64(10*time.Minute)
				if n := most(trips, window); float64(n) > limit {
					t.Errorf("%v, seed %d: %d trips in %s, the bound is %v", p, seed, n, window, limit)
				}
			}
			if n := most(trips, time.Hour); p.up <= 2*time.Minute && n > 8 {
				t.Errorf("%v, seed %d: %d trips in an hour", p, seed, n)
			}
			if p.up > time.Minute && len(trips) < 4 {
				t.Errorf("%v, seed %d: it hardly flapped: %v", p, seed, trips)
			}
		}
	}
}

// most is the greatest number of times within any window.
func most(at []time.Duration, window time.Duration) int {
	n := 0
	for i := range at {
		j := i
		for j < len(at) && at[j]-at[i] <= window {
			j++
		}
		n = max(n, j-i)
	}
	return n
}

// F9.
func TestReturnNeedsALiveBatch(t *testing.T) {
	for _, kind := range []string{"auto", "http", "live"} {
		for _, successes := range []int{1, 3} {
			h, w := ladder(t, 2, func(c *failover.Config) {
				c.Probe.Kind, c.Probe.Successes = kind, &successes
				if kind == "http" {
					c.Probe.URL = "https://backend.example.com/health"
				}
			})
			h.open()
			h.send(w)
			h.at(10 * time.Second)
			h.set("otlp/0", refused)
			h.load(w, 100*time.Millisecond, 50)
			h.at(20 * time.Second)
			h.set("otlp/0", takes)
			if w.view.Levels[0].State != failover.Down {
				t.Fatalf("%s: level 0 is %s", kind, w.view.Levels[0].State)
			}
			h.at(5 * time.Hour) // probes are good, but nothing is sent
			if s := w.view.Levels[0].State; s != failover.Probing {
				t.Errorf("%s, %d: level 0 is %s without a batch", kind, successes, s)
			}
			batches := 1
			if kind == "live" {
				batches = successes
			}
			for n := range batches {
				if w.view.Active != 1 {
					t.Errorf("%s, %d: level 0 carries after %d batches", kind, successes, n)
				}
				h.send(w)
				h.at(h.now.Sub(h.start) + 20*time.Second)
			}
			if w.view.Active != 0 || w.delivered[0] != 1+batches {
				t.Errorf("%s, %d: active level %d after %d batches at level 0", kind, successes, w.view.Active, w.delivered[0])
			}
		}
	}
}

// F10.
func TestAllDownHoldsEverything(t *testing.T) {
	h, w := ladder(t, 3, nil)
	h.open()
	h.load(w, 10*time.Second, 400)
	h.at(10 * time.Second)
	for i := range 3 {
		h.set(fmt.Sprintf("otlp/%d", i), refused)
	}
	h.at(time.Minute)
	if !w.view.AllDown || w.view.Active != -1 {
		t.Fatalf("%+v", w.view)
	}
	at, sent := h.watchProbes("otlp/1"), h.sendsOf(w)
	h.at(time.Hour)
	if *sent > 0 {
		t.Errorf("%d batches were sent to levels that are down", *sent)
	}
	for i, p := range (*at)[1:] {
		if gap := p - (*at)[i]; gap != 5*time.Second {
			t.Errorf("probes at %s and %s", (*at)[i], p)
		}
	}
	if n := len(*at); n < 59*12-1 {
		t.Errorf("%d probes in 59 minutes", n)
	}
	held := len(w.held)
	h.set("otlp/1", takes)
	h.at(time.Hour + 6*time.Second)
	if w.view.AllDown || w.view.Active != 1 || len(w.held) > 0 || w.delivered[1] < held {
		t.Errorf("all down %v, active level %d, %d held, %d of %d delivered", w.view.AllDown, w.view.Active, len(w.held),
			w.delivered[1], held)
	}
}

// sendsOf counts attempts from now on.
func (h *house) sendsOf(of *wing) *int {
	n := 0
	h.attempted = func(w *wing, _ int, _ *failover.MemberView, _, over bool) {
		if w == of && !over {
			n++
		}
	}
	return &n
}

// F11.
func TestThrottledLevelIsNotCalledEarly(t *testing.T) {
	for seed := range sample(4, 20) {
		r := rand.New(rand.NewPCG(seed, 11))
		h, w := ladder(t, 2, func(c *failover.Config) { c.Throttle.FailoverAfter = 20 * time.Second })
		h.open()
		var silence time.Time // as the endpoint asked for it, and the Switch heeded it
		calls, spells := 0, 0
		h.seen = func(e *failover.Effect) {
			switch {
			case e.Kind == failover.EffectChanged && e.Level == 0 && e.Change.Until.After(silence):
				silence = e.Change.Until
				spells++
			case e.Kind == failover.EffectStartProbe && e.Exporter == "otlp/0" && h.now.Before(silence):
				t.Fatalf("seed %d: probed %s early", seed, silence.Sub(h.now))
			}
		}
		h.attempted = func(_ *wing, level int, _ *failover.MemberView, _, over bool) {
			if level != 0 || over {
				return
			}
			calls++
			if h.now.Before(silence) {
				t.Fatalf("seed %d: called %s early", seed, silence.Sub(h.now))
			}
		}
		h.load(w, 50*time.Millisecond, 20*60*10)
		for h.now.Sub(h.start) < 10*time.Minute {
			h.at(h.now.Sub(h.start) + time.Duration(r.Int64N(int64(15*time.Second))))
			d := time.Duration(1+r.IntN(40)) * time.Second
			h.set("otlp/0", pick(r, takes, takes, refused, reply{class: breaker.RetryAfter, after: d}))
			if r.IntN(5) == 0 {
				h.tell(failover.Event{Kind: failover.EventProbeNow, Route: traces, Level: 0})
			}
		}
		if calls == 0 || spells == 0 {
			t.Errorf("seed %d: %d calls, %d spells: this proves nothing", seed, calls, spells)
		}
	}
}

// F16: every change has words of its own, and what it stands on.
func TestEveryChangeIsExplained(t *testing.T) {
	h, w := ladder(t, 2, func(c *failover.Config) { c.MaxRetries = 0 })
	h.open()
	var lines []string
	h.seen = func(e *failover.Effect) {
		for _, l := range e.Lines(nil) {
			if !strings.HasPrefix(l.Text, "Failover: ") {
				t.Errorf("%+v says %q", e.Change, l.Text)
			}
			if l.Severity > failover.Debug {
				lines = append(lines, fmt.Sprintf("%.0f %d %s", h.now.Sub(h.start).Seconds(), l.Severity, l.Text))
			}
		}
		if c := &e.Change; e.Kind == failover.EffectChanged && c.Kind == breaker.Moved {
			if c.Reason == breaker.NoReason || c.Reason.String() == "none" {
				t.Errorf("%s to %s without a reason", c.From, c.To)
			}
			if c.To == breaker.Down && (c.Evidence.Error == "" || c.Evidence.Failed == 0) {
				t.Errorf("down without evidence: %+v", c)
			}
		}
	}
	h.load(w, 100*time.Millisecond, 10_000)
	h.at(5 * time.Second)
	h.set("otlp/0", refused)
	h.at(350 * time.Second)
	h.set("otlp/1", reply{class: breaker.Misconfigured, text: "401 Unauthorized"})
	h.at(380 * time.Second)
	h.set("otlp/0", takes)
	h.at(400 * time.Second)
	want := []string{
		"6 1 Failover: active level changed",
		"7 2 Failover: level is down, data goes to the next level",
		"37 2 Failover: retry probe failed",
		"307 2 Failover: retry probe failed", // the tenth
		"352 3 Failover: level is down, data is held",
		"352 1 Failover: active level changed",
		"352 2 Failover: all levels down, data is held",
	}
	if len(lines) < len(want) || !slices.Equal(lines[:len(want)], want) {
		t.Errorf("said\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	for _, last := range []string{"Failover: level is back", "Failover: active level changed", "Failover: all levels down ended"} {
		if !slices.ContainsFunc(lines[len(want):], func(s string) bool { return strings.HasSuffix(s, last) }) {
			t.Errorf("never said %q:\n%s", last, strings.Join(lines, "\n"))
		}
	}
}
