// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// dispatch drives the router of one destination. Whoever has news steps it, one at a time under the lock, and does what
// the router says of its own batch itself, so that a batch that meets no trouble is taken, sent and resolved by one
// goroutine:
//
//	worker:   take ─► step(arrived) ─► send ─► step(finished) ─► resolve ─► take …      as many as there are slots
//	request:          step(arrived) ─► send ─► step(finished) ─► answer                 where the client waits
//	feeder:   take ─► step(arrived), when one is wanted                                 one for each of several sources
//	loop:     new view, time ─► step                                                    one
//
// Under the lock nothing waits and nothing is written: a step leaves what takes time to whoever took it (chores). Records
// are taken only when the router wants some.
type dispatch struct {
	*delivery
	room    *switchroom.Room
	id      failover.RouteID
	config  *failover.Config
	senders [][]*sender // by level and member
	counts  failover.Conditions
	pulses  [][]pulse // by level and member
	exact   bool      // every delivery is told by itself: how long it took matters
	meter   *meter
	fortune *fortune
	several bool   // sources: each has a feeder
	trial   uint64 // levels on trial; guarded by mu
	at      *atomic.Pointer[failover.View]
	kept    atomic.Pointer[failover.View] // in place of what is there; nil = none
	nudges  <-chan struct{}
	sooner  chan struct{} // of one place: the loop is to wake up earlier than it meant to
	over    chan struct{} // closed when nothing is in hand, all is resolved and nothing comes any more
	open    atomic.Int64  // those that resolve
	crew    *sync.WaitGroup

	mu struct {
		sync.Mutex
		router  *failover.Router
		view    *failover.View
		now     time.Time
		out     []failover.RouterEffect
		events  []failover.RouterEvent
		wake    time.Time // when the router wants a tick; zero = never
		armed   time.Time // when the loop will wake up
		wanted  bool
		lane    failover.Lane // of those wanted
		fresh   queue.Seq     // while a backlog is drained: what is appended from here on goes beside it; 0 = there is none
		takers  int           // workers that take, or are about to
		taking  *term         // ends when no batch is wanted any more
		idle    []*worker
		offers  []*source // feeders with a batch that wait until one is wanted
		feeders int
		// lasting are the feeders that end, when the process stops, only when nothing is owed any more.
		lasting int
		dry     bool // nothing more comes
		ended   bool
	}
}

func newDispatch(set *Settings, d *plan.Destination) (*dispatch, error) {
	if set.Switch == nil {
		return nil, fmt.Errorf("pipeline %s: destination %s has no switch", set.Plan.ID, d.Label)
	}
	router, err := failover.NewRouter(routeSettings(d, set.Jitter))
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: destination %s: %w", set.Plan.ID, d.Label, err)
	}
	x := &dispatch{
		room: set.Switch, id: RouteID(set.Plan.Signal, d), config: configOf(d), meter: newMeter(set, d), fortune: &fortune{},
		sooner: make(chan struct{}, 1), over: make(chan struct{}),
	}
	x.counts = x.config.Conditions()
	x.exact = x.config.Detector.SlowAfter != nil && x.config.Detector.SlowAfter != "0s"
	x.mu.router, x.mu.lane = router, failover.AnyLane
	for i := range d.Levels {
		var members []*sender
		for _, id := range d.Levels[i].Exporters {
			exp := set.Exporters[id]
			if exp == nil {
				return nil, fmt.Errorf("pipeline %s: no exporter %q", set.Plan.ID, id)
			}
			member := newSender(set, id, exp, &plan.Destination{Label: id})
			member.shared = x.fortune
			members = append(members, member)
		}
		x.senders = append(x.senders, members)
		x.pulses = append(x.pulses, make([]pulse, len(members)))
	}
	own := x.senders[0][0]
	if d.Route != nil {
		own = newSender(set, d.Levels[0].Exporters[0], own.exporter, d)
	}
	x.meter.line = own
	if x.at, x.nudges = set.Switch.Follow(x.id, x.fortune.failed); x.at == nil {
		return nil, fmt.Errorf("pipeline %s: destination %s has no route", set.Plan.ID, d.Label)
	}
	if !d.Wait && set.Queue == nil {
		return nil, fmt.Errorf("pipeline %s: destination %s has no queue", set.Plan.ID, d.Label)
	}
	x.delivery = newDelivery(set, d, own)
	x.repay = x.repayment()
	return x, nil
}

func (x *dispatch) start(crew *sync.WaitGroup) {
	x.crew = crew
	if x.own != nil && x.owed().Records > 0 { // from before this process: that it is gone will be worth a line
		x.backlog.Store(time.Now().UnixNano())
	}
	if sources := x.sources(); x.own != nil && len(sources) > 1 {
		x.several, x.mu.feeders = true, len(sources)
		for _, s := range sources {
			if s == x.own || !s.stored {
				x.mu.lasting++
			}
		}
		for _, s := range sources {
			s.accepted = make(chan bool, 1)
			crew.Go(func() { x.feed(s) })
		}
	}
	crew.Go(x.loop)
	x.tell(failover.RouterEvent{Kind: failover.ViewChanged})
}

