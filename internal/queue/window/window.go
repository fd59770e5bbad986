// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package window is the delivery side that both queues share: what one destination is owed, handed out by lease.
//
// It stands between the records of a queue and the Takes of one cursor. A Window holds places (Node) of records
// (Entry), one window for each cursor, and promises what section 3 of the journal's specification says of Take:
// candidates in the order of their numbers, looked at 1,024 or so many bytes deep, sorted into batches as each Want
// asks, handed out to whoever waits longest; leases, delays, Wake; bytes that stay claimed until the handle that took
// them resolves them. It may hold only the loaded part of what is owed: Push adds to it at the young end, and Refill
// asks for more in time. Split begins a second place to read at (queue.Want.From), see part.
//
// It refuses to know the books, the limits, the roster and the disk: the owner, a cursor of a queue, counts what it
// settles and decides what an outcome means. All methods of all types need the owner's lock held, except Handle.Take,
// which takes and leaves it. The callbacks of a window (Owner.Gone, Refill, a handle's may, Want.Joins) run under the
// lock. A window owns no goroutine; one timer runs while a Take waits for a moment.
package window

import (
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Bounds of the queue contract (journal specification, section 2).
const (
	Records      = 1024 // how many candidates a Take looks at
	MinBytes     = 8 << 20
	MaxBytes     = 32 << 20 // and how many bytes of them: Want.MaxBytes, within these two
	MaxHeld      = 16384    // leased and delayed records of one cursor; a Take waits there
	MaxNackDelay = time.Hour

	maxOpenBatches = 64
	maxSpare       = 1024 // places kept for reuse; more are left to the collector
)

// Entry is one record in memory, shared by the windows of all cursors that owe it. The queue's lock guards it. The
// window counts Leases and reads the rest; all else is the owner's to write.
type Entry struct {
	queue.Record // Meta and Body may be nil while Absent
	Seq          queue.Seq
	Accepted     time.Time
	Refs         int32 // owner's: places of it in windows, each ended by Owner.Gone; and whatever else keeps it
	Leases       int32 // leases no handle has resolved yet, over all windows: above zero somebody may read the bytes
	Cost         int32 // owner's: bytes accounted in a cache
	Ripe         bool  // older than any Linger: from before this process
	Absent       bool  // Meta and Body are only on disk; who leases the record reads them
}

// Owner is the cursor a window belongs to.
type Owner interface {
	// Lock takes the lock that guards the window, Unlock lets it go and carries out what the owner owes to others.
	Lock()
	Unlock()
	Now() time.Time
	// Gone says that one place of e, in this window, ended: it is resolved and no handle claims its bytes. The lock is
	// held; it must not call the window. The window does not touch e afterwards.
	Gone(e *Entry)
}

// Window is what one cursor is owed, or the loaded part of it.
//
// Invariants: all holds the unresolved places, ascending by number; each of them is in exactly one of the ready lists of
// the parts, late (and then in delays) and the leased ones. There is always a part.
type Window struct {
	owner   Owner
	refill  func()
	closed  bool
	ceiling queue.Seq // 0 = none
	confine queue.Seq // 0 = not, see Confine
	depth   int64     // bytes, the largest window asked for

	all    struct{ head, tail *Node } // linked by older and younger
	parts  []*part                    // ascending, one at least
	parted queue.Seq                  // the highest number it was ever split at
	late   list
	delays delays
	leased int

	plans   []*plan // one for each question that is asked
	waiting int     // waiters of all plans
	timer   *time.Timer
	armed   time.Time // when timer fires, zero = it does not
	spare   []*Node
	waiters sync.Pool // *waiter; a field, so that channels never cross test bubbles
}

// New returns an empty window. refill, which may be nil, is called with the lock held whenever a Take looks at a window
// that is Low, before it judges what is there, and after a lease left it Low. It may Push what is at hand, so that the
// Take sees it, and Merge, and otherwise see to it that somebody reads ahead, Pushes and Serves; it must call nothing
// else that changes the window.
func New(o Owner, refill func()) *Window {
	w := &Window{owner: o, refill: refill, depth: MinBytes, parts: []*part{{}}}
	w.waiters.New = func() any { return &waiter{ready: make(chan struct{}, 1)} }
	return w
}

// Push makes e owed, the youngest record of its part, which is the window while it is not Split: its number is above
// those of all before it. Serve hands it out.
func (w *Window) Push(e *Entry) *Node {
	n := w.newNode()
	n.Entry = e
	i := w.partOf(e.Seq)
	w.link(n, i)
	p := w.parts[i]
	p.ready.insertAfter(p.ready.tail, n)
	p.bytes += int64(e.Size)
	return n
}

// Serve gives batches to those who wait, as many as are ripe, and sees to it that somebody looks again in time. The
// owner calls it after Push, Release, Nack, Settle, Wake, SetCeiling, the Close of a handle, and when a handle may take
// that could not before; once for many calls of those is enough. Zero = the owner's clock is asked if need be.
func (w *Window) Serve(now time.Time) {
	if w.waiting == 0 {
		return
	}
	if now.IsZero() {
		now = w.owner.Now()
	}
	w.serve(now)
}

// Settle resolves n wherever it stands, ready, late or leased; the owner has booked it. Unless a handle still claims
// its bytes the entry is Gone before Settle returns, else later. n must not be used again.
func (w *Window) Settle(n *Node) {
	switch n.place {
	case ready:
		w.unready(n)
		w.resetPlans(nil)
	case late:
		w.late.remove(n)
		w.delays.remove(n)
	case leased:
		w.leased--
	case resolved:
		return
	}
	w.unlink(n)
	n.place = resolved
	w.letGo(n)
}

// Release ends the lease of n, uncounted: it is a candidate again.
func (w *Window) Release(n *Node) {
	if n.place == leased {
		w.leased--
		w.offer(n)
	}
}

// Nack ends the lease of n and counts an attempt. It is a candidate again when due has come, or, if that is zero, now.
func (w *Window) Nack(n *Node, due time.Time) {
	if n.place != leased {
		return
	}
	n.attempt++
	w.leased--
	if due.IsZero() {
		w.offer(n)
		return
	}
	n.place, n.due = late, due
	w.late.insert(n)
	w.delays.push(n)
}

// Due is when what is nacked now for delay comes back, at most MaxNackDelay from now; zero means at once.
func (w *Window) Due(delay time.Duration) time.Time {
	if delay <= 0 {
		return time.Time{}
	}
	return w.owner.Now().Add(min(delay, MaxNackDelay))
}

// Wake offers all records that are held back by a delay.
func (w *Window) Wake() {
	for n := w.late.head; n != nil; n = w.late.head {
		w.late.remove(n)
		w.offer(n)
	}
	clear(w.delays)
	w.delays = w.delays[:0]
}

// SetCeiling sets the number above which nothing is handed out; 0 = none. Takes wait for what is above.
func (w *Window) SetCeiling(seq queue.Seq) {
	if seq > 0 && (w.ceiling == 0 || seq < w.ceiling) {
		w.resetPlans(nil)
	}
	w.ceiling = seq
}

// Ready says how many candidates there are, also above the ceiling, and the sum of their Size.
func (w *Window) Ready() (records int, bytes int64) {
	for _, p := range w.parts {
		records, bytes = records+p.ready.n, bytes+p.bytes
	}
	return records, bytes
}

// Depth is how many bytes of candidates a Take looks at: the most that one has asked for so far, MinBytes to MaxBytes.
func (w *Window) Depth() int64 { return w.depth }

// Low says that the candidates of the lowest or the highest part are fewer than a Take would look at, in records and in
// bytes.
func (w *Window) Low() bool { return w.PartLow(0) || len(w.parts) > 1 && w.PartLow(len(w.parts)-1) }

// Leased is how many records are handed out.
func (w *Window) Leased() int { return w.leased }

// Held is how many records are leased or delayed.
func (w *Window) Held() int { return w.leased + w.late.n }

// Oldest is the unresolved place with the lowest number, nil without one. Node.Younger leads on to all others.
func (w *Window) Oldest() *Node { return w.all.head }

// OldestUnleased is the one with the lowest number among those nobody holds: ready or delayed. nil without one.
func (w *Window) OldestUnleased() *Node {
	n := w.late.head
	for _, p := range w.parts {
		if r := p.ready.head; r != nil {
			if n == nil || r.seq() < n.seq() {
				n = r
			}
			break
		}
	}
	return n
}

// Close returns all leases, uncounted, and ends the Takes that wait, with queue.ErrClosed; later ones get the same.
// What is unresolved stays where it is, for the owner to settle or not; what is claimed stays claimed.
func (w *Window) Close() {
	if w.closed {
		return
	}
	w.closed = true
	w.dismiss(nil)
	if w.timer != nil {
		w.timer.Stop()
	}
	w.plans, w.spare = nil, nil
	for n := w.all.head; w.leased > 0; n = n.younger {
		w.Release(n)
	}
}

// offer makes n a candidate again.
func (w *Window) offer(n *Node) {
	n.place = ready
	p := w.parts[w.partOf(n.seq())]
	p.ready.insert(n)
	p.bytes += int64(n.Entry.Size)
	w.resetPlans(nil) // it is below what they cover, or soon will be
}

// unready takes n off the candidates.
func (w *Window) unready(n *Node) {
	p := w.parts[w.partOf(n.seq())]
	p.ready.remove(n)
	p.bytes -= int64(n.Entry.Size)
}

// promote offers the records whose delay is over.
func (w *Window) promote(now time.Time) {
	for len(w.delays) > 0 && !w.delays[0].due.After(now) {
		n := w.delays[0]
		w.delays.remove(n)
		w.late.remove(n)
		w.offer(n)
	}
}

// letGo drops a claim-free, resolved place.
func (w *Window) letGo(n *Node) {
	if n.place != resolved || n.claims > 0 {
		return
	}
	e := n.Entry
	*n = Node{}
	if len(w.spare) < maxSpare && !w.closed {
		w.spare = append(w.spare, n)
	}
	w.owner.Gone(e)
}

func (w *Window) newNode() *Node {
	if k := len(w.spare); k > 0 {
		n := w.spare[k-1]
		w.spare = w.spare[:k-1]
		return n
	}
	return new(Node)
}
