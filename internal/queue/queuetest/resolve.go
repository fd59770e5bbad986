// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// reason is a word that every implementation can keep (journal specification, section 7).
const reason = "operator"

var resolveRules = []rule{
	{"Ack is final and counts as delivered", func(r *rig) {
		a := r.attach("a")
		id := r.add(7, 1, "")
		r.ack(a, r.taken(a, all, id)...)
		r.nothing(a, all)
		r.booked("a", queue.Counts{Accepted: 7, Delivered: 7})
		r.freed(id, 1)
	}},
	{"Ack with Rejected counts so many items as rejected, never more than there are", func(r *rig) {
		a := r.attach("a")
		r.add(7, 1, "")
		r.add(3, 1, "")
		got := r.taken(a, all, 1, 2)
		r.resolve(a, queue.Outcome{Kind: queue.Ack, Rejected: 2}, got[0])
		r.booked("a", queue.Counts{Accepted: 10, Delivered: 5, Rejected: 2, Queued: 3})
		r.resolve(a, queue.Outcome{Kind: queue.Ack, Rejected: 100}, got[1])
		r.booked("a", queue.Counts{Accepted: 10, Delivered: 5, Rejected: 5})
	}},
	{"records are resolved in any order", func(r *rig) {
		a := r.attach("a")
		r.addMany(5, "")
		got := r.taken(a, all, 1, 2, 3, 4, 5)
		for _, i := range []int{3, 0, 4, 2, 1} {
			r.ack(a, got[i])
			r.balanced()
		}
		r.booked("a", queue.Counts{Accepted: 5, Delivered: 5})
	}},
	{"Release gives the record back uncounted", func(r *rig) {
		a := r.attach("a")
		r.addMany(3, "")
		got := r.taken(a, all, 1, 2, 3)
		r.resolve(a, queue.Outcome{Kind: queue.Release, Delay: time.Hour}, got[2], got[0])
		got = r.taken(a, all, 1, 3)
		if got[0].Attempt != 0 {
			r.Errorf("attempt %d", got[0].Attempt)
		}
		r.booked("a", queue.Counts{Accepted: 3, Queued: 3})
	}},
	{"Dead is final and counts as rejected", func(r *rig) {
		a := r.attach("a")
		r.add(5, 1, "")
		r.resolve(a, queue.Outcome{Kind: queue.Dead, Reason: "no such tenant"}, r.taken(a, all, 1)...)
		r.nothing(a, all)
		r.booked("a", queue.Counts{Accepted: 5, Rejected: 5})
		r.freed(1, 1)
	}},
	{"of a Dead with a number only that many items are rejected, the others are delivered", func(r *rig) {
		a := r.attach("a")
		r.add(5, 1, "")
		r.add(5, 1, "")
		r.resolve(a, queue.Outcome{Kind: queue.Dead, Rejected: 2, Reason: "items 4-5 of 5 refused"}, r.taken(a, all, 1, 2)[0])
		r.booked("a", queue.Counts{Accepted: 10, Delivered: 3, Rejected: 2, Queued: 5})
	}},
	{"a Dead that cannot be kept is an error and a nack for 30 s", func(r *rig) {
		if r.can.BreakDeadLetters == nil {
			r.Skip("a dead letter cannot fail here")
		}
		a := r.attach("a")
		r.add(5, 1, "")
		got := r.taken(a, all, 1)
		r.can.BreakDeadLetters(r.T, r.q)
		start := time.Now()
		if err := a.Resolve(queue.Outcome{Kind: queue.Dead, Reason: "no such tenant"}, got[0].Seq); err == nil {
			r.Error("no error")
		}
		r.letGo(a, got)
		r.booked("a", queue.Counts{Accepted: 5, Queued: 5})
		got = r.taken(a, all, 1)
		if waited := time.Since(start); got[0].Attempt != 1 || waited < 30*time.Second || waited > 40*time.Second {
			r.Errorf("attempt %d after %v", got[0].Attempt, waited)
		}
	}},
	{"Drop is final and counted under its reason", func(r *rig) {
		a := r.attach("a")
		r.add(5, 1, "")
		r.add(2, 1, "")
		r.resolve(a, queue.Outcome{Kind: queue.Drop, Reason: reason}, r.taken(a, all, 1, 2)...)
		r.nothing(a, all)
		r.booked("a", queue.Counts{Accepted: 7, Dropped: map[string]uint64{reason: 7}})
		r.freed(1, 1)
	}},
	{"what is resolved twice counts once", func(r *rig) {
		a := r.attach("a")
		r.addMany(3, "")
		got := r.taken(a, all, 1, 2, 3)
		r.ack(a, got[0])
		for _, kind := range []queue.Kind{queue.Ack, queue.Nack, queue.Release, queue.Dead, queue.Drop} {
			if err := a.Resolve(queue.Outcome{Kind: kind, Reason: reason}, got[0].Seq); err != nil {
				r.Errorf("kind %d: %v", kind, err)
			}
		}
		r.letGo(a, got[1:2])
		a.Resolve(queue.Outcome{Kind: queue.Ack}, got[1].Seq, got[1].Seq)
		r.nothing(a, all)
		r.booked("a", queue.Counts{Accepted: 3, Delivered: 2, Queued: 1})
	}},
	{"numbers that the handle does not hold are passed over", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.addMany(2, "")
		got := r.taken(a, single, 1)
		for _, kind := range []queue.Kind{queue.Ack, queue.Nack, queue.Release, queue.Dead, queue.Drop} {
			b.Resolve(queue.Outcome{Kind: kind, Reason: reason}, got[0].Seq, got[0].Seq+1, 0, 1<<61)
		}
		r.booked("a", queue.Counts{Accepted: 2, Queued: 2})
		r.taken(b, all, 2)
		r.nothing(b, all)
		r.ack(a, got...)
		r.booked("a", queue.Counts{Accepted: 2, Delivered: 1, Queued: 1})
	}},
	{"Resolve of nothing does nothing", func(r *rig) {
		a := r.attach("a")
		for _, kind := range []queue.Kind{queue.Ack, queue.Nack, queue.Release, queue.Dead, queue.Drop} {
			r.resolve(a, queue.Outcome{Kind: kind, Reason: reason})
		}
		r.booked("a", queue.Counts{})
	}},
	{"the bytes of a leased record stay valid until it is resolved", func(r *rig) {
		a, b := r.attach("a"), r.attach("b")
		id := r.add(1, 1, "key")
		got := r.taken(a, all, id)
		r.ack(b, r.taken(b, all, id)...)
		r.freed(id, 0)
		time.Sleep(time.Hour)
		r.intact(got[0])
		r.ack(a, got...)
		r.freed(id, 1)
	}},
}

