// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// Prepare implements queue.Roster: the cursor's file is written, so that nothing can fail later. For a name that has a
// cursor it takes over limits and exporters, from now on; a lower limit drops nothing.
func (j *Journal) Prepare(want queue.Destination) error {
	if want.Name == "" {
		return errors.New("prepare destination: no name")
	}
	j.Lock()
	if j.mu.closed {
		j.Unlock()
		return fmt.Errorf("prepare destination %q: %w", want.Name, queue.ErrClosed)
	}
	d := j.findLocked(want.Name)
	fresh := d == nil
	if fresh {
		d = j.addLocked(want.Name)
	}
	d.limit, d.stored = want.Limit, want.Stored
	if !slices.Equal(d.slot.Exporters, want.Exporters) {
		d.slot.Exporters = slices.Clone(want.Exporters)
		d.changed()
	}
	if d.slot.State == queue.Done {
		d.slot.State = queue.Prepared
		d.changed()
	}
	write := d.file == nil
	j.letInLocked()
	j.Unlock()
	if !write {
		return nil
	}
	if err := j.writeSlot(d); err != nil {
		j.unprepare(d, fresh)
		return fmt.Errorf("prepare destination %q: %w", want.Name, err)
	}
	return nil
}

// unprepare takes back a Prepare that failed: a cursor without a file has nothing to be written.
func (j *Journal) unprepare(d *destination, fresh bool) {
	j.Lock()
	defer j.Unlock()
	switch {
	case d.slot.State != queue.Prepared || d.file != nil:
	case fresh:
		j.mu.cursors = slices.DeleteFunc(j.mu.cursors, func(c *destination) bool { return c == d })
	default:
		d.slot.State, d.written = queue.Done, d.dirty
	}
}

// Attach implements queue.Queue. A name that was not prepared gets no limit. On a closed queue the handle's Take
// returns queue.ErrClosed.
func (j *Journal) Attach(name string) queue.Cursor {
	j.Lock()
	defer j.Unlock()
	d := j.findLocked(name)
	if d == nil {
		d = j.addLocked(name)
	}
	if d.slot.State != queue.Live && !j.mu.closed {
		j.attachLocked(d)
	}
	return newHandle(d, "")
}

func (j *Journal) attachLocked(d *destination) {
	if d.slot.State == queue.Parked {
		// It comes back: what was appended meanwhile is not owed.
		d.slot.Resolved.Add(d.slot.Until+1, j.mu.given)
	} else {
		d.slot.Resolved.Reset(j.mu.given)
		d.restart(j.mu.given + 1)
	}
	d.slot.State, d.slot.Until, d.slot.ParkedAt = queue.Live, 0, 0
	d.slot.NotOwed = j.mu.total - d.accepted
	j.disinherit(d)
	d.changed()
	d.liveAt = d.dirty
	j.mu.live = append(j.mu.live, d)
	j.rosterChanged()
	j.changedLocked(d)
}

// rosterChanged makes the next group begin a segment that lists the live cursors.
func (j *Journal) rosterChanged() {
	j.mu.version++
	j.mu.hashes = hashesOf(j.mu.live)
	j.mu.changes++
	j.mu.fx.tend = true
}

// Detach implements queue.Roster. Leases that are out may still be resolved. With nothing left the cursor is done.
func (j *Journal) Detach(name string) {
	j.Lock()
	defer j.Unlock()
	d := j.findLocked(name)
	if d == nil || j.mu.closed || d.slot.State != queue.Live && d.slot.State != queue.Prepared {
		return
	}
	j.parkLocked(d)
}

func (j *Journal) parkLocked(d *destination) {
	if d.slot.State == queue.Prepared {
		d.slot.State = queue.Done
	} else {
		d.slot.State, d.slot.Until, d.slot.ParkedAt = queue.Parked, j.mu.given, j.now().Unix()
		d.slot.NotOwed = j.mu.total - d.accepted
		j.endLive(d)
	}
	d.changed()
	if j.mu.given == j.mu.last { // else a group that it is owed is being written
		d.ended()
	}
	if d.slot.State == queue.Parked {
		j.eventLocked(Event{Level: Warn, Kind: Parked, Destination: d.slot.Name, Records: uint64(d.records),
			Items: uint64(d.items), Text: "the destination left the configuration; what it is owed is kept"})
	}
	j.letInLocked()
}

