// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// The router's constants (failover, sections 5.3, 9 and 10).
const (
	cancelAfter     = 5 * time.Second // in flight at a level that tripped
	stuckAfter      = 5 * time.Second // beyond an attempt's timeout, or after it was cancelled
	localWait       = time.Second
	minThrottleWait = 5 * time.Second // worth waiting for, whatever the patience
	maxNackDelay    = 10 * time.Minute
	maxDrainWait    = time.Second // while a memory queue is drained
	waterEvery      = time.Second // between looks at the queue's share while batches are held
	minBackoff      = time.Millisecond
)

// Router decides where the batches of one destination go, for as long as they are in hand (failover, section 10). It
// is one machine driven by one goroutine: an event and the time go in, effects come out. It reads no clock, sends
// nothing and keeps no bytes.
//
//	            ┌──────────────── new view, time ───────────────┐
//	Arrived ─► route ─► moving (for a slot) ─► in flight ─► Finished ─► waiting, splitting, or route again
//	            └─► held                            └─► Ack, Nack, Dead, Release
//
// Promises: every batch that arrived ends with exactly one of Ack, Nack, Dead, Release, or is taken apart into pieces
// that do; it is in flight once at a time; a member that delivered it is not sent it again; only a canary goes to a
// level that is not eligible; taken batches in hand never exceed the slots of all levels and one.
type Router struct {
	set       RouteSettings
	levels    []station
	emergency int // index, -1 = none
	total     int // slots of all levels
	bound     int // of busy slots

	view     *View
	share    float64
	trial    uint64 // levels whose rejections are not final
	draining bool
	stopping bool

	first, last *Batch // in hand, oldest first
	families    []family
	free        []int32
	taken       int // families alive
	straggling  int // of them, with stragglers
	busy        int // slots
	movers      int
	freed       bool // a slot came free: somebody on the move may have it
	jolted      bool // a level asked for time: what waits for it is routed again
	wanted      int
	place       int // level of the batches wanted
	lane        Lane
	tries       uint64
	arrivals    uint64
	inHand      InHand
	doubts      map[doubtKey]doubt

	next      time.Time // nothing is due before; zero = never
	announced time.Time
	out       []RouterEffect
}

// station is what the router keeps of one level.
type station struct {
	busy, stragglers int // slots held
	moving           int // batches waiting for a slot, without stragglers
	deliveries       uint64
	delivered        time.Time // the last one
	throttled        time.Time // heard by this router; the view may hear of it later
	win              Window    // of an ordinary level
	spent            *Token    // the proof already asked of a batch
	lost             uint64    // the view under which others were quicker; a later one may show the token free again
}

// family is a batch as taken, whatever it was taken apart into.
type family struct{ live, stragglers int32 }

// NewRouter returns a router without a view, which holds everything.
func NewRouter(set RouteSettings) (*Router, error) {
	if err := set.Validate(); err != nil {
		return nil, err
	}
	r := &Router{
		set: set, levels: make([]station, len(set.Levels)), emergency: -1, doubts: map[doubtKey]doubt{},
		view: &View{Active: -1, Levels: make([]LevelView, len(set.Levels))},
	}
	for i := range set.Levels {
		l := &r.set.Levels[i]
		l.Backoff.Initial = max(l.Backoff.Initial, minBackoff)
		l.Backoff.Max = max(l.Backoff.Max, l.Backoff.Initial)
		r.total += l.Slots
		r.levels[i].win = NewWindow(l.Slots, set.DrainStart, set.LiveShare)
		if l.Emergency {
			r.emergency = i
		}
	}
	r.bound = r.total
	if set.Slots > 0 {
		r.bound = min(r.bound, set.Slots)
	}
	if set.Strict {
		r.bound = 1
	}
	return r, nil
}

// OnTrial says which levels, as bits, have senders on trial (reload, section 7): what one of them rejects goes back to the
// queue instead of being dead, for a later verdict. It may be called between two Steps.
func (r *Router) OnTrial(levels uint64) { r.trial = levels }

// RouterEventKind is what happened.
type RouterEventKind uint8

