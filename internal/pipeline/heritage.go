// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// source is a cursor a destination takes from: its own, or one it inherited.
type source struct {
	queue.Cursor
	stored bool // what is not delivered when the process stops stays in a journal; else it is drained then
	repays bool // what comes of it lies in the emergency file, and does not go there again

	// of its feeder, where there are several sources
	offer    []queue.Delivered
	accepted chan bool // of one place; false = nobody wants it any more
}

// job is a batch and where it was leased.
type job struct {
	from  *source
	batch []queue.Delivered
}

// Inherit makes the named destination serve a backlog that waits elsewhere, for a destination that left the
// configuration, in a journal (stored) or in memory. It takes from it in turn with its own. Before Start; the pipeline closes
// the cursor.
func (p *Pipeline) Inherit(destination string, backlog queue.Cursor, stored bool) error {
	for _, d := range p.deliveries {
		if d.dest.Name == destination {
			d.inherited = append(d.inherited, &source{Cursor: backlog, stored: stored})
			return nil
		}
	}
	return fmt.Errorf("pipeline %s: no queued destination %q to inherit a backlog", p.set.Plan.ID, destination)
}

// feed takes batch after batch of a source and hands each over when the router wants one. Where there are several
// sources each has a feeder with one batch ready, and their turns come in the order in which they were, or, while a
// backlog is drained, as the lanes' shares say: a backlog neither starves live data nor is starved by it.
func (x *dispatch) feed(s *source) {
	for x.feedOne(s) {
	}
	var c chores
	x.mu.Lock()
	x.mu.feeders--
	if s == x.own || !s.stored { // it ended because nothing is owed any more, or is to be taken; others end with take
		x.mu.lasting--
		x.mu.dry = x.mu.dry || x.mu.lasting == 0
	}
	x.unlock(&c)
}

func (x *dispatch) feedOne(s *source) bool {
	batch, err := x.nextOf(s)
	if err != nil {
		return false
	}
	if batch = x.unkept(s, batch); len(batch) == 0 {
		return true
	}
	var c chores
	now := time.Now()
	x.mu.Lock()
	if x.mu.wanted && len(x.mu.offers) == 0 && !x.leaving(s) {
		x.arrive(&c, now, job{s, batch})
		x.unlock(&c)
		return true
	}
	s.offer = batch
	x.mu.offers = append(x.mu.offers, s)
	x.unlock(&c)
	if <-s.accepted {
		return true
	}
	x.resolve(s, queue.Outcome{Kind: queue.Release}, seqs(batch)...)
	return false
}

// nextOf is next for any source: what is inherited in a journal is not drained when the process stops. The own one is taken
// ahead.
func (x *dispatch) nextOf(s *source) ([]queue.Delivered, error) {
	if s == x.own {
		return x.next(x.take, func() bool { return true }, x.beside())
	}
	if !s.stored {
		return x.delivery.nextOf(x.take, s, func() bool { return true }, 0)
	}
	w := x.dest.Want
	w.Joins = joins
	return s.Take(x.take, w)
}

// turn takes the offer out whose turn it is: the first of the lane that is wanted, or the first.
func (x *dispatch) turn() *source {
	m := &x.mu
	i := 0
	if m.lane != failover.AnyLane {
		i = max(slices.IndexFunc(m.offers, func(s *source) bool { return x.laneOf(s, s.offer) == m.lane }), 0)
	}
	s := m.offers[i]
	m.offers = slices.Delete(m.offers, i, i+1)
	return s
}

func (x *dispatch) laneOf(s *source, batch []queue.Delivered) failover.Lane {
	if s.repays || !x.live(s, batch) && x.mu.now.Sub(batch[0].Accepted) > backlogAge {
		return failover.Backlog
	}
	return failover.Fresh
}

// live reports whether a batch came while a backlog is drained, and is no part of it.
func (x *dispatch) live(from *source, batch []queue.Delivered) bool {
	return from == x.own && x.mu.fresh > 0 && batch[0].Seq >= x.mu.fresh
}

// beside is where the own queue is to be read, if it is the turn of fresh data; 0 = in its order.
func (x *dispatch) beside() queue.Seq {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.besideLocked()
}

func (x *dispatch) besideLocked() queue.Seq {
	if x.mu.lane == failover.Fresh {
		return x.mu.fresh
	}
	return 0
}

// leaving reports whether nothing of the source is sent any more.
func (x *dispatch) leaving(s *source) bool { return x.mu.dry || s.stored && x.draining.Load() }

// turnAway ends the offers of sources that are left as they are.
func (x *dispatch) turnAway() {
	kept := x.mu.offers[:0]
	for _, s := range x.mu.offers {
		if x.leaving(s) {
			s.accepted <- false
		} else {
			kept = append(kept, s)
		}
	}
	x.mu.offers = kept
}
