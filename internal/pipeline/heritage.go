// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// source is a cursor a destination takes from: its own, or one it inherited.
type source struct {
	queue.Cursor
	stored bool // what is not delivered when the process stops stays in a journal
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
// configuration. It takes from it in turn with its own. Before Start; the pipeline closes the cursor.
func (p *Pipeline) Inherit(destination string, backlog queue.Cursor) error {
	for _, d := range p.deliveries {
		if d.dest.Name == destination {
			d.inherited = append(d.inherited, &source{Cursor: backlog, stored: true})
			return nil
		}
	}
	return fmt.Errorf("pipeline %s: no queued destination %q to inherit a backlog", p.set.Plan.ID, destination)
}

// feed takes batch after batch of a source and hands each over when the router wants one. Where there are several
// sources each has a feeder with one batch ready, and their turns come in the order in which they were: a backlog neither
// starves live data nor is starved by it.
func (x *dispatch) feed(s *source) {
	for x.feedOne(s) {
	}
	var c chores
	x.mu.Lock()
	x.mu.feeders--
	x.mu.dry = x.mu.dry || s == x.own // it ended because nothing is owed any more, or is to be taken; others end with take
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

// nextOf is next for any source: what is inherited is not drained when the process stops. The own one is taken ahead.
func (x *dispatch) nextOf(s *source) ([]queue.Delivered, error) {
	if s == x.own {
		return x.next(x.take, func() bool { return true })
	}
	w := x.dest.Want
	w.Joins = joins
	return s.Take(x.take, w)
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
