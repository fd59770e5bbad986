// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// from is w, of what is from a number on first.
func from(w queue.Want, seq queue.Seq) queue.Want {
	w.From = seq
	return w
}

// at pushes records with these numbers, in this order, as an owner does that reads at two places.
func (d *desk) at(seqs ...queue.Seq) {
	d.do(func() {
		for _, seq := range seqs {
			d.w.Push(&window.Entry{Record: one, Seq: seq, Accepted: time.Now(), Refs: 1})
		}
	})
}

func TestASplitWindowIsReadAtTwoPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.at(1, 2, 3)
		d.do(func() {
			if !d.w.Split(100) || d.w.Split(100) || d.w.Split(50) || d.w.Parts() != 2 {
				t.Error("it is split at 100, and once")
			}
		})
		d.at(100, 101)
		d.at(4, 5) // below what is there
		d.taken(t, h, from(all, 100), 100, 101)
		d.taken(t, h, from(all, 100), 1, 2, 3, 4, 5) // nothing above: lent
		d.at(102)
		d.taken(t, h, all, 102) // and the other way round
		d.release(h, 102, 2, 101, 4)
		if d.w.Oldest().Entry.Seq != 1 || d.w.OldestUnleased().Entry.Seq != 2 {
			t.Errorf("the oldest is %d, of those that nobody has %d", d.w.Oldest().Entry.Seq, d.w.OldestUnleased().Entry.Seq)
		}
		d.taken(t, h, all, 2, 4)
		d.nack(h, time.Second, 2, 4)
		d.taken(t, h, from(all, 100), 101, 102)
		d.at(6)
		d.do(func() { d.w.Wake(); d.w.Merge() })
		d.at(103)
		d.taken(t, h, from(all, 100), 2, 4, 6, 103) // one again
	})
}

func TestWhoWaitsGetsWhatComesAtEitherPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.do(func() { d.w.Split(100) })
		x, y := d.goTake(h, from(all, 100)), d.goTake(h, all)
		x.waits(t)
		d.at(5)
		x.gives(t, 5)
		d.at(100)
		y.gives(t, 100)
		slow := queue.Want{Sizer: queue.Items, Joins: joinAll, Min: 10, Linger: time.Second}
		x = d.goTake(h, from(slow, 100))
		d.at(101)
		x.waits(t)
		time.Sleep(time.Second)
		x.gives(t, 101)
	})
}

// A part that was the highest waits until the lowest comes to it.
func TestAPartInBetweenWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.at(1, 2)
		d.do(func() { d.w.Split(100) })
		d.at(100, 101)
		d.do(func() { d.w.Split(200) })
		d.at(200)
		d.taken(t, h, from(all, 200), 200)
		d.taken(t, h, from(all, 200), 1, 2)
		d.nothing(t, h, all)
		d.ack(h, 1, 2, 200)
		if n := d.w.Oldest(); n.Entry.Seq != 100 {
			t.Errorf("the oldest is %d", n.Entry.Seq)
		}
		d.do(d.w.Merge)
		d.at(102)
		d.taken(t, h, from(all, 200), 100, 101, 102)
		for from := queue.Seq(1000); ; from += 1000 {
			more := false
			d.do(func() { more = d.w.Split(from) })
			if !more {
				break
			}
		}
		if d.w.Parts() != window.MaxParts {
			t.Errorf("%d parts", d.w.Parts())
		}
	})
}

// A window that is confined hands out nothing that it never did, but what is lowest.
func TestAConfinedWindowHandsOutNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.do(func() { d.w.Split(100) })
		d.at(1, 2, 3, 4, 5, 6, 100, 101, 102)
		w := all
		w.Max = 2
		d.taken(t, h, w, 1, 2)
		d.taken(t, h, from(w, 100), 100, 101)
		d.do(func() { d.w.Confine(4) })
		d.taken(t, h, from(w, 100), 3, 4)
		d.nothing(t, h, w)
		d.release(h, 2, 101)
		d.taken(t, h, from(w, 100), 101)
		d.taken(t, h, w, 2)
		d.do(func() { d.w.Confine(5) })
		d.taken(t, h, w, 5)
		d.do(func() { d.w.Confine(0) })
		d.taken(t, h, from(w, 100), 102)
		d.taken(t, h, from(w, 100), 6)
	})
}
