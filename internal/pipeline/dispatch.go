// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// dispatch drives the router of a destination with levels: one goroutine, a feeder per source, one per attempt.
//
//	feeder ─► batches ─► loop ─► attempt (one per batch in flight) ─► answers ─► loop ─► resolve
//	                      ▲ view, time                 └─► outcomes ─► switch room
//
// The loop alone steps the router and resolves. It takes a batch from a feeder only when the router wants one, so a
// feeder holds at most one lease that nobody works on.
type dispatch struct {
	*delivery
	room    *SwitchRoom
	id      failover.RouteID
	router  *failover.Router
	senders [][]*sender // by level and member
	counts  []failover.Conditions
	meter   *meter
	fortune *fortune

	batches chan job    // unbuffered
	answers chan answer // room for one per slot: an attempt never waits for the loop
	orders  chan failover.RouterEvent
	nudges  <-chan struct{}
	over    chan struct{} // closed when the loop has ended: late answers go nowhere

	// of the loop alone
	view    *failover.View
	now     time.Time
	out     []failover.RouterEffect
	events  []failover.RouterEvent
	wanted  bool
	wake    time.Time
	flights map[uint64]*flight // by try
}

// load is a batch in hand: whole records, or a piece of one.
type load struct {
	failover.Batch
	unit
	from *source
	at   uint32  // items of the record before the piece
	part *parted // the piece's record
	last exporter.Verdict
	// For the meter: the levels that were asked, or counted as passed by, and why it may have been taken.
	asked uint64
	doubt doubt
}

// parted is a record in several pieces. It is resolved when all of them have ended.
type parted struct {
	fate   fate
	taken  uint32 // items of pieces that were delivered
	live   int
	delay  time.Duration
	nacked bool
	let    bool // released, in part
}

// flight is one attempt.
type flight struct {
	load   *load
	level  int
	cancel context.CancelFunc
	given  *atomic.Bool // up: nobody waits for it
}

// answer is how an attempt ended.
type answer struct {
	try     uint64
	results []failover.Result
	doubt   doubt
}

func newDispatch(set *Settings, d *plan.Destination, v *delivery) (*dispatch, error) {
	router, err := failover.NewRouter(routeSettings(d, set.Jitter))
	if err != nil {
		return nil, fmt.Errorf("pipeline %s: destination %s: %w", set.Plan.ID, d.Label, err)
	}
	x := &dispatch{
		delivery: v, room: set.Switch, id: RouteID(set.Plan.Signal, d), router: router,
		batches: make(chan job), orders: make(chan failover.RouterEvent, 4), over: make(chan struct{}),
		flights: map[uint64]*flight{}, meter: newMeter(set, d), fortune: &fortune{},
	}
	x.meter.line = v.sender
	slots := 0
	for i := range d.Levels {
		l := &d.Levels[i]
		slots += max(l.Workers, 1)
		var members []*sender
		for _, id := range l.Exporters {
			exp := set.Exporters[id]
			if exp == nil {
				return nil, fmt.Errorf("pipeline %s: no exporter %q", set.Plan.ID, id)
			}
			member := newSender(set, id, exp, &plan.Destination{Label: id})
			member.shared = x.fortune
			members = append(members, member)
		}
		x.senders = append(x.senders, members)
		x.counts = append(x.counts, d.Route.Config.Conditions())
	}
	x.answers = make(chan answer, slots)
	if x.nudges = set.Switch.follow(x.id, x.fortune); x.nudges == nil {
		return nil, fmt.Errorf("pipeline %s: destination %s has no route", set.Plan.ID, d.Label)
	}
	x.repay = x.repayment()
	return x, nil
}

func (x *dispatch) start(workers *sync.WaitGroup) {
	var feeders sync.WaitGroup
	sources := append([]*source{x.own}, x.inherited...)
	if x.repay != nil {
		sources = append(sources, x.repay)
	}
	for _, s := range sources {
		feeders.Go(func() { x.feed(s) })
	}
	fed := make(chan struct{})
	workers.Go(func() {
		feeders.Wait()
		close(fed)
	})
	workers.Go(func() { x.run(fed) })
}

// feed takes batch after batch and hands each over when the router wants one.
func (x *dispatch) feed(s *source) {
	for {
		batch, err := x.nextOf(s)
		if err != nil {
			return
		}
		if batch = x.unkept(s, batch); len(batch) == 0 {
			continue
		}
		select {
		case x.batches <- job{s, batch}:
		case <-x.over:
			x.resolve(s, queue.Outcome{Kind: queue.Release}, seqs(batch)...)
			return
		}
	}
}

// nextOf is next for any source: what is inherited is not drained when the process stops.
func (x *dispatch) nextOf(s *source) ([]queue.Delivered, error) {
	if s == x.own {
		return x.next()
	}
	w := x.dest.Want
	w.Joins = joins
	return s.Take(x.take, w)
}

// stop begins to drain what is in memory, or ends what does not end by itself.
func (x *dispatch) stop(drain bool) {
	if drain {
		x.order(failover.RouterEvent{Kind: failover.RouterDrain})
		return
	}
	x.order(failover.RouterEvent{Kind: failover.RouterStop, Grace: storedStop})
}