// endLive stops owing new records to d.
func (j *Journal) endLive(d *destination) {
	if i := slices.Index(j.mu.live, d); i >= 0 {
		j.mu.live = slices.Delete(slices.Clone(j.mu.live), i, i+1)
		j.rosterChanged()
	}
}

// Inherit implements queue.Roster. Numbers the heir is owed already, by its own cursor here or by an earlier
// inheritance, become not owed, so the heir gets each record once. A second heir is an error; the same heir again gets
// one more handle. The inheritance ends when the name is attached again.
func (j *Journal) Inherit(name, heir string) (queue.Cursor, error) {
	j.Lock()
	d := j.findLocked(name)
	err := j.mayInherit(d, name, heir)
	if err == nil && d.heir != "" {
		defer j.Unlock()
		return newHandle(d, heir), nil
	}
	var owed []stretch
	if err == nil {
		owed = j.owedTo(heir)
	}
	j.Unlock()
	if err != nil {
		return nil, err
	}
	if err := j.takeOff(d, owed); err != nil {
		return nil, fmt.Errorf("inherit %q: %w", name, err)
	}
	j.Lock()
	defer j.Unlock()
	if err := j.mayInherit(d, name, heir); err != nil {
		return nil, err
	}
	if d.heir == "" {
		d.heir = heir
		j.mu.heirs[heir] = append(j.mu.heirs[heir], name)
		j.eventLocked(Event{Level: Info, Kind: Inherited, Destination: name, Reason: heir, Records: uint64(d.records),
			Items: uint64(d.items), Text: "what is parked is delivered by " + heir})
	}
	h := newHandle(d, heir)
	d.ended()
	j.changedLocked(d)
	return h, nil
}

// Disinherit implements queue.Roster.
func (j *Journal) Disinherit(name string) {
	j.Lock()
	defer j.Unlock()
	if d := j.findLocked(name); d != nil && !j.mu.closed {
		j.disinherit(d)
	}
}

func (j *Journal) mayInherit(d *destination, name, heir string) error {
	switch {
	case j.mu.closed:
		return fmt.Errorf("inherit %q: %w", name, queue.ErrClosed)
	case d == nil:
		return fmt.Errorf("inherit %q: no such destination", name)
	case name == heir:
		return fmt.Errorf("inherit %q: it cannot be its own heir", name)
	case d.slot.State != queue.Parked:
		return fmt.Errorf("inherit %q: it is not parked", name)
	case d.heir != "" && d.heir != heir:
		return fmt.Errorf("inherit %q: %q is its heir already", name, d.heir)
	}
	return nil
}

// stretch is a run of numbers, both ends included.
type stretch struct{ first, last queue.Seq }

// owedTo is what the heir has or had to deliver, for its own cursor or one it inherited.
func (j *Journal) owedTo(heir string) (owed []stretch) {
	for _, name := range append([]string{heir}, j.mu.heirs[heir]...) {
		switch d := j.findLocked(name); {
		case d == nil:
		case d.offKnown:
			owed = append(owed, j.given(d)...)
		default: // some of what is resolved was never delivered, and nobody knows which: rather repeat some than skip any
			owed = append(owed, d.unresolved()...)
		}
	}
	return owed
}

// given is what is or was d's to deliver: what the segments hold that name it, as a segment names those to whom all its
// records are owed, without what was taken off it.
func (j *Journal) given(d *destination) (owed []stretch) {
	hash := cursor.Hash(d.slot.Name)
	for _, s := range j.mu.catalog {
		if s.empty() || !slices.Contains(s.header.Cursors, hash) {
			continue
		}
		first := d.off.Next(s.first())
		d.off.Ranges(func(off, last queue.Seq) {
			if off > first && first <= s.last {
				owed = append(owed, stretch{first, min(off-1, s.last)})
			}
			first = max(first, last+1)
		})
		if first <= s.last {
			owed = append(owed, stretch{first, s.last})
		}
	}
	return owed
}

// unresolved is what it is owed still.
func (d *destination) unresolved() (owed []stretch) {
	set := &d.slot.Resolved
	next := set.Floor() + 1
	set.Ranges(func(first, last queue.Seq) {
		owed = append(owed, stretch{next, first - 1})
		next = last + 1
	})
	if end := d.upTo(); next <= end {
		owed = append(owed, stretch{next, end})
	}
	return owed
}

