// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"sort"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// line is all numbers from 1 to the last one given out: spans that can be read, and the holes between them.
//
//	1 ......... 40 | 41 ── 90 | 91, 92 | 93 ── 120 | 121 .. 130
//	hole: deleted  |  span    |  hole  |   span    | hole: a slot knows they were durable
//
// Items are cumulative over the journal's life and stand in headers and frames, so what a hole cost is the difference of
// its two ends, whatever happened to the bytes.
type line struct {
	spans []span
	holes []hole
	seq   queue.Seq // the end so far
	items uint64    // accepted up to it

	// acked is the last number known to be acknowledged.
	acked queue.Seq
}

type span struct {
	run
	f *found
}

// hole is numbers in a row that cannot be read.
type hole struct {
	first, last queue.Seq
	items       uint64
	reason      cursor.Reason // 0: never acknowledged, nobody is owed them
	// absent: no file has a place for them. They were deleted when everybody had resolved them, or a file is gone.
	absent bool
	why    string
	path   string // of the file they were in
	damage damage
	// What cursors lack of it: where, and the most that one of them does.
	from, to queue.Seq
	most     cursor.Count
}

// lacked notes what one cursor lacks.
func (h *hole) lacked(first, last queue.Seq, n cursor.Count) {
	if h.most.Records == 0 {
		h.from = first
	}
	h.from, h.to = min(h.from, first), max(h.to, last)
	h.most = cursor.Count{Records: max(h.most.Records, n.Records), Items: max(h.most.Items, n.Items)}
}

func (h *hole) records() uint64 { return uint64(h.last-h.first) + 1 }

// draw makes the line up to where the segments end.
func (l *look) draw(e *edges) *line {
	t := &line{}
	var prev *found
	acked := l.acknowledged()
	for i, f := range l.order {
		l.boundary(t, prev, f, acked[i])
		l.place(t, e, f, acked[i])
		if f.last >= f.first {
			t.acked = max(t.acked, f.last)
		}
		prev = f
	}
	return t
}

// acknowledged says for each segment which number later headers say was the last one acknowledged.
func (l *look) acknowledged() []queue.Seq {
	acked := make([]queue.Seq, len(l.order)+1)
	for i := len(l.order) - 1; i >= 0; i-- {
		acked[i] = acked[i+1]
		if l.order[i].hasHeader() {
			acked[i] = max(acked[i], l.order[i].in.Header.PrevLastSeq)
		}
	}
	return acked[1:]
}

// boundary goes on to where f begins. What lies between it and what was there before is missing.
func (l *look) boundary(t *line, prev, f *found, acked queue.Seq) {
	h := &f.in.Header
	base := h.BaseSeq - 1
	if f.hasHeader() {
		t.acked = max(t.acked, h.PrevLastSeq)
	}
	if base <= t.seq {
		return
	}
	lost := hole{first: t.seq + 1, last: base, items: minus(h.BaseItems, t.items)}
	switch {
	case !f.hasHeader() && (prev == nil || prev.id+1 == f.id): // the file begins with them
		l.judge(&lost, f, segment.BlockBytes, f.firstOff(), acked)
	case !f.hasHeader():
		lost.absent, lost.reason, lost.why = true, cursor.Missing, "no file holds them"
	case prev == nil || h.PrevID != prev.id:
		lost.last = max(min(h.PrevLastSeq, base), t.seq)
		lost.absent, lost.reason, lost.why = true, cursor.Missing, "no file holds them"
	default: // they followed what prev holds
		lost.last = max(min(h.PrevLastSeq, base), t.seq)
		l.judge(&lost, prev, prev.sum.DataEnd, prev.tail().End, h.PrevLastSeq)
	}
	if lost.last >= lost.first {
		t.add(lost)
		lost.items = 0
	}
	if base > t.seq {
		t.add(hole{first: t.seq + 1, last: base, items: lost.items, why: "they were never acknowledged", path: f.path})
	}
	t.items = max(t.items, h.BaseItems)
}

func (f *found) firstOff() segment.Offset {
	if len(f.runs) == 0 {
		return segment.BlockBytes
	}
	return f.runs[0].off
}

// place goes through f: what counts in it and what is missing in between.
func (l *look) place(t *line, e *edges, f *found, acked queue.Seq) {
	off := segment.Offset(segment.BlockBytes)
	for _, r := range f.counted(e) {
		if r.last <= t.seq {
			continue
		}
		if r.first > t.seq+1 {
			lost := hole{first: t.seq + 1, last: r.first - 1, items: minus(r.before, t.items)}
			l.judge(&lost, f, off, r.off, acked)
			t.add(lost)
			f.tears(&lost)
		}
		t.spans = append(t.spans, span{r, f})
		t.seq, t.items, off = r.last, r.after, r.end
	}
	if f.scan == nil || len(f.scan.Gaps) == 0 {
		return
	}
	// What a seal counts behind the last good frame.
	if g := f.scan.Gaps[len(f.scan.Gaps)-1]; g.First > f.sum.Last && min(g.Last, f.limit) > t.seq && g.First == t.seq+1 {
		lost := hole{first: g.First, last: min(g.Last, f.limit), items: g.Items}
		l.judge(&lost, f, off, g.End, acked)
		t.add(lost)
		t.acked = max(t.acked, lost.last)
	}
}

// tears remembers that a hole before a run was never acknowledged, should the run be written again elsewhere.
func (f *found) tears(h *hole) {
	if h.reason != 0 {
		return
	}
	if f.torn == nil {
		f.torn = map[queue.Seq]bool{}
	}
	f.torn[h.last+1] = true
}

