// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// plan makes what was seen into what is to be done.
func (l *look) plan() *Plan {
	l.arrange()
	l.missCursors()
	if l.journal == [16]byte{} && len(l.cursors) > 0 {
		rand.Read(l.journal[:]) //nolint:errcheck // it never fails
	}
	l.scanGapped()
	e := &edges{disk: l.disk}
	defer e.close()
	n := &count{e}
	t := l.draw(e)
	l.end(t, n)
	p := &Plan{Journal: l.journal, Seq: t.seq, Items: t.items, LastID: l.lastID, PrevLastSeq: t.acked, dir: l.dir}
	for _, c := range l.cursors {
		if c.Lost {
			c.Slot.Journal = l.journal
		}
		if c.Slot.State == queue.Live || c.Slot.State == queue.Parked {
			l.book(p, t, n, c)
		}
		n.fill(t, c)
	}
	for _, f := range l.order {
		p.Segments = append(p.Segments, f.segment(p.Journal))
	}
	l.remember(p)
	for _, c := range l.cursors {
		if c.dirty {
			c.Slot.Generation++
		}
		p.Cursors = append(p.Cursors, *c)
	}
	for _, name := range l.wanted {
		if !slices.ContainsFunc(l.cursors, func(c *Cursor) bool { return c.Slot.Name == name }) {
			p.Fresh = append(p.Fresh, name)
		}
	}
	p.goOn()
	l.tidy(p)
	l.describe(p, t)
	p.Notes = l.notes.all
	p.ScannedBytes = *l.disk.bytes
	return p
}

// remember has a slot written if otherwise, once the segments are sealed, nothing on disk would say how far the journal
// has come: the last record is damaged, say, and nobody was owed it. Its number must not be given out again.
func (l *look) remember(p *Plan) {
	shown := queue.Seq(0)
	for i := range p.Segments {
		s := &p.Segments[i]
		shown = max(shown, s.Sum.Last, s.Header.BaseSeq-1)
	}
	if p.Seq <= shown || len(l.cursors) == 0 {
		return
	}
	for _, c := range l.cursors {
		if c.dirty || max(c.Slot.High, c.Slot.DurableSeq) >= p.Seq {
			return
		}
	}
	l.cursors[0].dirty = true
}

// goOn says what the next segment's header says of the last one.
func (p *Plan) goOn() {
	if len(p.Segments) == 0 {
		return
	}
	last := &p.Segments[len(p.Segments)-1]
	p.Tag, p.PrevID, p.PrevDurable = last.Header.Tag, last.Header.ID, last.Sum.DataEnd
	if last.Broken != nil && last.f.scan != nil {
		p.PrevDurable = last.f.scan.Witness
	}
}

func (f *found) segment(journal [16]byte) Segment {
	s := Segment{
		Header: f.in.Header, Path: f.path, Class: f.in.Class, Sum: f.sum, First: f.first, Last: f.last,
		Allocated: f.allocated, Condemned: f.condemned, f: f,
	}
	if f.scan != nil {
		s.Gaps = f.scan.Gaps
	}
	if s.Class == segment.Headless {
		s.Header.ID, s.Header.Journal = f.id, journal
		if f.unsynced {
			s.Header.Flags |= segment.FlagUnsynced
		}
	}
	return s
}

// scanGapped reads the sealed segments in which numbers are missing, if somebody may be owed these. Whoever had a cursor
// when they were found missing has them resolved.
func (l *look) scanGapped() {
	for _, f := range l.order {
		if f.scan != nil || f.sum.Records >= uint64(f.sum.Last+1-f.sum.First) {
			continue
		}
		for _, c := range l.cursors {
			open := uint64(f.sum.Last+1-f.sum.First) - c.Slot.Resolved.Count(f.sum.First, f.sum.Last)
			if c.Lost && open > 0 || open > f.sum.Records {
				if l.scan(f) != nil {
					f.scan = nil
				}
				break
			}
		}
	}
}

// stray is a file that is to be moved to bad/.
type stray struct {
	path  string
	bytes int64 // on the volume
	why   string
}

