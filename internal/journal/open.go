// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// badShare is the part of the cap that quarantine may take, minBadBytes what it may take at least.
const (
	badShare    = 20
	minBadBytes = 4 << 20
)

// open recovers a journal and starts it.
func (s *Store) open(pipeline string, tag uint8, wanted []queue.Destination, head bool) (*Journal, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	for _, o := range s.journals() {
		if o.dir == layout.Pipeline(s.dir, pipeline) {
			return nil, fmt.Errorf("it is open already")
		}
	}
	start := time.Now()
	j := &Journal{
		store: s, pipeline: pipeline, dir: layout.Pipeline(s.dir, pipeline), disk: s.disk, now: s.opts.Now, tag: tag,
		share: s.space.Share(pipeline, head), files: newFiles(s.disk),
	}
	if err := j.recover(wanted, head); err != nil {
		j.share.Close()
		return nil, err
	}
	j.recovery = time.Since(start)
	s.mu.Lock()
	s.mu.journals = append(s.mu.journals, j)
	s.mu.Unlock()
	go j.keep()
	for _, d := range wanted {
		if err := j.Prepare(d); err != nil {
			return nil, errors.Join(err, j.Close(context.Background()))
		}
	}
	j.tellOpened()
	return j, nil
}

// tellOpened says what was found.
func (j *Journal) tellOpened() {
	e := Event{Level: Info, Kind: Opened}
	j.Lock()
	for _, d := range j.mu.cursors {
		e.Records, e.Items = max(e.Records, uint64(d.records)), max(e.Items, uint64(d.items))
	}
	segments := len(j.mu.catalog)
	j.Unlock()
	e.Text = fmt.Sprintf("recovered %d segments in %s", segments, j.recovery.Round(time.Millisecond))
	j.event(e)
}

// recover brings the directory in order and the journal to where it stood.
func (j *Journal) recover(wanted []queue.Destination, head bool) error {
	if err := makeDirs(j.disk, path.Dir(j.dir), path.Base(j.dir), layout.Segments); err != nil {
		return err
	}
	if err := makeDirs(j.disk, j.dir, layout.Cursors); err != nil {
		return err
	}
	names := make([]string, len(wanted))
	for i := range wanted {
		names[i] = wanted[i].Name
	}
	plan, err := recovery.Inspect(j.disk, j.dir, names)
	if err != nil {
		return err
	}
	letters, err := j.inspectGraveyard() // nothing is changed where there is anything of a newer version
	if err != nil {
		return err
	}
	if err := plan.Apply(j.disk, j.applySettings()); err != nil {
		return err
	}
	if err := j.adopt(plan); err != nil {
		return err
	}
	j.parkUnwanted(names)
	if j.dead, err = j.openGraveyard(letters); err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	if err := j.share.Recount(); err != nil { // recovery freed and took what nobody booked
		return err
	}
	if head {
		j.log = commit.Open(commit.Settings{
			Disk: j.disk, Dir: path.Join(j.dir, layout.Segments), Journal: j.id, Tag: j.tag, Synced: j.store.config().FSync,
			SegmentBytes: j.store.space.SegmentBytes(), Now: j.now, At: position(plan), Host: host{j}, Observe: j.observeStep,
		})
		j.log.Tend()
	}
	return nil
}

func (j *Journal) applySettings() recovery.ApplySettings {
	return recovery.ApplySettings{BadBytes: max(minBadBytes, j.store.space.Snapshot().Cap/badShare), Now: j.now}
}

func position(p *recovery.Plan) commit.Position {
	return commit.Position{
		Seq: p.Seq, Items: p.Items, ID: p.LastID, PrevID: p.PrevID, PrevLastSeq: p.PrevLastSeq, PrevDurable: p.PrevDurable,
	}
}

// adopt takes over what recovery found. Nothing else knows the journal yet.
func (j *Journal) adopt(p *recovery.Plan) error {
	if j.id = p.Journal; j.id == [16]byte{} {
		if _, err := rand.Read(j.id[:]); err != nil {
			return err
		}
	}
	j.effects.New = func() any { return new(effects) }
	j.mu.fx = new(effects)
	j.mu.heirs = make(map[string][]string)
	j.mu.cache.budget = &j.store.cache
	j.mu.last, j.mu.given, j.mu.durable, j.recoveredSeq = p.Seq, p.Seq, p.Seq, p.Seq
	j.mu.total, j.mu.durableItems = p.Items, p.Items
	j.scannedBytes = p.ScannedBytes
	for i := range p.Segments {
		s := &p.Segments[i]
		stage := leftOver
		switch {
		case s.Class == segment.Sealed:
			stage = sealed
		case s.Condemned:
			stage = condemned
		}
		j.mu.catalog = append(j.mu.catalog, &seg{
			id: s.Header.ID, path: s.Path, header: s.Header, sum: s.Sum, stage: stage, last: s.Last,
		})
	}
	j.mu.changes++
	for i := range p.Cursors {
		if err := j.adoptCursor(&p.Cursors[i]); err != nil {
			return err
		}
	}
	j.mu.hashes = hashesOf(j.mu.live)
	j.tellFound(p)
	j.keeper.wake, j.keeper.stop, j.keeper.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	return nil
}

