// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

var sizeRules = []rule{
	{"when every destination is at its queue_size an append is refused, retryable, and the bytes stay the caller's", func(r *rig) {
		a := r.attach("a", queue.Limit{Max: 2})
		b := r.attach("b", queue.Limit{Max: 3})
		r.add(1, 1, "")
		r.add(1, 1, "")
		r.ack(b, r.taken(b, single, 1)...)
		r.add(1, 1, "") // a is full, b has room
		r.add(1, 1, "")
		r.refused(1, 1)
		r.ack(b, r.taken(b, single, 2)...)
		r.add(1, 1, "")
		_ = a
	}},
	{"a full queue says which limit, how much is used and how much there is", func(r *rig) {
		r.attach("a", queue.Limit{Sizer: queue.Items, Max: 10})
		r.add(10, 1, "")
		full := r.refused(1, 1)
		if full.Limit != "queue_size" || full.Used != 10 || full.Max != 10 {
			r.Errorf("%+v", full)
		}
	}},
	{"what is leased counts towards the size until it is resolved", func(r *rig) {
		a := r.attach("a", queue.Limit{Max: 2})
		r.addMany(2, "")
		got := r.taken(a, all, 1, 2)
		r.refused(1, 1)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Minute}, got[0])
		r.refused(1, 1)
		r.ack(a, got[1])
		r.add(1, 1, "")
		r.refused(1, 1)
	}},
	{"when only some destinations are at their queue_size nothing is refused", func(r *rig) {
		r.attach("a", queue.Limit{Max: 2})
		b := r.attach("b")
		first := r.addMany(5, "")
		r.taken(b, all, run(first, 5)...)
		if r.can.DropsOverflow {
			r.booked("a", queue.Counts{Accepted: 5, Queued: 2, Dropped: map[string]uint64{"overflow": 3}})
		} else {
			r.booked("a", queue.Counts{Accepted: 5, Queued: 5})
		}
	}},
	{"a destination that drops for want of room drops its oldest unleased records, delayed ones too", func(r *rig) {
		if !r.can.DropsOverflow {
			r.Skip("this queue grows on")
		}
		a := r.attach("a", queue.Limit{Max: 4})
		b := r.attach("b")
		r.addMany(4, "")
		got := r.taken(a, queue.Want{Sizer: queue.Items, Max: 2, Joins: together}, 1, 2)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, got[1])
		r.addMany(2, "") // 2 and 3 go, 1 is leased
		r.taken(a, all, 4, 5, 6)
		r.booked("a", queue.Counts{Accepted: 6, Queued: 4, Dropped: map[string]uint64{"overflow": 2}})
		r.addMany(1, "") // nothing old is left to drop
		r.taken(a, all, 7)
		r.taken(b, all, run(1, 7)...)
	}},
	{"a destination without a limit is never full", func(r *rig) {
		a := r.attach("a")
		r.addMany(3000, "")
		if n := r.drain(a); n != 3000 {
			r.Errorf("%d records", n)
		}
	}},
	{"each sizer counts in its own unit, and requests behind which batches are made count as batches", func(r *rig) {
		cases := []struct {
			name  string
			limit queue.Limit
			size  int64
		}{
			{"requests", queue.Limit{Sizer: queue.Requests}, 3},
			{"items", queue.Limit{Sizer: queue.Items}, 1025},
			{"bytes", queue.Limit{Sizer: queue.Bytes}, 60},
			{"batches of 1024", queue.Limit{Sizer: queue.Requests, BatchItems: 1024}, 2},
			{"batches of 1025", queue.Limit{Sizer: queue.Requests, BatchItems: 1025}, 1},
			{"batches of 2", queue.Limit{Sizer: queue.Requests, BatchItems: 2}, 3},
			{"items, not batches", queue.Limit{Sizer: queue.Items, BatchItems: 1024}, 1025},
		}
		var cursors []queue.Cursor
		for _, c := range cases {
			c.limit.Max = 1 << 30
			cursors = append(cursors, r.attach(c.name, c.limit))
		}
		r.add(1000, 10, "")
		r.add(20, 20, "")
		r.add(5, 30, "")
		for i, c := range cases {
			f := cursors[i].Fill()
			if f.Size != c.size || f.Capacity != 1<<30 || f.Records != 3 || f.Items != 1025 || f.Bytes != 60 {
				r.Errorf("%s: %+v, want size %d", c.name, f, c.size)
			}
		}
	}},
	{"with batches made behind the queue, queue_size holds that many batches", func(r *rig) {
		a := r.attach("a", queue.Limit{Max: 3, BatchItems: 100})
		r.addMany(201, "") // 201 records in 3 batches
		r.refused(1, 1)
		r.ack(a, r.take(a, single)...)
		r.add(1, 1, "")
		r.refused(1, 1)
	}},
	{"a limit lowered below what is there drops nothing and refuses until there is room", func(r *rig) {
		a := r.attach("a", queue.Limit{Max: 10})
		r.addMany(10, "")
		r.prepare(queue.Destination{Name: "a", Limit: queue.Limit{Max: 4}})
		r.refused(1, 1)
		got := r.taken(a, all, run(1, 10)...)
		r.ack(a, got[:6]...)
		r.refused(1, 1)
		r.ack(a, got[6])
		r.add(1, 1, "")
		r.booked("a", queue.Counts{Accepted: 11, Delivered: 7, Queued: 4})
	}},
	{"Fill tells what waits, what is leased and how old the oldest is", func(r *rig) {
		a := r.attach("a")
		if f := a.Fill(); f != (queue.Fill{}) {
			r.Errorf("empty: %+v", f)
		}
		r.add(2, 10, "")
		time.Sleep(time.Minute)
		r.add(3, 20, "")
		time.Sleep(time.Minute)
		got := r.taken(a, all, 1, 2)
		f := a.Fill()
		if f.Oldest < 2*time.Minute || f.Oldest > 2*time.Minute+10*time.Second {
			r.Errorf("oldest %v", f.Oldest)
		}
		f.Oldest = 0
		if want := (queue.Fill{Records: 2, Items: 5, Bytes: 30, Size: 2, Leased: 2, Last: 2}); f != want {
			r.Errorf("%+v, want %+v", f, want)
		}
		r.ack(a, got[0])
		if f := a.Fill(); f.Records != 1 || f.Leased != 1 || f.Oldest < time.Minute || f.Oldest > 70*time.Second {
			r.Errorf("one acked: %+v", f)
		}
	}},
}

// refused checks that one more record is refused as full.
func (r *rig) refused(items, size uint32) *queue.FullError {
	r.Helper()
	_, err := r.tryAppend(context.Background(), items, size, "")
	var full *queue.FullError
	if !errors.As(err, &full) {
		r.Fatalf("append: %v, want a full queue", err)
	}
	return full
}
