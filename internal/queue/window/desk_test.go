// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// desk is an owner without books: one window and the records that went through it.
type desk struct {
	mu    sync.Mutex
	w     *window.Window
	last  queue.Seq
	disk  []*window.Entry // what refill pushes, in order
	asked int             // calls of refill
	gone  []queue.Seq
}

func newDesk() *desk {
	d := &desk{}
	d.w = window.New(d, d.refill)
	return d
}

func (d *desk) Lock()          { d.mu.Lock() }
func (d *desk) Unlock()        { d.mu.Unlock() }
func (d *desk) Now() time.Time { return time.Now() }

func (d *desk) Gone(e *window.Entry) {
	e.Refs--
	d.gone = append(d.gone, e.Seq)
}

func (d *desk) refill() {
	d.asked++
	for len(d.disk) > 0 && d.w.Low() {
		d.w.Push(d.disk[0])
		d.disk = d.disk[1:]
	}
}

func (d *desk) entry(r queue.Record) *window.Entry {
	d.last++
	return &window.Entry{Record: r, Seq: d.last, Accepted: time.Now(), Refs: 1}
}

func (d *desk) handle() *window.Handle { return d.handleThat(nil) }

func (d *desk) handleThat(may func() bool) *window.Handle {
	d.Lock()
	defer d.Unlock()
	return d.w.Handle(may)
}

// add pushes records and serves.
func (d *desk) add(records ...queue.Record) {
	d.Lock()
	defer d.Unlock()
	for _, r := range records {
		d.w.Push(d.entry(r))
	}
	d.w.Serve(time.Time{})
}

func (d *desk) addMany(n int) { d.add(slices.Repeat([]queue.Record{one}, n)...) }

// do runs f under the lock and serves.
func (d *desk) do(f func()) {
	d.Lock()
	defer d.Unlock()
	f()
	d.w.Serve(time.Time{})
}

// lift does what an owner does with an outcome: act is called for each place for which it counts.
func (d *desk) lift(h *window.Handle, k queue.Kind, act func(*window.Node), seqs ...queue.Seq) {
	d.do(func() {
		for _, seq := range seqs {
			if n := h.Lift(seq, k); n != nil {
				act(n)
			}
		}
	})
}

func (d *desk) ack(h *window.Handle, seqs ...queue.Seq) { d.lift(h, queue.Ack, d.w.Settle, seqs...) }

func (d *desk) release(h *window.Handle, seqs ...queue.Seq) {
	d.lift(h, queue.Release, d.w.Release, seqs...)
}

func (d *desk) nack(h *window.Handle, delay time.Duration, seqs ...queue.Seq) {
	d.lift(h, queue.Nack, func(n *window.Node) { d.w.Nack(n, d.w.Due(delay)) }, seqs...)
}

// take returns a batch that must come.
func (d *desk) take(t testing.TB, h *window.Handle, w queue.Want) []queue.Delivered {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	got, _, err := h.Take(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// taken checks that the next batch is exactly these records.
func (d *desk) taken(t testing.TB, h *window.Handle, w queue.Want, want ...queue.Seq) []queue.Delivered {
	t.Helper()
	got := d.take(t, h, w)
	if !slices.Equal(seqs(got), want) {
		t.Fatalf("took %v, want %v", seqs(got), want)
	}
	return got
}

// nothing checks, in a bubble, that there is no batch now.
func (d *desk) nothing(t testing.TB, h *window.Handle, w queue.Want) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	if got, _, err := h.Take(ctx, w); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("took %v, %v; want to wait", seqs(got), err)
	}
}

// waiting is a Take on a goroutine of its own, in a bubble.
type waiting struct {
	got  []queue.Delivered
	err  error
	done chan struct{}
}

func (d *desk) goTake(h *window.Handle, w queue.Want) *waiting {
	x := &waiting{done: make(chan struct{})}
	go func() {
		defer close(x.done)
		x.got, _, x.err = h.Take(context.Background(), w)
	}()
	synctest.Wait()
	return x
}

// ended says whether it returned, once everything that can happen now has happened.
func (x *waiting) ended() bool {
	synctest.Wait()
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

func (x *waiting) waits(t testing.TB) {
	t.Helper()
	if x.ended() {
		t.Fatalf("returned %v, %v; want to wait", seqs(x.got), x.err)
	}
}

func (x *waiting) gives(t testing.TB, want ...queue.Seq) {
	t.Helper()
	if !x.ended() {
		t.Fatal("still waits")
	}
	if x.err != nil || !slices.Equal(seqs(x.got), want) {
		t.Fatalf("took %v, %v; want %v", seqs(x.got), x.err, want)
	}
}

func (x *waiting) isClosed(t testing.TB) {
	t.Helper()
	if !x.ended() || !errors.Is(x.err, queue.ErrClosed) {
		t.Fatalf("ended %v with %v, want %v", x.ended(), x.err, queue.ErrClosed)
	}
}

func (d *desk) checkGone(t testing.TB, want ...queue.Seq) {
	t.Helper()
	if !slices.Equal(d.gone, want) {
		t.Fatalf("gone: %v, want %v", d.gone, want)
	}
}

func seqs(got []queue.Delivered) []queue.Seq {
	s := make([]queue.Seq, len(got))
	for i := range got {
		s[i] = got[i].Seq
	}
	return s
}

// run is the numbers first..last.
func run(first, last queue.Seq) (s []queue.Seq) {
	for ; first <= last; first++ {
		s = append(s, first)
	}
	return s
}

func joinAll(_, _ *queue.Record) bool { return true }

var (
	one    = queue.Record{Items: 1, Size: 1}
	single = queue.Want{}
	all    = queue.Want{Sizer: queue.Items, Joins: joinAll}
	later  = queue.Want{Sizer: queue.Items, Joins: joinAll, Min: 1 << 40, Linger: time.Hour}
)
