// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

var rosterRules = []rule{
	{"a prepared destination is owed nothing until it is attached", func(r *rig) {
		r.attach("a")
		r.prepare(queue.Destination{Name: "b"})
		r.add(1, 1, "")
		if s := r.state("b"); s != queue.Prepared {
			r.Errorf("state %d", s)
		}
		b := r.q.Attach("b")
		if s := r.state("b"); s != queue.Live {
			r.Errorf("state %d", s)
		}
		r.taken(b, all, r.add(1, 1, ""))
	}},
	{"Detach parks what is left: kept, counted, not taken, and nothing new is owed", func(r *rig) {
		a := r.attach("a")
		b := r.attach("b")
		r.add(1, 1, "")
		r.add(2, 1, "")
		r.ack(a, r.taken(a, single, 1)...)
		r.roster.Detach("a")
		r.add(4, 1, "")
		r.booked("a", queue.Counts{Accepted: 3, Delivered: 1, Parked: 2})
		if s := r.state("a"); s != queue.Parked {
			r.Errorf("state %d", s)
		}
		r.nothing(a, all)
		r.taken(b, all, 1, 2, 3)
	}},
	{"Attach brings a parked destination back, without what came in between", func(r *rig) {
		a := r.attach("a")
		r.attach("b")
		r.add(1, 1, "")
		r.roster.Detach("a")
		r.add(2, 1, "")
		x := r.goTake(context.Background(), a, all)
		x.waits()
		r.q.Attach("a")
		x.gives(1)
		r.taken(a, all, r.add(4, 1, ""))
		r.booked("a", queue.Counts{Accepted: 5, Queued: 5})
	}},
	{"a lease that is out when its destination parks may still be resolved", func(r *rig) {
		a := r.attach("a")
		r.attach("b")
		r.addMany(2, "")
		got := r.taken(a, all, 1, 2)
		r.roster.Detach("a")
		r.ack(a, got[0])
		r.booked("a", queue.Counts{Accepted: 2, Delivered: 1, Parked: 1})
		r.ack(a, got[1])
		r.booked("a", queue.Counts{Accepted: 2, Delivered: 2})
	}},
	{"a destination that leaves with nothing left is done, and starts anew when it is attached", func(r *rig) {
		a := r.attach("a")
		r.attach("b")
		r.add(1, 1, "")
		r.ack(a, r.taken(a, all, 1)...)
		a.Close()
		r.roster.Detach("a")
		if s := r.state("a"); s == queue.Live || s == queue.Parked {
			r.Errorf("state %d", s)
		}
		r.add(1, 1, "")
		a = r.attach("a")
		r.taken(a, all, r.add(1, 1, ""))
	}},
	{"Forget makes what is unresolved not owed and says what was delivered", func(r *rig) {
		a, b := r.attach("a"), r.attach("b")
		r.add(1, 1, "")
		r.add(2, 1, "")
		r.add(4, 1, "")
		r.add(8, 1, "")
		r.ack(a, r.taken(a, single, 1)...)
		r.resolve(a, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, r.taken(a, single, 2)...)
		got := r.taken(a, single, 3)
		if c := r.roster.Forget("a"); c.Delivered != 1 || c.Queued != 0 || c.Parked != 0 {
			r.Errorf("%+v", c)
		}
		r.intact(got[0])
		r.ack(a, got...)
		r.nothing(a, all)
		r.balanced()
		r.add(16, 1, "")
		r.nothing(a, all)
		r.taken(b, all, 1, 2, 3, 4, 5)
	}},
	{"a forgotten destination that is attached again is owed what comes then", func(r *rig) {
		a := r.attach("a")
		r.attach("b")
		r.add(1, 1, "")
		r.roster.Forget("a")
		r.add(1, 1, "")
		a.Close()
		a = r.attach("a")
		r.taken(a, all, r.add(1, 1, ""))
		r.balanced()
	}},
	{"Forget and Detach of an unknown name do nothing", func(r *rig) {
		r.roster.Detach("nobody")
		if c := r.roster.Forget("nobody"); !sameCounts(c, queue.Counts{}) {
			r.Errorf("%+v", c)
		}
	}},
	{"an heir serves a parked cursor", func(r *rig) {
		r.attach("old")
		r.addMany(3, "")
		r.roster.Detach("old")
		r.attach("new")
		h := r.inherit("old", "new")
		r.add(1, 1, "")
		got := r.taken(h, all, 1, 2, 3)
		r.ack(h, got...)
		r.booked("old", queue.Counts{Accepted: 3, Delivered: 3})
		r.booked("new", queue.Counts{Accepted: 1, Queued: 1})
	}},
	{"an heir gets each record once: what it is owed already is not owed again", func(r *rig) {
		r.attach("old")
		r.attach("older")
		r.addMany(2, "")
		heir := r.attach("new")
		r.addMany(2, "")
		r.roster.Detach("old")
		r.roster.Detach("older")
		first, second := r.inherit("old", "new"), r.inherit("older", "new")
		r.taken(first, all, 1, 2)
		r.nothing(second, all)
		r.taken(heir, all, 3, 4)
		r.booked("old", queue.Counts{Accepted: 2, Parked: 2})
		r.booked("older", queue.Counts{})
	}},
	{"a parked cursor has one heir, and only a parked cursor has one", func(r *rig) {
		r.attach("old")
		r.attach("live")
		r.add(1, 1, "")
		if _, err := r.roster.Inherit("live", "new"); err == nil {
			r.Error("a live cursor was inherited")
		}
		if _, err := r.roster.Inherit("nobody", "new"); err == nil {
			r.Error("an unknown cursor was inherited")
		}
		r.roster.Detach("old")
		r.inherit("old", "new")
		if _, err := r.roster.Inherit("old", "other"); err == nil {
			r.Error("two heirs")
		}
	}},
	{"another heir follows one that was disinherited, and gets what that did not resolve", func(r *rig) {
		r.roster.Disinherit("nobody")
		r.attach("old")
		r.addMany(3, "")
		r.roster.Disinherit("old")
		r.roster.Detach("old")
		first := r.inherit("old", "new")
		r.ack(first, r.taken(first, single, 1)...)
		r.resolve(first, queue.Outcome{Kind: queue.Release}, r.taken(first, single, 2)...)
		if infos := r.roster.List(); infos[0].Heir != "new" {
			r.Errorf("heir is %q", infos[0].Heir)
		}
		r.roster.Disinherit("old")
		if infos := r.roster.List(); infos[0].Heir != "" || infos[0].State != queue.Parked {
			r.Errorf("%+v", infos[0])
		}
		r.nothing(first, all)
		r.taken(r.inherit("old", "other"), all, 2, 3)
	}},
	{"a parked destination that returns gets back what its heir did not resolve", func(r *rig) {
		a := r.attach("old")
		r.addMany(3, "")
		r.roster.Detach("old")
		h := r.inherit("old", "new")
		r.ack(h, r.taken(h, single, 1)...)
		r.resolve(h, queue.Outcome{Kind: queue.Release}, r.taken(h, single, 2)...)
		h.Close()
		r.q.Attach("old")
		r.taken(a, all, 2, 3)
	}},
	{"a destination that returned and parked again may be inherited again, whole", func(r *rig) {
		a := r.attach("old")
		r.addMany(3, "")
		r.roster.Detach("old")
		h := r.inherit("old", "new")
		r.ack(h, r.taken(h, single, 1)...)
		h.Close()
		a.Close()
		r.q.Attach("old").Close()
		r.roster.Detach("old")
		h = r.inherit("old", "new")
		r.taken(h, all, 2, 3)
		h.Close()
		r.q.Attach("old").Close()
		r.roster.Detach("old")
		r.taken(r.inherit("old", "other"), all, 2, 3)
	}},
	{"an heir gets what came while it was away itself", func(r *rig) {
		r.attach("old")
		heir := r.attach("new")
		r.add(1, 1, "")
		r.roster.Detach("new")
		r.add(1, 1, "")
		r.roster.Detach("old")
		r.q.Attach("new")
		h := r.inherit("old", "new")
		r.taken(h, all, 2)
		r.taken(heir, all, 1)
	}},
	{"List names every cursor with its exporters, state and oldest record", func(r *rig) {
		r.prepare(queue.Destination{Name: "failover/x", Exporters: []string{"otlp/a", "otlp/b"}})
		r.q.Attach("failover/x")
		r.add(1, 1, "")
		time.Sleep(time.Minute)
		infos := r.roster.List()
		if len(infos) != 1 {
			r.Fatalf("%+v", infos)
		}
		i := infos[0]
		if i.Name != "failover/x" || len(i.Exporters) != 2 || i.Exporters[1] != "otlp/b" || i.State != queue.Live ||
			i.Oldest < time.Minute || i.Oldest > 70*time.Second {
			r.Errorf("%+v", i)
		}
	}},
}

func (r *rig) inherit(name, heir string) queue.Cursor {
	r.Helper()
	c, err := r.roster.Inherit(name, heir)
	if err != nil {
		r.Fatalf("inherit: %v", err)
	}
	return c
}