// tellFound says what recovery found and did.
func (j *Journal) tellFound(p *recovery.Plan) {
	for _, n := range p.Notes {
		kind := Noted
		if n.Level == recovery.Alarm {
			kind = Damaged
			j.mu.damaged++
		}
		j.event(Event{Level: Level(n.Level), Kind: kind, Text: n.Path + ": " + n.Text})
	}
	for _, l := range p.Losses {
		j.event(Event{Level: Alarm, Kind: Dropped, Destination: l.Cursor, Reason: l.Reason.String(), Records: l.Records,
			Items: l.Items, First: l.First, Last: l.Last, Text: "records are lost"})
	}
}

func (j *Journal) adoptCursor(c *recovery.Cursor) error {
	d := &destination{j: j, slot: c.Slot, stored: true}
	d.records, d.items, d.size = int64(c.Queued.Records), int64(c.Queued.Items), int64(c.Queued.Bytes)
	d.offKnown = !d.slot.TakenOff
	d.slot.Journal = j.id
	if more, known := c.Imbalance(); known && d.slot.Estimated {
		lost := &d.slot.Dropped[cursor.Corrupt].Items
		*lost = uint64(max(0, int64(*lost)-more))
		d.slot.Estimated = false
	}
	d.accepted = d.slot.Delivered.Items + d.slot.Rejected.Items + d.slot.AllDropped().Items + c.Queued.Items
	// The slot is written before anything is deleted because of it, and before anything new is owed because it says live:
	// what was read may be in the system's memory only, if its sync failed and the process died then.
	d.dirty, d.liveAt = 1, 1
	file, _, err := cursor.Open(j.disk, c.Path)
	if err != nil { // it was lost, or Apply could not write it: it is made anew
		file = nil
	}
	d.file = file
	d.open(d.slot.Resolved.Next(1))
	j.mu.cursors = append(j.mu.cursors, d)
	if d.slot.State == queue.Live {
		j.mu.live = append(j.mu.live, d)
	}
	return nil
}

// parkUnwanted detaches the live cursors whose destinations are not in the configuration.
func (j *Journal) parkUnwanted(wanted []string) {
	j.Lock()
	defer j.Unlock()
	for _, d := range j.mu.cursors {
		if !slices.Contains(wanted, d.slot.Name) && (d.slot.State == queue.Live || d.slot.State == queue.Prepared) {
			j.parkLocked(d)
		}
		d.ended()
	}
}

// inspectGraveyard looks at the dead letters there are; nil: there never were any.
func (j *Journal) inspectGraveyard() (*recovery.Plan, error) {
	dir := path.Join(j.dir, layout.Dead)
	if _, err := j.disk.Stat(path.Join(dir, layout.Segments)); isGone(err) {
		return nil, nil
	}
	plan, err := recovery.Inspect(j.disk, dir, nil)
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	return plan, nil
}

// openGraveyard recovers the dead letters there are. Without any it touches nothing.
func (j *Journal) openGraveyard(plan *recovery.Plan) (*graveyard, error) {
	g := newGraveyard(j, j.store.space.Snapshot().Cap)
	if plan == nil {
		return g, nil
	}
	set := j.applySettings()
	set.KeepAll = true // nobody is owed dead letters, and they stay all the same
	if err := plan.Apply(j.disk, set); err != nil {
		return nil, err
	}
	if plan.Journal != ([16]byte{}) {
		g.id = plan.Journal
	}
	g.at = position(plan)
	for i := range plan.Segments {
		s := &plan.Segments[i]
		g.mu.catalog = append(g.mu.catalog, &seg{
			id: s.Header.ID, path: s.Path, header: s.Header, sum: s.Sum, stage: sealed, last: s.Last,
		})
		info, err := j.disk.Stat(s.Path)
		if err != nil {
			return nil, err
		}
		g.mu.bytes += info.Allocated
	}
	return g, nil
}