// The events.
const (
	// ViewChanged says no more than that there is a new view or a new share; every Step looks at both.
	ViewChanged RouterEventKind = iota
	// RouterTick: the time WakeAt named is there. Every Step does what is due.
	RouterTick
	// BatchArrived: a Take returned Pieces: its records without earlier nacks as one batch, each other one alone.
	BatchArrived
	// BatchFinished: the attempt Try of Batch ended with Results. Of an attempt that was abandoned nothing is heard.
	BatchFinished
	// CanaryRefused: the tokens of attempt Try were taken by others, nothing was sent.
	CanaryRefused
	// BatchHalved: Batch was taken apart into Pieces and is the caller's again; without Pieces it could not be.
	BatchHalved
	// RouterDrain: the queue is in memory and to be emptied: short waits, and the emergency level as soon as all is
	// down. What still is wanted is up to the caller.
	RouterDrain
	// RouterStop: nothing more is taken; what is not in flight is released, what is has Grace.
	RouterStop
)

// RouterEvent is one event. Pieces and Results are read before Step returns and not kept; the batches are.
type RouterEvent struct {
	Kind    RouterEventKind
	Batch   *Batch
	Try     uint64
	Pieces  []*Batch
	Results []Result // by member of the level; those of members not sent to are not looked at
	Grace   time.Duration
}

// Result is how an attempt at one member ended. A Kind of 0 is local: nobody was asked, a limiter inside the level
// refused, or the attempt was cut by ourselves.
type Result struct {
	exporter.Verdict
	// Uncounted failures move a batch only when its patience ends (condition.error.contains).
	Uncounted bool
	// Late says that our own timer was, so that the verdict says nothing of the endpoint: the attempt may have been taken,
	// and is else as one without a verdict.
	Late bool
}

// RouterEffectKind is what the caller is to do.
type RouterEffectKind uint8

// The effects. Ack, Nack, Dead and Release end a batch: it is the caller's again.
const (
	// SendBatch to the Members of Level, under the generations of the view given to this Step. With Proof the
	// level's tokens are claimed first; if that fails, nothing is sent and CanaryRefused returned.
	SendBatch RouterEffectKind = iota
	// CancelBatch ends the attempt Try early; its Finished is still awaited.
	CancelBatch
	// AbandonBatch: the attempt Try hangs and is not awaited any more. The batch goes on; its bytes may be read.
	AbandonBatch
	// HalveBatch takes the batch apart: into two halves of its records, or a single record by its fields; with Max
	// into pieces of at most Max items. BatchHalved answers.
	HalveBatch
	WaitBatch    // tells: it waits at Level until Until
	HoldBatch    // tells: it waits for a view
	AckBatch     // delivered; Rejected of its items were refused
	NackBatch    // back to the queue for Delay
	DeadBatch    // set aside for Reason; Err is the last answer, Asked the levels
	ReleaseBatch // back to the queue, nothing is said of it
	// WantBatches: N Takes are to be under way, 0 or 1. Each Arrived ends one. Lane is whose turn it is while a backlog
	// is drained, AnyLane else; what is to be had of the other lane is better than nothing.
	WantBatches
	// WakeQueue: a level is back; delays of nacked records are forgotten.
	WakeQueue
	// WakeAt: RouterTick is due at Until, in place of any earlier WakeAt.
	WakeAt
)

// RouterEffect is one effect; the fields that its kind names are set.
type RouterEffect struct {
	Kind     RouterEffectKind
	Batch    *Batch
	Try      uint64
	Level    int // Send, Wait: where; the ends: the last level, -1 = none
	From     int // Send: the level it moved from, -1 = none
	Cause    MoveCause
	Members  uint64 // a bit for each member of the level that has not delivered it
	Proof    bool
	Again    bool // Send: an earlier attempt may have been taken, so this may be a duplicate. Nack: the next may
	Until    time.Time
	Delay    time.Duration
	Rejected uint32
	Max      uint32
	N        int
	Lane     Lane
	Reason   DeadReason
	Err      error
	Asked    uint64
}

// MoveCause says why a batch left a level for another.
type MoveCause uint8

