// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"fmt"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Finding is one thing that is not as it should be, or worth knowing.
type Finding struct {
	Damage bool   // something was lost, or cannot be relied on
	Path   string // empty: of the journal
	Text   string // one sentence, lower case
}

// SegmentReport is what reading every byte of a segment found.
type SegmentReport struct {
	Path         string
	Class        segment.Class
	First, Last  queue.Seq
	cursor.Count       // good records that count
	Bytes        int64 // read
}

// Balance is one cursor's equation, in items: Accepted - NotOwed = Delivered + Rejected + Dropped + Queued.
type Balance struct {
	Name  string
	State queue.State
	// Accepted by the journal, up to the last number owed; nothing on disk says it unless Known.
	Known                                           bool
	Accepted, NotOwed, Delivered, Rejected, Dropped uint64
	Queued                                          cursor.Count // frame by frame: owed and not resolved
	Imbalance                                       int64        // must be 0
}

// Report is what Verify found.
type Report struct {
	Name
	Segments []SegmentReport
	Dead     []SegmentReport
	Balances []Balance
	Findings []Finding
	Bytes    int64 // read
}

// Damaged says that some finding is damage.
func (r *Report) Damaged() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Damage })
}

// attempts is how often a journal that is being written is looked at before what looks like damage is believed: its files
// are not read at one instant, and what does not fit together for that reason fits the next time, or differs.
const attempts = 5

// Verify reads every byte of a journal and counts every balance frame by frame. held says that a process writes to it:
// then only what is found again and again is damage. progress is told how many bytes were read; may be nil.
func (s *Store) Verify(n Name, wanted []string, held bool, progress func(bytes int64)) (*Report, error) {
	var last *Report
	for i := range attempts {
		r, err := s.verify(n, wanted, held, progress)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool {
				return f.Damage && !slices.Contains(last.Findings, f)
			})
		}
		if last = r; !held || !r.Damaged() {
			break
		}
	}
	return last, nil
}

func (s *Store) verify(n Name, wanted []string, held bool, progress func(bytes int64)) (*Report, error) {
	j, err := s.Inspect(n, wanted)
	if err != nil {
		return nil, err
	}
	v := &verifier{j: j, held: held, report: &Report{Name: n}, progress: progress}
	v.plan(j.Plan)
	for i := range j.Plan.Cursors {
		v.cursors = append(v.cursors, tally{c: &j.Plan.Cursors[i], upTo: j.UpTo(&j.Plan.Cursors[i])})
	}
	for i := range j.Plan.Segments {
		if err := v.segment(&j.Plan.Segments[i]); err != nil {
			return nil, err
		}
	}
	v.balance()
	if own := len(v.report.Segments); j.Dead != nil {
		v.cursors = nil
		v.plan(j.Dead)
		for i := range j.Dead.Segments {
			if err := v.segment(&j.Dead.Segments[i]); err != nil {
				return nil, err
			}
		}
		v.report.Segments, v.report.Dead = v.report.Segments[:own], v.report.Segments[own:]
	}
	return v.report, nil
}

// verifier is one pass over a journal.
type verifier struct {
	j        *Journal
	held     bool
	report   *Report
	cursors  []tally
	progress func(int64)
}

// tally counts for one cursor.
type tally struct {
	c      *recovery.Cursor
	upTo   queue.Seq
	queued cursor.Count
}

func (v *verifier) found(damage bool, path, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{damage, path, fmt.Sprintf(format, args...)})
}

