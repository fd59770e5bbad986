// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// highest is the highest number that anything in the directory knows of, and the highest id of a segment.
func (y *yard) highest() (last queue.Seq, id uint64) {
	for _, e := range y.names(layout.Segments) {
		n, ok := layout.SegmentID(e)
		if !ok {
			continue
		}
		id = max(id, n)
		file, err := y.disk.OpenFile(seg(n), vfs.Read, 0)
		y.ok(err)
		in, err := segment.Inspect(file, e)
		y.ok(err)
		if in.Class == segment.Sealed || in.Class == segment.Unsealed {
			last = max(last, in.Header.BaseSeq-1, in.Header.PrevLastSeq)
			_, err := in.Scan(file, func(f *segment.Frame) { last = max(last, f.Seq) })
			y.ok(err)
		}
		y.ok(file.Close())
	}
	for _, e := range y.names(layout.Cursors) {
		if s, err := cursor.Read(y.disk, path.Join(dir, layout.Cursors, e)); err == nil {
			last = max(last, s.High, s.Resolved.High(), s.DurableSeq)
		}
	}
	return last, id
}

func TestSequenceNumbersAreNeverReused(t *testing.T) {
	y, mem := sample(t)
	all := []string{seg(1), seg(2), seg(3)}
	for _, name := range []string{"a", "b", "p", "late"} {
		all = append(all, layout.Cursor(dir, name))
	}
	for set := range 1 << len(all) {
		z := *y
		clone := mem.KillClone()
		z.disk = clone
		for i, name := range all {
			if set&(1<<i) != 0 {
				z.remove(name)
			}
		}
		for round := range 3 { // what is deleted must not be forgotten
			last, id := z.highest()
			p, err := recovery.Inspect(clone, dir, wantedNames)
			z.ok(err)
			if p.Seq < last || p.LastID < id {
				t.Errorf("files %07b missing, round %d: goes on after %d in segment %d; there were %d and %d", set, round, p.Seq,
					p.LastID, last, id)
			}
			z.ok(p.Apply(clone, recovery.ApplySettings{}))
		}
	}
	// And what was deleted because everybody had it.
	for _, p := range y.cursors {
		if p.ack(1, 8); p.slot.State == queue.Live {
			p.ack(9, 9)
		}
		p.save()
	}
	p := y.recover()
	if len(y.names(layout.Segments)) != 0 || p.Seq != 9 || p.Items != y.items || p.PrevID != 3 {
		t.Errorf("seg/ has %v, the plan is %+v", y.names(layout.Segments), p)
	}
	if p = y.recover(); p.Seq != 9 || p.Items != y.items || p.Journal != y.id {
		t.Errorf("without segments: %+v", p)
	}
}

func TestLostCursorIsToldFromANewDestination(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a, b := y.cursor("a"), y.cursor("b")
	y.begin(segmentBytes)
	y.many(3, 100)
	y.seal()
	c := y.cursor("c")
	y.begin(segmentBytes)
	y.many(3, 100)
	a.ack(1, 5)
	b.ack(1, 5)
	a.save()
	b.save()
	for _, p := range []*place{b, c} {
		y.remove(layout.Cursor(dir, p.slot.Name))
	}
	p := y.inspect("a", "c", "new")
	if !slices.Equal(p.Fresh, []string{"new"}) || len(p.Cursors) != 3 {
		t.Fatalf("new are %v, found %+v", p.Fresh, p.Cursors)
	}
	if got := find(p, "c"); !got.Lost || got.Slot.State != queue.Live || fmt.Sprint(unresolved(p, &got.Slot)) != "[4 5 6]" {
		t.Errorf("%+v", got)
	}
	name := fmt.Sprintf("lost-%016x", cursor.Hash("b"))
	if got := find(p, name); got == nil || !got.Lost || got.Slot.State != queue.Parked || got.Slot.Until != 6 || got.Queued.Records != 6 {
		t.Errorf("%+v", got)
	}
	// Who it was is known again when its destination is back.
	p = y.recover("a", "c", "new")
	if got := find(p, name); got.Slot.ParkedAt == 0 || got.Slot.State != queue.Parked {
		t.Errorf("%+v", got)
	}
	p = y.recover("a", "b", "c")
	if got := find(p, "b"); got == nil || got.Lost || got.Queued.Records != 6 || find(p, name) != nil || len(p.Fresh) > 0 {
		t.Errorf("%+v, new are %v", got, p.Fresh)
	}
	if names := y.names(layout.Cursors); !slices.Equal(names, []string{"a.cur", "b.cur", "c.cur"}) {
		t.Errorf("cur/ has %v", names)
	}
}

