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

var batchRules = []rule{
	{"without Min a batch is what is there", func(r *rig) {
		a := r.attach("a")
		r.addMany(3, "")
		r.taken(a, queue.Want{Sizer: queue.Items, Joins: together, Linger: time.Hour}, 1, 2, 3)
	}},
	{"a batch that has Min goes at once", func(r *rig) {
		a := r.attach("a")
		x := r.goTake(context.Background(), a, queue.Want{Sizer: queue.Items, Min: 10, Linger: time.Hour, Joins: together})
		r.add(4, 1, "")
		r.add(5, 1, "")
		x.waits()
		r.add(1, 1, "")
		x.gives(1, 2, 3)
	}},
	{"Min and Max in bytes count Size", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Bytes, Min: 100, Max: 150, Linger: time.Hour, Joins: together}
		x := r.goTake(context.Background(), a, w)
		r.add(1000, 99, "")
		x.waits()
		r.add(1000, 1, "")
		x.gives(1, 2)
		r.add(1, 90, "")
		r.add(1, 61, "")
		r.taken(a, w, 3)
	}},
	{"a batch goes when its oldest record has waited for Linger, however short the Take has waited", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "")
		time.Sleep(60 * time.Millisecond)
		r.add(1, 1, "")
		x := r.goTake(context.Background(), a, later)
		time.Sleep(39 * time.Millisecond)
		x.waits()
		time.Sleep(time.Millisecond)
		x.gives(1, 2)
	}},
	{"a batch whose oldest record is older than Linger goes at once", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "")
		time.Sleep(time.Second)
		r.add(1, 1, "")
		x := r.goTake(context.Background(), a, later)
		x.gives(1, 2)
	}},
	{"Linger counts anew for what comes after a batch", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "")
		time.Sleep(100 * time.Millisecond)
		r.taken(a, later, 1)
		x := r.goTake(context.Background(), a, later)
		time.Sleep(time.Hour)
		x.waits()
		r.add(1, 1, "")
		time.Sleep(99 * time.Millisecond)
		x.waits()
		time.Sleep(time.Millisecond)
		x.gives(2)
	}},
	{"a batch closes before the record that would pass Max, and that record begins the next", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Max: 10, Joins: together}
		r.add(4, 1, "")
		r.add(6, 1, "")
		r.add(7, 1, "")
		r.add(4, 1, "")
		r.taken(a, w, 1, 2)
		r.taken(a, w, 3)
		r.taken(a, w, 4)
	}},
	{"MaxBytes bounds a batch whatever the Sizer", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Max: 100, MaxBytes: 1000, Joins: together}
		r.add(1, 400, "")
		r.add(1, 600, "")
		r.add(1, 999, "")
		r.add(1, 2, "")
		r.taken(a, w, 1, 2)
		r.taken(a, w, 3)
		r.taken(a, w, 4)
	}},
	{"a batch that is closed waits neither for Min nor for Linger", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 10, Max: 10, Linger: time.Hour, Joins: together}
		x := r.goTake(context.Background(), a, w)
		r.add(6, 1, "")
		x.waits()
		r.add(6, 1, "")
		x.gives(1)
		r.nothing(a, w)
	}},
	{"a record above a bound travels alone and at once", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 10, Max: 10, MaxBytes: 100, Linger: time.Hour, Joins: together}
		r.add(1, 1, "")
		r.add(11, 1, "")
		r.add(1, 1, "")
		r.add(1, 101, "")
		r.add(1, 1, "")
		for id := 1; id <= 4; id++ {
			r.taken(a, w, id)
		}
		r.nothing(a, w)
	}},
	{"what does not join travels apart, in the order of the first records", func(r *rig) {
		a := r.attach("a")
		for _, key := range []string{"x", "y", "x", "z", "y", "x"} {
			r.add(1, 1, key)
		}
		w := queue.Want{Sizer: queue.Items, Joins: sameKey}
		r.taken(a, w, 1, 3, 6)
		r.taken(a, w, 2, 5)
		r.taken(a, w, 4)
	}},
	{"Joins is asked about the first record of a batch", func(r *rig) {
		a := r.attach("a")
		for _, key := range []string{"a", "b", "c", "d"} {
			r.add(1, 1, key)
		}
		neighbours := func(first, next *queue.Record) bool { return next.Meta[0]-first.Meta[0] <= 1 }
		w := queue.Want{Sizer: queue.Items, Joins: neighbours}
		r.taken(a, w, 1, 2)
		r.taken(a, w, 3, 4)
	}},
	{"each Take is served by its own Joins and its own Linger, even if all else is equal", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 2, Linger: time.Hour, Joins: sameKey}
		x := r.goTake(context.Background(), a, w)
		w.Linger = time.Minute
		y := r.goTake(context.Background(), a, w)
		r.add(1, 1, "x")
		r.add(1, 1, "y")
		x.waits()
		y.waits()
		w.Joins = together
		r.taken(a, w, 1, 2)
		r.add(1, 1, "x")
		time.Sleep(time.Minute)
		y.gives(3)
		x.waits()
	}},
	{"of the ripe batches the one with the lowest first number goes, unripe ones stay", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 3, Linger: time.Hour, Joins: sameKey}
		for _, key := range []string{"x", "y", "z", "z", "y", "z", "y"} {
			r.add(1, 1, key)
		}
		r.taken(a, w, 2, 5, 7)
		r.taken(a, w, 3, 4, 6)
		r.nothing(a, w)
		r.add(2, 1, "x")
		r.taken(a, w, 1, 8)
	}},
	{"a full batch of one kind does not hold up another kind", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 5, Max: 5, Linger: time.Hour, Joins: sameKey}
		x, y := r.goTake(context.Background(), a, w), r.goTake(context.Background(), a, w)
		r.add(3, 1, "x")
		r.add(3, 1, "y")
		r.add(2, 1, "y")
		x.gives(2, 3)
		y.waits()
		r.add(3, 1, "x")
		y.gives(1)
	}},
}

