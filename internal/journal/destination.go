// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// closers is how many numbers above the floor may be handed out however many gaps are open.
const closers = 64

// destination is one cursor at run time. The journal's lock guards all of it but file.
//
// Invariants: slot.Resolved holds every number that is not owed or is resolved; of the others, those that a reading has
// passed are in the window, the rest are in the cache or on disk only. records, items and size sum what is owed and
// unresolved; accepted = delivered + rejected + dropped + items.
type destination struct {
	j     *Journal
	limit queue.Limit
	// stored says that its queue names a storage: it gives way last when the disk is full.
	stored bool
	win    *window.Window
	heir   string // who serves it while parked

	slot     cursor.Slot // what the next slot write says; Generation is the file's
	accepted uint64      // items owed over its whole life
	records  int64       // owed and unresolved
	items    int64
	size     int64      // uncompressed bytes; an estimate of what was there at opening
	reads    []*reading // one for each part of the window, ascending; one at least
	resolved map[Resolution]Tally
	again    uint64 // records handed out again

	// off is what of slot.Resolved was never delivered here, as far as this process knows: if slot.TakenOff was set before
	// it, not all of it.
	off      cursor.Set
	offKnown bool

	retryAt time.Time // not before: the disk would not give it
	// failed is what the disk would not give, maxFailed at most. True: it refused that twice, and what it refuses now is
	// damage.
	failed map[queue.Seq]bool

	writing sync.Mutex   // held over disk calls; guards file and what is in it
	file    *cursor.File // nil: there is none yet, or not any more
	dirty   uint64       // changes so far
	written uint64       // of them durable
	named   queue.Seq    // how far the journal is durable, as the file says
	liveAt  uint64       // the change that made it live: durable before the next group is answered
	failing bool         // the last slot write failed
	stuck   bool         // the file is of no use and cannot be removed
}

// guard is what a window knows of its cursor.
type guard struct{ d *destination }

var _ window.Owner = guard{}

// Lock implements window.Owner.
func (g guard) Lock() { g.d.j.Lock() }

// Unlock implements window.Owner.
func (g guard) Unlock() { g.d.j.Unlock() }

// Now implements window.Owner.
func (g guard) Now() time.Time { return g.d.j.now() }

// Gone implements window.Owner.
func (g guard) Gone(e *window.Entry) {
	e.Refs--
	g.d.j.mu.cache.settled(e, g.d.j.mu.durable, g.d.j.mu.fx)
}

// upTo is the last number it is owed, of those there are.
func (d *destination) upTo() queue.Seq { return min(d.mayOwe(), d.j.mu.last) }

// mayOwe is the last number it may be owed, ever, as it stands.
func (d *destination) mayOwe() queue.Seq {
	switch d.slot.State {
	case queue.Live:
		return segment.MaxSeq
	case queue.Parked:
		return d.slot.Until
	}
	return 0
}

// inSizer measures in the limit's unit. In requests a record counts as the share of a batch that it will be: with batches
// made behind the queue, queue_size counts batches.
func (d *destination) inSizer(records, items, bytes int64) int64 {
	switch l := d.limit; {
	case l.Sizer == queue.Items:
		return items
	case l.Sizer == queue.Bytes:
		return bytes
	case l.BatchItems > 0:
		b := int64(l.BatchItems)
		return min(records, (items+b-1)/b)
	}
	return records
}

func (d *destination) sizer() int64 { return d.inSizer(d.records, d.items, d.size) }

// full says whether it is at its queue_size, with what waits for the log.
func (d *destination) full() bool {
	if d.limit.Max <= 0 {
		return false
	}
	p := &d.j.mu.pending
	return d.inSizer(d.records+p.records, d.items+p.items, d.size+p.bytes) >= d.limit.Max
}

func (d *destination) fullError() *queue.FullError {
	return &queue.FullError{Limit: limitQueueSize, Used: d.sizer(), Max: d.limit.Max}
}

// owe adds a record that was just committed.
func (d *destination) owe(e *window.Entry) {
	e.Refs++
	d.records++
	d.items += int64(e.Items)
	d.size += int64(e.Size)
	d.accepted += uint64(e.Items)
	if i := len(d.reads) - 1; d.reads[i].next == e.Seq && d.win.PartLow(i) {
		d.load(d.reads[i], e)
	}
}

// load puts the record that a reading has come to into the window.
func (d *destination) load(r *reading, e *window.Entry) {
	d.win.Push(e)
	r.next = e.Seq + 1
}

// takenOff says that the numbers are resolved and were not delivered here: somebody else has them, or nobody is to.
func (d *destination) takenOff(first, last queue.Seq) {
	d.off.Add(first, last)
	if !d.slot.TakenOff {
		d.slot.TakenOff = true
		d.changed()
	}
}

// resolve settles a place that the window has, and books it.
func (d *destination) resolve(n *window.Node, as Resolution) {
	e := n.Entry
	d.settled(e.Seq, e.Items, e.Size, as)
	d.win.Settle(n)
}

// skip resolves a number the window does not have.
func (d *destination) skip(seq queue.Seq, items, size uint32, as Resolution) {
	d.settled(seq, items, size, as)
	if e := d.j.mu.cache.find(seq); e != nil {
		e.Refs--
		d.j.mu.cache.settled(e, d.j.mu.durable, d.j.mu.fx)
	}
}

