// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"errors"
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

func errorsIs(err, target error) bool { return errors.Is(err, target) }

// lossOf is what one cursor lost.
func lossOf(p *recovery.Plan, name string) (lost []recovery.Loss) {
	for _, l := range p.Losses {
		if l.Cursor == name {
			lost = append(lost, l)
		}
	}
	return lost
}

// lost checks that one cursor lost exactly these numbers for one reason, in the plan and in its slot.
func (y *yard) lost(p *recovery.Plan, name string, why cursor.Reason, seqs ...queue.Seq) {
	y.Helper()
	items := uint64(0)
	for _, n := range seqs {
		items += uint64(y.records[n].Items)
	}
	want := cursor.Count{Records: uint64(len(seqs)), Items: items}
	var got cursor.Count
	for _, l := range lossOf(p, name) {
		if l.Reason != why {
			y.Errorf("%s lost %+v, not %s", name, l, why)
		}
		for n := l.First; n <= l.Last; n++ {
			if l.Records == uint64(l.Last-l.First)+1 && !slices.Contains(seqs, n) {
				y.Errorf("%s lost %d", name, n)
			}
		}
		got.Add(l.Count)
	}
	if slot := &find(p, name).Slot; got != want || slot.Dropped[why] != want {
		y.Errorf("%s lost %+v by the plan, %+v by its slot; want %+v", name, got, slot.Dropped[why], want)
	}
}

func TestANewJournalIsEmpty(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	p := y.recover("a", "b")
	if p.Journal != [16]byte{} || p.Seq != 0 || len(p.Cursors) != 0 || !slices.Equal(p.Fresh, []string{"a", "b"}) {
		t.Errorf("%+v", p)
	}
	if _, err := recovery.Inspect(vfs.NewMem(0), "/nowhere", nil); err != nil {
		t.Error(err)
	}
}

func TestWhatWasClosedInOrderIsTaken(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a, b := y.cursor("a"), y.cursor("b")
	y.begin(segmentBytes)
	y.append(100, 200, 300)
	y.seal()
	y.begin(segmentBytes)
	y.append(100, 200)
	a.ack(1, 2)
	a.ack(4, 4)
	b.ack(1, 3)
	a.save()
	b.save()
	y.seal()
	p := y.recover()
	if p.Seq != 5 || p.Items != y.items || p.LastID != 2 || p.PrevID != 2 || p.PrevLastSeq != 5 || p.Unclean || p.Tag != 1 {
		t.Errorf("%+v", p)
	}
	if q := find(p, "a").Queued; q.Records != 2 || q.Items != uint64(y.records[3].Items+y.records[5].Items) || !q.Counted {
		t.Errorf("a waits for %+v", q)
	}
	if len(p.Notes) > 0 {
		t.Errorf("there is something to say: %+v", p.Notes)
	}
}

func TestATornGroupIsNotOwed(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a := y.cursor("a")
	y.begin(segmentBytes)
	y.append(100)
	y.append(100, 100, 100)
	a.save()
	// The last group was never answered: what the slot says ends before it.
	a.slot.DurableSeq, a.slot.DurableItems = 1, uint64(y.records[1].Items)
	y.ok(a.file.Write(&a.slot))
	y.spoil(3, true)
	p := y.recover()
	if len(p.Losses) > 0 {
		t.Errorf("a tear was listed: %+v", p.Losses)
	}
	if c := find(p, "a"); c.Slot.NotOwed != uint64(y.records[3].Items) || c.Queued.Records != 3 {
		t.Errorf("%+v", c)
	}
	if p.Segments[0].Class != segment.Sealed || p.Segments[0].Sum.Flags&segment.SealGaps == 0 {
		t.Errorf("%+v", p.Segments[0])
	}
}