var nackRules = []rule{
	{"a nacked record is offered again after the delay, not before, with one more attempt", func(r *rig) {
		a := r.attach("a")
		r.addMany(2, "")
		got := r.taken(a, all, 1, 2)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Minute}, got[0])
		x := r.goTake(context.Background(), a, all)
		time.Sleep(time.Minute - 1)
		x.waits()
		time.Sleep(time.Nanosecond)
		if got := x.gives(1); got[0].Attempt != 1 {
			r.Errorf("attempt %d", got[0].Attempt)
		}
		r.booked("a", queue.Counts{Accepted: 2, Queued: 2})
	}},
	{"a nack without delay offers the record at once", func(r *rig) {
		a := r.attach("a")
		r.addMany(2, "")
		got := r.taken(a, all, 1, 2)
		r.resolve(a, queue.Outcome{Kind: queue.Nack}, got[1])
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: -time.Hour}, got[0])
		r.taken(a, all, 1, 2)
	}},
	{"no delay is longer than an hour", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "")
		start := time.Now()
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: 1000 * time.Hour}, r.taken(a, all, 1)...)
		r.taken(a, all, 1)
		if waited := time.Since(start); waited != time.Hour {
			r.Errorf("came back after %v", waited)
		}
	}},
	{"no number of nacks is final", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "")
		for i := range 1000 {
			got := r.taken(a, all, 1)
			if got[0].Attempt != i {
				r.Fatalf("attempt %d, want %d", got[0].Attempt, i)
			}
			r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Minute}, got...)
		}
		r.booked("a", queue.Counts{Accepted: 1, Queued: 1})
	}},
	{"what comes back comes before what is younger", func(r *rig) {
		a := r.attach("a")
		r.addMany(6, "")
		got := r.taken(a, queue.Want{Sizer: queue.Items, Max: 3, Joins: together}, 1, 2, 3)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Second}, got[1])
		r.resolve(a, queue.Outcome{Kind: queue.Release}, got[2])
		r.taken(a, single, 3)
		time.Sleep(time.Second)
		r.taken(a, all, 2, 4, 5, 6)
	}},
	{"a delayed record does not hold up others", func(r *rig) {
		a := r.attach("a")
		r.addMany(2, "")
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, r.taken(a, single, 1)...)
		r.ack(a, r.taken(a, single, 2)...)
		r.ack(a, r.taken(a, single, r.add(1, 1, ""))...)
		r.booked("a", queue.Counts{Accepted: 3, Delivered: 2, Queued: 1})
	}},
	{"delays end in their own order", func(r *rig) {
		a := r.attach("a")
		r.addMany(4, "")
		for i, d := range r.taken(a, all, 1, 2, 3, 4) {
			r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Duration(4-i) * time.Second}, d)
		}
		for id := 4; id >= 1; id-- {
			r.taken(a, all, id)
		}
	}},
	{"a short delay is not held up by a long one", func(r *rig) {
		a := r.attach("a")
		r.addMany(3, "")
		got := r.taken(a, all, 1, 2, 3)
		x := r.goTake(context.Background(), a, all)
		for i, delay := range []time.Duration{time.Hour, time.Minute, time.Second} {
			r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: delay}, got[i])
		}
		x.waits()
		time.Sleep(time.Second)
		x.gives(3)
	}},
	{"each delay ends in time, whatever is resolved among the delayed", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		const n = 300
		r.addMany(n, "")
		first := r.taken(a, all, run(1, n)...)
		a.Close()
		due := make(map[int]time.Time)
		for i, d := range r.taken(b, all, run(1, n)...) {
			delay := time.Duration(1+(i*7919)%997) * time.Second
			r.resolve(b, queue.Outcome{Kind: queue.Nack, Delay: delay}, d)
			due[idOf(d)] = time.Now().Add(delay)
		}
		for i, d := range first {
			if i%3 != 0 {
				delete(due, idOf(d))
				r.ack(a, d)
			}
		}
		for len(due) > 0 {
			for _, d := range r.take(b, all) {
				if at, ok := due[idOf(d)]; !ok || !at.Equal(time.Now()) {
					r.Fatalf("record %d came at %v, due %v", idOf(d), time.Now(), at)
				}
				delete(due, idOf(d))
			}
		}
	}},
	{"a nacked record does not wait for Linger again", func(r *rig) {
		a := r.attach("a")
		r.add(1, 1, "")
		got := r.taken(a, later, 1)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Second}, got...)
		start := time.Now()
		r.taken(a, later, 1)
		if waited := time.Since(start); waited != time.Second {
			r.Errorf("came back after %v", waited)
		}
	}},
	{"Wake forgets all delays and ends the waiting", func(r *rig) {
		a, b := r.attach("a"), r.q.Attach("a")
		r.addMany(3, "")
		for i, d := range r.taken(a, all, 1, 2, 3) {
			r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Duration(i+1) * time.Minute}, d)
		}
		x := r.goTake(context.Background(), a, all)
		x.waits()
		b.Wake()
		if got := x.gives(1, 2, 3); got[0].Attempt != 1 {
			r.Errorf("attempt %d", got[0].Attempt)
		}
		time.Sleep(time.Hour)
		r.nothing(b, all)
	}},
	{"Wake with nothing delayed does nothing", func(r *rig) {
		a := r.attach("a")
		x := r.goTake(context.Background(), a, all)
		a.Wake()
		x.waits()
		x.gives(r.add(1, 1, ""))
	}},
}
