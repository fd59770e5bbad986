// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
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

const (
	dir          = "/store/pipelines/traces"
	segmentBytes = 64 << 10
)

// yard builds a journal's directory by hand, in the way the journal does, and remembers what is in it.
type yard struct {
	testing.TB
	disk  vfs.FS
	id    [16]byte
	seq   queue.Seq // last one appended
	items uint64
	acked queue.Seq

	made     uint64 // ids
	unsynced bool
	file     vfs.File
	w        *segment.Writer
	prev     segment.Header // of the next segment: PrevID and PrevDurable
	cursors  []*place
	records  map[queue.Seq]segment.Record
	at       map[queue.Seq]spot
}

// spot is where a record lies.
type spot struct {
	path     string
	off, end segment.Offset
}

// place is a cursor as the journal keeps it.
type place struct {
	y    *yard
	slot cursor.Slot
	file *cursor.File
}

func newYard(tb testing.TB, disk vfs.FS) *yard {
	y := &yard{TB: tb, disk: disk, id: [16]byte{1, 2, 3}, records: map[queue.Seq]segment.Record{}, at: map[queue.Seq]spot{}}
	for _, d := range []string{"/store", "/store/pipelines", dir, path.Join(dir, layout.Segments), path.Join(dir, layout.Cursors)} {
		y.ok(disk.Mkdir(d, 0o750))
		y.ok(disk.SyncDir(path.Dir(d)))
	}
	return y
}

func (y *yard) ok(err error) {
	y.Helper()
	if err != nil {
		y.Fatal(err)
	}
}

func seg(id uint64) string { return layout.Segment(path.Join(dir, layout.Segments), id) }

// cursor attaches a destination: it is owed what comes from now on.
func (y *yard) cursor(name string) *place {
	p := &place{y: y, slot: cursor.Slot{State: queue.Live, Journal: y.id, Name: name, NotOwed: y.items, Exporters: []string{"otlp/" + name}}}
	p.slot.Resolved.Reset(y.seq)
	p.durable()
	var err error
	p.file, err = cursor.Create(y.disk, layout.Cursor(dir, name), &p.slot)
	y.ok(err)
	y.cursors = append(y.cursors, p)
	return p
}

func (p *place) durable() {
	if !p.y.unsynced || p.y.w == nil {
		p.slot.DurableSeq, p.slot.DurableItems = p.y.acked, p.y.items
	}
}

// save writes the slot.
func (p *place) save() {
	p.durable()
	p.y.ok(p.file.Write(&p.slot))
}

// ack resolves numbers as delivered.
func (p *place) ack(first, last queue.Seq) {
	for n := first; n <= last; n++ {
		if p.slot.Resolved.Add(n, n) > 0 {
			p.slot.Delivered.Records++
			p.slot.Delivered.Items += uint64(p.y.records[n].Items)
		}
	}
	p.slot.High = max(p.slot.High, last)
}

// park detaches it.
func (p *place) park() {
	p.slot.State, p.slot.Until, p.slot.ParkedAt = queue.Parked, p.y.seq, 1
	p.save()
}

func (y *yard) hashes() (h []uint64) {
	for _, p := range y.cursors {
		if p.slot.State == queue.Live {
			h = append(h, cursor.Hash(p.slot.Name))
		}
	}
	return h
}

// begin makes the next segment. The one before stays as it is: call seal first.
func (y *yard) begin(bytes int64, change ...func(*segment.Header)) {
	y.made++
	file, err := segment.Prepare(y.disk, seg(y.made), bytes)
	y.ok(err)
	h := segment.Header{
		Journal: y.id, ID: y.made, Salt: uint32(y.made)*7919 + 1, Tag: 1, BaseSeq: y.seq + 1, BaseItems: y.items,
		PrevID: y.prev.PrevID, PrevLastSeq: y.acked, PrevDurable: y.prev.PrevDurable, Created: 1, FileBytes: bytes,
		Cursors: y.hashes(),
	}
	if y.unsynced {
		h.Flags |= segment.FlagUnsynced
	}
	for _, c := range change {
		c(&h)
	}
	w, err := segment.NewWriter(file, h)
	y.ok(err)
	y.file, y.w = file, w
}

// append writes records as one group and, in synced mode, syncs it.
func (y *yard) append(sizes ...int) {
	group := make([]segment.Record, len(sizes))
	for i, size := range sizes {
		n := y.seq + queue.Seq(i) + 1
		body := bytes.Repeat([]byte{byte(n)}, size)
		group[i] = segment.Record{
			Tag: 1, Items: uint32(n%5) + 1, Size: uint32(2 * size), Meta: []byte("meta"), Body: body, Accepted: 1000 + int64(n),
		}
		group[i].CRC = segment.Checksum(group[i].Meta, body)
	}
	g, err := y.w.Append(group)
	y.ok(err)
	off := g.Off
	for i, r := range group {
		n := g.First + queue.Seq(i)
		end := off + segment.Offset(segment.FrameBytes(len(r.Meta), len(r.Body)))
		y.records[n], y.at[n] = r, spot{seg(y.w.Header().ID), off, end}
		y.seq, y.items, off = n, y.items+uint64(r.Items), end
	}
	if y.acked = y.seq; !y.unsynced {
		y.sync()
	}
}