func TestGapsOfASealedSegmentAreBookedOnce(t *testing.T) {
	mem := vfs.NewMem(0)
	y := newYard(t, mem)
	a := y.cursor("a")
	y.begin(segmentBytes)
	y.many(5, 1000)
	a.save()
	y.spoil(2, true)
	p := y.recover()
	y.lost(p, "a", cursor.Corrupt, 2)
	disk := vfs.NewFaulty(mem)
	if _, err := recovery.Inspect(disk, dir, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	if reads, _ := disk.Count("read " + seg(1)); reads > 4 { // header, seal, two edges
		t.Errorf("the sealed segment was read %d times", reads)
	}
	// Only a cursor that has forgotten what was lost makes it read again.
	y.remove(layout.Cursor(dir, "a"))
	p = y.recover()
	y.lost(p, "a", cursor.Corrupt, 2)
}

func TestDamageBelowAWitnessIsListed(t *testing.T) {
	for _, header := range []bool{false, true} {
		y := newYard(t, vfs.NewMem(0))
		a, b := y.cursor("a"), y.cursor("b")
		y.begin(segmentBytes)
		y.many(5, 1000)
		a.ack(3, 3)
		a.save()
		y.spoil(3, header)
		y.spoil(4, header)
		_ = b
		p := y.recover()
		y.lost(p, "a", cursor.Corrupt, 4)
		y.lost(p, "b", cursor.Corrupt, 3, 4)
		if bad := y.names(layout.Bad); len(bad) < 2 {
			t.Errorf("bad/ has %v", bad)
		}
	}
}

func TestASegmentThatIsGoneIsListed(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a, b := y.cursor("a"), y.cursor("b")
	for range 3 {
		y.begin(segmentBytes)
		y.many(4, 500)
		y.seal()
	}
	a.ack(1, 6)
	a.save()
	b.ack(1, 8)
	b.save()
	y.remove(seg(2))
	p := y.recover()
	y.lost(p, "a", cursor.Missing, 7, 8)
	if len(lossOf(p, "b")) > 0 {
		t.Errorf("b lost %+v", lossOf(p, "b"))
	}
}

func TestAnEndThatIsGoneIsListed(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a, b := y.cursor("a"), y.cursor("b")
	for range 2 {
		y.begin(segmentBytes)
		y.many(4, 500)
		y.seal()
	}
	a.save()
	b.ack(6, 6)
	b.save()
	y.remove(seg(2))
	p := y.recover()
	y.lost(p, "a", cursor.Missing, 5, 6, 7, 8)
	y.lost(p, "b", cursor.Missing, 5, 7, 8)
	if p.Seq != 8 || p.Items != y.items || p.PrevLastSeq != 8 {
		t.Errorf("%+v", p)
	}
}

func TestWhatWasNotSyncedIsListedInUnsyncedMode(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	y.unsynced = true
	y.cursor("a")
	b := y.cursor("b")
	y.begin(segmentBytes)
	y.append(100, 100)
	y.sync()
	y.append(100, 100, 100)
	b.ack(3, 3)
	b.save()
	y.spoil(4, true)
	p := y.recover()
	y.lost(p, "a", cursor.Unsynced, 4)
	// And the end of it, which b had in part.
	y = newYard(t, vfs.NewMem(0))
	y.unsynced = true
	y.cursor("a")
	b = y.cursor("b")
	y.begin(segmentBytes)
	y.append(100, 100)
	y.sync()
	y.append(100, 100, 100)
	b.ack(1, 4)
	b.save()
	for n := queue.Seq(3); n <= 5; n++ {
		y.spoil(n, true)
	}
	p = y.recover()
	y.lost(p, "a", cursor.Unsynced, 3, 4)
	if p.Seq != 4 || p.Items != y.items-uint64(y.records[5].Items) {
		t.Errorf("%+v", p)
	}
}

func TestVoidNumbersAreNotOwed(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a := y.cursor("a")
	y.begin(segmentBytes)
	y.many(3, 100)
	acked, items := y.acked, y.items
	y.append(100, 100) // refused: the next segment says so
	y.acked, y.items = acked, items
	y.leave()
	y.begin(segmentBytes)
	y.many(2, 100)
	_ = a
	p := y.recover()
	if c := find(p, "a"); c.Queued.Records != 5 || c.Slot.NotOwed != 0 || !c.Slot.Resolved.Covers(4, 5) || len(p.Losses) > 0 {
		t.Errorf("%+v; lost %+v", c, p.Losses)
	}
	if s := p.Segments[0]; s.First != 1 || s.Last != 3 {
		t.Errorf("%d to %d count", s.First, s.Last)
	}
}

func TestARescueTakesOver(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a := y.cursor("a")
	y.begin(segmentBytes)
	y.append(100, 100)
	durable := y.w.Durable()
	acked, items, seq := y.acked, y.items, y.seq
	y.append(100, 100)
	y.leave()
	y.acked, y.items, y.seq = acked, items, seq
	y.begin(segmentBytes, func(h *segment.Header) {
		h.Flags |= segment.FlagRescue
		h.PrevDurable = durable
	})
	y.append(200, 200, 200)
	_ = a
	p := y.recover()
	if len(p.Segments) != 2 || p.Segments[0].Last != 2 || p.Segments[1].First != 3 || !p.Segments[0].Condemned {
		t.Errorf("%+v", p.Segments)
	}
	if p.Segments[0].Class != segment.Unsealed || p.Segments[1].Class != segment.Sealed {
		t.Errorf("the condemned segment is %s, its rescue %s", p.Segments[0].Class, p.Segments[1].Class)
	}
	if q := find(p, "a").Queued; q.Records != 5 {
		t.Errorf("%+v", q)
	}
}

func TestNewerFormatsAreNamedAndLeftAlone(t *testing.T) {
	for _, name := range []string{seg(1), layout.Cursor(dir, "a")} {
		mem := vfs.NewMem(0)
		y := newYard(t, mem)
		y.cursor("a")
		y.begin(segmentBytes)
		y.many(2, 100)
		newer(y, name)
		disk := vfs.NewFaulty(mem)
		_, err := recovery.Inspect(disk, dir, []string{"a"})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "2, newer than 1") {
			t.Errorf("%s: %v", name, err)
		}
		onlyRead(t, disk)
	}
}

