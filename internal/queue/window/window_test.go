// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

func TestNothingAboveTheCeilingIsHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.addMany(6)
		d.do(func() { d.w.SetCeiling(4) })
		d.taken(t, h, single, 1)
		d.taken(t, h, all, 2, 3, 4)
		d.nothing(t, h, single)
		x, y := d.goTake(h, single), d.goTake(h, all)
		d.addMany(1)
		x.waits(t)
		d.release(h, 3)
		x.gives(t, 3)
		y.waits(t)
		d.do(func() { d.w.SetCeiling(6) })
		y.gives(t, 5, 6)
		d.nothing(t, h, all)
		d.do(func() { d.w.SetCeiling(0) })
		d.taken(t, h, all, 7)
	})
}

func TestALoweredCeilingTakesBackWhatWasPlaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.addMany(6)
		d.nothing(t, h, later) // one batch of six that waits
		d.do(func() { d.w.SetCeiling(4) })
		time.Sleep(time.Hour)
		d.taken(t, h, later, 1, 2, 3, 4)
		d.nothing(t, h, later)
	})
}

// What is above the ceiling makes neither a window full nor a batch closed.
func TestACeilingMakesNoBatchRipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.do(func() { d.w.SetCeiling(3) })
		x := d.goTake(h, later)
		d.addMany(2 * window.Records)
		x.waits(t)
		time.Sleep(time.Hour)
		x.gives(t, 1, 2, 3)
	})
}

func TestARipeRecordWaitsForNoLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		x := d.goTake(h, later)
		d.do(func() {
			e := d.entry(one)
			e.Ripe = true
			d.w.Push(e)
			d.w.Push(d.entry(one))
		})
		x.gives(t, 1, 2)
		d.addMany(1)
		d.nothing(t, h, later)
	})
}

func TestAHandleThatMayNotTakeWaitsUntilItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		may := false
		h := d.handleThat(func() bool { return may })
		other := d.handle()
		d.addMany(1)
		x := d.goTake(h, all)
		x.waits(t)
		d.taken(t, other, all, 1)
		d.addMany(1)
		x.waits(t)
		d.do(func() { may = true })
		x.gives(t, 2)
	})
}

func TestSettleResolvesARecordWhereverItStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.addMany(5)
		d.nack(h, time.Minute, seqs(d.taken(t, h, single, 1))...)
		d.taken(t, h, single, 2)
		d.nothing(t, h, later) // places 3 to 5
		d.do(func() {
			n := d.w.Oldest()
			for range 3 {
				younger := n.Younger()
				d.w.Settle(n)
				n = younger
			}
			if n.Entry.Seq != 4 || d.w.Oldest() != n || d.w.Held() != 0 {
				t.Errorf("oldest %d, held %d", n.Entry.Seq, d.w.Held())
			}
		})
		d.checkGone(t, 1, 3) // 2 is claimed
		time.Sleep(time.Hour)
		d.taken(t, h, later, 4, 5)
		d.nothing(t, h, all)
		d.ack(h, 2)
		d.checkGone(t, 1, 3, 2)
	})
}

func TestTheOldestUnleasedRecordIsReadyOrDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		check := func(want queue.Seq) {
			t.Helper()
			d.Lock()
			defer d.Unlock()
			got := queue.Seq(0)
			if n := d.w.OldestUnleased(); n != nil {
				got = n.Entry.Seq
				if n.Leased() {
					t.Errorf("%d is leased", got)
				}
			}
			if got != want {
				t.Errorf("%d, want %d", got, want)
			}
		}
		check(0)
		d.addMany(3)
		d.taken(t, h, single, 1)
		check(2)
		d.taken(t, h, all, 2, 3)
		check(0)
		d.nack(h, time.Hour, 3)
		check(3)
		d.release(h, 1)
		check(1)
		d.nack(h, time.Hour, seqs(d.taken(t, h, single, 1))...)
		check(1)
		d.do(d.w.Wake)
		if got := d.taken(t, h, all, 1, 3); got[0].Attempt != 1 {
			t.Errorf("attempt %d", got[0].Attempt)
		}
	})
}

func TestCloseOfAHandleEndsItsTakesAndLeasesAndNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		a, b := d.handle(), d.handle()
		d.addMany(3)
		d.taken(t, a, single, 1)
		d.taken(t, b, single, 2)
		x, y := d.goTake(a, later), d.goTake(b, later)
		closed := false
		d.do(func() { closed = a.Close() && !a.Close() })
		if x.isClosed(t); !closed {
			t.Error("Close does not say whether it was the first")
		}
		y.waits(t)
		d.do(func() {
			if ready, _ := d.w.Ready(); ready != 2 || d.w.Leased() != 1 {
				t.Errorf("%d ready, %d leased", ready, d.w.Leased())
			}
		})
		time.Sleep(time.Hour)
		y.gives(t, 1, 3)
	})
}

func TestAtMaxHeldATakeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		d.onDisk(window.MaxHeld+1, one)
		for first := queue.Seq(1); first < window.MaxHeld; first += window.Records {
			d.taken(t, h, all, run(first, first+window.Records-1)...)
		}
		asked := d.asked
		x := d.goTake(h, all)
		d.nack(h, time.Hour, 1)
		x.waits(t)
		if d.asked != asked {
			t.Error("a window that may hand out nothing asks for more")
		}
		d.ack(h, 2)
		x.gives(t, window.MaxHeld+1)
	})
}

func TestCloseEndsAllTakesAndLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		a, b := d.handle(), d.handle()
		d.addMany(5)
		d.nack(a, time.Minute, seqs(d.taken(t, a, single, 1))...)
		d.taken(t, a, queue.Want{Sizer: queue.Items, Max: 3, Joins: joinAll}, 2, 3, 4)
		x := d.goTake(b, later)
		d.do(d.w.Close)
		d.do(d.w.Close)
		x.isClosed(t)
		if _, _, err := a.Take(context.Background(), all); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("take: %v", err)
		}
		d.do(func() {
			if ready, _ := d.w.Ready(); ready != 4 || d.w.Leased() != 0 || d.w.Held() != 1 {
				t.Errorf("%d ready, %d leased, %d held", ready, d.w.Leased(), d.w.Held())
			}
		})
		d.checkGone(t)
		never := func(n *window.Node) { t.Errorf("%d", n.Entry.Seq) }
		d.lift(a, queue.Nack, never, 2)
		d.ack(a, 3)
		d.checkGone(t, 3)
		d.do(func() { a.Close() })
		d.lift(a, queue.Drop, never, 4)
		var left []queue.Seq
		d.do(func() {
			for n := d.w.Oldest(); n != nil; n = d.w.Oldest() {
				left = append(left, n.Entry.Seq)
				d.w.Settle(n)
			}
		})
		if !slices.Equal(left, []queue.Seq{1, 2, 4, 5}) {
			t.Errorf("left %v", left)
		}
		d.checkGone(t, 3, 1, 2, 4, 5)
		time.Sleep(time.Hour)
	})
}