func (y *yard) sync() { y.ok(y.w.Sync(y.w.Mark())) }

// many appends n records of one size, one group each.
func (y *yard) many(n, size int) {
	for range n {
		y.append(size)
	}
}

// seal ends the segment.
func (y *yard) seal() {
	y.ok(y.w.Seal())
	y.leave()
}

// leave ends writing to the segment.
func (y *yard) leave() {
	y.prev.PrevID, y.prev.PrevDurable = y.w.Header().ID, y.w.Durable()
	y.ok(y.file.Close())
	y.w = nil
}

func (y *yard) remove(name string) {
	y.ok(y.disk.Remove(name))
	y.ok(y.disk.SyncDir(path.Dir(name)))
}

// change rewrites bytes of a file as if the disk had.
func (y *yard) change(name string, change func([]byte) []byte) {
	was := y.read(name)
	b := change(slices.Clone(was))
	file, err := y.disk.OpenFile(name, vfs.Write, 0)
	y.ok(err)
	if len(b) > 0 {
		_, err = file.WriteVAt([][]byte{b}, 0)
		y.ok(err)
	}
	if len(b) != len(was) {
		y.ok(file.Truncate(int64(len(b))))
	}
	y.ok(file.Datasync())
	y.ok(file.Close())
}

// spoil damages the body of a record, or, with header, all of its frame.
func (y *yard) spoil(n queue.Seq, header bool) {
	s := y.at[n]
	y.change(s.path, func(b []byte) []byte {
		if header {
			clear(b[s.off:s.end])
		} else {
			b[s.off+64] ^= 0xff
		}
		return b
	})
}

func (y *yard) read(name string) []byte {
	file, err := y.disk.OpenFile(name, vfs.Read, 0)
	y.ok(err)
	defer file.Close()
	info, err := file.Stat()
	y.ok(err)
	b := make([]byte, info.Size)
	if len(b) > 0 {
		_, err = file.ReadAt(b, 0)
		y.ok(err)
	}
	return b
}

func (y *yard) put(name string, b []byte) {
	file, err := y.disk.OpenFile(name, vfs.Create, 0o600)
	y.ok(err)
	if len(b) > 0 {
		_, err = file.WriteVAt([][]byte{b}, 0)
		y.ok(err)
	}
	y.ok(file.Datasync())
	y.ok(file.Close())
	y.ok(y.disk.SyncDir(path.Dir(name)))
}

