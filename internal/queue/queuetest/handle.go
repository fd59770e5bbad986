// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

var handleRules = []rule{
	{"Close of a handle returns its leases, uncounted, and nobody else's", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.addMany(4, "")
		mine := r.taken(a, single, 1)
		r.taken(b, single, 2)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, r.taken(a, single, 3)...)
		a.Close()
		if got := r.taken(b, all, 1, 4); got[0].Attempt != 0 {
			r.Errorf("attempt %d", got[0].Attempt)
		}
		r.intact(mine[0])
		r.booked("a", queue.Counts{Accepted: 4, Queued: 4})
		if f := b.Fill(); f.Leased != 3 {
			r.Errorf("fill %+v", f)
		}
	}},
	{"Close of a handle ends the waiting of another for what it held", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.add(1, 1, "")
		r.taken(a, all, 1)
		x := r.goTake(context.Background(), b, all)
		x.waits()
		a.Close()
		x.gives(1)
	}},
	{"Close of a handle ends its own Takes and no others", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		x, y := r.goTake(context.Background(), a, all), r.goTake(context.Background(), b, all)
		a.Close()
		if got, err := x.returns(); err == nil {
			r.Errorf("took %v", got)
		}
		y.waits()
		if _, err := a.Take(context.Background(), all); err == nil {
			r.Error("a closed handle takes")
		}
		a.Close()
		y.gives(r.add(1, 1, ""))
	}},
	{"after Close an Ack still counts if the record is unresolved", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.addMany(2, "")
		got := r.taken(a, all, 1, 2)
		a.Close()
		r.ack(a, got[0])
		r.booked("a", queue.Counts{Accepted: 2, Delivered: 1, Queued: 1})
		r.freed(1, 1)
		r.taken(b, all, 2)
	}},
	{"after Close an Ack still counts if the record is delayed", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.add(1, 1, "")
		got := r.taken(a, all, 1)
		a.Close()
		r.resolve(b, queue.Outcome{Kind: queue.Nack, Delay: time.Minute}, r.taken(b, all, 1)...)
		r.ack(a, got...)
		r.booked("a", queue.Counts{Accepted: 1, Delivered: 1})
		time.Sleep(time.Hour)
		r.nothing(b, all)
	}},
	{"after Close an Ack counts once, even if the record is leased again", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.add(5, 1, "")
		got := r.taken(a, all, 1)
		a.Close()
		again := r.taken(b, all, 1)
		r.resolve(a, queue.Outcome{Kind: queue.Ack, Rejected: 2}, got...)
		r.booked("a", queue.Counts{Accepted: 5, Delivered: 3, Rejected: 2})
		r.freed(1, 0)
		r.intact(again[0])
		r.resolve(b, queue.Outcome{Kind: queue.Ack}, again...)
		r.booked("a", queue.Counts{Accepted: 5, Delivered: 3, Rejected: 2})
		r.freed(1, 1)
		r.nothing(b, all)
	}},
	{"after Close all but Ack only let go of the bytes", func(r *rig) {
		for _, kind := range []queue.Kind{queue.Nack, queue.Release, queue.Dead, queue.Drop} {
			a, b := r.attach("a"), r.q.Attach("a")
			id := r.add(1, 1, "")
			got := r.taken(a, all, id)
			a.Close()
			r.resolve(a, queue.Outcome{Kind: kind, Delay: time.Hour, Reason: reason}, got...)
			again := r.taken(b, all, id)
			if again[0].Attempt != 0 {
				r.Errorf("kind %d: attempt %d", kind, again[0].Attempt)
			}
			r.resolve(b, queue.Outcome{Kind: queue.Dead, Reason: reason}, again...)
			r.freed(id, 1)
			b.Close()
		}
		r.booked("a", queue.Counts{Accepted: 4, Rejected: 4})
	}},
	{"after Close the bytes stay valid until they are let go, even if somebody else resolved the record", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		id := r.add(1, 1, "key")
		got := r.taken(a, all, id)
		a.Close()
		r.ack(b, r.taken(b, all, id)...)
		r.freed(id, 0)
		r.intact(got[0])
		r.ack(a, got...)
		r.freed(id, 1)
		r.booked("a", queue.Counts{Accepted: 1, Delivered: 1})
	}},
	{"a record can be held by many closed handles and is freed once", func(r *rig) {
		id := 0
		var held [][]queue.Delivered
		var handles []queue.Cursor
		for i := range 10 {
			c := r.attach("a")
			if i == 0 {
				id = r.add(1, 1, "")
			}
			held, handles = append(held, r.taken(c, all, id)), append(handles, c)
			c.Close()
		}
		for i, c := range handles {
			r.freed(id, 0)
			r.intact(held[i][0])
			r.ack(c, held[i]...)
		}
		r.freed(id, 1)
		r.booked("a", queue.Counts{Accepted: 1, Delivered: 1})
	}},
}

