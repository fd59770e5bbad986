// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

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