// segment reads one segment, twice never: every frame is checked and counted.
func (v *verifier) segment(s *recovery.Segment) error {
	file, err := v.j.disk.OpenFile(s.Path, vfs.Read, 0)
	if gone(err) && v.held {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	defer file.Close() //nolint:errcheck // opened for reading: there is nothing to lose
	in, err := segment.Inspect(file, s.Path)
	if err != nil {
		return err
	}
	r := SegmentReport{Path: s.Path, Class: in.Class, First: s.First, Last: s.Last, Bytes: in.Bytes}
	scan, err := in.Scan(file, func(f *segment.Frame) {
		if f.Seq < s.First || f.Seq > s.Last {
			return
		}
		r.Add(cursor.Count{Records: 1, Items: uint64(f.Items)})
		for i := range v.cursors {
			v.cursors[i].add(f)
		}
	})
	if err != nil {
		return err
	}
	v.gaps(s, &scan)
	v.report.Segments = append(v.report.Segments, r)
	v.report.Bytes += in.Bytes
	if v.progress != nil {
		v.progress(in.Bytes)
	}
	return nil
}

func (t *tally) add(f *segment.Frame) {
	if f.Seq <= t.upTo && !t.c.Slot.Resolved.Has(f.Seq) {
		t.queued.Add(cursor.Count{Records: 1, Items: uint64(f.Items)})
	}
}

// plan tells what recovery found, and what it would do. Of a journal in use it would do nothing.
func (v *verifier) plan(p *recovery.Plan) {
	for _, l := range p.Losses {
		v.found(true, l.Path, "%s has lost %d records, %d items: %s, %s", l.Cursor, l.Records, l.Items, numbers(l.First, l.Last), l.Reason)
	}
	for _, n := range p.Notes {
		if n.Level == recovery.Alarm || !v.held {
			v.found(n.Level == recovery.Alarm, n.Path, "%s", n.Text)
		}
	}
}

// gaps judges what a segment does not hold. Numbers that everybody has resolved, or that are booked as lost, cost nothing
// any more.
func (v *verifier) gaps(s *recovery.Segment, scan *segment.Scan) {
	for _, g := range scan.Gaps {
		first, last := max(g.First, s.First), min(g.Last, s.Last)
		if first > last {
			continue
		}
		owed := len(v.cursors) == 0
		for i := range v.cursors {
			t := &v.cursors[i]
			owed = owed || first <= t.upTo && !t.c.Slot.Resolved.Covers(first, min(last, t.upTo))
		}
		v.found(owed, s.Path, "%s at %d..%d cannot be read%s", numbers(first, last), g.Off, g.End,
			map[bool]string{true: "", false: "; nobody is owed them any more"}[owed])
	}
	if scan.Unreadable > 0 {
		v.found(true, s.Path, "the disk refuses %d bytes", scan.Unreadable)
	}
	if scan.Abandoned {
		v.found(true, s.Path, "the file is not one that was ever written: what follows %d was not looked at", scan.DataEnd)
	}
	if scan.Opaque > 0 {
		v.found(true, s.Path, "%d records were written by a newer version; they are kept, not delivered", scan.Opaque)
	}
}

func numbers(first, last queue.Seq) string {
	if first == last {
		return fmt.Sprintf("number %d", first)
	}
	return fmt.Sprintf("numbers %d-%d", first, last)
}

// balance closes the equation of each cursor.
func (v *verifier) balance() {
	for i := range v.cursors {
		t := &v.cursors[i]
		slot := &t.c.Slot
		b := Balance{
			Name: slot.Name, State: slot.State, Accepted: t.c.Accepted, Known: t.c.Known, NotOwed: slot.NotOwed,
			Delivered: slot.Delivered.Items, Rejected: slot.Rejected.Items, Dropped: slot.AllDropped().Items,
			Queued: t.queued,
		}
		if b.Known && (slot.State == queue.Live || slot.State == queue.Parked) {
			b.Imbalance = int64(b.Accepted-b.NotOwed) - int64(b.Delivered+b.Rejected+b.Dropped+b.Queued.Items)
		}
		if b.Imbalance != 0 {
			v.found(true, t.c.Path, "the books of %s do not add up: %d items accepted, %d of them not owed, against "+
				"%d delivered, %d rejected, %d dropped and %d queued: %+d", b.Name, b.Accepted, b.NotOwed, b.Delivered,
				b.Rejected, b.Dropped, b.Queued.Items, b.Imbalance)
		}
		v.report.Balances = append(v.report.Balances, b)
	}
}
