// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/storytest"
)

// TestSwitchStories plays testdata/switch: the numbered stories of the failover specification as far as they need no
// Router, in virtual time. -update rewrites what they expect.
func TestSwitchStories(t *testing.T) {
	storytest.Play(t, "testdata/switch/*.txt", func(t *testing.T) func(string) string {
		var s *tale
		return func(block string) string {
			if s == nil || strings.Contains(block, "\nroute ") && !strings.Contains("\n"+block, "\nreload") {
				s = newTale(t)
			}
			return s.play(block)
		}
	})
}

// tale is a house that is told what to do in words. A block that says `route` without `reload` builds another one.
type tale struct {
	*house
	lines  []string
	opened bool
	before []*wing // of the plan that a reload replaces
	silent bool    // changes are counted, not told
	counts map[string]int
	// of the route being described
	id     failover.RouteID
	cfg    *failover.Config
	levels []failover.PlannedLevel
	slots  [][2]int // level, slots
}

func newTale(t *testing.T) *tale {
	s := &tale{house: newHouse(t), counts: map[string]int{}}
	s.seen = s.show
	return s
}

func (s *tale) play(block string) string {
	s.lines = nil
	for words := range storytest.Commands(block) {
		s.command(words)
	}
	s.sum()
	return strings.Join(s.lines, "\n")
}

func (s *tale) command(words []string) {
	args := words[1:]
	switch words[0] {
	case "route":
		s.endRoute()
		s.id = failover.RouteID{Connector: args[0], Signal: signal(args[1])}
		s.cfg = failover.Default().(*failover.Config)
		for _, a := range args[2:] {
			s.set(a)
		}
		return
	case "level":
		s.level(args)
		return
	case "reload":
		s.endRoute()
		s.plan, s.before, s.wings, s.opened = failover.SwitchPlan{}, s.wings, nil, false
		return
	}
	s.endRoute()
	if words[0] == "endpoint" {
		s.endpoint(args)
		return
	}
	if !s.opened {
		s.opened = true
		if s.sw == nil {
			s.open()
		} else {
			s.tell(failover.Event{Kind: failover.EventReconfigure, Plan: &s.plan})
		}
	}
	switch words[0] {
	case "load":
		s.loads(args)
	case "send":
		for range s.number(args[0]) {
			s.send(s.of(args[1:]))
		}
	case "at":
		s.at(s.duration(args[0]))
	case "quietly":
		s.silent = true
		s.at(s.duration(args[0]))
		s.silent = false
		s.tally()
	case "probe":
		s.refused = ""
		s.tell(failover.Event{Kind: failover.EventProbeNow, Route: s.of(nil).id, Level: s.number(args[0])})
		if s.refused != "" {
			s.say("refused: %s", s.refused)
		}
	case "hold", "release":
		s.refused = ""
		ev := failover.Event{Kind: failover.EventRelease, Route: s.of(nil).id, Level: s.number(args[0])}
		if words[0] == "hold" {
			ev.Kind, ev.For, ev.Force = failover.EventHold, s.duration(args[1]), slices.Contains(args, "force")
		}
		s.tell(ev)
		if s.refused != "" {
			s.say("refused: %s", s.refused)
		}
	case "restart":
		old := s.wings
		s.open()
		for _, w := range old {
			s.reroute(w)
		}
	case "show":
		s.showStatus()
	default:
		s.t.Fatalf("command %q", words[0])
	}
}

// set reads key=value of a connector.
func (s *tale) set(word string) {
	key, value, _ := strings.Cut(word, "=")
	c := s.cfg
	durations := map[string]*time.Duration{
		"retry_interval": &c.RetryInterval, "retry_gap": &c.RetryGap, "failover_delay": &c.FailoverDelay,
		"hold_down": &c.Return.HoldDown, "flap_window": &c.Return.FlapWindow, "ramp": &c.Return.Ramp,
	}
	switch {
	case durations[key] != nil:
		*durations[key] = s.duration(value)
	case key == "slow_after":
		c.Detector.SlowAfter = value
	case key == "manual":
		c.Return.Mode = "manual"
	case key == "max_retries":
		c.MaxRetries = s.number(value)
	case key == "successes":
		n := s.number(value)
		c.Probe.Successes = &n
	case key == "probe":
		c.Probe.Kind = value
		if value == "http" {
			c.Probe.URL = "https://backend.example.com/health"
		}
	case key == "trips":
		c.Probe.Trips = true
	default:
		s.t.Fatalf("key %q", key)
	}
}

