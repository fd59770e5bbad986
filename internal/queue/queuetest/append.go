// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"errors"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

var appendRules = []rule{
	{"a record is owed to every destination attached and to none attached later", func(r *rig) {
		a, b := r.attach("a"), r.attach("b")
		first := r.add(3, 1, "")
		c := r.attach("c")
		second := r.add(4, 1, "")
		r.taken(a, all, first, second)
		r.taken(b, all, first, second)
		r.taken(c, all, second)
		r.booked("a", queue.Counts{Accepted: 7, Queued: 7})
		r.booked("c", queue.Counts{Accepted: 4, Queued: 4})
	}},
	{"what was appended comes back unchanged, with its number and when it was accepted", func(r *rig) {
		a := r.attach("a")
		time.Sleep(time.Minute)
		before := time.Now()
		r.add(3, 700, "key")
		r.add(1, 1, "")
		time.Sleep(time.Minute)
		got := r.take(a, all)
		if len(got) != 2 || got[0].Seq == 0 || got[1].Seq <= got[0].Seq || got[0].Attempt != 0 {
			r.Errorf("took %+v", got)
		}
		if at := got[0].Accepted; at.Before(before) || at.After(before.Add(10*time.Second)) {
			r.Errorf("accepted %v, appended %v", at, before)
		}
	}},
	{"an append after Close is refused with ErrClosed", func(r *rig) {
		r.attach("a")
		r.q.Close(context.Background())
		if _, err := r.tryAppend(context.Background(), 1, 1, ""); !errors.Is(err, queue.ErrClosed) {
			r.Errorf("append: %v", err)
		}
	}},
	{"an append whose context has ended is refused", func(r *rig) {
		a := r.attach("a")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := r.tryAppend(ctx, 1, 1, ""); !errors.Is(err, context.Canceled) {
			r.Errorf("append: %v", err)
		}
		r.nothing(a, all)
		r.booked("a", queue.Counts{})
	}},
	{"a record above the largest size is refused for good and the next one is not", func(r *rig) {
		a := r.attach("a")
		freed := false
		big := queue.Record{Items: 1, Size: 1, Body: make([]byte, maxRecordBytes), Meta: []byte("x"), Free: func() { freed = true }}
		if err := r.q.Append(context.Background(), big); !errors.Is(err, queue.ErrTooLarge) {
			r.Errorf("append: %v", err)
		}
		r.taken(a, all, r.add(1, 1, ""))
		if freed {
			r.Error("the bytes of a refused record were freed")
		}
	}},
	{"a record without Free, without metadata and without items is a record", func(r *rig) {
		a := r.attach("a")
		if err := r.q.Append(context.Background(), queue.Record{Body: []byte{1}}); err != nil {
			r.Fatal(err)
		}
		got, err := a.Take(context.Background(), all)
		if err != nil || len(got) != 1 || len(got[0].Body) != 1 || got[0].Body[0] != 1 || len(got[0].Meta) != 0 {
			r.Fatalf("took %+v, %v", got, err)
		}
		if err := a.Resolve(queue.Outcome{Kind: queue.Ack}, got[0].Seq); err != nil {
			r.Error(err)
		}
		if f := a.Fill(); f.Records != 0 {
			r.Errorf("fill %+v", f)
		}
	}},
}

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
		if want := (queue.Fill{Records: 2, Items: 5, Bytes: 30, Size: 2, Leased: 2}); f != want {
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

var blockRules = []rule{
	{"an append that may wait gets in when there is room", func(r *rig) {
		a := r.attach("a", queue.Limit{Max: 1, Block: true})
		r.add(1, 1, "")
		x := r.goAppend(context.Background(), 1, 1)
		x.waits()
		time.Sleep(time.Hour)
		x.waits()
		r.ack(a, r.taken(a, all, 1)...)
		if _, err := x.returns(); err != nil {
			r.Errorf("append: %v", err)
		}
		r.taken(a, all, 2)
	}},
	{"room for one lets one of many in", func(r *rig) {
		a := r.attach("a", queue.Limit{Max: 1, Block: true})
		r.add(1, 1, "")
		var waits []*waiting
		for range 5 {
			waits = append(waits, r.goAppend(context.Background(), 1, 1))
		}
		for want := 1; want <= 5; want++ {
			r.ack(a, r.take(a, all)...)
			in := 0
			for _, x := range waits {
				if x.ended() {
					in++
				}
			}
			if in != want {
				r.Errorf("%d got in, want %d", in, want)
			}
		}
	}},
	{"an append that may wait is refused as full when its context ends", func(r *rig) {
		a := r.attach("a", queue.Limit{Max: 1, Block: true})
		r.add(1, 1, "")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := r.tryAppend(ctx, 1, 1, "")
		if full := (*queue.FullError)(nil); !errors.As(err, &full) || time.Since(start) != time.Minute {
			r.Errorf("append: %v after %v", err, time.Since(start))
		}
		r.ack(a, r.taken(a, all, 1)...)
		synctest.Wait()
		r.nothing(a, all) // it is not delivered later
	}},
	{"an append that may wait gets ErrClosed from Close", func(r *rig) {
		r.attach("a", queue.Limit{Max: 1, Block: true})
		r.add(1, 1, "")
		x := r.goAppend(context.Background(), 1, 1)
		x.waits()
		r.q.Close(context.Background())
		if _, err := x.returns(); !errors.Is(err, queue.ErrClosed) {
			r.Errorf("append: %v", err)
		}
	}},
	{"an append that may wait does not while another destination has room", func(r *rig) {
		r.attach("a", queue.Limit{Max: 1, Block: true})
		b := r.attach("b")
		r.addMany(3, "")
		r.taken(b, all, 1, 2, 3)
	}},
	{"an append that may wait gets in when a destination with room is attached", func(r *rig) {
		r.attach("a", queue.Limit{Max: 1, Block: true})
		r.add(1, 1, "")
		x := r.goAppend(context.Background(), 1, 1)
		x.waits()
		b := r.attach("b")
		if _, err := x.returns(); err != nil {
			r.Errorf("append: %v", err)
		}
		r.taken(b, all, 2)
	}},
}
