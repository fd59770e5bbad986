// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Handle is one handle of a cursor. leases keeps a record until this handle resolves it, also after Close and after
// somebody else resolved it: the claim keeps the bytes valid.
type Handle struct {
	w      *Window
	may    func() bool
	closed bool
	leases map[queue.Seq]*Node
}

// Handle returns one more handle. may, which may be nil, says whether it gets records now; when that turns true the
// owner calls Serve.
func (w *Window) Handle(may func() bool) *Handle {
	return &Handle{w: w, may: may, leases: make(map[queue.Seq]*Node)}
}

// Take is queue.Cursor's Take. It is called without the lock, and what Want.From asks for has been Split by the owner. It
// returns queue.ErrClosed once the handle or the window is closed.
//
// absent is how many of the records came without Meta and Body because they were Absent when they were leased. The
// owner fills those in (Held says which they are) before it hands the batch on. What it cannot read it takes out of the
// batch and ends the lease itself: Lift, then Settle, Nack or Release, then Serve. Every Entry of a batch keeps its
// Leases until then, so bytes put into one stay.
func (h *Handle) Take(ctx context.Context, want queue.Want) (got []queue.Delivered, absent int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	w := h.w
	w.owner.Lock()
	if h.closed || w.closed {
		w.owner.Unlock()
		return nil, 0, queue.ErrClosed
	}
	p := w.planFor(want)
	var now time.Time
	if want.Min > 0 || len(w.delays) > 0 {
		now = w.owner.Now() // else nobody asks for it
	}
	if w.waiting == 0 && h.mayTake() {
		w.promote(now)
		if got, absent = w.tryTake(p, h, want.From > 0, now); got != nil {
			w.owner.Unlock()
			return got, absent, nil
		}
	}
	x := w.waiters.Get().(*waiter)
	x.handle, x.plan, x.high = h, p, want.From > 0
	p.waiters = append(p.waiters, x)
	w.waiting++
	w.Serve(now)
	w.owner.Unlock()
	return h.await(ctx, x)
}

// await returns what x is given, or ctx's error; it leaves no lease behind then.
func (h *Handle) await(ctx context.Context, x *waiter) ([]queue.Delivered, int, error) {
	select {
	case <-x.ready:
	case <-ctx.Done():
		if !h.leave(x) {
			<-x.ready // answered in the meantime
			break
		}
		x.err = ctx.Err()
	}
	got, absent, err := x.got, x.absent, x.err
	*x = waiter{ready: x.ready}
	h.w.waiters.Put(x)
	return got, absent, err
}

// leave takes x off its plan; false says that it was answered before.
func (h *Handle) leave(x *waiter) bool {
	h.w.owner.Lock()
	defer h.w.owner.Unlock()
	p := x.plan
	if p == nil {
		return false
	}
	i := slices.Index(p.waiters, x)
	p.waiters = slices.Delete(p.waiters, i, i+1)
	h.w.waiting--
	return true
}

// Held returns the place of a record that h took and has not resolved, nil otherwise. Its bytes are claimed; it may be
// resolved by others nevertheless.
func (h *Handle) Held(seq queue.Seq) *Node { return h.leases[seq] }

// Lift ends the claim of h on a record it took. It returns the place if an outcome of this kind still counts, for the
// owner to act on at once: Settle (Ack, Dead, Drop), Nack or Release. It returns nil if h does not hold the record, if
// that was resolved otherwise, and, for all kinds but Ack, if the handle or the window was closed: the lease had ended.
// For an Ack of a closed handle the place may be anything but resolved, also leased to another handle.
func (h *Handle) Lift(seq queue.Seq, kind queue.Kind) *Node {
	n := h.leases[seq]
	if n == nil {
		return nil
	}
	delete(h.leases, seq)
	n.claims--
	n.Entry.Leases--
	if n.place == resolved {
		h.w.letGo(n)
		return nil
	}
	if kind != queue.Ack && (h.closed || h.w.closed) {
		return nil
	}
	return n
}

// Close returns the leases of h, uncounted, and ends its waiting Takes with queue.ErrClosed. false says that it was
// closed before; else the owner calls Serve.
func (h *Handle) Close() bool {
	if h.closed {
		return false
	}
	h.closed = true
	h.w.dismiss(h)
	if h.w.closed {
		return true // its leases are returned
	}
	for _, seq := range slices.Sorted(maps.Keys(h.leases)) {
		h.w.Release(h.leases[seq])
	}
	return true
}

func (h *Handle) mayTake() bool { return h.may == nil || h.may() }
