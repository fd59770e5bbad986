// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment_test

import (
	"errors"
	"io"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// mixed is a sealed segment with small and large records, and gaps between its groups.
func mixed(t testing.TB, disk vfs.FS) *sheet {
	s := open(t, disk, 16<<20)
	for i := range 40 {
		s.ok(s.group(1+i%9, i%5, 1+i*i*17))
		if i%3 == 0 {
			s.ok(s.sync())
		}
	}
	s.ok(s.group(1, 0, 3<<20))
	s.ok(s.group(300, 2, 40))
	s.ok(s.w.Seal())
	return s
}

func TestEveryRecordIsFoundByItsNumber(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(0))
	s := mixed(t, disk)
	in, file := look(t, disk)
	rng := bodies(in.Range())
	rng.ReadBytes = segment.SeekBytes
	for i := range s.records {
		seq := queue.Seq(baseSeq + i)
		disk.Plan()
		before, _ := disk.Count("read *")
		r := segment.NewReader(file, rng)
		f, err := r.Seek(in.Seal.Index, seq)
		if err != nil || f.Seq != seq || f.Body != nil {
			t.Fatalf("record %d: %+v, %v", seq, f, err)
		}
		s.check(f)
		reads, _ := disk.Count("read *")
		if reads -= before; reads != 1 {
			t.Errorf("record %d took %d reads to find", seq, reads)
		}
		if f, err = r.Next(); err != nil || f.Seq != seq || f.Body == nil {
			t.Fatalf("record %d: then read %+v, %v", seq, f, err)
		}
		s.check(f)
		if f, err = r.Next(); err == nil && f.Seq != seq+1 || err != nil && int(seq) != baseSeq+len(s.records)-1 {
			t.Fatalf("behind record %d: %+v, %v", seq, f, err)
		}
	}
	r := segment.NewReader(file, rng)
	for _, seq := range []queue.Seq{baseSeq + 200, baseSeq, baseSeq + 10, baseSeq + 9} { // to and fro
		if f, err := r.Seek(in.Seal.Index, seq); err != nil || f.Seq != seq {
			t.Errorf("record %d: %v", seq, err)
		}
	}
	for _, seq := range []queue.Seq{0, baseSeq - 1, in.Seal.Last + 1, segment.MaxSeq} {
		if _, err := segment.NewReader(file, rng).Seek(in.Seal.Index, seq); !errors.Is(err, segment.ErrMissing) {
			t.Errorf("record %d: %v", seq, err)
		}
	}
	r = segment.NewReader(file, in.Range())
	for _, seq := range []queue.Seq{baseSeq + 77, baseSeq + 78, baseSeq + 3} {
		if f, err := r.Seek(nil, seq); err != nil || f.Seq != seq {
			t.Errorf("without an index: %+v, %v", f, err)
		}
	}
}

func TestADamagedRecordIsMissingAndItsNeighboursAreFound(t *testing.T) {
	s := mixed(t, vfs.NewMem(0))
	p := bytesOf(t, s.file)
	in := judge(t, p).in
	all := judge(t, p).found
	for i := 3; i < len(all); i += 17 {
		damaged := all[i]
		p[damaged.Off+20] ^= 0xff
		rng := bodies(in.Range())
		rng.ReadBytes = segment.SeekBytes
		r := segment.NewReader(p, rng)
		if _, err := r.Seek(in.Seal.Index, damaged.Seq); !errors.Is(err, segment.ErrMissing) {
			t.Fatalf("record %d: %v", damaged.Seq, err)
		}
		if f, err := r.Next(); i+1 < len(all) && (err != nil || f.Seq != damaged.Seq+1) {
			t.Fatalf("behind record %d: %+v, %v", damaged.Seq, f, err)
		}
		for _, near := range []int{i - 1, min(i+1, len(all)-1)} {
			if near == i {
				continue
			}
			if f, err := segment.NewReader(p, rng).Seek(in.Seal.Index, all[near].Seq); err != nil || f.Seq != all[near].Seq {
				t.Errorf("record %d beside it: %v", all[near].Seq, err)
			}
		}
		p[damaged.Off+20] ^= 0xff
	}
}

func TestReadingGivesTheSameWhateverTheReadSize(t *testing.T) {
	s := mixed(t, vfs.NewMem(0))
	in, file := look(t, s.disk)
	for _, size := range []int{1, 64, 100, 4096, 65_537, 1 << 20, 64 << 20} {
		rng := bodies(in.Range())
		rng.ReadBytes, rng.DropBehind = size, true
		got, gaps := frames(t, segment.NewReader(file, rng))
		s.has(got, gaps, len(s.records))
	}
}

func TestSequentialReadingReadsEachByteOnce(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(0))
	s := mixed(t, disk)
	in, file := look(t, disk)
	_, before := disk.Count("read *")
	calls, _ := disk.Count("read *")
	got, gaps := frames(t, segment.NewReader(file, bodies(in.Range())))
	s.has(got, gaps, len(s.records))
	_, after := disk.Count("read *")
	now, _ := disk.Count("read *")
	data := int64(in.Seal.DataEnd)
	if read := after - before; read > data || now-calls > int(data>>20)+4 {
		t.Errorf("%d bytes in %d reads, of %d", read, now-calls, data)
	}
}

// TestAReaderOfALiveSegmentStopsWhereItIsTold reads what was published of a segment that is being written.
func TestAReaderOfALiveSegmentStopsWhereItIsTold(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	sum := s.w.Summary()
	s.ok(s.group(1, 0, 50)) // not published yet
	h := s.w.Header()
	r := segment.NewReader(s.file, segment.Range{
		Path: name, Salt: h.Salt, From: sum.Index[0], End: sum.DataEnd, Last: sum.Last, Bodies: true,
	})
	got, gaps := frames(t, r)
	s.has(got, gaps, 6)

	r = segment.NewReader(s.file, segment.Range{
		Path: name, Salt: h.Salt, From: sum.Index[0], End: sum.DataEnd, Last: sum.Last + 2,
	})
	_, gaps = frames(t, r)
	if len(gaps) != 1 || gaps[0].First != sum.Last+1 || gaps[0].Last != sum.Last+2 || gaps[0].Records() != 2 {
		t.Errorf("what must be there and is not: %+v", gaps)
	}
}

func TestTheBytesOfARecordBelongToTheCaller(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	in, file := look(t, s.disk)
	got, _ := frames(t, segment.NewReader(file, bodies(in.Range())))
	for _, f := range got {
		_ = append(f.Meta, 0xff) // must not reach the body
		for i := range f.Meta {
			f.Meta[i] = 0xff
		}
	}
	for i, f := range got {
		if string(f.Body) != string(s.records[i].Body) {
			t.Errorf("record %d shares its bytes", i)
		}
	}
}

func TestAClosedFileEndsAScan(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	in, file := look(t, s.disk)
	s.ok(file.Close())
	var refused *segment.ReadError
	if _, err := in.Scan(file, nil); !errors.As(err, &refused) {
		t.Errorf("scan: %v", err)
	}
	if _, err := segment.Inspect(file, name); !errors.As(err, &refused) {
		t.Errorf("inspect: %v", err)
	}
	if err := segment.Dump(io.Discard, file, name); !errors.As(err, &refused) {
		t.Errorf("dump: %v", err)
	}
}
