// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	crowdProducers    = 4
	crowdConsumers    = 4
	crowdDestinations = 3
	crowdRecords      = 600 // of one producer
)

// crowdAt is one destination of a crowd.
type crowdAt struct {
	name  string
	held  [crowdProducers*crowdRecords + 1]atomic.Bool // by identity: leased by an open handle
	final [crowdProducers*crowdRecords + 1]atomic.Bool // acked
	left  atomic.Int64
	done  context.CancelFunc
}

// crowd lets producers and consumers loose on one queue, in real time and without a plan.
func crowd(t *testing.T, q queue.Queue, can Capabilities) {
	r := newRig(t, q, can)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range crowdDestinations {
		at := &crowdAt{name: fmt.Sprint("to/", i)}
		at.left.Store(crowdProducers * crowdRecords)
		taking, done := context.WithCancel(ctx)
		at.done = done
		r.prepare(queue.Destination{Name: at.name})
		for range crowdConsumers {
			c := q.Attach(at.name)
			wg.Go(func() { r.consume(taking, at, c) })
		}
	}
	for range crowdProducers {
		wg.Go(func() {
			for range crowdRecords {
				if _, err := r.tryAppend(ctx, uint32(1+rand.IntN(20)), uint32(rand.IntN(2000)), string(rune('a'+rand.IntN(3)))); err != nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		t.Error("not all was delivered in time")
	}
	items := uint64(0)
	for _, s := range r.mu.sent {
		items += uint64(s.items)
	}
	for i := range crowdDestinations {
		r.booked(fmt.Sprint("to/", i), queue.Counts{Accepted: items, Delivered: items})
	}
	if err := q.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	for _, s := range r.mu.sent {
		if n := s.frees.Load(); n != 1 {
			t.Errorf("record %d was freed %d times", s.id, n)
		}
	}
}

// consume takes and resolves, mostly well, until the destination has everything.
func (r *rig) consume(ctx context.Context, at *crowdAt, c queue.Cursor) {
	for {
		w := queue.Want{Sizer: queue.Items, Joins: sameKey, Max: 200}
		switch rand.IntN(4) {
		case 0:
			w = single
		case 1:
			w.Min, w.Linger = 100, time.Millisecond
		}
		got, err := r.hastyTake(ctx, c, w)
		if ctx.Err() != nil && err != nil {
			c.Close()
			return
		}
		if (err == nil) != (len(got) > 0) {
			r.Errorf("took %d records, %v", len(got), err)
		}
		if err != nil {
			continue
		}
		for _, d := range got {
			r.intact(d)
			if at.held[idOf(d)].Swap(true) {
				r.Errorf("record %d is in two leases of %q", idOf(d), at.name)
			}
		}
		switch n := rand.IntN(20); {
		case n < 14:
			r.settleAll(at, c, got)
		case n == 14:
			at.release(got)
			c.Close()
			other := r.q.Attach(at.name)
			for _, d := range got {
				r.intact(d)
			}
			r.finalAll(at, c, got) // late
			c = other
		case n == 15:
			at.release(got)
			c.Close()
			for _, d := range got {
				r.intact(d)
			}
			c.Resolve(queue.Outcome{Kind: queue.Dead}, seqsOf(got)...) // lets go, no more
			c = r.q.Attach(at.name)
		case n == 16:
			at.release(got)
			c.Resolve(queue.Outcome{Kind: queue.Release}, seqsOf(got)...)
			c.Wake()
		default:
			at.release(got)
			delay := time.Duration(rand.IntN(1000)) * time.Microsecond
			c.Resolve(queue.Outcome{Kind: queue.Nack, Delay: delay}, seqsOf(got)...)
		}
	}
}

// hastyTake is a Take that now and then is called off just when something comes.
func (r *rig) hastyTake(ctx context.Context, c queue.Cursor, w queue.Want) ([]queue.Delivered, error) {
	if rand.IntN(3) > 0 {
		return c.Take(ctx, w)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(200))*time.Microsecond)
	defer cancel()
	return c.Take(ctx, w)
}

func (at *crowdAt) release(got []queue.Delivered) {
	for _, d := range got {
		at.held[idOf(d)].Store(false)
	}
}

func (r *rig) settleAll(at *crowdAt, c queue.Cursor, got []queue.Delivered) {
	at.release(got)
	r.finalAll(at, c, got)
}

// finalAll acks got and counts what was not acked before.
func (r *rig) finalAll(at *crowdAt, c queue.Cursor, got []queue.Delivered) {
	ids := idsOf(got) // their bytes are gone after the call
	if err := c.Resolve(queue.Outcome{Kind: queue.Ack}, seqsOf(got)...); err != nil {
		r.Errorf("ack: %v", err)
	}
	for _, id := range ids {
		if !at.final[id].Swap(true) && at.left.Add(-1) == 0 {
			at.done()
		}
	}
}
