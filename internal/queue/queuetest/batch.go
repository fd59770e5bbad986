// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

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
		r.taken(a, w, 1)
		r.taken(a, w, 2)
		r.nothing(a, w)
		r.add(1, 101, "") // closes the batch of 3
		r.taken(a, w, 3)
		r.taken(a, w, 4)
		r.add(1, 1, "")
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