// level describes a level: its members, timeout=, slots=, live, emergency, and config= for another configuration.
func (s *tale) level(args []string) {
	l := failover.PlannedLevel{Timeout: 5 * time.Second, Retry: exporter.DefaultRetry()}
	own, config := "empty", "1"
	for _, a := range args {
		switch key, value, _ := strings.Cut(a, "="); key {
		case "timeout":
			l.Timeout = s.duration(value)
		case "slots":
			s.slots = append(s.slots, [2]int{len(s.levels), s.number(value)})
		case "live":
			own = "live"
		case "emergency":
			own, l.Emergency = "write", true
		case "config":
			config = value
		default:
			l.Members = append(l.Members, failover.PlannedMember{Exporter: a})
		}
	}
	for i := range l.Members {
		l.Members[i].OwnProbe, l.Members[i].Config = own, config
	}
	s.levels = append(s.levels, l)
}

func (s *tale) endRoute() {
	if s.cfg == nil {
		return
	}
	var names [][]string
	for _, l := range s.levels {
		names = append(names, []string{l.Members[0].Exporter})
	}
	s.cfg.PriorityLevels = names
	if err := s.cfg.Validate(); err != nil {
		s.t.Fatal(err)
	}
	w := s.add(s.id, s.cfg, s.levels)
	for _, n := range s.slots {
		w.slots[n[0]] = n[1]
	}
	for _, b := range s.before { // views belong to routes, not to the pipelines around them
		if b.id == w.id {
			w.view = b.view
		}
	}
	s.cfg, s.levels, s.slots = nil, nil, nil
}

func signal(word string) otlp.Signal {
	for _, s := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs} {
		if s.String() == word {
			return s
		}
	}
	panic("signal " + word)
}

// of is the wing of a signal, by default the first.
func (s *tale) of(args []string) *wing {
	for _, a := range args {
		for _, w := range s.wings {
			if w.id.Signal.String() == a {
				return w
			}
		}
	}
	return s.wings[0]
}

