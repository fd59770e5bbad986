// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
)

var (
	seed  = flag.Uint64("seed", 0, "play only this schedule")
	seeds = flag.Uint64("seeds", 0, "how many schedules to play; 0 = some, and many under HOLDFAST_LONG=1")
)

// kept are schedules that once failed.
var kept = []uint64{
	4336, // a batch that left a throttled level had its patience there again
}

// model drives a router with random views, answers and times, and checks every effect against its own books.
type model struct {
	t     *testing.T
	rng   *rand.Rand
	set   failover.RouteSettings
	total int
	r     *failover.Router
	now   time.Time
	view  *failover.View
	share float64

	wake     time.Time
	wanted   int
	draining bool
	stopped  bool
	hand     map[*failover.Batch]*held
	order    []*held // the same, in an order that a seed repeats
	families map[*family]bool
	asked    []time.Time // silence the levels asked for
	events   []failover.RouterEvent
	accepted uint64
	ended    map[failover.RouterEffectKind]uint64 // items
	told     []string
	ids      int
}

// family is a batch as taken.
type family struct{ live int }

// held is a batch in hand.
type held struct {
	failover.Batch
	family *family
	flying bool
	sent   failover.RouterEffect
	got    map[[2]int]bool // level and member that delivered it
	again  bool
	whole  bool // cannot be taken apart
	id     int
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	for _, line := range m.told[max(0, len(m.told)-40):] {
		m.t.Log(line)
	}
	m.t.Fatalf("%s: %s", m.now.Sub(storyStart), fmt.Sprintf(format, args...))
}

func (m *model) tell(format string, args ...any) {
	m.told = append(m.told, m.now.Sub(storyStart).String()+" "+fmt.Sprintf(format, args...))
}

var effectWords = [...]string{"send", "cancel", "abandon", "halve", "wait", "hold", "ack", "nack", "dead", "release", "want",
	"wake", "wakeat"}

func (m *model) name(h *held) string {
	if h == nil {
		return "-"
	}
	if h.id == 0 {
		m.ids++
		h.id = m.ids
	}
	return fmt.Sprintf("#%d", h.id)
}

func newModel(t *testing.T, n uint64) *model {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(n, 1)), now: storyStart, hand: map[*failover.Batch]*held{},
		families: map[*family]bool{}, ended: map[failover.RouterEffectKind]uint64{},
	}
	cfg := failover.Default().(*failover.Config)
	m.set = cfg.Settings()
	m.set.Stay, m.set.Move = m.one(6), m.one(6)
	m.set.DrainStart, m.set.LiveShare, m.set.Strict = 1+m.rng.IntN(3), m.rng.Float64(), m.one(8)
	m.set.DropRejected = m.one(8)
	m.set.Jitter = func() float64 { return 2*m.rng.Float64() - 1 }
	for i := range 1 + m.rng.IntN(3) {
		l := failover.LevelSettings{
			Slots:    1 + m.rng.IntN(5),
			Backoff:  failover.Backoff{Initial: time.Second, Max: 8 * time.Second, Multiplier: 1.5, Spread: 0.5},
			Patience: [...]time.Duration{0, 3 * time.Second, 20 * time.Second, failover.Forever}[m.rng.IntN(4)],
			Timeout:  [...]time.Duration{0, 2 * time.Second, 10 * time.Second}[m.rng.IntN(3)],
			MaxItems: [...]uint32{0, 0, 0, 7}[m.rng.IntN(4)],
		}
		for k := range 1 + m.rng.IntN(2) {
			l.Members = append(l.Members, fmt.Sprintf("%d.%d", i, k))
		}
		m.set.Levels = append(m.set.Levels, l)
		m.total += l.Slots
	}
	if n := len(m.set.Levels); n > 1 && m.one(2) {
		m.set.Levels[n-1].Emergency = true
		m.set.HighWater = [...]float64{0, 0.5}[m.rng.IntN(2)]
	}
	if m.one(4) {
		m.set.Slots = 1 + m.rng.IntN(4)
	}
	m.asked = make([]time.Time, len(m.set.Levels))
	r, err := failover.NewRouter(m.set)
	if err != nil {
		t.Fatal(err)
	}
	m.r = r
	return m
}

