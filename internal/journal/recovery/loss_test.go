// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// live is a journal that is used at random: modes, groups, refused groups, rescues, parking, acks, slots that lag.
func (y *yard) live(luck *rand.Rand) {
	y.unsynced = luck.IntN(2) == 0
	for range 1 + luck.IntN(3) {
		y.cursor(fmt.Sprintf("c%d", len(y.cursors)))
	}
	y.begin(segmentBytes)
	for range 5 + luck.IntN(25) {
		switch luck.IntN(12) {
		case 0:
			y.roll(luck)
		case 1:
			if y.unsynced {
				y.sync()
			}
		case 2:
			y.refuse(luck)
		case 3:
			y.condemn(luck)
		case 4:
			if len(y.cursors) < 6 {
				y.roll(luck)
				y.cursor(fmt.Sprintf("c%d", len(y.cursors)))
			}
		case 5:
			if p := y.cursors[luck.IntN(len(y.cursors))]; luck.IntN(4) == 0 && p.slot.State == queue.Live {
				p.park()
			}
		case 6, 7:
			p := y.cursors[luck.IntN(len(y.cursors))]
			for range luck.IntN(5) {
				p.ackOne(luck)
			}
			if luck.IntN(2) == 0 {
				p.save()
			}
		default:
			sizes := make([]int, 1+luck.IntN(3))
			for i := range sizes {
				sizes[i] = luck.IntN(400)
			}
			if y.w.Free() < 3*4096 {
				y.roll(luck)
			}
			y.append(sizes...)
		}
	}
	if luck.IntN(3) == 0 {
		for _, p := range y.cursors {
			p.save()
		}
	}
	if luck.IntN(3) == 0 && y.w.Next() > y.w.Header().BaseSeq {
		y.seal()
	} else {
		y.leave()
	}
}

// ackOne resolves some number that is owed.
func (p *place) ackOne(luck *rand.Rand) {
	last := p.y.acked
	if p.slot.State == queue.Parked {
		last = p.slot.Until
	}
	n := p.slot.Resolved.Next(1 + queue.Seq(luck.IntN(int(last)+1)))
	if luck.IntN(2) == 0 {
		n = p.slot.Resolved.Next(1)
	}
	if _, real := p.y.records[n]; real && n <= last && p.slot.State != queue.Done {
		p.ack(n, n)
	}
}

// roll begins the next segment, perhaps in the other mode.
func (y *yard) roll(luck *rand.Rand) {
	if y.w.Next() == y.w.Header().BaseSeq {
		return
	}
	y.seal()
	if luck.IntN(4) == 0 {
		y.unsynced = !y.unsynced
	}
	y.begin(segmentBytes)
}

// refuse writes a group that is not acknowledged, whose segment is given up.
func (y *yard) refuse(luck *rand.Rand) {
	if y.w.Free() < 2*4096 || y.w.Next() == y.w.Header().BaseSeq {
		return
	}
	if y.unsynced {
		y.sync() // nothing that was answered is left behind
	}
	seq, items := y.acked, y.items
	y.append(10, 20)
	for n := seq + 1; n <= y.seq; n++ {
		delete(y.records, n)
		for _, p := range y.cursors {
			p.slot.Resolved.Add(n, n) // as the journal does when the next group is published
		}
	}
	y.acked, y.items = seq, items
	y.leave()
	y.begin(segmentBytes)
	y.append(luck.IntN(50))
}

// condemn gives up the segment and writes again what was not durable.
func (y *yard) condemn(luck *rand.Rand) {
	h := y.w.Header()
	if !y.unsynced || y.w.Next() == h.BaseSeq || y.w.Free() < 3*4096 {
		return
	}
	y.sync()
	durable, seq, items := y.w.Durable(), y.seq, y.items
	y.append(30, 40, 50)
	group := []segment.Record{y.records[seq+1], y.records[seq+2], y.records[seq+3]}
	end, endItems := y.seq, y.items
	y.leave()
	y.seq, y.items, y.acked = seq, items, seq
	y.begin(segmentBytes, func(n *segment.Header) {
		n.Flags |= segment.FlagRescue
		n.PrevID, n.PrevDurable = h.ID, durable
	})
	y.append(30, 40, 50)
	y.sync()
	for i, r := range group {
		if !bytes.Equal(y.records[seq+1+queue.Seq(i)].Body, r.Body) {
			y.Fatal("the rescue holds something else")
		}
	}
	if y.seq != end || y.items != endItems {
		y.Fatal("the rescue ends elsewhere")
	}
}

// harm does one thing to the disk.
func (y *yard) harm(luck *rand.Rand) string {
	names := y.names(layout.Segments)
	if len(names) == 0 {
		return "nothing"
	}
	name := path.Join(dir, layout.Segments, names[luck.IntN(len(names))])
	switch luck.IntN(7) {
	case 0:
		y.remove(name)
		return "remove " + name
	case 1:
		y.change(name, func(b []byte) []byte { b[luck.IntN(112)] ^= 0x55; return b })
		return "header of " + name
	case 2:
		y.change(name, func(b []byte) []byte { return b[:len(b)-luck.IntN(min(len(b), 9000)+1)] })
		return "cut " + name
	case 3:
		cursors := y.names(layout.Cursors)
		name = path.Join(dir, layout.Cursors, cursors[luck.IntN(len(cursors))])
		y.change(name, func(b []byte) []byte {
			b[luck.IntN(500)] ^= 1
			b[cursor.SlotBytes+luck.IntN(500)] ^= 1
			return b
		})
		return "cursor " + name
	default:
		seq := 1 + queue.Seq(luck.IntN(int(y.seq)+1))
		if s, ok := y.at[seq]; ok {
			if _, err := y.disk.Stat(s.path); err == nil && len(y.read(s.path)) >= int(s.end) {
				y.spoil(seq, luck.IntN(2) == 0)
				return fmt.Sprintf("record %d", seq)
			}
		}
	}
	return "nothing"
}