// drain empties what is in memory (all), or ends what does not end by itself within a while.
func (x *dispatch) drain(all bool) {
	x.empty.Store(all)
	x.draining.Store(true)
	x.endTake()
	if all {
		x.tell(failover.RouterEvent{Kind: failover.RouterDrain})
	} else {
		x.tell(failover.RouterEvent{Kind: failover.RouterStop, Grace: storedStop})
	}
	if x.own != nil {
		x.own.Wake()
	}
}

// onTrial says which levels are on trial. What was put off until now has its verdict when none is.
func (x *dispatch) onTrial(levels uint64) {
	x.mu.Lock()
	over := x.trial != 0 && levels == 0
	x.trial = levels
	x.mu.router.OnTrial(levels)
	x.mu.Unlock()
	if over {
		x.wake()
	}
}

// halt ends the deliveries: nothing more is taken, what is in flight has its time, leases return.
func (x *dispatch) halt(grace time.Duration) {
	x.draining.Store(true)
	x.endTake()
	x.tell(failover.RouterEvent{Kind: failover.RouterStop, Grace: grace})
	x.own.Wake()
}

// part gives back what was borrowed: leases, and the place where views are told.
func (x *dispatch) part() {
	x.close()
	x.room.Leave(x.id, x.nudges)
}

// cut ends what is in flight.
func (x *dispatch) cut() {
	x.tell(failover.RouterEvent{Kind: failover.RouterStop})
	x.endSend()
}

// tell steps the router with news that are nobody's batch.
func (x *dispatch) tell(ev failover.RouterEvent) {
	var c chores
	x.mu.Lock()
	if x.mu.ended {
		x.mu.Unlock()
		return
	}
	x.mu.dry = x.mu.dry || ev.Kind == failover.RouterStop
	x.step(&c, time.Now(), ev)
	x.unlock(&c)
}

// loop steps the router when there is a new view and when its time has come.
func (x *dispatch) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		x.mu.Lock()
		x.mu.armed = x.mu.wake
		wake := x.mu.wake
		x.mu.Unlock()
		var due <-chan time.Time
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
			due = timer.C
		}
		select {
		case <-x.nudges:
			x.tell(failover.RouterEvent{Kind: failover.ViewChanged})
		case <-due:
			x.mu.Lock()
			if !x.mu.wake.After(wake) {
				x.mu.wake = time.Time{}
			}
			x.mu.Unlock()
			x.tell(failover.RouterEvent{Kind: failover.RouterTick})
		case <-x.sooner:
		case <-x.over:
			return
		}
	}
}

// step hands the router one event and does what it says, and then what came of that. now may be a little old.
func (x *dispatch) step(c *chores, now time.Time, ev failover.RouterEvent) {
	m := &x.mu
	if now.After(m.now) {
		m.now = now
	}
	m.events = append(m.events[:0], ev)
	for i := 0; i < len(m.events); i++ {
		m.view = x.view()
		m.out = m.router.Step(m.now, m.view, x.share(), m.events[i], m.out[:0])
		for k := range m.out {
			x.do(c, &m.out[k])
		}
	}
	clear(m.events)
	x.meter.holds(m.router.InHand())
	for i := range x.senders {
		x.meter.drains(i, m.router.Drain(i))
	}
}

// share is how full the queue is.
func (x *dispatch) share() float64 {
	if x.own == nil || x.config.Emergency.When != "queue_high" {
		return 0
	}
	f := x.own.Fill()
	if f.Capacity <= 0 {
		return 0
	}
	return float64(f.Size) / float64(f.Capacity)
}

func (x *dispatch) do(c *chores, e *failover.RouterEffect) {
	var l *load
	if e.Batch != nil {
		l = e.Batch.Owner.(*load)
	}
	switch e.Kind {
	case failover.SendBatch:
		x.sendTo(c, l, e)
	case failover.CancelBatch:
		if a := l.attempt; a != nil && a.try == e.Try {
			a.cancel()
		}
	case failover.AbandonBatch:
		x.abandon(l, e.Try)
	case failover.HalveBatch:
		x.mu.events = append(x.mu.events, failover.RouterEvent{
			Kind: failover.BatchHalved, Batch: e.Batch, Pieces: x.halve(l, e.Max),
		})
	case failover.AckBatch, failover.NackBatch, failover.DeadBatch, failover.ReleaseBatch:
		x.end(c, l, e)
	case failover.WaitBatch:
		c.say(x.senders[e.Level][0], l, e.Until.Sub(x.mu.now))
	case failover.HoldBatch:
		if x.dest.Route == nil { // of a connector's levels the switch room says what there is to say
			c.say(x.sender, l, max(x.mu.view.NextProbe.Sub(x.mu.now), 0))
		}
	case failover.WantBatches:
		x.mu.wanted, x.mu.lane = e.N > 0, e.Lane
		switch {
		case e.N > 0 && e.Lane == failover.AnyLane:
			x.mu.fresh = 0
		case e.Lane == failover.Fresh && x.mu.fresh == 0 && x.own != nil:
			x.mu.fresh = x.own.Fill().Last + 1
		}
	case failover.WakeQueue:
		c.wake = true
	case failover.WakeAt:
		x.mu.wake = e.Until
		if x.mu.armed.IsZero() || e.Until.Before(x.mu.armed) {
			select {
			case x.sooner <- struct{}{}:
			default:
			}
		}
	}
}