func TestALostCursorIsOwedWhatNamesIt(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a, b := y.cursor("a"), y.cursor("b")
	y.begin(segmentBytes)
	y.many(2, 100)
	y.seal()
	b.park()
	y.begin(segmentBytes)
	y.many(2, 100)
	y.seal()
	y.begin(segmentBytes)
	y.many(2, 100)
	y.seal()
	a.ack(3, 4)
	a.save()
	y.remove(seg(2)) // everybody had it, a says; and b was not owed it
	y.change(layout.Cursor(dir, "a"), func(b []byte) []byte { clear(b); return b })
	y.change(layout.Cursor(dir, "b"), func(b []byte) []byte { clear(b); return b })
	p := y.recover("a")
	if got := find(p, "a"); !got.Lost || fmt.Sprint(unresolved(p, &got.Slot)) != "[1 2 5 6]" || len(p.Losses) > 0 {
		t.Errorf("%+v, lost %+v", got, p.Losses)
	}
	if got := find(p, "b"); !got.Lost || got.Slot.State != queue.Parked || got.Slot.Until != 4 || got.Queued.Records != 2 {
		t.Errorf("%+v", got)
	}
	if bad := y.names(layout.Bad); !slices.Equal(bad, []string{"NOTES", "a.cur", "b.cur"}) {
		t.Errorf("bad/ has %v", bad)
	}
}

func TestAChangeOfModeKeepsEachSegmentsMeaning(t *testing.T) {
	// The same hole, with a good frame of its group behind it: in a synced segment nobody was answered, in an unsynced
	// one everybody was.
	for _, unsyncedFirst := range []bool{false, true} {
		y := newYard(t, vfs.NewMem(0))
		a := y.cursor("a")
		y.unsynced = unsyncedFirst
		y.begin(segmentBytes)
		y.append(100, 100, 100)
		y.sync()
		y.seal()
		y.unsynced = !unsyncedFirst
		y.begin(segmentBytes)
		y.append(100, 100, 100)
		a.slot.DurableSeq, a.slot.DurableItems = 3, uint64(y.records[1].Items+y.records[2].Items+y.records[3].Items)
		y.ok(a.file.Write(&a.slot))
		y.spoil(5, true)
		p := y.recover()
		if y.unsynced {
			y.lost(p, "a", cursor.Unsynced, 5)
		} else if c := find(p, "a"); len(p.Losses) > 0 || c.Slot.NotOwed != uint64(y.records[5].Items) {
			t.Errorf("lost %+v, %+v", p.Losses, c)
		}
		if got := p.Segments[1].Header.Flags&segment.FlagUnsynced != 0; got != y.unsynced {
			t.Errorf("the mode of %+v", p.Segments[1].Header)
		}
	}
}