// readable is which records can be read somewhere.
func (y *yard) readable() map[queue.Seq]bool {
	there := map[queue.Seq]bool{}
	for _, e := range y.names(layout.Segments) {
		id, ok := layout.SegmentID(e)
		if !ok {
			continue
		}
		file, err := y.disk.OpenFile(seg(id), vfs.Read, 0)
		y.ok(err)
		in, err := segment.Inspect(file, e)
		y.ok(err)
		if in.Class == segment.Sealed || in.Class == segment.Unsealed || in.Class == segment.Headless {
			_, err := in.Scan(file, func(f *segment.Frame) {
				// In a condemned segment it may be readable and void: the rescue's copy counts.
				if r, real := y.records[f.Seq]; real && y.at[f.Seq].path == seg(id) && int(f.Bytes()) == len(r.Meta)+len(r.Body) && f.Items == r.Items {
					there[f.Seq] = true
				}
			})
			y.ok(err)
		}
		y.ok(file.Close())
	}
	return there
}

func TestEveryLossIsListed(t *testing.T) {
	seeds := uint64(400)
	if long() {
		seeds = 40000
	}
	lostRecords := 0
	for seed := range seeds {
		luck := rand.New(rand.NewPCG(seed, 7))
		mem := vfs.NewMem(0)
		y := newYard(t, mem)
		y.live(luck)
		what := fmt.Sprintf("seed %d", seed)
		switch luck.IntN(3) {
		case 0: // it was killed
		case 1:
			mem = mem.CrashClone(luck.Uint64())
			what += ", power cut"
		case 2:
			mem = mem.CrashClone(0)
			what += ", power cut that loses all it may"
		}
		y.disk = mem
		for range luck.IntN(4) {
			what += ", " + y.harm(luck)
		}
		lostRecords += y.listed(what)
		if t.Failed() {
			break
		}
	}
	if lostRecords < int(seeds)/4 {
		t.Errorf("only %d records were lost", lostRecords)
	}
	t.Logf("%d records lost", lostRecords)
}

// listed recovers and compares with what was there: what is gone is listed by number and items, what is there is owed.
func (y *yard) listed(what string) (lost int) {
	y.Helper()
	say := func(format string, args ...any) {
		y.Helper()
		y.Errorf("%s: %s", what, fmt.Sprintf(format, args...))
	}
	before := map[string]cursor.Slot{}
	durable := queue.Seq(0)
	var wanted []string
	for _, e := range y.names(layout.Cursors) {
		if s, err := cursor.Read(y.disk, path.Join(dir, layout.Cursors, e)); err == nil {
			before[s.Name] = s
			durable = max(durable, s.DurableSeq)
		}
	}
	for _, p := range y.cursors {
		wanted = append(wanted, p.slot.Name)
	}
	there := y.readable()
	p, err := recovery.Inspect(y.disk, dir, wanted)
	y.ok(err)
	// Refused frames count again if the segment is gone that made them void. Then nobody knows what they cost.
	revived := y.revived(p)
	for _, wrong := range y.unsound(p) {
		if !revived || !strings.Contains(wrong, "books are off") {
			say("%s", wrong)
		}
	}
	for name, was := range before {
		c := find(p, name)
		if c == nil || was.State != queue.Live || c.Lost {
			continue
		}
		var gone, vague []queue.Seq
		var items uint64
		for n := was.Resolved.Next(1); n <= y.acked; n = was.Resolved.Next(n + 1) {
			r, real := y.records[n]
			if !real || n > y.acked {
				continue
			}
			if n > p.Seq {
				if n <= durable {
					say("%s: record %d was durable, and the journal goes on at %d", name, n, p.Seq+1)
				}
				continue
			}
			if !c.Slot.Resolved.Has(n) {
				continue
			}
			if there[n] {
				say("%s does not get record %d, which is there", name, n)
			}
			gone = append(gone, n)
			if items += uint64(r.Items); n > durable {
				vague = append(vague, n)
			}
		}
		lost += len(gone)
		listed := cursor.Count{}
		for _, l := range lossOf(p, name) {
			listed.Add(l.Count)
		}
		if len(vague) == 0 && !revived && c.Queued.Counted && listed.Items != items {
			say("%s: %v are gone, %d items, listed are %+v", name, gone, items, lossOf(p, name))
		}
		if listed.Records+uint64(len(vague)) < uint64(len(gone)) {
			say("%s: %v are gone, listed are %+v", name, gone, lossOf(p, name))
		}
	}
	if err := p.Apply(y.disk, recovery.ApplySettings{}); err != nil {
		say("%v", err)
	}
	again, err := recovery.Inspect(y.disk, dir, wanted)
	y.ok(err)
	if len(again.Losses) > 0 || again.Seq < p.Seq || again.Items < p.Items && !revived {
		say("the second time at %d after %d, lost %+v", again.Seq, p.Seq, again.Losses)
	}
	for _, wrong := range y.unsound(again) {
		name, _, _ := strings.Cut(wrong, ":")
		if c := find(p, name); !revived && (c == nil || c.Known) || !strings.Contains(wrong, "books are off") {
			say("the second time: %s", wrong)
		}
	}
	return lost
}

// revived says whether a number counts that was never acknowledged.
func (y *yard) revived(p *recovery.Plan) bool {
	for i := range p.Segments {
		s := &p.Segments[i]
		last := s.Last
		for _, g := range s.Gaps {
			last = max(last, g.Last)
		}
		for n := s.First; n <= last; n++ {
			if _, real := y.records[n]; !real {
				return true
			}
		}
	}
	return false
}
