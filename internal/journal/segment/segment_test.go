// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	name      = "/seg"
	baseSeq   = 101
	baseItems = 5000
)

// header is one with something in every field.
func header(fileBytes int64) segment.Header {
	return segment.Header{
		Journal: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, ID: 42, Salt: 0x5a17c0de, Tag: 2,
		BaseSeq: baseSeq, BaseItems: baseItems, PrevID: 41, PrevLastSeq: 99, PrevDurable: 61440,
		Created: 1_750_000_000_000_000_000, FileBytes: fileBytes, Cursors: []uint64{0xfeed, 0xbeef},
	}
}

// record is one whose fields follow from i.
func record(i, meta, body int) segment.Record {
	r := segment.Record{
		Tag: uint8(i%4 + 1), Items: uint32(i%7 + 1), Size: uint32(body * 3), Meta: pattern(i, meta), Body: pattern(i+1, body),
		Accepted: 1_750_000_000_000_000_000 + int64(i)*1e9,
	}
	r.CRC = segment.Checksum(r.Meta, r.Body)
	return r
}

func pattern(seed, n int) []byte {
	random := rand.New(rand.NewPCG(uint64(seed), 9))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(random.Uint32())
	}
	return p
}

// sheet is a segment on a memory disk, with what was appended to it.
type sheet struct {
	testing.TB
	disk    vfs.FS
	file    vfs.File
	w       *segment.Writer
	records []segment.Record
	synced  int // so many of records were acknowledged
}

func open(t testing.TB, disk vfs.FS, bytes int64) *sheet {
	t.Helper()
	s := &sheet{TB: t, disk: disk}
	s.ok(s.begin(bytes))
	return s
}

func (s *sheet) begin(bytes int64) (err error) {
	if s.file, err = segment.Prepare(s.disk, name, bytes); err == nil {
		s.w, err = segment.NewWriter(s.file, header(bytes))
	}
	return err
}

func (s *sheet) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// group appends so many records of the given sizes; sync acknowledges all there are.
func (s *sheet) group(count, meta, body int) error {
	before := len(s.records)
	for i := range count {
		s.records = append(s.records, record(before+i, meta, body)) // from now on a crash may leave them
	}
	g, err := s.w.Append(s.records[before:])
	if err != nil {
		if s.w.Err() == nil { // nothing was written
			s.records = s.records[:before]
		}
		return err
	}
	if want := queue.Seq(baseSeq + before); g.First != want || g.Last != want+queue.Seq(count)-1 {
		s.Errorf("group has the numbers %d to %d, want %d and on", g.First, g.Last, want)
	}
	return nil
}

func (s *sheet) sync() error {
	upTo, count := s.w.Mark(), len(s.records)
	if err := s.w.Sync(upTo); err != nil {
		return err
	}
	if s.w.Durable() != upTo {
		s.Errorf("durable to %d after a sync to %d", s.w.Durable(), upTo)
	}
	s.synced = count
	return nil
}

// small is three groups, each synced.
func small(t testing.TB, disk vfs.FS) *sheet {
	s := open(t, disk, 32<<10)
	s.ok(s.group(2, 10, 100))
	s.ok(s.sync())
	s.ok(s.group(3, 0, 333))
	s.ok(s.sync())
	s.ok(s.group(1, 7, 1))
	s.ok(s.sync())
	return s
}

