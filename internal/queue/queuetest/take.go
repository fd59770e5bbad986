// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

var takeRules = []rule{
	{"records come ascending, lowest first", func(r *rig) {
		a := r.attach("a")
		first := r.addMany(10, "")
		for i := range 10 {
			r.taken(a, single, first+i)
		}
		r.nothing(a, single)
	}},
	{"a Take waits for an append", func(r *rig) {
		a := r.attach("a")
		x := r.goTake(context.Background(), a, all)
		x.waits()
		time.Sleep(time.Hour)
		x.waits()
		x.gives(r.add(1, 1, ""))
	}},
	{"one record ends the waiting of one Take", func(r *rig) {
		a := r.attach("a")
		var waits []*waiting
		for range 10 {
			waits = append(waits, r.goTake(context.Background(), a, all))
		}
		for i := range 10 {
			r.add(1, 1, "")
			ended := 0
			for _, x := range waits {
				if x.ended() {
					ended++
				}
			}
			if ended != i+1 {
				r.Fatalf("%d records ended %d Takes", i+1, ended)
			}
		}
	}},
	{"when the context ends, Take returns its error and has leased nothing", func(r *rig) {
		a := r.attach("a")
		ctx, cancel := context.WithCancel(context.Background())
		x := r.goTake(ctx, a, later)
		x.waits()
		id := r.add(1, 1, "")
		x.waits()
		cancel()
		if got, err := x.returns(); !errors.Is(err, context.Canceled) || len(got) > 0 {
			r.Fatalf("took %v, %v", got, err)
		}
		if f := a.Fill(); f.Leased != 0 {
			r.Errorf("fill %+v", f)
		}
		if _, err := a.Take(ctx, all); !errors.Is(err, context.Canceled) {
			r.Errorf("take with a context that has ended: %v", err)
		}
		r.taken(a, all, id)
	}},
	{"a Take that waits for more leases nothing: another Take gets what is there", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		x := r.goTake(context.Background(), a, queue.Want{Sizer: queue.Items, Min: 2, Linger: time.Hour, Joins: together})
		r.add(1, 1, "")
		x.waits()
		r.taken(b, all, 1)
		r.add(1, 1, "")
		x.waits()
		r.add(1, 1, "")
		x.gives(2, 3)
	}},
	{"of two Takes that wait for different batches each gets its own as soon as it is there", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		x := r.goTake(context.Background(), a, queue.Want{Sizer: queue.Items, Min: 100, Linger: time.Hour, Joins: together})
		y := r.goTake(context.Background(), b, all)
		r.add(1, 1, "")
		x.waits()
		y.gives(1)
		r.add(100, 1, "")
		x.gives(2)
	}},
	{"handles of one cursor never hold the same record", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.addMany(20, "")
		var ids []int
		for range 10 {
			ids = append(ids, idsOf(r.take(a, single))...)
			ids = append(ids, idsOf(r.take(b, single))...)
		}
		if !slices.Equal(ids, run(1, 20)) {
			r.Errorf("took %v", ids)
		}
		r.nothing(a, all)
	}},
	{"without Joins every record travels alone", func(r *rig) {
		a := r.attach("a")
		r.addMany(3, "")
		r.taken(a, queue.Want{Sizer: queue.Items, Max: 100}, 1)
		r.taken(a, queue.Want{Sizer: queue.Bytes, Max: 100}, 2)
		r.taken(a, single, 3)
	}},
	{"a long backlog comes out whole and in order", func(r *rig) {
		a := r.attach("a")
		r.addMany(5000, "")
		next := 1
		for next <= 5000 {
			got := r.take(a, queue.Want{Sizer: queue.Items, Max: 300, Joins: together})
			if !slices.Equal(idsOf(got), run(next, len(got))) {
				r.Fatalf("took %s, want from %d", brief(idsOf(got)), next)
			}
			next += len(got)
			r.ack(a, got...)
		}
	}},
}