// one is true once in n times.
func (m *model) one(n int) bool { return m.rng.IntN(n) == 0 }

// see makes up a view; calm ones have all levels healthy.
func (m *model) see(calm bool) {
	v := &failover.View{Number: 1, AllDown: true}
	if m.view != nil {
		v.Number = m.view.Number + 1
	}
	for i := range m.set.Levels {
		l := failover.LevelView{Emergency: m.set.Levels[i].Emergency}
		if !calm {
			l.State = [...]failover.LevelState{failover.Healthy, failover.Healthy, failover.Suspect, failover.Probing,
				failover.Down, failover.Ramping, failover.HeldLevel}[m.rng.IntN(7)]
			if l.State == failover.Ramping {
				l.Share = m.rng.Float64()
			}
			l.Silent = l.State == failover.Suspect && m.one(2)
			if m.one(6) {
				l.ThrottledUntil = m.now.Add(time.Duration(m.rng.IntN(60)) * time.Second)
			}
		}
		l.Eligible = l.State <= failover.Ramping
		v.AllDown = v.AllDown && (!l.Eligible || l.Emergency)
		token := !l.Emergency && (l.State == failover.Probing || l.State == failover.Suspect) && m.one(2)
		for _, id := range m.set.Levels[i].Members {
			member := failover.MemberView{Exporter: id}
			if token {
				member.Token, member.Canary = new(failover.Token), !l.Eligible
				token = m.one(2)
			}
			l.Members = append(l.Members, member)
		}
		v.Levels = append(v.Levels, l)
	}
	m.view = v
	m.tell("view %d: %+v", v.Number, v.Levels)
	m.step(failover.RouterEvent{Kind: failover.ViewChanged})
}

// sameAgain shows the router an equal view: it may decide nothing else than before.
func (m *model) sameAgain() {
	for _, l := range m.view.Levels {
		if proof, _ := l.Wanted(); proof {
			return // a token that others lost may be asked for again
		}
	}
	v, w := *m.view, *m.view // what time alone changed is decided under the first
	v.Number, w.Number = v.Number+1, v.Number+2
	m.view = &v
	m.step(failover.RouterEvent{Kind: failover.ViewChanged})
	m.view = &w
	for _, e := range m.r.Step(m.now, m.view, m.share, failover.RouterEvent{}, nil) {
		if e.Kind != failover.WakeAt {
			m.fail("the same view again makes a difference: %+v", e)
		}
		m.wake = e.Until
	}
}

func (m *model) step(ev failover.RouterEvent) {
	m.events = append(m.events, ev)
	for len(m.events) > 0 {
		ev, m.events = m.events[0], m.events[1:]
		for _, e := range m.r.Step(m.now, m.view, m.share, ev, nil) {
			m.do(e)
		}
		m.check()
	}
}

func (m *model) do(e failover.RouterEffect) {
	var h *held
	if e.Batch != nil {
		if h = m.hand[e.Batch]; h == nil {
			m.fail("an effect on a batch that is not in hand: %+v", e)
		}
	}
	m.tell("%s %s try %d level %d from %d %s members %b proof %v until %s delay %s max %d n %d", effectWords[e.Kind],
		m.name(h), e.Try, e.Level, e.From, e.Cause, e.Members, e.Proof, e.Until.Sub(storyStart), e.Delay, e.Max, e.N)
	switch e.Kind {
	case failover.SendBatch:
		m.sendIsAllowed(h, e)
		h.flying, h.sent = true, e
		if e.Proof && (m.one(4) || !m.view.Levels[e.Level].Claim()) {
			h.flying = false
			m.events = append(m.events, failover.RouterEvent{Kind: failover.CanaryRefused, Batch: e.Batch, Try: e.Try})
		}
	case failover.CancelBatch, failover.AbandonBatch:
		if !h.flying || h.sent.Try != e.Try {
			m.fail("%d of an attempt that is not under way", e.Kind)
		}
		h.flying = e.Kind == failover.CancelBatch
		h.again = h.again || !h.flying
	case failover.HalveBatch:
		m.halve(h, e.Max)
	case failover.WaitBatch:
		if h.flying || m.stopped {
			m.fail("waits in flight, or after the stop")
		}
	case failover.HoldBatch:
		for i, l := range m.view.Levels {
			if l.Eligible && !m.set.Levels[i].Emergency && h.flying {
				m.fail("held although level %d is eligible", i)
			}
		}
	case failover.AckBatch, failover.NackBatch, failover.DeadBatch, failover.ReleaseBatch:
		m.end(h, e)
	case failover.WantBatches:
		m.wanted = e.N
	case failover.WakeAt:
		m.wake = e.Until
	}
}

