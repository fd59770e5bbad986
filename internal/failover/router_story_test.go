// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/storytest"
)

// TestRouterStories plays testdata/router: a router under scripted views and answers, in virtual time.
func TestRouterStories(t *testing.T) {
	storytest.Play(t, "testdata/router/*.txt", func(t *testing.T) func(string) string { return (&story{t: t}).play })
}

var storyStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// story is one file: a router and what its loop would keep.
type story struct {
	t        *testing.T
	set      failover.RouteSettings
	r        *failover.Router
	now      time.Time
	view     *failover.View
	wake     time.Time
	wanted   int
	share    float64
	lose     bool // the next claim finds the tokens taken
	batches  map[string]*unit
	flying   map[string]failover.RouterEffect
	taken    int
	accepted uint64 // items
	seq      uint64
	events   []failover.RouterEvent
	lines    []string
	ends     map[string]failover.RouterEffectKind
	items    map[failover.RouterEffectKind]uint32 // of the batches that ended
}

// last names the batch taken next.
func (s *story) next() string { return strconv.Itoa(s.taken + 1) }

type unit struct {
	failover.Batch
	name string
}

func (s *story) play(block string) string {
	s.lines = nil
	for words := range storytest.Commands(block) {
		s.command(words)
	}
	if s.taken > 0 {
		n := s.r.InHand()
		s.say("ledger taken %d = delivered %d + dead %d + queue %d + in hand %d", s.accepted, s.items[failover.AckBatch],
			s.items[failover.DeadBatch], s.items[failover.NackBatch]+s.items[failover.ReleaseBatch],
			n.InFlight.Items+n.Waiting.Items+n.Moving.Items+n.Held.Items)
	}
	return strings.Join(s.lines, "\n")
}

// conserve holds the items that were taken against where they are, after every step.
func (s *story) conserve() {
	s.t.Helper()
	n := s.r.InHand()
	sum := n.InFlight.Items + n.Waiting.Items + n.Moving.Items + n.Held.Items
	for _, items := range s.items {
		sum += uint64(items)
	}
	if sum != s.accepted {
		s.t.Fatalf("%s: %d items were taken, %d are accounted for: %+v, %v", s.now.Sub(storyStart), s.accepted, sum, n, s.items)
	}
}

func (s *story) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf("%.3f ", s.now.Sub(storyStart).Seconds())+fmt.Sprintf(format, args...))
}

func (s *story) command(words []string) {
	args := words[1:]
	switch words[0] {
	case "route":
		s.route(args)
	case "view":
		s.see(args)
	case "take":
		s.take(args)
	case "answer":
		s.answer(args)
	case "at":
		s.at(s.time(args[0]))
	case "share":
		s.share, _ = strconv.ParseFloat(args[0], 64)
		s.step(failover.RouterEvent{Kind: failover.ViewChanged})
	case "lose":
		s.lose = true
	case "drain":
		s.step(failover.RouterEvent{Kind: failover.RouterDrain})
	case "stop":
		s.step(failover.RouterEvent{Kind: failover.RouterStop, Grace: s.duration(args[0])})
	case "show":
		s.show()
	default:
		s.t.Fatalf("command %q", words[0])
	}
}

func (s *story) duration(word string) time.Duration {
	d, err := time.ParseDuration(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *story) time(word string) time.Time { return storyStart.Add(s.duration(word)) }

func (s *story) number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// route a slots=2 members=a1,a2 patience=30s initial=1s max=10s timeout=5s max_items=9 emergency | b … ; stay move
func (s *story) route(args []string) {
	cfg := failover.Default().(*failover.Config)
	s.set = cfg.Settings()
	s.set.DrainStart = 100 // stories that are about the window say so
	l := failover.LevelSettings{}
	for _, word := range append(args, "|") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "|":
			if l.Slots == 0 {
				l.Slots = 2
			}
			s.set.Levels = append(s.set.Levels, l)
			l = failover.LevelSettings{}
		case "slots":
			l.Slots = s.number(value)
		case "members":
			l.Members = strings.Split(value, ",")
		case "patience":
			l.Patience = s.duration(value)
		case "initial":
			l.Backoff.Initial = s.duration(value)
		case "max":
			l.Backoff.Max = s.duration(value)
		case "timeout":
			l.Timeout = s.duration(value)
		case "max_items":
			l.MaxItems = uint32(s.number(value))
		case "emergency":
			l.Emergency = true
		case "all_slots":
			s.set.Slots = s.number(value)
		case "drain_start":
			s.set.DrainStart = s.number(value)
		case "strict":
			s.set.Strict = true
		case "stay":
			s.set.Stay = true
		case "move":
			s.set.Move = true
		case "drop_rejected":
			s.set.DropRejected = true
		case "high_water":
			s.set.HighWater, _ = strconv.ParseFloat(value, 64)
		default:
			l.Members = []string{key}
			l.Backoff = failover.Backoff{Initial: time.Second, Max: 10 * time.Second, Multiplier: 1.5, Spread: 0.5}
			l.Patience = 30 * time.Second
		}
	}
	r, err := failover.NewRouter(s.set)
	if err != nil {
		s.t.Fatal(err)
	}
	s.r, s.now, s.accepted = r, storyStart, 0
	s.ends, s.items = map[string]failover.RouterEffectKind{}, map[failover.RouterEffectKind]uint32{}
	s.batches, s.flying = map[string]*unit{}, map[string]failover.RouterEffect{}
}