// The causes.
const (
	MoveNone MoveCause = iota
	MoveFailure
	MovePatience
	MoveDown
	MoveThrottled
	MoveMisconfigured
	MoveRejected
	MoveCanary
	MoveReturn // to a better level that is back
)

var causeWords = [...]string{
	"none", "failure", "patience", "down", "throttled", "misconfigured", "rejected", "canary", "return",
}

// String is the cause's word in metrics.
func (c MoveCause) String() string { return causeWords[c] }

// DeadReason says why a batch is set aside.
type DeadReason uint8

// The reasons.
const (
	DeadRejected DeadReason = iota // by every level that could be asked
	DeadUnclear                    // ten times back in the queue with answers that blame no endpoint, while others pass
)

// String is the reason's word in metrics.
func (d DeadReason) String() string { return [...]string{"rejected", "unclear"}[d] }

// Free is how many batches could be sent at once if they came now; WantBatches says whether any could.
func (r *Router) Free() int {
	if r.wanted == 0 {
		return 0
	}
	if !r.view.Levels[r.place].Eligible { // it wants a canary, and that is one batch
		return 1
	}
	l := &r.levels[r.place]
	free := min(r.set.Levels[r.place].Slots-l.busy, r.bound-r.busy, r.total+1-r.taken)
	if r.place != r.emergency {
		free = min(free, l.win.Limit()-l.win.flying[Fresh]-l.win.flying[Backlog])
	}
	return max(free, 1) // somebody is wanted
}

// leaving reports whether b goes back to the queue unless it is in flight.
func (r *Router) leaving(b *Batch) bool { return r.stopping || r.draining && b.Stays }

// InHand counts what a router has, in batches as taken and in pieces.
type InHand struct {
	Taken, Stragglers               int
	InFlight, Waiting, Moving, Held Amount
}

// Amount is a number of pieces and their items. A piece that is being taken apart counts as waiting.
type Amount struct {
	Pieces int
	Items  uint64
}

// Drain is how a level is drained into, for showing.
type Drain struct {
	Window int     // batches at once
	Pace   float64 // items a second, 0 = as many as it takes
}

// Drain returns what level i is sent at most.
func (r *Router) Drain(i int) Drain {
	w := &r.levels[i].win
	return Drain{w.Limit(), w.Pace()}
}

// InHand returns a copy of the counts.
func (r *Router) InHand() InHand {
	n := r.inHand
	n.Taken, n.Stragglers = r.taken, r.straggling
	return n
}

// Step takes one event at now, under view v (nil = the last one) with the queue filled to share of its capacity, and
// appends what is to be done to out, in order. now must not go back.
func (r *Router) Step(now time.Time, v *View, share float64, ev RouterEvent, out []RouterEffect) []RouterEffect {
	r.out, r.share = out, share
	if v != nil && v != r.view && len(v.Levels) == len(r.levels) {
		r.look(now, v)
	}
	switch ev.Kind {
	case BatchArrived:
		r.arrive(now, ev.Pieces)
	case BatchFinished:
		if b := ev.Batch; b.state == batchInFlight && b.try == ev.Try {
			r.finish(now, b, ev.Results)
		}
	case CanaryRefused:
		if b := ev.Batch; b.state == batchInFlight && b.try == ev.Try {
			r.refuse(now, b)
		}
	case BatchHalved:
		if ev.Batch.state == batchSplitting {
			r.halved(now, ev.Batch, ev.Pieces)
		}
	case RouterDrain:
		r.drain(now)
	case RouterStop:
		r.stop(now, ev.Grace)
	}
	if !r.next.IsZero() && !now.Before(r.next) {
		r.due(now)
	}
	if r.jolted {
		r.jolt(now)
	}
	r.pump(now)
	r.want(now)
	if !r.next.Equal(r.announced) && !r.next.IsZero() {
		r.announced = r.next
		r.emit(RouterEffect{Kind: WakeAt, Until: r.next})
	}
	out, r.out = r.out, nil
	return out
}

func (r *Router) emit(e RouterEffect) { r.out = append(r.out, e) }

// schedule makes sure that a Step at t does what is due then.
func (r *Router) schedule(t time.Time) {
	if r.next.IsZero() || t.Before(r.next) {
		r.next = t
	}
}