// view is what is seen of the route's endpoints. It may be called from any goroutine.
func (x *dispatch) view() *failover.View {
	if v := x.kept.Load(); v != nil {
		return v
	}
	return x.at.Load()
}

// held reports whether nobody takes what is accepted now, and how long it is until the next probe.
func (x *dispatch) held() (time.Duration, bool) {
	v := x.view()
	if v == nil || !v.AllDown {
		return 0, false
	}
	for i := range v.Levels {
		if l := &v.Levels[i]; l.Emergency && l.Eligible {
			return 0, false
		}
	}
	return max(time.Until(v.NextProbe), 0), true
}

// arrive gives a batch as taken to the router: records that came back alone, the others together.
func (x *dispatch) arrive(c *chores, now time.Time, j job) {
	x.mu.wanted = false
	plain := !(len(j.batch) == 1 && x.tooMany(&j.batch[0]))
	for i := range j.batch {
		plain = plain && j.batch[i].Attempt == 0
	}
	if plain || len(j.batch) == 1 && j.batch[0].Attempt > 0 && !x.tooMany(&j.batch[0]) {
		l := x.loadOf(j.from, j.batch)
		x.step(c, now, failover.RouterEvent{Kind: failover.BatchArrived, Pieces: l.alone[:]})
		return
	}
	var pieces []*failover.Batch
	var fresh []queue.Delivered
	for i := range j.batch {
		r := &j.batch[i]
		switch {
		case len(j.batch) == 1:
			pieces = append(pieces, x.cutUp(j.from, r)...)
		case r.Attempt > 0:
			pieces = append(pieces, &x.loadOf(j.from, j.batch[i:i+1]).Batch)
		default:
			fresh = append(fresh, *r)
		}
	}
	if len(fresh) > 0 {
		pieces = append(pieces, &x.loadOf(j.from, fresh).Batch)
	}
	x.step(c, now, failover.RouterEvent{Kind: failover.BatchArrived, Pieces: pieces})
}

// heard takes an attempt that ended off the books.
func (x *dispatch) heard(a *sending) failover.RouterEvent {
	l := a.load
	l.doubt = max(l.doubt, slices.Max(a.doubts))
	for i := range a.results {
		switch v := &a.results[i].Verdict; {
		case v.Kind == exporter.Delivered:
			l.message = v.Message
		case v.Kind != 0:
			l.last = *v
		}
	}
	a.flying = false
	return failover.RouterEvent{Kind: failover.BatchFinished, Batch: &l.Batch, Try: a.try, Results: a.results}
}

// unlock hands out what there is to do, ends the lock, and does what was left to the caller. It returns the attempt that
// the caller is to make.
func (x *dispatch) unlock(c *chores) *sending {
	m := &x.mu
	for m.wanted && len(m.offers) > 0 {
		s := x.turn()
		x.arrive(c, m.now, job{s, s.offer})
		s.accepted <- true
	}
	if m.dry || x.draining.Load() {
		x.turnAway()
	}
	x.callTaker()
	resolves := len(c.ends) > 0
	if resolves {
		x.open.Add(1)
	}
	x.finish()
	x.mu.Unlock()
	own := c.own
	c.own = nil
	x.perform(c)
	if resolves && x.open.Add(-1) == 0 && x.draining.Load() {
		x.mu.Lock()
		x.finish()
		x.mu.Unlock()
	}
	return own
}

// finish says so when all is over.
func (x *dispatch) finish() {
	if !x.mu.ended && x.open.Load() == 0 && x.spent() {
		x.mu.ended = true
		x.meter.leave()
		close(x.over)
	}
}

// spent reports whether nothing is in hand and nothing comes any more.
func (x *dispatch) spent() bool {
	m := &x.mu
	if m.takers > 0 || m.feeders > 0 || !x.draining.Load() || m.router.InHand().Taken > 0 {
		return false
	}
	return m.dry || x.own == nil || !m.wanted && x.own.Fill().Records == 0
}
