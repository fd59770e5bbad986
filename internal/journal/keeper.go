// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	// slotEvery is how often a cursor that moved is written, at most; a slow disk is asked less often.
	slotEvery = 100 * time.Millisecond
	slotShare = 20 // times what the last slots took
	// probeEvery is how often what failed is tried again, and the latest a slot names how far the journal is durable.
	probeEvery = time.Second
	// maxDropLists is how many cursors that are done keep their file because it lists drops (ADR 0020).
	maxDropLists = 16
)

// keeper does what need not be done before an answer: slots, sealing and preparing segments, deleting, trying again.
type keeper struct {
	wake  chan struct{} // a cursor is dirty, a segment may go; room for one
	stop  chan struct{}
	done  chan struct{}
	timer *time.Timer
	next  time.Time // when slots may be written again
	told  string    // the state people know of
}

// tendSoon lets the keeper know that there is something to do.
func (j *Journal) tendSoon() {
	select {
	case j.keeper.wake <- struct{}{}:
	default: // it knows already
	}
}

// keep is the keeper's goroutine.
func (j *Journal) keep() {
	k := &j.keeper
	defer close(k.done)
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	k.timer = time.NewTimer(slotEvery)
	defer k.timer.Stop()
	var wanted, buried <-chan struct{}
	if j.log != nil {
		wanted = j.log.Wanted()
	}
	for {
		buried = j.dead.wanted()
		select {
		case <-k.stop:
			return
		case <-wanted:
			j.log.Tend()
		case <-buried:
			j.dead.tend()
		case <-k.wake:
			k.timer.Reset(max(0, time.Until(k.next)))
		case <-k.timer.C:
			j.round()
		case <-probe.C:
			j.probe()
		}
	}
}

// round writes slots and deletes what they allow.
func (j *Journal) round() {
	start := time.Now()
	if err := j.writeSlots(); err == nil {
		j.sweep()
	}
	_ = j.syncRemoved() // tried again by the next probe
	took := time.Since(start)
	j.keeper.next = start.Add(max(slotEvery, slotShare*took))
}

// probe tries again what failed, and tells on disk how far the journal is durable.
func (j *Journal) probe() {
	j.Lock()
	var name *destination
	late := !j.rememberedLocked(nil)
	behind := false
	for _, d := range j.mu.cursors {
		behind = behind || d.written < d.dirty
		if d.slot.State == queue.Live && (name == nil || d.file != nil) {
			name = d
		}
		d.ended()
		if !d.retryAt.IsZero() && !j.now().Before(d.retryAt) {
			d.retryAt = time.Time{}
			d.refill()
			d.win.Serve(time.Time{})
		}
	}
	if late && name != nil {
		name.changed()
		behind = true
	}
	names := j.mu.unsyncedNames
	j.Unlock()
	if behind || names {
		j.round()
	}
	j.sweep()
	j.removeDone()
	if j.log != nil {
		if s, _ := j.log.State(); failing(s) {
			j.log.Tend()
		}
	}
	j.dead.probe()
	j.tellState()
}

// tellState says once when the journal's state has changed.
func (j *Journal) tellState() {
	state, cause := j.state()
	if state == j.keeper.told || j.keeper.told == "" && state == stateOK {
		return
	}
	j.keeper.told = state
	e := Event{Level: Alarm, Kind: Changed, Reason: state, Err: cause}
	switch state {
	case stateOK:
		e.Level, e.Text = Info, "ok: it accepts again"
	case commit.Full.String():
		e.Level, e.Text = Warn, "full: new data is refused, what is stored is delivered"
	case commit.Broken.String():
		e.Text = "broken: writing fails; new data is refused, what is stored is delivered"
	default:
		return // detached says so itself
	}
	j.event(e)
}

