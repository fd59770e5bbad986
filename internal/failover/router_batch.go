// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import "time"

// Batch is one unit in hand: whole records, or a piece of one. The exported fields are the caller's, who fills them in
// before the batch arrives and leaves them alone until an effect ends it; then it may be used for another.
type Batch struct {
	Source  uint32   // where the records were taken from; a Seq is unique within one
	Seqs    []uint64 // the records; of a piece the record it is of
	Items   uint32
	Attempt int  // earlier nacks of a record that travels alone; such a record is a straggler
	Piece   bool // a part of one record
	// Once says that a client waits: no level is asked twice, and waiting is the client's.
	Once  bool
	Stays bool // its queue keeps it when the process stops: a drain lets go of it
	// Ordinary says that the emergency level is not for it: it came from there. While no other takes it, it goes back.
	Ordinary bool
	// Accepted is when the oldest record was; zero = just now. Older data is backlog, unless it is Live: it came while a
	// backlog was drained, and is no part of that however long it waited.
	Accepted time.Time
	Live     bool
	Owner    any // not looked at

	state  batchState
	family int32
	level  int  // where it is, or for which it is on the move; -1 = nowhere yet
	from   int  // the level it left for that one; -1 = none
	slot   bool // holds one of level
	fresh  bool // was never sent
	canary bool // in flight to a level that is not eligible
	spent  bool // was a canary, and is not taken again before it was held
	again  bool // an attempt may have been taken
	whole  bool // cannot be taken apart
	asking bool // splitting because of its size, not of a rejection
	why    waitReason
	cause  MoveCause

	tried, rejected, asked uint64 // levels

	delivered []uint64 // members, by level; kept for as long as it is in hand
	refused   []uint32 // items, the most of any member, by level

	number  uint64    // of the arrival; its hash decides who goes up to a level that ramps
	lane    Lane      // in flight
	sent    time.Time // in flight
	try     uint64
	since   uint64    // deliveries of the level when the attempt began
	arrived time.Time // at the level, first attempt; zero = none yet
	until   time.Time // waiting: its end; in flight: when it hangs; zero = none
	cancel  time.Time // in flight: when to cancel; zero = not
	backoff time.Duration

	judged  bool // there was a verdict
	unclear bool // and each was unclear or a rejection
	err     error

	prev, next *Batch
}

type batchState uint8

const (
	batchEnded batchState = iota
	batchMoving
	batchInFlight
	batchWaiting
	batchSplitting
	batchHeld
	batchBack // an attempt or its refusal is being judged, within one Step
)

type waitReason uint8

const (
	waitBackoff waitReason = iota
	waitThrottle
	waitLocal
)

// begin clears the marks of an earlier life.
func (b *Batch) begin(levels int) {
	*b = Batch{
		Source: b.Source, Seqs: b.Seqs, Items: b.Items, Attempt: b.Attempt, Piece: b.Piece, Once: b.Once, Stays: b.Stays,
		Ordinary: b.Ordinary, Accepted: b.Accepted, Live: b.Live, Owner: b.Owner,
		level: -1, from: -1, fresh: true, delivered: b.delivered, refused: b.refused, state: batchBack,
	}
	if cap(b.delivered) < levels {
		b.delivered, b.refused = make([]uint64, levels), make([]uint32, levels)
	}
	b.delivered, b.refused = b.delivered[:levels], b.refused[:levels]
	clear(b.delivered)
	clear(b.refused)
}

// inherit gives a piece the marks of what it was taken from.
func (b *Batch) inherit(from *Batch) {
	b.level, b.from, b.fresh, b.again, b.cause = from.level, from.from, from.fresh, from.again, from.cause
	b.spent, b.number = from.spent, from.number
	if b.Accepted.IsZero() {
		b.Accepted = from.Accepted
	}
	b.tried, b.rejected, b.asked = from.tried, from.rejected, from.asked
	b.judged, b.unclear, b.err, b.arrived = from.judged, from.unclear, from.err, from.arrived
	b.Attempt, b.Once, b.Stays, b.Source, b.Ordinary = from.Attempt, from.Once, from.Stays, from.Source, from.Ordinary
	b.Live = b.Live || from.Live
	copy(b.delivered, from.delivered)
	for i := range from.refused { // nobody says which items: the first pieces bear it
		n := min(from.refused[i], b.Items)
		b.refused[i] = n
		from.refused[i] -= n
	}
}

