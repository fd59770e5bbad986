// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"math"
	"time"
)

// The window's constants (failover, section 11.4).
const (
	windowRest   = 60 * time.Second // without backlog or overload, and the window is as wide as the slots again
	floorSpan    = 60               // seconds of which the quickest is the floor
	backlogSpan  = 10 * time.Second // backlog that was sent so lately is still there
	contest      = time.Second      // a lane that was told to wait so lately still does
	leastShare   = 0.001            // of a lane whose share is none: it has what the other one leaves
	backlogAge   = 30 * time.Second // records older than this when they are sent are backlog
	latencySlack = 10 * time.Millisecond
)

// Lane tells fresh data from the backlog of an outage.
type Lane uint8

// The lanes.
const (
	Fresh Lane = iota
	Backlog
	lanes
	AnyLane = lanes // no matter
)

// Window is how much one level is sent while a backlog is drained into it: so many batches at once, and after the first
// overload so many items a second. It keeps an endpoint that has just come back from being knocked down again by what
// has gathered. It is pure: it is told what is sent and what came of it, and reads no clock.
//
//	            a return: w = start
//	            backlog:  w = slots                 60 s without backlog or overload
//	asleep ─────────────────────────────► awake ─────────────────────────────────────► asleep
//	                                      delivered in 2 × floor  w + 1/w
//	                                      delivered later         w × 0.9   ┐
//	                                      retry-after             w × 0.8   ├ one a second, never below 1
//	                                      retry, ambiguous        w × 0.5   ┘
//
// Asleep it bounds nothing: the slots do. The last two are overloads: from the first one on there is a pace.
type Window struct {
	slots int
	start int
	live  float64

	awake    bool
	began    time.Time // awake
	stirred  time.Time // last return, backlog or overload
	drained  time.Time // last backlog
	lessened time.Time
	w        float64
	flying   [lanes]int
	waits    [lanes]time.Time // when a lane was last told to wait; zero = it does not
	served   float64          // tag of the last batch
	ends     [lanes]float64   // of a lane's last batch

	pace pace

	means [floorSpan]mean // by second
	timed int64           // the newest second of means
	floor time.Duration   // the lowest mean of a whole second; 0 = none yet
}

// mean adds up latencies.
type mean struct {
	sum time.Duration
	n   int64
}

// NewWindow returns a window that is asleep. A level with so many slots starts with start batches after a return; live is
// the share of fresh data while there is a backlog, too.
func NewWindow(slots, start int, live float64) Window {
	return Window{slots: slots, start: min(max(start, 1), slots), live: live, w: float64(slots)}
}

// Limit is how many batches may be on their way at once.
func (w *Window) Limit() int {
	if !w.awake {
		return w.slots
	}
	return max(int(w.w), 1)
}

// Pace is how many items a second are sent; 0 = as many as it takes.
func (w *Window) Pace() float64 { return w.pace.rate }

// Allow reports whether a batch of the lane may be sent. If not, at is when to ask again; zero = when something on its
// way has ended.
func (w *Window) Allow(now time.Time, lane Lane) (ok bool, at time.Time) {
	if w.rest(now); !w.awake {
		return true, time.Time{}
	}
	if lane < lanes {
		defer func() {
			if !ok {
				w.waits[lane] = now
			}
		}()
	}
	if w.flying[Fresh]+w.flying[Backlog] >= w.Limit() {
		return false, time.Time{}
	}
	if w.pace.set() {
		if due := w.pace.next(now); now.Before(due) {
			return false, due
		}
	}
	if lane < lanes {
		if other := 1 - lane; !w.waits[other].IsZero() && now.Sub(w.waits[other]) < contest && w.tag(other) < w.tag(lane) {
			return false, w.waits[other].Add(contest)
		}
	}
	return true, time.Time{}
}

// Lane is the lane whose turn it is while a backlog is drained, AnyLane else. Whoever has nothing of it may send of the
// other one.
func (w *Window) Lane(now time.Time) Lane {
	switch w.rest(now); {
	case !w.awake || w.drained.IsZero():
		return AnyLane
	case w.tag(Fresh) <= w.tag(Backlog):
		return Fresh
	}
	return Backlog
}

// tag is when a lane's next batch begins, in the time of a level that serves each lane at its share: of two that wait the
// one with the lower tag is next. A lane that does not wait takes nothing from the other, and saves nothing up.
func (w *Window) tag(lane Lane) float64 { return math.Max(w.served, w.ends[lane]) }