// takeOff makes what of d is in owed not owed.
func (j *Journal) takeOff(d *destination, owed []stretch) error {
	for _, o := range owed {
		list, err := j.weigh(d, o.first, o.last)
		if err != nil {
			return err
		}
		j.Lock()
		for _, w := range list {
			if d.slot.Resolved.Has(w.seq) {
				continue
			}
			d.slot.NotOwed += uint64(w.items)
			d.accepted -= uint64(w.items)
			d.takenOff(w.seq, w.seq)
			d.letGo(w)
		}
		j.Unlock()
	}
	return nil
}

// letGo resolves a number that is not owed any more, or given up, wherever it stands; the caller booked it.
func (d *destination) letGo(w weighed) {
	for n := d.win.Oldest(); n != nil && n.Entry.Seq <= w.seq; n = n.Younger() {
		if n.Entry.Seq == w.seq {
			d.settled(w.seq, w.items, w.size, Resolution{})
			d.win.Settle(n)
			return
		}
	}
	d.skip(w.seq, w.items, w.size, Resolution{})
}

// Forget implements queue.Roster. Leases that are out only let go of their bytes then. The books stay in the list.
func (j *Journal) Forget(name string) queue.Counts {
	j.Lock()
	defer j.Unlock()
	d := j.findLocked(name)
	if d == nil {
		return queue.Counts{}
	}
	if j.mu.closed {
		return d.counts()
	}
	j.endLive(d)
	j.disinherit(d)
	for n := d.win.Oldest(); n != nil; {
		next := n.Younger()
		d.win.Settle(n)
		n = next
	}
	d.unread(0, d.upTo(), func(first, last queue.Seq) {
		j.mu.cache.each(first, last, func(e *window.Entry) {
			if !d.slot.Resolved.Has(e.Seq) {
				e.Refs--
				j.mu.cache.settled(e, j.mu.durable, j.mu.fx)
			}
		})
	})
	d.slot.NotOwed += uint64(d.items)
	d.accepted -= uint64(d.items)
	for _, open := range d.unresolved() {
		d.takenOff(open.first, open.last)
	}
	d.records, d.items, d.size = 0, 0, 0
	d.slot.Resolved.Reset(j.mu.given)
	d.restart(j.mu.given + 1)
	d.slot.State, d.slot.Until = queue.Done, 0
	d.changed()
	j.changedLocked(d)
	return d.counts()
}

// List implements queue.Roster, in the order the names came.
func (j *Journal) List() []queue.Info {
	j.Lock()
	defer j.Unlock()
	now := j.now()
	infos := make([]queue.Info, len(j.mu.cursors))
	for i, d := range j.mu.cursors {
		infos[i] = queue.Info{
			Name: d.slot.Name, Exporters: slices.Clone(d.slot.Exporters), State: d.slot.State, Heir: d.heir,
			Counts: d.counts(), Oldest: d.oldest(now),
		}
	}
	return infos
}

// Counts returns the books of one destination; false says that the name is unknown.
func (j *Journal) Counts(name string) (queue.Counts, bool) {
	j.Lock()
	defer j.Unlock()
	if d := j.findLocked(name); d != nil {
		return d.counts(), true
	}
	return queue.Counts{}, false
}

func (j *Journal) findLocked(name string) *destination {
	for _, d := range j.mu.cursors {
		if d.slot.Name == name {
			return d
		}
	}
	return nil
}

// addLocked makes a cursor that is owed nothing.
func (j *Journal) addLocked(name string) *destination {
	d := &destination{j: j, offKnown: true}
	d.slot = cursor.Slot{State: queue.Prepared, Journal: j.id, Name: name}
	d.slot.Resolved.Reset(j.mu.given)
	d.open(j.mu.given + 1)
	j.mu.cursors = append(j.mu.cursors, d)
	d.changed()
	return d
}

// open makes the window of a cursor, which is read from next on.
func (d *destination) open(next queue.Seq) {
	d.win = window.New(guard{d}, d.look)
	d.reads = []*reading{d.newReading(0, next)}
}

// disinherit ends the service of d's heir. What the heir got is forgotten with it: should another cursor with the same
// numbers come to that heir, it repeats some rather than skip any.
func (j *Journal) disinherit(d *destination) {
	if d.heir == "" {
		return
	}
	j.mu.heirs[d.heir] = slices.DeleteFunc(j.mu.heirs[d.heir], func(name string) bool { return name == d.slot.Name })
	d.heir = ""
}
