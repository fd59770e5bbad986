// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/breaker"
)

// Switch holds every breaker of the process and says who may probe when. It is told outcomes and the time, and
// answers with effects: probes to send, changes to write down, views to publish, when to be woken.
//
//	outcomes ──► breaker ──► siblings ──► all-down ──► due probes, by level and gap ──► tokens ──► views
//
// It outlives reloads. One goroutine at a time calls Step; views and tokens may be read by all.
type Switch struct {
	jitter func() float64
	now    time.Time
	wake   time.Time // as told last
	lastID BreakerID

	cells   map[BreakerID]*cell
	order   []*cell // who probes first: by best level
	routes  []*swRoute
	byRoute map[RouteID]*swRoute

	changes []pending        // to be reported by this Step
	scratch []breaker.Change // of one call of a breaker
	turns   []turn           // of one handing out

	memory memory
}

// cell is a breaker and where it sits.
type cell struct {
	id       BreakerID
	key      seatKey
	b        *breaker.Breaker
	order    ProbeOrder
	seats    []seat
	siblings []*cell

	token   *Token // the one that views show; nil = none, or a batch has it
	proof   uint64 // the breaker's number of it
	canary  bool
	version uint64    // the breaker's that views were made of
	next    time.Time // the breaker's, as of the last settling
}

// seat is a place in a route.
type seat struct {
	route         *swRoute
	level, member int
}

// swRoute is a route as the Switch sees it.
type swRoute struct {
	set     SwitchRoute
	members [][]*cell // by level
	probed  time.Time // when the last recovery probe of an ordinary level began that kept the gap
	allDown bool
	dirty   bool
	recheck time.Time // when a token may be shown that a throttle hides; zero = none
	view    *View
}

type pending struct {
	cell   *cell
	change breaker.Change
}

// NewSwitch returns a Switch with every breaker healthy, but for those that are remembered as down from a moment ago;
// see Remembered. The first Step publishes every route's first view, whatever its event.
func NewSwitch(plan *SwitchPlan, remembered []Remembered, now time.Time) *Switch {
	s := &Switch{now: now, cells: map[BreakerID]*cell{}, byRoute: map[RouteID]*swRoute{}}
	s.reconfigure(now, plan)
	s.recall(now, remembered)
	return s
}

// Step takes an event at a time that does not fall and appends what is to be done. An outcome that changes nothing
// visible, which is nearly every one, allocates nothing.
func (s *Switch) Step(now time.Time, ev Event, out []Effect) []Effect {
	if now.Before(s.now) {
		now = s.now
	}
	s.now = now
	switch ev.Kind {
	case EventAttempted, EventProbed, EventCanaryDone, EventCanaryLost:
		if c := s.cells[ev.Breaker]; c != nil && s.hear(now, c, &ev) {
			return out
		}
	case EventReconfigure:
		s.reconfigure(now, ev.Plan)
	case EventProbeNow:
		out = s.probeNow(now, &ev, out)
	case EventHold:
		out = s.hold(now, &ev, out)
	case EventRelease:
		out = s.release(now, &ev, out)
	}
	return s.settle(now, out)
}

// hear tells a breaker its outcome, and reports whether nothing visible came of it and nothing else is due.
func (s *Switch) hear(now time.Time, c *cell, ev *Event) bool {
	c.look(now)
	out := s.scratch[:0]
	switch ev.Kind {
	case EventAttempted:
		out = c.b.Attempted(now, &ev.Outcome, ev.Proof, out)
	case EventProbed:
		out = c.b.Probed(now, ev.Probe, &ev.Outcome, out)
	case EventCanaryDone:
		out = c.b.CanaryDone(now, &ev.Outcome, out)
	case EventCanaryLost:
		c.b.ProofLost(now, ev.Outcome.Generation)
	}
	s.note(now, c, out)
	return len(out) == 0 && c.version == c.b.Version() && (s.wake.IsZero() || now.Before(s.wake)) && c.next == c.b.Next()
}

// look takes note of a batch that has claimed the token. Views show none until the next one is wanted.
func (c *cell) look(now time.Time) {
	if c.token != nil && c.token.claimed() {
		c.token = nil
		c.b.Taken(now)
	}
}

// note keeps changes for the report and tells the siblings what they should know.
func (s *Switch) note(now time.Time, c *cell, changes []breaker.Change) {
	s.scratch = changes
	if len(changes) == 0 {
		return
	}
	s.keep(c, changes)
	tripped, returned := false, false
	for i := range changes {
		if ch := &changes[i]; ch.Kind == breaker.Moved {
			tripped = tripped || ch.To == breaker.Down && ch.From.Carries() && ch.Reason != breaker.Standing &&
				ch.Reason != breaker.Throttled && ch.Reason != breaker.FromBefore
			returned = returned || ch.Reason == breaker.ProofComplete
		}
	}
	for _, other := range c.siblings {
		if tripped {
			changes = other.b.SiblingTripped(now, changes[:0])
			s.keep(other, changes)
			s.scratch = changes
		}
		if returned {
			other.b.SiblingReturned(now)
		}
	}
}

// keep notes changes of a breaker for the report.
func (s *Switch) keep(c *cell, changes []breaker.Change) {
	for i := range changes {
		ch := &changes[i]
		s.changes = append(s.changes, pending{c, *ch})
		s.memory.stale = s.memory.stale || ch.Kind == breaker.Moved && !(ch.From.Carries() && ch.To.Carries())
	}
}