func TestRescuesOfRescuesAreFollowed(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	y.unsynced = true
	y.cursor("a")
	rescue := func(of uint64) func(*segment.Header) {
		return func(h *segment.Header) { h.Flags |= segment.FlagRescue; h.PrevID = of }
	}
	back := func(seq queue.Seq, items uint64) { y.seq, y.items, y.acked = seq, items, seq }
	y.begin(segmentBytes)
	y.append(10, 10)
	y.sync()
	seq, items := y.seq, y.items
	y.append(10, 10)
	y.leave()
	end, endItems := y.seq, y.items
	y.begin(segmentBytes) // the one behind it
	y.append(10, 10)
	y.leave()
	last, lastItems := y.seq, y.items
	back(seq, items)
	y.begin(segmentBytes, rescue(1)) // of 3 and 4; it fails too
	y.append(10, 10)
	y.leave()
	back(seq, items)
	y.begin(segmentBytes, rescue(3))
	y.append(20, 20)
	y.seal()
	if y.seq != end || y.items != endItems {
		t.Fatal("the rescue holds something else")
	}
	back(last, lastItems)
	p := y.recover()
	type part struct {
		id          uint64
		first, last queue.Seq
		condemned   bool
	}
	var got []part
	for _, s := range p.Segments {
		got = append(got, part{s.Header.ID, s.First, s.Last, s.Condemned})
	}
	if fmt.Sprint(got) != "[{1 1 2 true} {3 3 2 true} {4 3 4 false} {2 5 6 false}]" {
		t.Errorf("%+v", got)
	}
	if q := find(p, "a").Queued; q.Records != 6 || len(p.Losses) > 0 {
		t.Errorf("%+v, lost %+v", q, p.Losses)
	}
	// Of the first rescue nothing counts. It stays as long as what it condemned, and goes with it.
	file, slot, err := cursor.Open(y.disk, layout.Cursor(dir, "a"))
	y.ok(err)
	slot.Resolved.Add(1, 5)
	slot.NotOwed += y.items - uint64(y.records[6].Items)
	y.ok(file.Write(&slot))
	if y.recover(); !slices.Equal(y.names(layout.Segments), []string{"0000000002.seg"}) {
		t.Errorf("seg/ has %v", y.names(layout.Segments))
	}
}

func TestFilesThatGoMeanwhileAreNotMissed(t *testing.T) {
	y, mem := sample(t)
	names := y.names(layout.Segments)
	for _, name := range []string{seg(1), seg(2)} {
		clone := mem.KillClone()
		disk := vfs.NewFaulty(clone)
		z := *y
		z.disk = clone
		gone := false
		disk.Watch(vfs.Watch{After: func(c vfs.Call) {
			if c.Name == "readdir "+path.Join(dir, layout.Segments) && !gone { // everybody resolves it, then it goes
				gone = true
				n := strings.TrimSuffix(path.Base(name), layout.SegmentSuffix)
				first, last := queue.Seq(1), queue.Seq(3)
				if strings.HasSuffix(n, "2") {
					first, last = 4, 5
				}
				for _, who := range []string{"a", "p", "b"} {
					file, slot, err := cursor.Open(clone, layout.Cursor(dir, who))
					z.ok(err)
					slot.Resolved.Add(first, last)
					z.ok(file.Write(&slot))
					z.ok(file.Close())
				}
				z.remove(name)
			}
		}})
		p, err := recovery.Inspect(disk, dir, wantedNames)
		z.ok(err)
		if !gone || len(p.Losses) > 0 || len(p.Segments) != len(names)-1 {
			t.Errorf("%s went; lost %+v", name, p.Losses)
		}
	}
}

func TestWhatGrowsMeanwhileIsSeen(t *testing.T) {
	mem := vfs.NewMem(0)
	y := newYard(t, mem)
	a := y.cursor("a")
	y.begin(segmentBytes)
	y.many(3, 100)
	disk := vfs.NewFaulty(mem)
	grown := false
	disk.Watch(vfs.Watch{Before: func(c vfs.Call) {
		if c.Name == "readdir "+path.Join(dir, layout.Cursors) && !grown {
			grown = true
			y.many(3, 100)
			y.seal()
			y.begin(segmentBytes)
			y.many(2, 100)
			a.ack(1, 7)
			a.save()
		}
	}})
	p, err := recovery.Inspect(disk, dir, []string{"a"})
	y.ok(err)
	if !grown || len(p.Losses) > 0 || p.Seq != 8 || find(p, "a").Queued.Records != 1 {
		t.Errorf("%+v", p)
	}
	for _, wrong := range y.unsound(p) {
		t.Error(wrong)
	}
	onlyRead(t, disk)
}