func (m *model) sendIsAllowed(h *held, e failover.RouterEffect) {
	set, l := &m.set.Levels[e.Level], &m.view.Levels[e.Level]
	proof, _ := l.Wanted()
	switch {
	case h.flying:
		m.fail("two attempts of one batch at once")
	case m.stopped:
		m.fail("sent after the stop")
	case e.Members == 0 || e.Members>>len(set.Members) != 0:
		m.fail("sent to members %b of %v", e.Members, set.Members)
	case e.Proof && !proof:
		m.fail("a proof that nobody wants")
	case !e.Proof && !l.Eligible:
		m.fail("sent to level %d, which is not eligible", e.Level)
	case l.Eligible && (l.ThrottledUntil.After(m.now) || m.asked[e.Level].After(m.now)) &&
		(!e.Proof || !l.Silent):
		m.fail("level %d is called early", e.Level)
	case set.Emergency && !m.view.AllDown:
		m.fail("the emergency level takes data although not all is down")
	case set.Emergency && m.share < m.set.HighWater && !m.draining:
		m.fail("the emergency level takes data below high water")
	case h.again && !e.Again:
		m.fail("a possible duplicate is not told")
	case set.MaxItems > 0 && h.Items > set.MaxItems && !h.Piece && !h.whole:
		m.fail("%d items sent, %d are allowed", h.Items, set.MaxItems)
	}
	for k := range set.Members {
		if e.Members>>k&1 != 0 && h.got[[2]int{e.Level, k}] {
			m.fail("member %d of level %d has it already", k, e.Level)
		}
	}
}

// halve takes a batch apart, or cannot.
func (m *model) halve(h *held, most uint32) {
	if h.flying {
		m.fail("taken apart in flight")
	}
	if len(h.Seqs) == 1 && m.one(5) && most == 0 {
		h.whole = true
		m.events = append(m.events, failover.RouterEvent{Kind: failover.BatchHalved, Batch: &h.Batch})
		return
	}
	var pieces []*failover.Batch
	size := max(h.Items/2, 1)
	if most > 0 {
		size = min(size, most)
	}
	for at := uint32(0); at < h.Items; at += size {
		p := &held{family: h.family, got: map[[2]int]bool{}, again: h.again}
		p.Items = min(size, h.Items-at)
		p.Seqs, p.Piece = h.Seqs, true
		if n := len(h.Seqs); n > 1 && most == 0 {
			cut := [2][]uint64{h.Seqs[:n/2], h.Seqs[n/2:]}
			p.Seqs, p.Piece = cut[min(len(pieces), 1)], false
		}
		for k := range h.got {
			p.got[k] = true
		}
		pieces = append(pieces, &p.Batch)
		m.hand[&p.Batch] = p
		m.order = append(m.order, p)
	}
	h.family.live += len(pieces)
	m.gone(h)
	m.events = append(m.events, failover.RouterEvent{Kind: failover.BatchHalved, Batch: &h.Batch, Pieces: pieces})
}

func (m *model) gone(h *held) {
	delete(m.hand, &h.Batch)
	for i := range m.order {
		if m.order[i] == h {
			m.order = append(m.order[:i], m.order[i+1:]...)
			break
		}
	}
	if h.family.live--; h.family.live == 0 {
		delete(m.families, h.family)
	}
}

func (m *model) end(h *held, e failover.RouterEffect) {
	if h.flying {
		m.fail("ends in flight")
	}
	if e.Kind == failover.AckBatch && e.Rejected < h.Items && !m.deliveredSomewhere(h) {
		m.fail("acknowledged, and no level has it from all its members")
	}
	if e.Kind == failover.NackBatch && e.Delay <= 0 {
		m.fail("back to the queue without a rest")
	}
	m.ended[e.Kind] += uint64(h.Items)
	m.gone(h)
}