// counted is the runs of f as far as they count.
func (f *found) counted(e *edges) []run {
	runs := f.runs
	if f.scan == nil && f.sum.Records > 0 {
		s := &f.sum
		r := run{first: s.First, last: s.Last, before: f.in.Header.BaseItems, after: s.ItemsEnd,
			off: segment.BlockBytes, end: s.DataEnd}
		if s.First > f.in.Header.BaseSeq {
			r.before = minus(s.ItemsEnd, s.Items)
			if at := e.at(f, s.First); at.beforeKnown {
				r.before = at.before
			}
		}
		runs = []run{r}
	}
	n := sort.Search(len(runs), func(i int) bool { return runs[i].first > f.last })
	runs = runs[:n:n]
	if n == 0 || f.last < f.first || runs[n-1].last <= f.last {
		if f.last < f.first {
			return nil
		}
		return runs
	}
	r := runs[n-1]
	r.last = f.last
	if at := e.at(f, f.last); at.afterKnown {
		r.after = at.after
	}
	return append(runs[:n-1:n-1], r)
}

func (t *line) add(h hole) {
	t.holes = append(t.holes, h)
	t.seq, t.items = h.last, t.items+h.items
}

// judge says what became of numbers that should be at off of f (section 13): damage of durable data if something
// vouches for the place or for the numbers, else the end of what a crash let happen.
func (l *look) judge(h *hole, f *found, off, end segment.Offset, acked queue.Seq) {
	witness := f.sum.DataEnd
	if f.scan != nil {
		witness = f.scan.Witness
	}
	witness = max(witness, f.vouched)
	h.path = f.path
	switch {
	case off < witness || h.first <= l.durable.seq || !f.unsynced && h.first <= acked:
		h.reason, h.why = cursor.Corrupt, "durable bytes do not hold"
		h.damage = damage{path: f.path, off: off, end: max(off, end)}
	case f.unsynced:
		h.reason, h.why = cursor.Unsynced, "they were not synced yet"
	default:
		h.why = "they were never acknowledged"
	}
}

// end goes on to the last number given out: what only slots and void frames know of.
func (l *look) end(t *line, c *count) {
	if d := l.durable; d.seq > t.seq {
		lost := hole{first: t.seq + 1, last: d.seq, items: minus(d.items, t.items), reason: cursor.Missing, absent: true,
			why: "the end of the journal is gone"}
		if n := len(l.order); n > 0 {
			if tail := l.order[n-1].tail(); tail.End > tail.Off {
				lost.damage = damage{path: l.order[n-1].path, off: tail.Off, end: tail.End}
			}
		}
		t.add(lost)
		t.acked = max(t.acked, d.seq)
	}
	last := l.high
	for _, f := range l.order {
		last = max(last, f.sum.Last)
	}
	if last <= t.seq {
		return
	}
	// Numbers above were given out, and resolved by somebody or jumped over; if items came with them, they are in books.
	items := t.items
	for _, cur := range l.cursors {
		if queued, ok := c.items(t, cur); ok && !cur.Lost {
			items = max(items, booked(&cur.Slot)+queued+t.missing(&cur.Slot))
		}
	}
	lost := hole{first: t.seq + 1, last: last, items: items - t.items, absent: true, why: "they were never acknowledged"}
	if lost.items > 0 {
		lost.reason, lost.why = cursor.Missing, "the end of the journal is gone"
		if n := len(l.order); n == 0 || l.order[n-1].unsynced {
			lost.reason, lost.why = cursor.Unsynced, "they were not synced yet"
		}
	}
	t.add(lost)
}

// missing is the items of the holes of which s has resolved nothing: it will lose them, or not be owed them.
func (t *line) missing(s *cursor.Slot) (items uint64) {
	for i := range t.holes {
		h := &t.holes[i]
		if h.first > s.Resolved.Floor() && h.last <= t.upTo(s) && s.Resolved.Count(h.first, h.last) == 0 {
			items += h.items
		}
	}
	return items
}

// tail is what stands behind the last good frame and is none.
func (f *found) tail() segment.Gap {
	if f.scan == nil {
		return segment.Gap{}
	}
	return f.scan.Tail
}

// itemsAt is what the journal accepted up to number seq. Within a hole it is shared out by numbers; known says whether
// that was not necessary.
func (t *line) itemsAt(e *edges, seq queue.Seq) (items uint64, known bool) {
	if seq >= t.seq {
		return t.items, true
	}
	i := sort.Search(len(t.spans), func(i int) bool { return t.spans[i].last >= seq })
	if i < len(t.spans) && t.spans[i].first <= seq {
		s := &t.spans[i]
		if seq == s.last {
			return s.after, true
		}
		at := e.at(s.f, seq)
		return at.after, at.afterKnown
	}
	h := sort.Search(len(t.holes), func(i int) bool { return t.holes[i].last >= seq })
	if h == len(t.holes) {
		return t.items, false
	}
	lost := &t.holes[h]
	end := t.items
	if i < len(t.spans) {
		end = t.spans[i].before
	}
	for _, later := range t.holes[h+1:] {
		if i < len(t.spans) && later.first > t.spans[i].first {
			break
		}
		end = minus(end, later.items)
	}
	if seq == lost.last {
		return end, true
	}
	share := float64(lost.items) * (1 - float64(seq-lost.first+1)/float64(lost.records()))
	return minus(end, uint64(share)), false
}