func (s *Switch) probeNow(now time.Time, ev *Event, out []Effect) []Effect {
	r := s.byRoute[ev.Route]
	if r == nil || ev.Level >= len(r.members) {
		return append(out, Effect{Kind: EffectRefused, Route: ev.Route, Level: ev.Level, Why: "no such route or level"})
	}
	for i, members := range r.members {
		if ev.Level >= 0 && ev.Level != i {
			continue
		}
		for _, c := range members {
			c.b.ProbeNow(now)
		}
	}
	return out
}

// settle brings everything in line with the breakers: who is all-down, who may probe, what the views say, when to be
// woken. Each pass can make another one necessary: a tick trips, a trip makes a route all-down, and that makes a probe
// due. It ends because what is done is not due again before a later time.
func (s *Switch) settle(now time.Time, out []Effect) []Effect {
	for {
		s.tick(now)
		again := s.judge(now)
		var done bool
		if out, done = s.handOut(now, out); done && !again {
			break
		}
	}
	for _, c := range s.order {
		s.deal(now, c)
	}
	published := len(out)
	for _, r := range s.routes {
		out = s.publish(now, r, out)
	}
	s.seen()
	out = s.tellChanges(out, published)
	out = s.remember(now, out)
	return s.tellWake(now, out)
}

// tick lets time pass for the breakers for which it means something.
func (s *Switch) tick(now time.Time) {
	for _, c := range s.order {
		c.look(now)
		if at := c.b.Next(); !at.IsZero() && !now.Before(at) {
			s.note(now, c, c.b.Tick(now, s.scratch[:0]))
		}
	}
}

// judge finds the routes that are all-down: every ordinary level is down, probing or held, and none only throttled; and
// the breakers nobody could stand in for. It reports whether time now means something else to one of them.
func (s *Switch) judge(now time.Time) (again bool) {
	for _, r := range s.routes {
		if lost := r.lost(now); lost != r.allDown {
			r.allDown, r.dirty = lost, true
		}
	}
	for _, c := range s.order {
		on, sole := false, false
		for _, at := range c.seats {
			if !at.route.set.Levels[at.level].Emergency {
				on, sole = on || at.route.allDown, sole || !at.route.carries(at.level)
			}
		}
		c.b.SetAllDown(now, on)
		again = c.b.SetSole(sole) || again
	}
	return again
}

// carries reports whether an ordinary level other than this one takes data.
func (r *swRoute) carries(but int) bool {
	for i, members := range r.members {
		if i != but && !r.set.Levels[i].Emergency && eligible(members) {
			return true
		}
	}
	return false
}

func eligible(members []*cell) bool {
	for _, c := range members {
		if !c.b.State().Carries() {
			return false
		}
	}
	return true
}

func (r *swRoute) lost(now time.Time) bool {
	for i, members := range r.members {
		if r.set.Levels[i].Emergency {
			continue
		}
		carries, dead := true, false
		for _, c := range members {
			if !c.b.State().Carries() {
				carries = false
				dead = dead || !c.b.OnlyThrottled(now)
			}
		}
		if carries || !dead {
			return false
		}
	}
	return true
}

// deal makes the token of the live batch that a breaker wants, and withdraws one that it wants no more.
func (s *Switch) deal(now time.Time, c *cell) {
	number, canary := c.b.Proof()
	if number == c.proof && (number == 0) == (c.token == nil) {
		return
	}
	if c.token != nil && !c.token.withdraw() && number != 0 {
		c.token, c.proof = nil, 0 // claimed this moment
		c.b.Taken(now)
		return
	}
	c.token, c.proof, c.canary = nil, number, canary
	if number != 0 {
		c.token = new(Token)
	}
}

// tellChanges reports what happened, for each route of the breaker and with where data goes now; it stands before the
// views that followed from it.
func (s *Switch) tellChanges(out []Effect, at int) []Effect {
	if len(s.changes) == 0 {
		return out
	}
	views := append([]Effect(nil), out[at:]...)
	out = out[:at]
	for _, p := range s.changes {
		for _, seat := range p.cell.seats {
			out = append(out, Effect{
				Kind: EffectChanged, Route: seat.route.set.RouteID, Level: seat.level, Exporter: p.cell.key.sibling.exporter,
				Breaker: p.cell.id, Change: p.change, Goes: seat.route.goes(seat.level),
			})
		}
	}
	clear(s.changes)
	s.changes = s.changes[:0]
	return append(out, views...)
}

// goes says where fresh data goes, as seen from a level.
func (r *swRoute) goes(level int) Goes {
	switch active := r.view.Active; {
	case active < 0:
		return GoesNowhere
	case active <= level:
		return GoesOn
	case r.view.Levels[active].Emergency:
		return GoesEmergency
	}
	return GoesNext
}

// tellWake says when time will next mean something.
func (s *Switch) tellWake(now time.Time, out []Effect) []Effect {
	var wake time.Time
	for _, c := range s.order {
		c.next = c.b.Next()
		at := c.next
		if !at.IsZero() && !now.Before(at) { // due, and put off for a gap
			at = c.gapEnds()
		}
		wake = sooner(wake, at)
	}
	for _, r := range s.routes {
		wake = sooner(wake, r.recheck)
	}
	wake = sooner(wake, s.memory.next)
	if wake == s.wake {
		return out
	}
	s.wake = wake
	return append(out, Effect{Kind: EffectWakeAt, At: wake})
}

// sooner is the earlier of two times of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