// share is the part of the level a lane has while the other one waits, too.
func (w *Window) share(lane Lane) float64 {
	if lane == Fresh {
		return math.Max(w.live, leastShare)
	}
	return math.Max(1-w.live, leastShare)
}

// Sent tells of a batch that is on its way, whether it was allowed or was a canary. Done ends it.
func (w *Window) Sent(now time.Time, lane Lane, items uint32) {
	w.flying[lane]++
	w.waits[lane] = time.Time{}
	w.served = w.tag(lane)
	w.ends[lane] = w.served + float64(items)/w.share(lane)
	if lane == Backlog {
		w.Stir(now)
	}
	if w.awake {
		w.pace.sent(now, items)
	}
}

// Answer is what came of a batch, as far as a window cares.
type Answer uint8

// The answers.
const (
	AnswerNone      Answer = iota // nothing was sent, or it says nothing of the endpoint's strength
	AnswerDelivered               //
	AnswerAsked                   // retry-after
	AnswerFailed                  // retry, ambiguous
	AnswerUnclear                 // the same, and may be the batch's fault
)

// Done tells what came of a batch that was Sent.
func (w *Window) Done(now time.Time, lane Lane, a Answer, items uint32, took time.Duration) {
	w.flying[lane] = max(w.flying[lane]-1, 0)
	if w.rest(now); !w.awake {
		return
	}
	switch a {
	case AnswerDelivered:
		w.pace.delivered(now, took, items)
		if took <= 2*w.quickest(now, took)+latencySlack {
			w.w = math.Min(w.w+1/w.w, float64(w.slots))
		} else {
			w.lessen(now, 0.9)
		}
	case AnswerAsked:
		w.overload(now, took, items, 0.8)
	case AnswerFailed:
		w.overload(now, took, items, 0.5)
	case AnswerUnclear:
		w.lessen(now, 0.5)
	}
}

// Returned tells that the level carries again: it is sent little at first, and what it could take before is forgotten.
func (w *Window) Returned(now time.Time) {
	w.wake(now)
	w.w = float64(w.start)
}

// Stir tells of backlog that is drained into the level.
func (w *Window) Stir(now time.Time) {
	if w.rest(now); !w.awake {
		w.wake(now)
	}
	w.stirred, w.drained = now, now
}

func (w *Window) wake(now time.Time) {
	*w = Window{
		slots: w.slots, start: w.start, live: w.live, flying: w.flying, waits: w.waits, awake: true, began: now, stirred: now,
		w: float64(w.slots), pace: pace{anchor: now},
	}
}

// rest ends what nothing has called for any more.
func (w *Window) rest(now time.Time) {
	if w.awake && now.Sub(w.stirred) > windowRest {
		w.awake, w.pace, w.w = false, pace{}, float64(w.slots)
	}
}

// lessen narrows the window, once a second: what fails together is one sign.
func (w *Window) lessen(now time.Time, by float64) {
	if w.lessened.IsZero() || now.Sub(w.lessened) >= time.Second {
		w.lessened, w.w = now, math.Max(w.w*by, 1)
	}
}

// overload narrows the window and, while there is backlog, sets the pace: only then is what was delivered what the
// endpoint could take, and not what there was to deliver.
func (w *Window) overload(now time.Time, took time.Duration, items uint32, by float64) {
	w.stirred = now
	w.lessen(now, by)
	if !w.drained.IsZero() && now.Sub(w.drained) < backlogSpan {
		w.pace.overloaded(now, took, items)
	}
}

// second is the whole second of the episode now is in.
func (w *Window) second(now time.Time) int64 { return int64(now.Sub(w.began) / time.Second) }

// quickest is the floor: the lowest mean of the last minute's seconds, of which took is the newest latency. While no
// second is whole, what there is of the first has to do.
func (w *Window) quickest(now time.Time, took time.Duration) time.Duration {
	if n := w.second(now); n > w.timed {
		if n-w.timed >= floorSpan {
			w.means = [floorSpan]mean{}
		} else {
			for i := w.timed + 1; i <= n; i++ {
				w.means[i%floorSpan] = mean{}
			}
		}
		w.timed, w.floor = n, 0
		for _, m := range w.means {
			if m.n > 0 && (w.floor == 0 || m.sum/time.Duration(m.n) < w.floor) {
				w.floor = max(m.sum/time.Duration(m.n), 1)
			}
		}
	}
	m := &w.means[w.timed%floorSpan]
	m.sum, m.n = m.sum+took, m.n+1
	if w.floor > 0 {
		return w.floor
	}
	return m.sum / time.Duration(m.n)
}