// writeSlots writes the slots that are behind.
func (j *Journal) writeSlots() error {
	j.Lock()
	var behind []*destination
	for _, d := range j.mu.cursors {
		if d.written < d.dirty {
			behind = append(behind, d)
		}
	}
	j.Unlock()
	var errs []error
	for _, d := range behind {
		if err := j.writeSlot(d); err != nil && j.matters(d) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// matters says whether it is of any consequence that the slot of d is behind. A cursor that never had a file is owed
// nothing before it has one, and must not keep others from making room for it.
func (j *Journal) matters(d *destination) bool {
	j.Lock()
	defer j.Unlock()
	return d.file != nil || d.records > 0
}

// writeSlot makes what is known of d durable. A crash before its end leaves the slot before it: then what was resolved
// since is delivered again.
func (j *Journal) writeSlot(d *destination) error {
	d.writing.Lock() // held over disk calls: one writer per file
	defer d.writing.Unlock()
	j.Lock()
	slot, seen := d.slot.Clone(), d.dirty
	slot.DurableSeq, slot.DurableItems = j.mu.durable, j.mu.durableItems
	j.Unlock()
	err := j.putSlot(d, &slot)
	if vfs.IsFull(err) && j.store.space.Squeeze() {
		err = j.putSlot(d, &slot)
	}
	j.Lock()
	defer j.Unlock()
	if err != nil {
		if !d.failing {
			j.eventLocked(Event{Level: Alarm, Kind: Slow, Destination: d.slot.Name, Err: err,
				Text: "the cursor cannot be written; what is resolved now would be delivered again after a crash"})
		}
		d.failing = true
		return err
	}
	if d.failing {
		j.eventLocked(Event{Level: Info, Kind: Slow, Destination: d.slot.Name, Text: "the cursor is written again"})
	}
	d.failing = false
	d.written = max(d.written, seen)
	if d.named < slot.DurableSeq {
		d.named = slot.DurableSeq
		j.mu.changes++ // the last segment may be of no use now
	}
	return nil
}

// putSlot writes the cursor's file, and makes it where there is none.
func (j *Journal) putSlot(d *destination, slot *cursor.Slot) error {
	if d.file != nil {
		return d.file.Write(slot)
	}
	if err := j.ask(cursor.FileBytes); err != nil {
		if !j.store.space.Squeeze() {
			return err
		}
		if err := j.ask(cursor.FileBytes); err != nil {
			return err
		}
	}
	file, err := cursor.Create(j.disk, layout.Cursor(j.dir, slot.Name), slot)
	if err != nil {
		j.share.Gave(cursor.FileBytes)
		return err
	}
	j.Lock()
	d.file = file
	j.Unlock()
	return nil
}

// rememberedLocked says whether a slot on disk, of another cursor than but, knows how far the journal has come. Else its
// last segment is all that does, and the last slot that knew: without them numbers would be given out twice.
func (j *Journal) rememberedLocked(but *destination) bool {
	for _, d := range j.mu.cursors {
		if d != but && d.file != nil && d.named >= j.mu.durable {
			return true
		}
	}
	return false
}

// removeDone removes the files of cursors that are done and that no segment lists any more, not even one that a power
// cut would bring back. Until then the file tells recovery that nothing is owed to the name. A file that lists drops is
// all that says of them after a restart: it stays, until maxDropLists others have newer ones.
func (j *Journal) removeDone() {
	j.Lock()
	if j.mu.unsyncedNames {
		j.Unlock()
		return
	}
	var gone, lists []*destination
next:
	for _, d := range j.mu.cursors {
		if d.slot.State != queue.Done || d.file == nil || d.written < d.dirty || j.mu.given > j.mu.last ||
			!j.rememberedLocked(d) {
			continue
		}
		h := cursor.Hash(d.slot.Name)
		for _, s := range j.mu.catalog {
			if slices.Contains(s.header.Cursors, h) {
				continue next
			}
		}
		if d.slot.AllDropped() == (cursor.Count{}) {
			gone = append(gone, d)
		} else {
			lists = append(lists, d)
		}
	}
	slices.SortStableFunc(lists, func(a, b *destination) int { return cmp.Compare(a.slot.LastDrop(), b.slot.LastDrop()) })
	for _, d := range lists[:max(0, len(lists)-maxDropLists)] {
		if n := d.slot.AllDropped(); !d.stuck {
			j.eventLocked(Event{Level: Info, Kind: Noted, Destination: d.slot.Name, Records: n.Records, Items: n.Items,
				Text: "the list of what was dropped of a destination that is gone makes room for newer ones"})
		}
		gone = append(gone, d)
	}
	j.Unlock()
	for _, d := range gone {
		j.removeCursor(d)
	}
}

// removeCursor takes a done cursor's file off the disk; its books stay until the process ends. Should the name be
// attached meanwhile, a file is made again before the next group.
func (j *Journal) removeCursor(d *destination) {
	d.writing.Lock()
	defer d.writing.Unlock()
	j.Lock()
	done := d.slot.State == queue.Done && d.file != nil && j.rememberedLocked(d)
	j.Unlock()
	if !done {
		return
	}
	if err := j.disk.Remove(layout.Cursor(j.dir, d.slot.Name)); err != nil && !isGone(err) { // tried again
		if !d.stuck {
			j.event(Event{Level: Warn, Kind: Slow, Destination: d.slot.Name, Err: err,
				Text: "the file of a cursor that is done cannot be removed"})
		}
		d.stuck = true
		return
	}
	j.Lock()
	file := d.file
	d.file, d.named, d.stuck = nil, 0, false
	j.Unlock()
	_ = file.Close() // it has no name any more
	j.share.Gave(cursor.FileBytes)
}

func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// failing says that the log is to be tried again.
func failing(s commit.State) bool { return s == commit.Full || s == commit.Broken }