func (y *yard) names(part string) (names []string) {
	entries, err := y.disk.ReadDir(path.Join(dir, part))
	if err != nil && !isGone(err) {
		y.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func isGone(err error) bool { return err != nil && (errorsIs(err, fs.ErrNotExist)) }

// inspect makes a plan and checks that it is sound.
func (y *yard) inspect(wanted ...string) *recovery.Plan {
	y.Helper()
	if wanted == nil {
		for _, p := range y.cursors {
			wanted = append(wanted, p.slot.Name)
		}
	}
	p, err := recovery.Inspect(y.disk, dir, wanted)
	y.ok(err)
	for _, wrong := range y.unsound(p) {
		y.Error(wrong)
	}
	return p
}

// recover inspects and applies, and checks that nothing is left to do.
func (y *yard) recover(wanted ...string) *recovery.Plan {
	y.Helper()
	p := y.inspect(wanted...)
	y.ok(p.Apply(y.disk, recovery.ApplySettings{}))
	for _, wrong := range y.unsound(p) {
		y.Error("after apply: ", wrong)
	}
	again := y.inspect(wanted...)
	if len(again.Losses) > 0 {
		y.Errorf("lost again: %+v", again.Losses)
	}
	if again.Seq < p.Seq || again.Items < p.Items {
		y.Errorf("came to %d, %d items; the second time to %d, %d", p.Seq, p.Items, again.Seq, again.Items)
	}
	for i := range p.Cursors {
		a := find(again, p.Cursors[i].Slot.Name)
		if a == nil {
			y.Errorf("cursor %s is gone the second time", p.Cursors[i].Slot.Name)
		} else if p.Cursors[i].Unwritten == nil && (a.Queued != p.Cursors[i].Queued || !equal(&a.Slot, &p.Cursors[i].Slot)) {
			y.Errorf("cursor %s waits for %+v, the second time for %+v\n%.600s\n%.600s", a.Slot.Name, p.Cursors[i].Queued, a.Queued,
				fmt.Sprint(p.Cursors[i].Slot), fmt.Sprint(a.Slot))
		}
	}
	return p
}

func equal(a, b *cursor.Slot) bool {
	x, errX := a.Append(nil)
	y, errY := b.Append(nil)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func find(p *recovery.Plan, name string) *recovery.Cursor {
	for i := range p.Cursors {
		if p.Cursors[i].Slot.Name == name {
			return &p.Cursors[i]
		}
	}
	return nil
}

func upTo(p *recovery.Plan, s *cursor.Slot) queue.Seq {
	switch s.State {
	case queue.Live:
		return p.Seq
	case queue.Parked:
		return min(s.Until, p.Seq)
	}
	return 0
}

// unsound compares a plan with what a walk over every frame finds: each number that a cursor is owed and has not
// resolved is there, or stands in a sealed segment that vouches for it, what it waits for is counted, and its books are
// in balance.
func (y *yard) unsound(p *recovery.Plan) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	queued := make([]cursor.Count, len(p.Cursors))
	hidden := make([]bool, len(p.Cursors)) // damage in segments that are trusted until they are read
	last := queue.Seq(0)
	for i := range p.Segments {
		s := &p.Segments[i]
		file, err := y.disk.OpenFile(s.Path, vfs.Read, 0)
		if err != nil {
			say("%v", err)
			continue
		}
		in, err := segment.Inspect(file, s.Path)
		y.ok(err)
		y.ok(in.Search(file))
		scan, err := in.Scan(file, func(f *segment.Frame) {
			if f.Seq < s.First || f.Seq > s.Last {
				return
			}
			if f.Seq <= last {
				say("record %d counts twice", f.Seq)
			}
			last = f.Seq
			for k := range p.Cursors {
				if slot := &p.Cursors[k].Slot; f.Seq <= upTo(p, slot) && !slot.Resolved.Has(f.Seq) {
					queued[k].Add(cursor.Count{Records: 1, Items: uint64(f.Items)})
				}
			}
		})
		y.ok(err)
		y.ok(file.Close())
		for _, g := range scan.Gaps {
			for n := max(g.First, s.First); n <= min(g.Last, s.Last) && s.Class == segment.Sealed; n++ {
				last = max(last, n)
				for k := range p.Cursors {
					if slot := &p.Cursors[k].Slot; n <= upTo(p, slot) && !slot.Resolved.Has(n) {
						queued[k].Records++
						hidden[k] = true
					}
				}
			}
		}
	}
	if p.Seq < last {
		say("record %d is above the end, %d", last, p.Seq)
	}
	for k := range p.Cursors {
		c := &p.Cursors[k]
		slot := &c.Slot
		open := uint64(0)
		if to := upTo(p, slot); to > 0 {
			open = uint64(to) - slot.Resolved.Count(1, to)
		}
		if open != queued[k].Records || c.Queued.Records != open || !hidden[k] && (!c.Queued.Counted || c.Queued.Items != queued[k].Items) {
			say("%s: %d numbers are unresolved, the plan has %+v, on disk are %+v", slot.Name, open, c.Queued, queued[k])
		}
		if off, known := c.Imbalance(); off != 0 && !hidden[k] {
			say("%s: books are off by %d (%v): accepted %d, not owed %d, delivered %d, dropped %v, queued %d",
				slot.Name, off, known, c.Accepted, slot.NotOwed, slot.Delivered, slot.Dropped, c.Queued.Items)
		}
		if slot.State == queue.Live && c.Accepted != p.Items {
			say("%s: accepted %d of %d", slot.Name, c.Accepted, p.Items)
		}
		if slot.High > p.Seq {
			say("%s: resolved %d, above the end, %d", slot.Name, slot.High, p.Seq)
		}
	}
	return wrong
}

// newer makes a file say that it is of format 2.
func newer(y *yard, name string) {
	le, table := binary.LittleEndian, crc32.MakeTable(crc32.Castagnoli)
	y.change(name, func(b []byte) []byte {
		if strings.HasSuffix(name, layout.SegmentSuffix) {
			le.PutUint16(b[8:], 2)
			le.PutUint32(b[4092:], crc32.Checksum(b[:4092], table))
			return b
		}
		slot := b[cursor.SlotBytes:] // generation 1
		le.PutUint16(slot[16:], 2)
		le.PutUint32(slot[8:], crc32.Checksum(slot[12:le.Uint32(slot[12:])], table))
		return b
	})
}

// foreign makes a segment say that it is of another journal.
func foreign(y *yard, name string) {
	le, table := binary.LittleEndian, crc32.MakeTable(crc32.Castagnoli)
	y.change(name, func(b []byte) []byte {
		b[16] ^= 0xff
		le.PutUint32(b[4092:], crc32.Checksum(b[:4092], table))
		return b
	})
}