// tidy says which files do not belong where they are.
func (l *look) tidy(p *Plan) {
	p.litter, p.outdated = l.litter, l.outdated
	for _, id := range slices.Sorted(maps.Keys(l.files)) {
		f := l.files[id]
		why := ""
		switch in := &f.in; {
		case f.lost != nil:
			l.notes.add(Alarm, f.path, fmt.Sprintf("the disk refuses it, and it is left where it is: %v", f.lost))
		case in.Class == segment.Unused:
			p.litter = append(p.litter, f.path)
		case in.Class == segment.Garbage && in.Unreadable > 0:
			l.notes.add(Alarm, f.path, fmt.Sprintf("the disk refuses %d bytes of it, and it is left where it is", in.Unreadable))
		case in.Class == segment.Garbage:
			why = "nothing in it can be read"
		case in.Class == segment.Headless:
			l.notes.add(Alarm, f.path, "its header does not hold; what is in it is owed to everybody")
		case in.Header.ID != f.id:
			why = fmt.Sprintf("it is segment %d of some journal under another name", in.Header.ID)
		case in.Header.Journal != l.journal:
			why = "it belongs to another journal"
		}
		if why != "" {
			p.strays = append(p.strays, stray{f.path, f.allocated, why})
			l.notes.add(Warn, f.path, why)
		}
	}
	for _, b := range l.bad {
		p.strays = append(p.strays, stray{b.path, cursor.FileBytes, b.why.Error()})
		l.notes.add(Warn, b.path, fmt.Sprintf("it is no cursor of this journal: %v", b.why))
	}
}

// describe says what was found.
func (l *look) describe(p *Plan, t *line) {
	for i := range p.Cursors {
		c := &p.Cursors[i]
		if c.Lost {
			l.notes.add(Alarm, c.Path, fmt.Sprintf("the cursor of %s is lost; it gets again what is there from number %d on",
				c.Slot.Name, c.Slot.Resolved.Next(1)))
		}
	}
	for i := range p.Segments {
		s := &p.Segments[i]
		if s.Class == segment.Unsealed {
			p.Unclean = true
		}
		if scan := s.f.scan; scan != nil {
			l.notes.add(Info, s.Path, fmt.Sprintf("it was %s and read: %d records", s.Class, scan.Records))
			if scan.Opaque > 0 {
				l.notes.add(Alarm, s.Path, fmt.Sprintf("%d records were written by a newer version; they are kept, not delivered",
					scan.Opaque))
			}
			if scan.Abandoned {
				l.notes.add(Alarm, s.Path, fmt.Sprintf("no program of ours wrote it; what is behind offset %d was not looked at",
					scan.DataEnd))
			}
		}
	}
	for i := range t.holes {
		h := &t.holes[i]
		if h.damage.end > h.damage.off && (h.most.Records > 0 || len(p.Cursors) == 0) {
			p.damage = append(p.damage, h.damage)
		}
		if h.most.Records == 0 {
			continue
		}
		where := h.path
		if where == "" {
			where = l.dir
		}
		if h.reason == 0 {
			l.notes.add(Info, where, fmt.Sprintf("not there: %s; %s", numbers(h.from, h.to), h.why))
		} else {
			l.notes.add(Alarm, where, fmt.Sprintf("lost: %s (%s, %d records, %d items); %s",
				numbers(h.from, h.to), h.reason, h.most.Records, h.most.Items, h.why))
		}
	}
	for _, name := range p.litter {
		l.notes.add(Info, name, "it holds nothing and is removed")
	}
}

func numbers(first, last queue.Seq) string {
	if first == last {
		return fmt.Sprintf("number %d", first)
	}
	return fmt.Sprintf("numbers %d to %d", first, last)
}

// notes are sentences, so many and no more.
type notes struct{ all []Note }

func (n *notes) add(level Level, path, text string) {
	switch {
	case len(n.all) < maxNotes:
		n.all = append(n.all, Note{level, path, text})
	case len(n.all) == maxNotes:
		n.all = append(n.all, Note{Alarm, path, "there is more like this, not told"})
	}
}