var windowRules = []rule{
	{"a full window sends its oldest batch", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 1 << 40, Linger: time.Hour, Joins: together}
		x := r.goTake(context.Background(), a, w)
		r.addMany(windowRecords-1, "")
		x.waits()
		r.add(1, 1, "")
		x.gives(run(1, windowRecords)...)
	}},
	{"a window is full of bytes, too", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 1 << 40, Linger: time.Hour, Joins: together}
		x := r.goTake(context.Background(), a, w)
		for range 7 {
			r.add(1, windowBytes/8, "")
		}
		x.waits()
		r.add(1, windowBytes/8, "")
		x.gives(run(1, 8)...)
	}},
	{"the window is as large as MaxBytes, within its bounds", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Bytes, MaxBytes: 2 * windowBytes, Joins: together}
		for range 5 {
			r.add(1, windowBytes/2, "")
		}
		r.taken(a, w, 1, 2, 3, 4)
		for range 10 {
			r.add(1, windowBytes/2, "")
		}
		w.MaxBytes = 100 * windowBytes
		r.taken(a, w, run(5, 2*maxWindowBytes/windowBytes)...)
	}},
	{"no batch holds what is beyond the window", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "x")
		r.addMany(windowRecords-1, "y")
		r.add(1, 1, "x")
		w := queue.Want{Sizer: queue.Items, Joins: sameKey}
		r.taken(a, w, 1)
		r.taken(a, w, run(2, windowRecords-1)...)
		r.taken(a, w, windowRecords+1)
	}},
	{"a full window of unripe batches goes on, oldest first", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 1 << 40, Linger: time.Hour, Joins: sameKey}
		for i := range windowRecords {
			r.add(1, 1, string(rune('a'+i%4)))
		}
		x := r.goTake(context.Background(), a, w)
		got, err := x.returns()
		if err != nil || len(got) != windowRecords/4 || idOf(got[0]) != 1 || idOf(got[1]) != 5 {
			r.Fatalf("took %s, %v", brief(idsOf(got)), err)
		}
		r.nothing(a, w)
	}},
	{"a larger record than the window travels", func(r *rig) {
		a := r.attach("a")
		r.add(1, maxWindowBytes+1, "")
		r.add(1, maxWindowBytes+1, "")
		r.taken(a, queue.Want{Sizer: queue.Items, Min: 1 << 40, Linger: time.Hour, Joins: together}, 1)
	}},
	{"at most 64 batches are open", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 5, Linger: time.Hour, Joins: sameKey}
		for i := range maxOpenBatches {
			r.add(1, 1, string(rune('A'+i)))
		}
		x := r.goTake(context.Background(), a, w)
		r.add(5, 1, "more")
		x.waits()
		r.add(4, 1, "A")
		x.gives(1, maxOpenBatches+2)
		r.taken(a, w, maxOpenBatches+1) // there is room for it now
	}},
	{"when a Take empties an open batch, the next one opens, for another Take too", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 5, Linger: time.Hour, Joins: sameKey}
		for i := range maxOpenBatches {
			r.add(1, 1, string(rune('A'+i)))
		}
		x := r.goTake(context.Background(), a, w)
		r.add(5, 1, "more")
		r.add(1, 1, "much more")
		x.waits()
		r.taken(a, single, 1)
		x.gives(maxOpenBatches + 1)
	}},
	{"what was taken no longer fills the window", func(r *rig) {
		a := r.attach("a")
		w := queue.Want{Sizer: queue.Items, Min: 2, Linger: time.Hour, Joins: together}
		for i := range 2 * windowRecords {
			size := uint32(1)
			if i < 40 {
				size = windowBytes / 10
			}
			x := r.goTake(context.Background(), a, w)
			r.add(1, size, "")
			x.waits()
			r.add(1, size, "")
			r.ack(a, x.gives(2*i+1, 2*i+2)...)
		}
	}},
	{"at maxHeld leased or delayed records a Take waits", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		var got []queue.Delivered
		for range maxHeld / windowRecords {
			r.addMany(windowRecords, "")
			got = append(got, r.take(a, all)...)
		}
		r.add(1, 1, "")
		if len(got) != maxHeld {
			r.Fatalf("%d leased", len(got))
		}
		x := r.goTake(context.Background(), b, all)
		x.waits()
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, got[:10]...)
		x.waits()
		r.ack(a, got[10])
		x.gives(maxHeld + 1)
		r.nothing(b, all)
	}},
}