// see healthy | suspect silent throttled=10s | probing canary | down
func (s *story) see(args []string) {
	v := &failover.View{Number: 1, AllDown: true}
	if s.view != nil {
		v.Number = s.view.Number + 1
	}
	l, wants := failover.LevelView{}, false
	for _, word := range append(args, "|") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "|":
			n := len(v.Levels)
			l.Eligible = l.State <= failover.Ramping
			v.AllDown = v.AllDown && (!l.Eligible || s.set.Levels[n].Emergency)
			for _, id := range s.set.Levels[n].Members {
				l.Members = append(l.Members, failover.MemberView{Exporter: id})
			}
			if wants {
				l.Members[0].Token, l.Members[0].Canary = new(failover.Token), !l.Eligible
			}
			v.Levels = append(v.Levels, l)
			l, wants = failover.LevelView{}, false
		case "silent":
			l.Silent = true
		case "share":
			l.Share, _ = strconv.ParseFloat(value, 64)
		case "throttled":
			l.ThrottledUntil = s.time(value)
		case "canary", "evidence":
			wants = true
		default:
			for st := failover.Healthy; st <= failover.HeldLevel; st++ {
				if st.String() == key {
					l.State = st
				}
			}
		}
	}
	s.view = v
	s.step(failover.RouterEvent{Kind: failover.ViewChanged})
}

// take [records=n] [items=n] [attempt=n] [once] [times=n] [+ records=… the next piece of the same Take]
func (s *story) take(args []string) {
	times := 1
	for _, word := range args {
		if n, ok := strings.CutPrefix(word, "times="); ok {
			times = s.number(n)
		}
	}
	for range times {
		once := false
		for _, word := range args {
			once = once || word == "once"
		}
		if s.wanted == 0 && !once {
			s.say("no batch is wanted")
		}
		s.wanted = 0
		s.taken++
		var pieces []*failover.Batch
		for i, part := range strings.Split(strings.Join(args, " "), "+") {
			name := strconv.Itoa(s.taken)
			if i > 0 {
				name += string(rune('a' + i - 1))
			}
			u := s.unit(name, strings.Fields(part))
			s.accepted += uint64(u.Items)
			pieces = append(pieces, &u.Batch)
		}
		s.step(failover.RouterEvent{Kind: failover.BatchArrived, Pieces: pieces})
	}
}

func (s *story) unit(name string, words []string) *unit {
	u := &unit{name: name}
	records := 1
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "records":
			records = s.number(value)
		case "items":
			u.Items = uint32(s.number(value))
		case "attempt":
			u.Attempt = s.number(value)
		case "seq":
			u.Seqs = []uint64{uint64(s.number(value))}
		case "once":
			u.Once = true
		case "age":
			u.Accepted = s.now.Add(-s.duration(value))
		}
	}
	for len(u.Seqs) < records {
		s.seq++
		u.Seqs = append(u.Seqs, s.seq)
	}
	u.Items = cmp.Or(u.Items, uint32(records))
	u.Owner = u
	s.batches[name] = u
	return u
}

// answer 1 retry, answer 1 a1=delivered a2=retry_after:10s
func (s *story) answer(args []string) {
	sent, ok := s.flying[args[0]]
	if !ok {
		s.say("%s is not in flight", args[0])
		return
	}
	delete(s.flying, args[0])
	members := s.set.Levels[sent.Level].Members
	results := make([]failover.Result, len(members))
	for _, word := range args[1:] {
		member, verdict, ok := strings.Cut(word, "=")
		for m, id := range members {
			if !ok {
				results[m] = s.result(word)
			} else if member == id {
				results[m] = s.result(verdict)
			}
		}
	}
	s.step(failover.RouterEvent{
		Kind: failover.BatchFinished, Batch: sent.Batch, Try: sent.Try, Results: results,
	})
}

func (s *story) result(word string) failover.Result {
	kind, value, _ := strings.Cut(word, ":")
	var res failover.Result
	for k := exporter.Delivered; k <= exporter.Rejected; k++ {
		if k.String() == kind {
			res.Kind = k
		}
	}
	switch kind {
	case "unclear":
		res.Kind, res.Unclear = exporter.Retry, true
	case "uncounted":
		res.Kind, res.Uncounted = exporter.Retry, true
	case "too_large":
		res.Kind, res.TooLarge = exporter.Rejected, true
	case "partial":
		res.Kind, res.Rejected = exporter.Delivered, uint32(s.number(value))
	case "retry_after":
		if value != "" {
			res.After = s.duration(value)
		}
	}
	if res.Kind != exporter.Delivered {
		res.Err = errors.New(kind)
	}
	return res
}

