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