func (m *model) deliveredSomewhere(h *held) bool {
	for i := range m.set.Levels {
		n := 0
		for k := range m.set.Levels[i].Members {
			if h.got[[2]int{i, k}] {
				n++
			}
		}
		if n == len(m.set.Levels[i].Members) {
			return true
		}
	}
	return false
}

// check compares the router's books with ours.
func (m *model) check() {
	in := m.r.InHand()
	if len(m.events) == 0 {
		pieces := in.InFlight.Pieces + in.Waiting.Pieces + in.Moving.Pieces + in.Held.Pieces
		items := in.InFlight.Items + in.Waiting.Items + in.Moving.Items + in.Held.Items
		own := uint64(0)
		for _, h := range m.hand {
			own += uint64(h.Items)
		}
		if pieces != len(m.hand) || items != own || in.Taken != len(m.families) {
			m.fail("in hand %+v, but there are %d pieces of %d batches, %d items", in, len(m.hand), len(m.families), own)
		}
		sum := own
		for _, n := range m.ended {
			sum += n
		}
		if sum != m.accepted {
			m.fail("%d items accepted, %d accounted for", m.accepted, sum)
		}
		if in.Waiting.Pieces > 0 && m.wake.IsZero() {
			m.fail("batches wait and nothing is to wake the router")
		}
	}
	if in.Taken > m.total+1 {
		m.fail("%d batches in hand, there are %d slots", in.Taken, m.total)
	}
	busy, late := make([]int, len(m.set.Levels)), make([]int, len(m.set.Levels))
	all := 0
	for _, h := range m.hand {
		if h.flying {
			all++
			busy[h.sent.Level]++
			if h.Attempt > 0 {
				late[h.sent.Level]++
			}
		}
	}
	for i, n := range busy {
		slots := m.set.Levels[i].Slots
		if n > slots || late[i] > max(slots/4, 1) {
			m.fail("%d in flight at level %d, %d of them stragglers; there are %d slots", n, i, late[i], slots)
		}
	}
	if m.set.Slots > 0 && all > m.set.Slots {
		m.fail("%d in flight, at most %d are allowed", all, m.set.Slots)
	}
}

func (m *model) take() {
	if m.wanted == 0 {
		return
	}
	m.wanted = 0
	f := &family{}
	m.families[f] = true
	var pieces []*failover.Batch
	for i := range 1 + m.rng.IntN(3)/2*m.rng.IntN(4) {
		h := &held{family: f, got: map[[2]int]bool{}}
		h.Seqs = make([]uint64, 1)
		if i == 0 && m.one(2) {
			h.Seqs = make([]uint64, 1+m.rng.IntN(8))
		} else {
			h.Attempt = m.rng.IntN(3) * m.rng.IntN(6)
		}
		for k := range h.Seqs {
			h.Seqs[k] = m.rng.Uint64N(200)
		}
		h.Items = uint32(len(h.Seqs) * (1 + m.rng.IntN(6)))
		h.Accepted = m.now.Add(-time.Duration(m.rng.IntN(60)) * time.Second)
		f.live++
		m.accepted += uint64(h.Items)
		m.hand[&h.Batch] = h
		m.order = append(m.order, h)
		pieces = append(pieces, &h.Batch)
	}
	m.step(failover.RouterEvent{Kind: failover.BatchArrived, Pieces: pieces})
}

// answer ends one attempt; good ones deliver.
func (m *model) answer(good bool) {
	var flying []*held
	for _, h := range m.order {
		if h.flying {
			flying = append(flying, h)
		}
	}
	if len(flying) == 0 {
		return
	}
	h := flying[m.rng.IntN(len(flying))]
	level := h.sent.Level
	results := make([]failover.Result, len(m.set.Levels[level].Members))
	for k := range results {
		v := &results[k]
		v.Kind = exporter.Kind(m.rng.IntN(7))
		if good || m.one(3) {
			v.Kind = exporter.Delivered
		}
		v.Unclear, v.TooLarge, v.Uncounted = m.one(2), m.one(2), m.one(4)
		if v.Kind == exporter.RetryAfter && m.one(2) {
			v.After = time.Duration(m.rng.IntN(90)) * time.Second
		}
		if h.sent.Members>>k&1 == 0 {
			continue
		}
		if v.Kind == exporter.Delivered {
			v.Rejected = m.rng.Uint32N(3)
			h.got[[2]int{level, k}] = true
		}
		h.again = h.again || v.Kind == exporter.Ambiguous
	}
	m.askedForTime(h, results)
	h.flying = false
	m.tell("answer of %s: %+v", m.name(h), results)
	m.step(failover.RouterEvent{Kind: failover.BatchFinished, Batch: &h.Batch, Try: h.sent.Try, Results: results})
}