// order tells the loop to drain or to stop.
func (x *dispatch) order(ev failover.RouterEvent) {
	select {
	case x.orders <- ev:
	case <-x.over:
	}
}

// run is the loop. It ends when the feeders have ended and nothing is in hand.
func (x *dispatch) run(fed <-chan struct{}) {
	defer close(x.over)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	x.step(failover.RouterEvent{Kind: failover.ViewChanged})
	feeding, stopped := true, false
	for feeding || x.router.InHand().Taken > 0 {
		var due <-chan time.Time
		if !x.wake.IsZero() {
			timer.Reset(max(time.Until(x.wake), 0))
			due = timer.C
		}
		var batches <-chan job
		if x.wanted || stopped { // after a stop the router lets go of whatever a feeder still has
			batches = x.batches
		}
		select {
		case j := <-batches:
			x.arrive(j)
		case a := <-x.answers:
			x.answered(a)
		case <-x.nudges:
			x.step(failover.RouterEvent{Kind: failover.ViewChanged})
		case <-due:
			x.wake = time.Time{}
			x.step(failover.RouterEvent{Kind: failover.RouterTick})
		case ev := <-x.orders:
			stopped = stopped || ev.Kind == failover.RouterStop
			x.step(ev)
		case <-fed:
			feeding, fed = false, nil
		}
	}
}

// step hands the router one event and does what it says, and then what came of that.
func (x *dispatch) step(ev failover.RouterEvent) {
	x.events = append(x.events, ev)
	for len(x.events) > 0 {
		ev = x.events[0]
		x.events = x.events[1:]
		x.now, x.view = time.Now(), x.room.View(x.id)
		x.out = x.router.Step(x.now, x.view, x.share(), ev, x.out[:0])
		for i := range x.out {
			x.do(&x.out[i])
		}
	}
	x.events = nil
	x.meter.holds(x.router.InHand())
	for i := range x.senders {
		x.meter.drains(i, x.router.Drain(i))
	}
}

// share is how full the queue is.
func (x *dispatch) share() float64 {
	if x.dest.Route.Config.Emergency.When != "queue_high" {
		return 0
	}
	f := x.own.Fill()
	if f.Capacity <= 0 {
		return 0
	}
	return float64(f.Size) / float64(f.Capacity)
}

func (x *dispatch) do(e *failover.RouterEffect) {
	var l *load
	if e.Batch != nil {
		l = e.Batch.Owner.(*load)
	}
	switch e.Kind {
	case failover.SendBatch:
		x.sendTo(l, e)
	case failover.CancelBatch:
		if f := x.flights[e.Try]; f != nil {
			f.cancel()
		}
	case failover.AbandonBatch:
		x.abandon(l, e.Try)
	case failover.HalveBatch:
		x.events = append(x.events, failover.RouterEvent{
			Kind: failover.BatchHalved, Batch: e.Batch, Pieces: x.halve(l, e.Max),
		})
	case failover.AckBatch, failover.NackBatch, failover.DeadBatch, failover.ReleaseBatch:
		x.end(l, e)
	case failover.WaitBatch:
		if l.last.Kind != 0 {
			x.senders[e.Level][0].retrying(l.last, e.Until.Sub(x.now))
		}
	case failover.WantBatches:
		x.wanted = e.N > 0
	case failover.WakeQueue:
		x.own.Wake()
		for _, s := range x.inherited {
			s.Wake()
		}
		if x.repay != nil {
			x.repay.Wake()
		}
	case failover.WakeAt:
		x.wake = e.Until
	}
}

// arrive gives a batch as taken to the router: records that came back alone, the others together.
func (x *dispatch) arrive(j job) {
	x.wanted = false
	var pieces []*failover.Batch
	var fresh []queue.Delivered
	for i := range j.batch {
		r := &j.batch[i]
		switch {
		case len(j.batch) == 1 && x.tooMany(r):
			pieces = append(pieces, x.cut(j.from, r)...)
		case r.Attempt > 0:
			pieces = append(pieces, x.loadOf(j.from, j.batch[i:i+1]))
		default:
			fresh = append(fresh, *r)
		}
	}
	if len(fresh) > 0 {
		pieces = append(pieces, x.loadOf(j.from, fresh))
	}
	x.step(failover.RouterEvent{Kind: failover.BatchArrived, Pieces: pieces})
}

func (x *dispatch) answered(a answer) {
	if f := x.flights[a.try]; f != nil { // else it was given up
		x.step(x.heard(a))
	}
}

// heard takes an attempt that ended off the books.
func (x *dispatch) heard(a answer) failover.RouterEvent {
	f := x.flights[a.try]
	delete(x.flights, a.try)
	f.cancel()
	f.load.doubt = max(f.load.doubt, a.doubt)
	for i := range a.results {
		if v := &a.results[i].Verdict; v.Kind != 0 && v.Kind != exporter.Delivered {
			f.load.last = *v
			if v.Kind != exporter.Rejected {
				x.grows(*v)
			}
		}
	}
	return failover.RouterEvent{
		Kind: failover.BatchFinished, Batch: &f.load.Batch, Try: a.try, Results: a.results,
	}
}
