// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"sync"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// source is a cursor a destination takes from: its own, or one it inherited.
type source struct {
	queue.Cursor
	stored bool // what is not delivered when the process stops stays in a journal
	repays bool // what comes of it lies in the emergency file, and does not go there again
}

// job is a batch and where it was leased.
type job struct {
	from  *source
	batch []queue.Delivered
}

// Inherit makes the named destination serve a backlog that waits elsewhere, for a destination that left the
// configuration. Its workers take from it in turn with their own. Before Start; the pipeline closes the cursor.
func (p *Pipeline) Inherit(destination string, backlog queue.Cursor) error {
	for _, d := range p.deliveries {
		if d.dest.Name == destination {
			d.inherited = append(d.inherited, &source{Cursor: backlog, stored: true})
			return nil
		}
	}
	return fmt.Errorf("pipeline %s: no queued destination %q to inherit a backlog", p.set.Plan.ID, destination)
}

// startHeritage starts what serves inherited backlogs. One feeder per backlog takes a batch and hands it over; as many
// workers as the destination has send them. They share the destination's turns with its ordinary workers, first come
// first served: a backlog neither starves live data nor is starved by it, and no more requests are in flight than
// num_consumers. Batches leased and waiting for a turn: one per backlog and one per worker.
func (d *delivery) startHeritage(workers *sync.WaitGroup) {
	if len(d.inherited) == 0 {
		return
	}
	n := max(d.dest.Workers, 1)
	d.turns, d.handover = make(chan struct{}, n), make(chan job)
	for _, s := range d.inherited {
		workers.Go(func() { d.feed(s) })
	}
	for range n {
		workers.Go(d.workHeritage)
	}
}

// feed hands over batch after batch until the process stops. The journal ends what is drained; nothing new comes.
func (d *delivery) feed(s *source) {
	w := d.dest.Want
	w.Joins = joins
	for {
		batch, err := s.Take(d.take, w)
		if err != nil {
			return
		}
		select {
		case d.handover <- job{s, batch}:
		case <-d.take.Done():
			d.resolve(s, queue.Outcome{Kind: queue.Release}, seqs(batch)...)
			return
		}
	}
}

func (d *delivery) workHeritage() {
	for {
		select {
		case j := <-d.handover:
			if !d.takeTurn(d.take.Done()) {
				d.resolve(j.from, queue.Outcome{Kind: queue.Release}, seqs(j.batch)...)
				return
			}
			d.deliver(j.from, j.batch)
			d.endTurn()
		case <-d.take.Done():
			return
		}
	}
}

// takeTurn waits until a request may be sent; false when stopping comes first. Without a heritage there is nobody to
// take turns with.
func (d *delivery) takeTurn(stopping <-chan struct{}) bool {
	if d.turns == nil {
		return true
	}
	select {
	case d.turns <- struct{}{}:
		return true
	case <-stopping:
		return false
	}
}

func (d *delivery) endTurn() {
	if d.turns != nil {
		<-d.turns
	}
}

// owed is everything that waits for the destination, what it inherited included.
func (d *delivery) owed() queue.Fill {
	sum := d.own.Fill()
	for _, s := range d.inherited {
		f := s.Fill()
		sum.Records += f.Records
		sum.Items += f.Items
		sum.Bytes += f.Bytes
		sum.Oldest = max(sum.Oldest, f.Oldest)
	}
	return sum
}