// loads starts a load: RATE/s, for DURATION, of a signal.
func (s *tale) loads(args []string) {
	rate, err := strconv.ParseFloat(strings.TrimSuffix(args[0], "/s"), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	length := s.duration(args[1])
	gap := time.Duration(float64(time.Second) / rate)
	s.house.load(s.of(args[2:]), gap, int(length/gap))
}

// endpoint scripts an exporter's endpoint: what it answers to live batches and probes alike. empty-ok, probe=ok and
// probe=refuse set probes apart; signal= at the end keeps it to one signal, and what other signals were given before.
func (s *tale) endpoint(args []string) {
	e := s.endpoints[args[0]]
	only := e.only
	*e = endpoint{live: takes, probe: takes, since: s.now}
	for _, a := range args[1:] {
		key, value, _ := strings.Cut(a, "=")
		var r reply
		switch key {
		case "ok":
			r = takes
		case "refuse":
			r = reply{class: breaker.Retry, text: "connection refused"}
		case "hang":
			r = reply{hang: true}
		case "slow":
			r = reply{class: breaker.Delivered, took: s.duration(value)}
		case "resetting": // an answer that comes late, and is a reset
			r = reply{class: breaker.Retry, took: s.duration(value), text: "connection reset"}
		case "internal":
			r = reply{class: breaker.Retry, vague: true, text: "500"}
		case "throttle":
			r = reply{class: breaker.RetryAfter, after: s.duration(value)}
		case "deny":
			r = reply{class: breaker.Misconfigured, text: "401"}
		case "empty-ok":
			e.live = reply{class: breaker.Retry, text: "connection refused"}
			continue
		case "flap":
			up, down, _ := strings.Cut(value, "/")
			e.up, e.down = s.duration(up), s.duration(down)
			continue
		case "fails":
			e.fails = s.number(value)
			continue
		case "probe":
			e.probe = map[string]reply{"ok": takes, "refuse": {class: breaker.Retry, text: "503"}}[value]
			continue
		case "signal":
			if only == nil {
				only = map[otlp.Signal]reply{}
			}
			only[signal(value)], e.only = e.live, only
			e.live, e.probe = takes, takes
			continue
		default:
			s.t.Fatalf("endpoint %q", a)
		}
		e.live, e.probe = r, r
	}
}

func (s *tale) say(format string, args ...any) {
	line := s.stamp(s.now) + " " + fmt.Sprintf(format, args...)
	s.lines = append(s.lines, line)
}

// show writes what the Switch says, as a log would; a change of several routes once.
func (s *tale) show(e *failover.Effect) {
	switch e.Kind {
	case failover.EffectChanged:
		for _, w := range s.wings {
			if w.view == nil || w.id == e.Route {
				break
			}
			for _, l := range w.view.Levels {
				if slices.ContainsFunc(l.Members, func(m failover.MemberView) bool { return m.Breaker == e.Breaker }) {
					return
				}
			}
		}
		if text := s.words(e); s.silent {
			s.counts[strings.SplitN(text, ":", 2)[0]]++
		} else {
			s.say("%s", text)
		}
	case failover.EffectPublish:
		from, all := -1, false
		if e.Before != nil {
			from, all = e.Before.Active, e.Before.AllDown
		}
		name := ""
		if len(s.wings) > 1 {
			name = " of " + e.Route.Connector + " " + e.Route.Signal.String()
		}
		if e.Before != nil && from != e.View.Active && !s.silent {
			s.say("active level%s %d → %d", name, from, e.View.Active)
		}
		if all != e.View.AllDown && !s.silent {
			s.say("all down%s: %v", name, e.View.AllDown)
		}
	}
}

func (s *tale) words(e *failover.Effect) string {
	c := &e.Change
	name := e.Exporter
	if len(s.wings) > 1 {
		name += " " + e.Route.Signal.String()
	}
	by := ""
	if c.By != breaker.ByTraffic {
		by = " (" + c.By.String() + ")"
	}
	strike := fmt.Sprintf("strike %d/%d%s", c.Strike, c.Of, by)
	if c.Silent {
		strike += ", silent"
	}
	switch {
	case c.Kind == breaker.Struck:
		return name + " " + strike
	case c.Kind == breaker.Confirmed:
		return fmt.Sprintf("%s confirmed %d/%d%s", name, c.Confirmed, c.Needed, by)
	case c.Kind == breaker.Refuted:
		return fmt.Sprintf("%s still fails%s", name, by)
	case c.Kind == breaker.PutOff:
		return fmt.Sprintf("%s asks for silence until %s%s", name, s.stamp(c.Until), by)
	case c.Kind == breaker.Warned:
		return fmt.Sprintf("%s warning: %s", name, c.Reason)
	case c.To == breaker.Suspect && c.Strike > 0:
		return fmt.Sprintf("%s %s → %s: %s", name, c.From, c.To, strike)
	case c.To == breaker.Held:
		return fmt.Sprintf("%s %s → %s: until %s", name, c.From, c.To, s.stamp(c.Next))
	case c.To == breaker.Down:
		return fmt.Sprintf("%s %s → %s: %s%s; next probe %s", name, c.From, c.To, c.Reason, by, s.stamp(c.Next))
	}
	return fmt.Sprintf("%s %s → %s: %s%s", name, c.From, c.To, c.Reason, by)
}

// tally says what happened quietly.
func (s *tale) tally() {
	var keys []string
	for k := range s.counts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		s.say("%4d × %s", s.counts[k], k)
	}
	clear(s.counts)
}

// sum says where the batches went since the last block.
func (s *tale) sum() {
	for _, w := range s.wings {
		line := ""
		for i, n := range w.delivered {
			if n > 0 {
				line += fmt.Sprintf("level %d: %d, ", i, n)
			}
		}
		name := "delivered"
		if len(s.wings) > 1 {
			name += " " + w.id.Connector + " " + w.id.Signal.String()
		}
		s.lines = append(s.lines, fmt.Sprintf("%s %smoved %d, in flight %d, held %d of %d", name, line, w.moved, w.flying,
			len(w.held)+len(w.waiting), w.sent))
		s.lines = append(s.lines, fmt.Sprintf("ledger sent %d = delivered %d + dead %d + in flight %d + waiting %d + held %d",
			w.all, w.done, w.dead, w.flying, w.late+len(w.waiting), len(w.held)))
		clear(w.delivered)
		w.moved, w.sent = 0, len(w.held)+len(w.waiting)+w.flying
	}
	if s.probes > 0 {
		s.lines = append(s.lines, fmt.Sprintf("probes %d", s.probes))
		s.probes = 0
	}
}

func (s *tale) showStatus() {
	for _, w := range s.wings {
		for i := range w.view.Levels {
			l := &w.view.Levels[i]
			share := or(l.State == failover.Ramping, fmt.Sprintf(", share %.1f", l.Share))
			s.say("%s %s level %d %s, eligible %v, silent %v%s", w.id.Connector, w.id.Signal, i, l.State, l.Eligible, l.Silent, share)
		}
	}
}

func (s *tale) duration(word string) time.Duration {
	d, err := time.ParseDuration(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *tale) number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