// straggler reports whether the record was in hand before, and came back to the queue.
func (b *Batch) straggler() bool { return b.Attempt > 0 && !b.Once }

// hasty reports whether the batch has no patience: it came back before, or somebody waits.
func (b *Batch) hasty() bool { return b.Attempt > 0 || b.Once }

// adopt puts b, of family f, into the list behind after; nil = at the end.
func (r *Router) adopt(b *Batch, f int32, after *Batch) {
	b.family = f
	r.families[f].live++
	if b.straggler() {
		if r.families[f].stragglers++; r.families[f].stragglers == 1 {
			r.straggling++
		}
	}
	if after == nil {
		after = r.last
	}
	b.prev = after
	if after == nil {
		b.next, r.first = r.first, b
	} else {
		b.next, after.next = after.next, b
	}
	if b.next == nil {
		r.last = b
	} else {
		b.next.prev = b
	}
}

// found starts a family.
func (r *Router) found() int32 {
	r.taken++
	if n := len(r.free); n > 0 {
		f := r.free[n-1]
		r.free = r.free[:n-1]
		return f
	}
	r.families = append(r.families, family{})
	return int32(len(r.families) - 1)
}

// leave takes b out of hand. Whoever calls it emits the effect that says so.
func (r *Router) leave(b *Batch) {
	r.release(b)
	r.become(b, batchEnded)
	if b.prev == nil {
		r.first = b.next
	} else {
		b.prev.next = b.next
	}
	if b.next == nil {
		r.last = b.prev
	} else {
		b.next.prev = b.prev
	}
	b.prev, b.next = nil, nil
	f := &r.families[b.family]
	if b.straggler() {
		if f.stragglers--; f.stragglers == 0 {
			r.straggling--
		}
	}
	if f.live--; f.live == 0 {
		r.taken--
		r.free = append(r.free, b.family)
	}
}

// become changes b's state and the counts.
func (r *Router) become(b *Batch, s batchState) {
	if b.state == s {
		return
	}
	if a := r.amount(b.state); a != nil {
		a.Pieces--
		a.Items -= uint64(b.Items)
	}
	if b.state == batchMoving {
		r.movers--
		if !b.straggler() {
			r.levels[b.level].moving--
		}
	}
	b.state = s
	if a := r.amount(s); a != nil {
		a.Pieces++
		a.Items += uint64(b.Items)
	}
	if s == batchMoving {
		r.movers++
		if !b.straggler() {
			r.levels[b.level].moving++
		}
	}
}

func (r *Router) amount(s batchState) *Amount {
	switch s {
	case batchMoving:
		return &r.inHand.Moving
	case batchInFlight:
		return &r.inHand.InFlight
	case batchWaiting, batchSplitting:
		return &r.inHand.Waiting
	case batchHeld:
		return &r.inHand.Held
	}
	return nil
}

// room reports whether a batch may have a slot of level i.
func (r *Router) room(i int, straggler bool) bool {
	l := &r.levels[i]
	slots := r.set.Levels[i].Slots
	if l.busy >= slots || r.busy >= r.bound {
		return false
	}
	return !straggler || l.stragglers < max(slots/4, 1)
}

// grab gives b a slot of its level.
func (r *Router) grab(b *Batch) {
	b.slot = true
	r.busy++
	r.levels[b.level].busy++
	if b.straggler() {
		r.levels[b.level].stragglers++
	}
}

// release gives b's slot back.
func (r *Router) release(b *Batch) {
	if !b.slot {
		return
	}
	b.slot = false
	r.busy--
	r.levels[b.level].busy--
	if b.straggler() {
		r.levels[b.level].stragglers--
	}
	r.freed = true
}