var fanOutRules = []rule{
	{"a destination that never takes delays no other", func(r *rig) {
		r.attach("dead")
		b := r.attach("b")
		for range 3000 {
			r.ack(b, r.taken(b, single, r.add(1, 1, ""))...)
		}
		r.booked("b", queue.Counts{Accepted: 3000, Delivered: 3000})
		r.booked("dead", queue.Counts{Accepted: 3000, Queued: 3000})
	}},
	{"what happens to a record at one destination does not touch it at another", func(r *rig) {
		a, b, c := r.attach("a"), r.attach("b"), r.attach("c")
		id := r.add(1, 1, "")
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, r.taken(a, all, id)...)
		r.resolve(b, queue.Outcome{Kind: queue.Dead, Reason: reason}, r.taken(b, all, id)...)
		if got := r.taken(c, all, id); got[0].Attempt != 0 {
			r.Errorf("attempt %d", got[0].Attempt)
		}
		r.booked("a", queue.Counts{Accepted: 1, Queued: 1})
		r.booked("b", queue.Counts{Accepted: 1, Rejected: 1})
		r.booked("c", queue.Counts{Accepted: 1, Queued: 1})
	}},
	{"one record ends the waiting of one Take at each destination", func(r *rig) {
		a, b := r.attach("a"), r.attach("b")
		x, y := r.goTake(context.Background(), a, all), r.goTake(context.Background(), b, all)
		id := r.add(1, 1, "")
		x.gives(id)
		y.gives(id)
	}},
	{"a record is freed once, when the last destination has resolved it", func(r *rig) {
		cursors := []queue.Cursor{r.attach("a"), r.attach("b"), r.attach("c")}
		id := r.add(1, 1, "")
		for i, kind := range []queue.Kind{queue.Ack, queue.Dead, queue.Drop} {
			r.freed(id, 0)
			r.resolve(cursors[i], queue.Outcome{Kind: kind, Reason: reason}, r.taken(cursors[i], all, id)...)
		}
		r.freed(id, 1)
	}},
}

var closeRules = []rule{
	{"Close ends the Takes that wait and refuses later ones", func(r *rig) {
		a := r.attach("a")
		x := r.goTake(context.Background(), a, all)
		x.waits()
		r.q.Close(context.Background())
		if _, err := x.returns(); !errors.Is(err, queue.ErrClosed) {
			r.Errorf("take that waited: %v", err)
		}
		if _, err := a.Take(context.Background(), all); !errors.Is(err, queue.ErrClosed) {
			r.Errorf("take after close: %v", err)
		}
	}},
	{"Close resolves nothing: what is unresolved stays queued or is listed as dropped at shutdown", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "")
		r.add(2, 1, "")
		r.add(4, 1, "")
		r.ack(a, r.taken(a, single, 1)...)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, r.taken(a, single, 2)...)
		r.taken(a, single, 3)
		r.q.Close(context.Background())
		if r.can.ShutdownDrops {
			r.booked("a", queue.Counts{Accepted: 7, Delivered: 1, Dropped: map[string]uint64{"shutdown": 6}})
		} else {
			r.booked("a", queue.Counts{Accepted: 7, Delivered: 1, Queued: 6})
		}
	}},
	{"Close waits for no lease, and the bytes stay valid until it is let go", func(r *rig) {
		a := r.attach("a")
		id := r.add(1, 1, "key")
		got := r.taken(a, all, id)
		r.q.Close(context.Background())
		r.freed(id, 0)
		r.intact(got[0])
		r.ack(a, got...)
		r.freed(id, 1)
		r.balanced()
	}},
	{"Close twice, and handles closed after it, do no harm", func(r *rig) {
		a := r.attach("a")
		id := r.add(1, 1, "")
		got := r.taken(a, all, id)
		r.q.Close(context.Background())
		a.Wake()
		a.Close()
		r.q.Close(context.Background())
		a.Fill()
		r.resolve(a, queue.Outcome{Kind: queue.Nack}, got...)
		r.balanced()
	}},
	{"what nobody took is freed by Close", func(r *rig) {
		a := r.attach("a")
		r.attach("b")
		r.addMany(50, "")
		got := r.taken(a, all, run(1, 50)...)
		r.ack(a, got[:10]...)
		a.Close()
		r.roster.Detach("b")
		r.addMany(5, "")
	}},
}