// settled books that seq is resolved.
func (d *destination) settled(seq queue.Seq, items, size uint32, as Resolution) {
	d.slot.Resolved.Add(seq, seq)
	d.slot.High = max(d.slot.High, seq)
	d.records--
	d.items -= int64(items)
	if d.size -= int64(size); d.records == 0 || d.size < 0 {
		d.size = 0
	}
	d.count(as, 1, uint64(items))
}

// rebook moves items of a record that was just booked: of a delivered one some were refused by the backend, of one that
// was set aside some were delivered.
func (d *destination) rebook(items uint32, from, to string) {
	n := uint64(items)
	for _, m := range []struct {
		outcome string
		by      uint64
	}{{from, -n}, {to, n}} {
		t := d.resolved[Resolution{Outcome: m.outcome}]
		t.Items += m.by
		d.resolved[Resolution{Outcome: m.outcome}] = t
		if m.outcome == outcomeDelivered {
			d.slot.Delivered.Items += m.by
		} else {
			d.slot.Rejected.Items += m.by
		}
	}
}

// book writes a drop record. What it counts was resolved by resolve or skip; word is the reason as it was given.
func (d *destination) book(drop cursor.Drop, word string) {
	drop.At = d.j.now().UnixNano()
	d.slot.Book(drop)
	d.changed()
	level := Warn
	if drop.Reason == cursor.Corrupt || drop.Reason == cursor.Missing {
		level = Alarm
	}
	d.j.eventLocked(Event{
		Level: level, Kind: Dropped, Destination: d.slot.Name, Reason: word, Records: drop.Records, Items: drop.Items,
		First: drop.First, Last: drop.Last, Text: "records were given up",
	})
}

// unload leaves to the disk the bytes of a record that waits and is not in the cache.
func (d *destination) unload(e *window.Entry, due time.Time) {
	if !due.IsZero() && !e.Absent && e.Leases == 0 && d.j.mu.cache.find(e.Seq) == nil {
		e.Body, e.Keep, e.Absent = nil, nil, true
	}
}

// confine keeps the window from handing out anything new while so many gaps are open that none may come: only what was
// handed out before, and what closes the lowest one.
func (d *destination) confine() {
	if d.slot.Resolved.Full() {
		d.win.Confine(d.slot.Resolved.Floor() + closers)
	} else {
		d.win.Confine(0)
	}
}

// count books what was resolved, in the totals of this process and in the slot.
func (d *destination) count(as Resolution, records, items uint64) {
	if as.Outcome == "" { // not owed any more, or booked by the caller
		d.changed()
		return
	}
	if d.resolved == nil {
		d.resolved = make(map[Resolution]Tally)
	}
	t := d.resolved[as]
	d.resolved[as] = Tally{t.Records + records, t.Items + items}
	switch as.Outcome {
	case outcomeDelivered:
		d.slot.Delivered.Records += records
		d.slot.Delivered.Items += items
	case outcomeRejected:
		d.slot.Rejected.Records += records
		d.slot.Rejected.Items += items
	}
	d.changed()
}

// changed says that the slot on disk is behind.
func (d *destination) changed() {
	d.dirty++
	if d.dirty == d.written+1 {
		d.j.mu.fx.tend = true
	}
}

// ended makes a parked cursor with nothing left a done one.
func (d *destination) ended() {
	if d.records == 0 && d.slot.Estimated { // what the balance lacks was lost with the rest
		d.slot.Dropped[cursor.Corrupt].Items += uint64(d.items)
		d.items, d.slot.Estimated = 0, false
		d.changed()
	}
	if d.slot.State == queue.Parked && d.records == 0 {
		d.slot.State = queue.Done
		d.changed()
	}
}

func (d *destination) counts() queue.Counts {
	n := queue.Counts{
		Accepted: d.accepted, Delivered: d.slot.Delivered.Items, Rejected: d.slot.Rejected.Items,
	}
	for r, c := range d.slot.Dropped {
		if c.Items > 0 {
			if n.Dropped == nil {
				n.Dropped = make(map[string]uint64)
			}
			n.Dropped[cursor.Reason(r).String()] = c.Items
		}
	}
	if d.slot.State == queue.Parked {
		n.Parked = uint64(d.items)
	} else {
		n.Queued = uint64(d.items)
	}
	return n
}

// oldest is the age of the oldest record it is owed.
func (d *destination) oldest(now time.Time) time.Duration {
	if d.records == 0 {
		return 0
	}
	first, read := d.reads[0].next, true
	if len(d.reads) > 1 { // what the lowest reading has not come to is older than what the others have
		read = first >= d.reads[1].from
	}
	if n := d.win.Oldest(); n != nil && (read || n.Entry.Seq < first) {
		return max(0, now.Sub(n.Entry.Accepted))
	}
	if s := d.j.mu.catalog.from(first); s != nil && s.sum.Oldest > 0 {
		return max(0, now.Sub(time.Unix(0, s.sum.Oldest)))
	}
	return 0
}

func (d *destination) fill(now time.Time) queue.Fill {
	return queue.Fill{
		Records: d.records, Items: d.items, Bytes: d.size, Size: d.sizer(), Capacity: d.limit.Max,
		Oldest: d.oldest(now), Leased: int64(d.win.Leased()), Last: d.j.mu.given,
	}
}