// look inspects a segment on a disk.
func look(t testing.TB, disk vfs.FS) (segment.Inspection, vfs.File) {
	t.Helper()
	file, err := disk.OpenFile(name, vfs.Write, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	in, err := segment.Inspect(file, name)
	if err != nil {
		t.Fatal(err)
	}
	return in, file
}

// frames reads all that is left, and the gaps between.
func frames(t testing.TB, r *segment.Reader) (all []segment.Frame, gaps []segment.Gap) {
	t.Helper()
	for {
		f, err := r.Next()
		var corrupt *segment.CorruptError
		switch {
		case err == nil:
			all = append(all, f)
		case err == io.EOF:
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
			return all, gaps
		case errors.As(err, &corrupt):
			gaps = append(gaps, corrupt.Gap)
		default:
			t.Fatal(err)
		}
	}
}

func bodies(r segment.Range) segment.Range {
	r.Bodies = true
	return r
}

// check compares a frame with what was appended under its number.
func (s *sheet) check(f segment.Frame) {
	s.Helper()
	i := int(f.Seq) - baseSeq
	if i < 0 || i >= len(s.records) {
		s.Errorf("number %d was never given out", f.Seq)
		return
	}
	r, items := s.records[i], uint64(baseItems)
	for _, before := range s.records[:i] {
		items += uint64(before.Items)
	}
	if f.Tag != r.Tag || f.Items != r.Items || f.Size != r.Size || f.Accepted != r.Accepted || f.ItemsBefore != items ||
		!f.Known() || f.Bytes() != int64(len(r.Meta)+len(r.Body)) {
		s.Errorf("record %d came back as %+v", f.Seq, f)
	}
	if f.Body != nil && (!bytes.Equal(f.Meta, r.Meta) || !bytes.Equal(f.Body, r.Body)) {
		s.Errorf("record %d came back with other bytes", f.Seq)
	}
}

// has says that exactly these records are there, and nothing is damaged.
func (s *sheet) has(got []segment.Frame, gaps []segment.Gap, count int) {
	s.Helper()
	if len(got) != count || len(gaps) != 0 {
		s.Errorf("found %d records of %d and gaps %+v", len(got), count, gaps)
	}
	for i, f := range got {
		s.check(f)
		if f.Seq != queue.Seq(baseSeq+i) {
			s.Errorf("record %d has number %d", i, f.Seq)
		}
	}
}

func TestWhatWasAppendedIsReadBack(t *testing.T) {
	for _, shape := range []struct{ groups, count, meta, body int }{
		{1, 1, 0, 0}, {5, 1, 1, 1}, {3, 7, 20, 1000}, {2, 3, 17 << 10, 40 << 10}, {4, 300, 3, 5}, {2, 2, 8, 3 << 20},
	} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			s := open(t, vfs.NewMem(0), 32<<20)
			for range shape.groups {
				s.ok(s.group(shape.count, shape.meta, shape.body))
				s.ok(s.sync())
			}
			in, file := look(t, s.disk)
			if in.Class != segment.Unsealed {
				t.Fatalf("class %v", in.Class)
			}
			got, gaps := frames(t, segment.NewReader(file, bodies(in.Range())))
			s.has(got, gaps, len(s.records))

			s.ok(s.w.Seal())
			in, file = look(t, s.disk)
			if in.Class != segment.Sealed || in.Seal.Records != uint64(len(s.records)) {
				t.Fatalf("after the seal: %+v", in)
			}
			got, gaps = frames(t, segment.NewReader(file, bodies(in.Range())))
			s.has(got, gaps, len(s.records))
			for _, f := range got[1:] {
				if f.Body == nil || f.Off%8 != 0 {
					t.Errorf("frame %+v", f)
				}
			}
		})
	}
}

func TestGroupsBeginOnBlocksAfterASyncOnly(t *testing.T) {
	s := open(t, vfs.NewMem(0), 64<<10)
	var offs []segment.Offset
	add := func() {
		t.Helper()
		g, err := s.w.Append([]segment.Record{record(len(offs), 0, 40)})
		s.ok(err)
		offs = append(offs, g.Off)
	}
	add()
	add()
	if upTo := s.w.Mark(); upTo != offs[1]+104 {
		t.Errorf("a sync would cover %d", upTo)
	}
	s.w.Mark()
	add()
	add()
	if want := []segment.Offset{4096, 4200, 8192, 8296}; fmt.Sprint(offs) != fmt.Sprint(want) {
		t.Errorf("groups at %d, want %d", offs, want)
	}
}

func TestEveryFrameSaysWhatWasDurable(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	in, file := look(t, s.disk)
	got, _ := frames(t, segment.NewReader(file, in.Range()))
	var synced []segment.Offset
	for _, f := range got {
		synced = append(synced, f.Synced)
	}
	first, second := got[1].End, got[4].End
	if want := []segment.Offset{0, 0, first, first, first, second}; fmt.Sprint(synced) != fmt.Sprint(want) {
		t.Errorf("synced %d, want %d", synced, want)
	}
}

func TestASegmentRefusesWhatDoesNotFit(t *testing.T) {
	size := segment.FileBytes(segment.FrameBytes(10, 100_000))
	s := open(t, vfs.NewMem(0), size)
	if err := s.group(1, 10, 104_000); !errors.Is(err, segment.ErrNoRoom) {
		t.Errorf("a record above the room: %v", err)
	}
	s.ok(s.group(1, 10, 100_000)) // it has exactly this room
	s.ok(s.sync())
	if err := s.group(1, 0, 4096); !errors.Is(err, segment.ErrNoRoom) || s.w.Err() != nil {
		t.Errorf("a record more: %v, %v", err, s.w.Err())
	}
	if _, err := s.w.Append(nil); err == nil {
		t.Error("an empty group was taken")
	}
	s.ok(s.w.Seal())
	if err := s.group(1, 0, 1); !errors.Is(err, segment.ErrSealed) {
		t.Errorf("after the seal: %v", err)
	}
	s.ok(s.w.Seal())
	info, err := s.file.Stat()
	s.ok(err)
	if info.Size > size {
		t.Errorf("sealed it has %d bytes, more than %d", info.Size, size)
	}

	big := make([]byte, segment.MaxRecordBytes)
	s = open(t, vfs.NewMem(0), segment.FileBytes(segment.FrameBytes(0, len(big))))
	if _, err := s.w.Append([]segment.Record{{Meta: []byte{1}, Body: big}}); !errors.Is(err, segment.ErrTooLarge) {
		t.Errorf("a record above the bound: %v", err)
	}
	if _, err := s.w.Append([]segment.Record{{Body: big, CRC: segment.Checksum(nil, big)}}); err != nil {
		t.Errorf("the largest record: %v", err)
	}
}

