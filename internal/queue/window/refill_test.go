// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// onDisk puts n records where refill finds them.
func (d *desk) onDisk(n int, r queue.Record) {
	d.Lock()
	defer d.Unlock()
	for range n {
		d.disk = append(d.disk, d.entry(r))
	}
}

func (d *desk) ready() (int, int64) {
	d.Lock()
	defer d.Unlock()
	return d.w.Ready()
}

func TestRefillIsAskedBeforeABatchIsJudgedAndAfterALease(t *testing.T) {
	d := newDesk()
	h := d.handle()
	d.onDisk(3000, one)
	w := queue.Want{Sizer: queue.Items, Min: 900, Max: 900, Linger: time.Hour, Joins: joinAll}
	d.taken(t, h, w, run(1, 900)...)
	if n, _ := d.ready(); n != window.Records {
		t.Errorf("%d ready after a lease", n)
	}
	d.taken(t, h, w, run(901, 1800)...)
	d.taken(t, h, w, run(1801, 2700)...)
	d.taken(t, h, all, run(2701, 3000)...)
}

func TestATakeThatWaitsIsServedFromWhatRefillFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		x, y := d.goTake(h, single), d.goTake(h, single)
		d.onDisk(2, one)
		x.waits(t)
		d.do(func() {}) // Serve
		x.gives(t, 1)
		y.gives(t, 2)
	})
}

func TestAFullWindowAsksForNothing(t *testing.T) {
	for _, size := range []uint32{1, window.MinBytes / 4} {
		d := newDesk()
		h := d.handle()
		n := window.Records
		if size > 1 {
			n = 4
		}
		for range n + 1 {
			d.add(queue.Record{Items: 1, Size: size})
		}
		d.taken(t, h, single, 1)
		if d.asked > 0 {
			t.Errorf("size %d: asked %d times", size, d.asked)
		}
		d.taken(t, h, single, 2)
		if d.asked == 0 {
			t.Errorf("size %d: not asked", size)
		}
	}
}

// The window is as deep as the deepest Take so far wants it.
func TestTheWindowGrowsWithMaxBytes(t *testing.T) {
	d := newDesk()
	h := d.handle()
	const size = 1 << 20
	d.onDisk(100, queue.Record{Items: 1, Size: size})
	check := func(maxBytes, depth int64) {
		t.Helper()
		got := d.take(t, h, queue.Want{Sizer: queue.Items, MaxBytes: maxBytes, Joins: joinAll})
		want := int64(depth)
		if maxBytes > 0 {
			want = min(depth, maxBytes)
		}
		if d.w.Depth() != depth || int64(len(got)) != want/size {
			t.Errorf("depth %d, %d records; want %d and %d", d.w.Depth(), len(got), depth, want/size)
		}
		if _, b := d.ready(); b != depth {
			t.Errorf("%d bytes ready, want %d", b, depth)
		}
	}
	check(0, window.MinBytes)
	check(size, window.MinBytes)
	check(20*size, 20*size)
	d.release(h, run(1, 8)...) // the window is above its depth now
	d.taken(t, h, queue.Want{Sizer: queue.Items, MaxBytes: size, Joins: joinAll}, 1)
	d.ack(h, 1)
	d.taken(t, h, queue.Want{Sizer: queue.Items, Max: 7, Joins: joinAll}, run(2, 8)...)
	check(1<<40, window.MaxBytes)
}

func TestAWindowThatIsStillBeingLoadedIsNotFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		h := d.handle()
		x := d.goTake(h, later)
		d.addMany(window.Records - 1)
		x.waits(t)
		if d.asked == 0 {
			t.Error("nobody was asked to read on")
		}
		d.addMany(1)
		x.gives(t, run(1, window.Records)...)
	})
}

// The journal reads absent bytes after a Take and takes single records out of the batch again.
func TestAbsentRecordsCanBeTakenOutOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		a, b := d.handle(), d.handle()
		d.do(func() {
			for i := range 5 {
				e := d.entry(queue.Record{Items: 1, Free: func() {}})
				if e.Absent = i > 0; !e.Absent {
					e.Body = []byte("here")
				}
				d.w.Push(e)
			}
		})
		got, absent, err := a.Take(t.Context(), all)
		if err != nil || len(got) != 5 || absent != 4 || string(got[0].Body) != "here" || got[0].Free != nil {
			t.Fatalf("%v, %d absent, %v", seqs(got), absent, err)
		}
		x := d.goTake(b, all)
		d.do(func() { // 2 is read, 3 is damaged, 4 cannot be read now, 5 is given back
			n := a.Held(2)
			n.Entry.Body, n.Entry.Absent = []byte("read"), false
			d.w.Settle(a.Lift(3, queue.Drop))
			d.w.Nack(a.Lift(4, queue.Nack), d.w.Due(time.Second))
			d.w.Release(a.Lift(5, queue.Release))
			for seq := queue.Seq(3); seq <= 5; seq++ {
				if a.Held(seq) != nil || a.Lift(seq, queue.Ack) != nil {
					t.Errorf("%d is still held", seq)
				}
			}
		})
		d.checkGone(t, 3)
		x.gives(t, 5)
		y, _, err := b.Take(t.Context(), all)
		if err != nil || !slices.Equal(seqs(y), []queue.Seq{4}) || y[0].Attempt != 1 {
			t.Errorf("%v, %v", y, err)
		}
		d.release(a, 2)
		if y, absent, err := b.Take(t.Context(), all); err != nil || absent != 0 || string(y[0].Body) != "read" {
			t.Errorf("%v, %d absent, %v", y, absent, err)
		}
	})
}

// Leases says when bytes may be let go: when no handle of any window has them.
func TestLeasesOfAnEntryCountOverAllWindows(t *testing.T) {
	d, o := newDesk(), newDesk()
	e := &window.Entry{Record: one, Seq: 1, Refs: 2}
	d.w.Push(e)
	o.w.Push(e)
	a, b, c := d.handle(), d.handle(), o.handle()
	check := func(leases, refs int32) {
		t.Helper()
		if e.Leases != leases || e.Refs != refs {
			t.Errorf("%d leases, %d refs; want %d and %d", e.Leases, e.Refs, leases, refs)
		}
	}
	check(0, 2)
	d.taken(t, a, all, 1)
	check(1, 2)
	o.taken(t, c, all, 1)
	check(2, 2)
	d.do(func() { a.Close() })
	check(2, 2) // still claimed
	d.taken(t, b, all, 1)
	check(3, 2)
	d.ack(b, 1)
	check(2, 2) // resolved, but a may read it
	d.release(a, 1)
	check(1, 1)
	o.ack(c, 1)
	check(0, 0)
}