// askedForTime notes what a retry-after asks for, where it is the row that counts.
func (m *model) askedForTime(h *held, results []failover.Result) {
	after := time.Duration(-1)
	for k, v := range results {
		if h.sent.Members>>k&1 == 0 {
			continue
		}
		switch v.Kind {
		case exporter.Retry, exporter.Ambiguous:
			return
		case exporter.RetryAfter:
			after = max(after, v.After)
		}
	}
	if t := m.now.Add(min(after, m.set.MaxThrottle)); after > 0 && t.After(m.asked[h.sent.Level]) && !m.stopped {
		m.asked[h.sent.Level] = t
	}
}

// pass lets time go by, with the ticks that were asked for.
func (m *model) pass(d time.Duration) {
	until := m.now.Add(d)
	for !m.wake.IsZero() && !m.wake.After(until) {
		m.now = later(m.now, m.wake)
		m.wake = time.Time{}
		m.step(failover.RouterEvent{Kind: failover.RouterTick})
	}
	m.now = until
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (m *model) play() {
	m.see(true)
	for range 200 + m.rng.IntN(200) {
		switch n := m.rng.IntN(20); {
		case n < 6:
			m.take()
		case n < 13:
			m.answer(false)
		case n < 15:
			m.pass(time.Duration(m.rng.IntN(3000)) * time.Millisecond)
		case n < 16:
			m.pass(time.Duration(m.rng.IntN(60)) * time.Second)
		case n < 18:
			m.see(false)
		case n < 19:
			m.share = m.rng.Float64()
			m.step(failover.RouterEvent{Kind: failover.ViewChanged})
		default:
			m.sameAgain()
		}
	}
}

// settle is the end of every outage: all is well, and everything is delivered or back in the queue.
func (m *model) settle() {
	m.see(true)
	for range 10000 {
		if len(m.hand) == 0 {
			break
		}
		m.answer(true)
		m.pass(time.Second)
	}
	if len(m.hand) > 0 {
		m.fail("all is well, and %d pieces are in hand for ever", len(m.hand))
	}
	m.pass(time.Hour)
	if m.wanted != 1 {
		m.fail("all is well, and no batch is wanted")
	}
}

func (m *model) stop() {
	if m.one(3) {
		m.draining = true
		m.step(failover.RouterEvent{Kind: failover.RouterDrain})
		for range m.rng.IntN(40) {
			m.take()
			m.answer(false)
			m.pass(time.Second)
		}
	}
	m.stopped = true
	m.step(failover.RouterEvent{Kind: failover.RouterStop, Grace: 5 * time.Second})
	for range m.rng.IntN(5) {
		m.answer(false)
		m.take()
	}
	m.pass(10 * time.Second)
	if len(m.hand) > 0 {
		m.fail("%d pieces are left after the stop", len(m.hand))
	}
}

// TestItemsAreConservedByTheRouter plays random schedules and checks every promise of the router after every event.
func TestItemsAreConservedByTheRouter(t *testing.T) {
	numbers := kept
	switch {
	case *seed > 0:
		numbers = []uint64{*seed}
	case *seeds == 0:
		*seeds = sample(150, 5000)
	}
	for n := uint64(1); n <= *seeds && *seed == 0; n++ {
		numbers = append(numbers, n)
	}
	for _, n := range numbers {
		ok := t.Run(fmt.Sprintf("seed=%d", n), func(t *testing.T) {
			m := newModel(t, n)
			m.play()
			if m.one(2) {
				m.settle()
				m.play()
			}
			m.stop()
		})
		if !ok {
			return
		}
	}
}