// onlyRead checks that nothing was changed on a disk.
func onlyRead(t *testing.T, disk *vfs.Faulty) {
	t.Helper()
	for _, c := range disk.Calls("") {
		switch op, _, _ := strings.Cut(c.Name, " "); op {
		case "open", "read", "fstat", "stat", "readdir", "close", "dropbehind":
		default:
			t.Errorf("looking called %s", c.Name)
		}
	}
}

func TestStrangersGoToBad(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	a := y.cursor("a")
	y.begin(segmentBytes)
	y.many(3, 100)
	y.seal()
	a.ack(1, 1)
	a.save()
	y.put(seg(7), y.read(seg(1)))
	y.put(seg(8), []byte("what is this"))
	y.put(layout.Cursor(dir, "x"), y.read(layout.Cursor(dir, "a")))
	y.put(path.Join(dir, layout.Segments, "0000000009.seg.tmp"), nil)
	y.put(path.Join(dir, layout.Segments, "0000000010.seg"), make([]byte, 20000))
	y.put(path.Join(dir, layout.Segments, "README"), []byte("not ours"))
	p := y.recover()
	if got := y.names(layout.Segments); !slices.Equal(got, []string{"0000000001.seg", "README"}) {
		t.Errorf("seg/ has %v", got)
	}
	if got := y.names(layout.Bad); !slices.Equal(got, []string{"0000000007.seg", "0000000008.seg", "NOTES", "x.cur"}) {
		t.Errorf("bad/ has %v", got)
	}
	if p.LastID != 10 || len(p.Cursors) != 1 || find(p, "a").Queued.Records != 2 {
		t.Errorf("%+v", p)
	}
}

func TestBadIsBounded(t *testing.T) {
	y := newYard(t, vfs.NewMem(0))
	y.cursor("a")
	for id := uint64(1); id <= 5; id++ {
		y.put(seg(id), bytes10k(byte(id)))
	}
	p := y.inspect()
	y.ok(p.Apply(y.disk, recovery.ApplySettings{BadBytes: 40 << 10}))
	if bad := y.names(layout.Bad); len(bad) != 4 {
		t.Errorf("bad/ has %v", bad)
	}
	if left := y.names(layout.Segments); len(left) != 2 {
		t.Errorf("seg/ has %v", left)
	}
}

func bytes10k(with byte) []byte {
	b := make([]byte, 10<<10)
	for i := range b {
		b[i] = with
	}
	return b
}
