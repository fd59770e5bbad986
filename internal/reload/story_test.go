// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/storytest"
)

// TestStories plays testdata: the machine in virtual time, told in words. -update rewrites what they expect.
func TestStories(t *testing.T) {
	storytest.Play(t, "testdata/*.txt", func(t *testing.T) func(string) string {
		s := newTale(t)
		t.Cleanup(s.check)
		return s.play
	})
}

// tale is a house that is told what to do in words.
type tale struct {
	*house
	lines  []string
	silent bool
	counts map[string]int
}

func newTale(t *testing.T) *tale {
	s := &tale{house: newHouse(t), counts: map[string]int{}}
	s.told = s.show
	return s
}

func (s *tale) play(block string) string {
	s.lines = nil
	for words := range storytest.Commands(block) {
		s.command(words)
	}
	return strings.Join(s.lines, "\n")
}

func (s *tale) command(words []string) {
	args := words[1:]
	switch words[0] {
	case "config":
		s.config(args)
	case "good": // was committed by an earlier process
		c := s.configs[args[0]]
		l := c.loaded()
		s.disk.last++
		s.disk.good = &reload.Record{Generation: s.disk.last, Source: "reload", Hash: l.Hash, Fingerprint: l.Fingerprint,
			Settings: l.Settings, Evidence: reload.EvidenceDelivered, At: s.now}
		s.disk.goodOf = c
		s.disk.stored = append(s.disk.stored, kept{*s.disk.good, c})
		for _, x := range c.senders {
			if x.does == "delivers" {
				s.disk.deliveries[x.id] = s.now
			}
		}
	case "offer":
		s.offered, s.unread = args[0], args[0] == "nothing"
	case "boot":
		s.boot()
	case "kill":
		s.kill()
	case "request":
		s.requests(args)
	case "back": // TO, as requests
		r := s.wish(args[1:])
		r.Back, r.To = true, reload.Generation(s.number(args[0]))
		s.request(r)
	case "confirm":
		s.confirm(strings.Join(args, ""))
	case "stop":
		s.tell(reload.Event{Kind: reload.EventStop})
	case "takes":
		s.loadTakes, s.prepareTakes = s.duration(args[0]), s.duration(args[1])
	case "store":
		s.storeFails = args[0] == "fails"
	case "damage":
		s.goodGone = true
	case "wait":
		s.at(s.now.Add(s.duration(args[0])))
	case "repeat": // N TIMES: WAIT between
		s.repeat(s.number(args[0]), s.duration(args[1]))
	case "show":
		s.showState()
	default:
		s.t.Fatalf("command %q", words[0])
	}
}

// config describes a text: ID=DOES of senders, ID*=DOES if new or changed, with /good or /bad how its preflight goes;
// grpc= is the door, queue= the queue.
func (s *tale) config(args []string) {
	c := &config{name: args[0], settings: reload.Settings{Trial: time.Minute, Preflight: true}}
	for _, a := range args[1:] {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "load":
			c.loadErr = strings.ReplaceAll(value, "_", " ")
		case "prepare":
			c.prepareErr = strings.ReplaceAll(value, "_", " ")
		case "secret":
			c.secret = value
		case "trial":
			c.settings.Trial = s.duration(value)
		case "preflight":
			c.settings.Preflight = value == "auto"
		case "on_bad_boot":
			c.settings.BadBootFails = value == "fail"
		case "listener":
			c.listener = value == "dead"
		case "memory":
			c.memory = value == "high"
		case "panics":
			c.panics = s.duration(value)
		default:
			id, changed := strings.CutSuffix(key, "*")
			does, probe, _ := strings.Cut(value, "/")
			x := script{id: id, changed: changed, does: does, probe: probe}
			switch id {
			case "grpc":
				c.door = x
			case "queue":
				c.queue = x
			default:
				c.senders = append(c.senders, x)
			}
		}
	}
	s.configs[c.name] = c
}

// requests asks: N times at once, --force, --confirm D, --begun.
func (s *tale) requests(args []string) {
	n, r := 1, s.wish(args)
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		n = s.number(args[0])
	}
	s.silent = n > 10
	loads := s.loadings
	for range n {
		s.request(r)
	}
	if s.silent {
		s.at(s.now.Add(5 * time.Second))
		s.silent = false
		s.lines = append(s.lines, fmt.Sprintf("%d requests: %d loads, %d not answered yet", n, s.loadings-loads, len(s.open)))
		s.tally()
	}
}

func (s *tale) wish(args []string) (r reload.Request) {
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "--force":
			r.Force = true
		case "--begun":
			r.Begun = true
		case "--confirm":
			r.Confirm = s.duration(value)
		}
	}
	return r
}