func (s *story) at(until time.Time) {
	for !s.wake.IsZero() && !s.wake.After(until) {
		if s.wake.After(s.now) {
			s.now = s.wake
		}
		s.wake = time.Time{}
		s.step(failover.RouterEvent{Kind: failover.RouterTick})
	}
	s.now = until
}

func (s *story) step(ev failover.RouterEvent) {
	s.events = append(s.events, ev)
	for len(s.events) > 0 {
		ev, s.events = s.events[0], s.events[1:]
		for _, e := range s.r.Step(s.now, s.view, s.share, ev, nil) {
			s.do(e)
		}
	}
	if s.r != nil {
		s.conserve()
	}
}

func (s *story) do(e failover.RouterEffect) {
	name := ""
	var u *unit
	if e.Batch != nil {
		u = e.Batch.Owner.(*unit)
		name = u.name
	}
	if e.Kind >= failover.AckBatch && e.Kind <= failover.ReleaseBatch {
		s.ends[name] = e.Kind
		s.items[e.Kind] += u.Items
	}
	switch e.Kind {
	case failover.SendBatch:
		s.send(name, e)
	case failover.CancelBatch:
		s.say("%s cancelled", name)
	case failover.AbandonBatch:
		delete(s.flying, name)
		s.say("%s hangs, given up", name)
	case failover.HalveBatch:
		s.split(u, e.Max)
	case failover.WaitBatch:
		s.say("%s waits at %s until %.3f", name, s.level(e.Level), e.Until.Sub(storyStart).Seconds())
	case failover.HoldBatch:
		s.say("%s held", name)
	case failover.AckBatch:
		s.say("%s delivered%s", name, or(e.Rejected > 0, fmt.Sprintf(", %d items refused", e.Rejected)))
	case failover.NackBatch:
		s.say("%s back to the queue for %s%s", name, e.Delay, or(e.Again, ", may be a duplicate then"))
	case failover.DeadBatch:
		s.say("%s dead: %s, %v", name, e.Reason, e.Err)
	case failover.ReleaseBatch:
		s.say("%s released", name)
	case failover.WantBatches:
		s.wanted = e.N
	case failover.WakeQueue:
		s.say("queue woken")
	case failover.WakeAt:
		s.wake = e.Until
	}
}

func (s *story) level(i int) string { return strings.Join(s.set.Levels[i].Members, "+") }

func or(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

func (s *story) send(name string, e failover.RouterEffect) {
	var to []string
	for m, id := range s.set.Levels[e.Level].Members {
		if e.Members>>m&1 != 0 {
			to = append(to, id)
		}
	}
	text := fmt.Sprintf("%s → %s", name, strings.Join(to, "+"))
	if e.Proof {
		text += or(s.view.Levels[e.Level].Eligible, " as evidence") + or(!s.view.Levels[e.Level].Eligible, " as canary")
	}
	if e.From >= 0 {
		text += fmt.Sprintf(", from %s (%s)", s.level(e.From), e.Cause)
	}
	s.say("%s%s", text, or(e.Again, ", may be a duplicate"))
	if e.Proof && (s.lose || !s.view.Levels[e.Level].Claim()) {
		s.lose = false
		s.say("%s finds the token taken", name)
		s.events = append(s.events, failover.RouterEvent{Kind: failover.CanaryRefused, Batch: e.Batch, Try: e.Try})
		return
	}
	s.flying[name] = e
}

// split does what the loop does: halves the records, or the items of a single one.
func (s *story) split(u *unit, most uint32) {
	size := len(u.Seqs)
	if size == 1 {
		size = int(u.Items)
	}
	each := (size + 1) / 2
	if most > 0 {
		each = min(size, max(int(most)*size/int(u.Items), 1))
	}
	var pieces []*failover.Batch
	var names []string
	for at := 0; at < size; at += each {
		n := min(each, size-at)
		p := &unit{name: fmt.Sprintf("%s.%d", u.name, len(pieces)+1)}
		p.Owner = p
		p.Seqs, p.Items = u.Seqs, uint32(n)
		if len(u.Seqs) > 1 {
			p.Seqs, p.Items = u.Seqs[at:at+n], u.Items*uint32(n)/uint32(len(u.Seqs))
		} else {
			p.Piece = true
		}
		pieces = append(pieces, &p.Batch)
		names = append(names, p.name)
		s.batches[p.name] = p
	}
	s.say("%s taken apart: %s", u.name, strings.Join(names, " "))
	s.events = append(s.events, failover.RouterEvent{Kind: failover.BatchHalved, Batch: &u.Batch, Pieces: pieces})
}

func (s *story) show() {
	n := s.r.InHand()
	s.say("in hand %d: %d in flight, %d waiting, %d moving, %d held; a batch is %s", n.Taken, n.InFlight.Pieces,
		n.Waiting.Pieces, n.Moving.Pieces, n.Held.Pieces, cmp.Or(or(s.wanted > 0, "wanted"), "not wanted"))
	for i := range s.set.Levels {
		if d := s.r.Drain(i); d.Window < s.set.Levels[i].Slots || d.Pace > 0 {
			s.say("%s is sent %d at once, %.0f items a second", s.level(i), d.Window, d.Pace)
		}
	}
}