// TestEverySizeHasRoomForItsSeal fills segments to the last byte.
func TestEverySizeHasRoomForItsSeal(t *testing.T) {
	for _, size := range []int64{16 << 10, 64 << 10, 200 << 10, 1 << 20, 4<<20 + 4096} {
		for _, body := range []int{0, 5000, 70_000} {
			s := open(t, vfs.NewMem(0), size)
			for s.w.Free() >= segment.FrameBytes(0, body) {
				s.ok(s.group(1, 0, body))
				s.w.Mark()
			}
			if len(s.records) == 0 {
				continue
			}
			s.ok(s.w.Seal())
			in, _ := look(t, s.disk)
			if in.Bytes > size || in.Class != segment.Sealed {
				t.Errorf("%d bytes of records of %d: sealed with %d bytes, %v", size, body, in.Bytes, in.Class)
			}
		}
	}
}

func TestHeadersOutOfBoundsAreRefused(t *testing.T) {
	disk := vfs.NewMem(0)
	file, err := segment.Prepare(disk, name, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(h *segment.Header){
		"too many cursors":       func(h *segment.Header) { h.Cursors = make([]uint64, segment.MaxCursors+1) },
		"no salt":                func(h *segment.Header) { h.Salt = 0 },
		"number 0":               func(h *segment.Header) { h.BaseSeq = 0; h.PrevLastSeq = 0 },
		"number above all":       func(h *segment.Header) { h.BaseSeq = segment.MaxSeq + 1 },
		"acknowledged before it": func(h *segment.Header) { h.PrevLastSeq = h.BaseSeq },
	} {
		h := header(64 << 10)
		spoil(&h)
		if _, err := segment.NewWriter(file, h); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	h := header(64 << 10)
	h.Cursors = make([]uint64, segment.MaxCursors)
	h.Cursors[segment.MaxCursors-1] = 7
	w, err := segment.NewWriter(file, h)
	if err == nil {
		_, err = w.Append([]segment.Record{record(0, 1, 1)})
	}
	if err != nil {
		t.Fatal(err)
	}
	if in, _ := look(t, disk); fmt.Sprint(in.Header) != fmt.Sprint(h) {
		t.Errorf("the header came back as %+v", in.Header)
	}
}

func TestAPreparedSegmentIsDurableAndUnused(t *testing.T) {
	disk := vfs.NewMem(0)
	if _, err := segment.Prepare(disk, name, 64<<10); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(8) {
		in, _ := look(t, disk.CrashClone(seed))
		if in.Class != segment.Unused || in.Bytes != 64<<10 {
			t.Errorf("seed %d: %+v", seed, in)
		}
	}
	if _, err := segment.Prepare(disk, name, 64<<10); !errors.Is(err, fs.ErrExist) {
		t.Errorf("prepared twice: %v", err)
	}
}

func TestASealSaysWhatTheSegmentHolds(t *testing.T) {
	s := open(t, vfs.NewMem(0), 1<<20)
	for range 30 {
		s.ok(s.group(3, 5, 9_000))
	}
	s.ok(s.w.Seal()) // syncs what was not
	if s.w.Durable() == 0 {
		t.Error("sealed what was not durable")
	}
	in, file := look(t, s.disk)
	got, gaps := frames(t, segment.NewReader(file, in.Range()))
	s.has(got, gaps, 90)
	var items, size uint64
	for _, r := range s.records {
		items, size = items+uint64(r.Items), size+uint64(r.Size)
	}
	sum := *in.Seal
	want := s.w.Summary()
	if fmt.Sprintf("%+v", want.Index) != fmt.Sprintf("%+v", sum.Index) {
		t.Errorf("index %v, the writer's %v", sum.Index, want.Index)
	}
	if sum.First != 101 || sum.Last != 190 || sum.Records != 90 || sum.Items != items || sum.Bytes != size ||
		sum.DataEnd != got[89].End || sum.Oldest != s.records[0].Accepted || sum.Newest != s.records[89].Accepted ||
		sum.Flags != 0 || sum.ItemsEnd != baseItems+items {
		t.Errorf("the seal says %+v", sum)
	}
	stretch, i := segment.Offset(-1), 0
	for _, f := range got { // the first frame in each 64 KiB
		if f.Off>>16 != stretch {
			stretch = f.Off >> 16
			if i >= len(sum.Index) || sum.Index[i] != (segment.Place{Seq: f.Seq, Off: f.Off}) {
				t.Fatalf("entry %d of %v should be %d at %d", i, sum.Index, f.Seq, f.Off)
			}
			i++
		}
	}
	if i != len(sum.Index) {
		t.Errorf("%d entries too many", len(sum.Index)-i)
	}
}

func TestASegmentWithoutRecordsIsNotSealed(t *testing.T) {
	s := open(t, vfs.NewMem(0), 64<<10)
	if err := s.w.Seal(); !errors.Is(err, segment.ErrMissing) {
		t.Errorf("sealed: %v", err)
	}
}