// repeat asks again and again, and sums up.
func (s *tale) repeat(times int, wait time.Duration) {
	s.silent = true
	for range times {
		s.request(reload.Request{})
		s.at(s.now.Add(wait))
	}
	s.silent = false
	s.tally()
}

func (s *tale) tally() {
	var keys []string
	for k := range s.counts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		s.lines = append(s.lines, fmt.Sprintf("%d × %s", s.counts[k], k))
	}
	clear(s.counts)
}

func (s *tale) say(key, format string, args ...any) {
	if s.silent {
		s.counts[key]++
		return
	}
	s.lines = append(s.lines, s.stamp()+" "+fmt.Sprintf(format, args...))
}

func (s *tale) show(a reload.Action) {
	g := a.Generation
	switch a.Kind {
	case reload.ActionLoad:
		what := "what is offered"
		if a.Stored {
			what = "the good one"
		}
		s.say("load", "load %s as %d", what, g)
	case reload.ActionPrepare:
		s.say("prepare", "prepare %d%s", g, map[bool]string{true: ", preflight"}[a.Preflight])
	case reload.ActionCancel:
		s.say("cancel", "cancel %d", g)
	case reload.ActionUnwind:
		s.say("unwind", "unwind %d", g)
	case reload.ActionSwitch:
		s.say("switch", "switch to %d", g)
	case reload.ActionCommit:
		s.say("commit", "%d stays", g)
	case reload.ActionRetire:
		s.say("retire", "retire %d", g)
	case reload.ActionRefresh:
		s.say("refresh", "refresh the files of %d", g)
	case reload.ActionWriteAttempt:
		s.say("attempt", "attempt %d, unclean %d%s", g, a.Attempt.Unclean, map[bool]string{true: ", held"}[a.Attempt.Held])
	case reload.ActionClearAttempt:
		s.say("attempt", "no attempt")
	case reload.ActionStoreGood:
		s.say("good", "good is %d", g)
	case reload.ActionAnswer:
		s.say("answer "+words(a.Result), "answer: %s", words(a.Result))
	case reload.ActionTell:
		if a.Result.Outcome != reload.Received {
			s.say(words(a.Result), "%s (%s) %s", name(a.Record), a.Record.Hash, words(a.Result))
		}
	case reload.ActionGiveUp:
		s.say("exit", "exit 1: %s", strings.ReplaceAll(a.Err.Error(), "\n", "; "))
	}
}

func name(r reload.Record) string { return fmt.Sprintf("generation %d", r.Generation) }

func words(r reload.Result) string {
	text := string(r.Outcome)
	if r.Reason != reload.NoReason {
		text += " " + string(r.Reason)
	}
	if r.Evidence != "" && r.Outcome == reload.Committed {
		text += " evidence " + string(r.Evidence)
	}
	if r.Text != "" && r.Reason != reload.ReasonNewer && r.Outcome != reload.Unchanged {
		text += ": " + r.Text
	}
	return text
}

func (s *tale) showState() {
	v := s.s.Snapshot(s.now)
	line := fmt.Sprintf("%s; running %d, good %d, offered %d", v.State, v.Running.Generation, v.Good.Generation, v.Offered.Generation)
	if v.Drift {
		line += "; drift"
	}
	if !v.ConfirmUntil.IsZero() {
		line += fmt.Sprintf("; to be confirmed until %.3f", v.ConfirmUntil.Sub(start).Seconds())
	}
	if v.TrialLeft > 0 {
		line += fmt.Sprintf("; trial left %s", v.TrialLeft.Round(time.Second))
	}
	for _, c := range v.Clocks {
		line += fmt.Sprintf("; %s %s", c.Symptom, c.Subject)
		if c.Limit > 0 {
			line += fmt.Sprintf(" %s of %s", s.now.Sub(c.Since).Round(time.Second), c.Limit)
		} else {
			line += fmt.Sprintf(" %d of %d", c.Count, c.Of)
		}
	}
	for _, h := range v.Held {
		until := "another text is offered"
		if !h.Until.IsZero() {
			until = fmt.Sprintf("%.3f", h.Until.Sub(start).Seconds())
		}
		line += fmt.Sprintf("; %s held until %s", h.Hash, until)
	}
	if v.Unsaved {
		line += "; not on disk"
	}
	if v.Alarm != "" {
		line += "; alarm"
	}
	if n := len(s.open); n > 0 {
		line += fmt.Sprintf("; %d wait", n)
	}
	s.lines = append(s.lines, s.stamp()+" "+line)
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
