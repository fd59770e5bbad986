// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// image is a file that is only read.
type image []byte

func (p image) ReadAt(to []byte, off int64) (int, error) {
	if off >= int64(len(p)) {
		return 0, io.EOF
	}
	n := copy(to, p[off:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}

func (p image) Stat() (vfs.Info, error)                 { return vfs.Info{Size: int64(len(p))}, nil }
func (p image) WriteVAt([][]byte, int64) (int64, error) { return 0, syscall.EBADF }
func (p image) Datasync() error                         { return nil }
func (p image) Allocate(int64) error                    { return syscall.EBADF }
func (p image) Truncate(int64) error                    { return syscall.EBADF }
func (p image) DropBehind(int64, int64)                 {}
func (p image) Close() error                            { return nil }

func bytesOf(t testing.TB, f vfs.File) image {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p := make(image, info.Size)
	if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return p
}

// verdict is all that is known of a damaged file.
type verdict struct {
	in     segment.Inspection
	found  []segment.Frame
	gaps   []segment.Gap
	scan   segment.Scan
	tailed bool
}

// judge reads a file in every way there is; the ways must agree.
func judge(t testing.TB, p image) verdict {
	t.Helper()
	in, err := segment.Inspect(p, name)
	if err != nil {
		t.Fatal(err)
	}
	v := verdict{in: in}
	if in.Class != segment.Sealed && in.Class != segment.Unsealed && in.Class != segment.Headless {
		return v
	}
	r := segment.NewReader(p, bodies(in.Range()))
	v.found, v.gaps = frames(t, r)
	v.tailed = r.Tail().End > 0
	var seen []queue.Seq
	if v.scan, err = in.Scan(p, func(f *segment.Frame) { seen = append(seen, f.Seq) }); err != nil {
		t.Fatal(err)
	}
	if uint64(len(v.found)) != v.scan.Records || len(seen) != len(v.found) {
		t.Fatalf("read %d, scanned %d, visited %d", len(v.found), v.scan.Records, len(seen))
	}
	return v
}

// variants are a small segment as it is in use, as it is sealed, and as it is sealed without its trailer.
func variants(t *testing.T, each func(t *testing.T, s *sheet, p image, whole []segment.Frame)) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprintf("sealed=%v", sealed), func(t *testing.T) {
			s := small(t, vfs.NewMem(0))
			if sealed {
				s.ok(s.w.Seal())
			}
			s.TB = t
			p := bytesOf(t, s.file)
			v := judge(t, p)
			s.has(v.found, v.gaps, len(s.records))
			each(t, s, p, v.found)
		})
	}
}

// places are the bytes worth touching: all that are not zero, those around them, and some between.
func places(p image) (at []int) {
	for i := range p {
		near := p[max(0, i-16):min(len(p), i+17)]
		if i%509 == 0 || slices.ContainsFunc(near, func(b byte) bool { return b != 0 }) {
			at = append(at, i)
		}
	}
	return at
}

func TestEveryDamagedByteCostsTheTouchedFrameOnly(t *testing.T) {
	variants(t, func(t *testing.T, s *sheet, p image, whole []segment.Frame) {
		last := whole[len(whole)-1]
		lost := 0
		for _, at := range places(p) {
			for what, b := range map[string]byte{"zeroed": 0, "inverted": ^p[at], "+1": p[at] + 1} {
				old := p[at]
				p[at] = b
				v := judge(t, p)
				p[at] = old
				where := fmt.Sprintf("byte %d %s (%v)", at, what, v.in.Class)
				var missing []segment.Frame
				found := map[queue.Seq]bool{}
				for _, f := range v.found {
					s.check(f)
					found[f.Seq] = true
				}
				for _, f := range whole {
					if !found[f.Seq] {
						missing = append(missing, f)
					}
				}
				lost += len(missing)
				switch {
				case len(missing) == 0 && len(v.gaps) == 0:
				case len(missing) != 1 || segment.Offset(at) < missing[0].Off || segment.Offset(at) >= missing[0].End:
					t.Fatalf("%s: lost %d records, gaps %+v", where, len(missing), v.gaps)
				case len(v.gaps) == 1:
					f, g := missing[0], v.gaps[0]
					if g.First != f.Seq || g.Last != f.Seq || g.Counted && g.Items != uint64(f.Items) || g.Off != f.Off {
						t.Fatalf("%s: record %d is lost, said %+v", where, f.Seq, g)
					}
					if !g.Counted && f.Seq != last.Seq {
						t.Fatalf("%s: the items of record %d are not known: %+v", where, f.Seq, g)
					}
				case missing[0].Seq != last.Seq || !v.tailed || v.in.Seal != nil:
					t.Fatalf("%s: record %d is gone and nothing says so", where, missing[0].Seq)
				}
			}
		}
		if lost < 1000 {
			t.Errorf("the damage cost %d records in all: it was not felt", lost)
		}
	})
}

func TestEveryCutCostsWhatWasCutOffOnly(t *testing.T) {
	variants(t, func(t *testing.T, s *sheet, p image, whole []segment.Frame) {
		for length := range len(p) {
			if length > int(whole[len(whole)-1].End)+64 && length%509 != 0 && length < len(p)-300 {
				continue
			}
			v := judge(t, p[:length])
			want := 0
			for _, f := range whole {
				if f.End <= segment.Offset(length) {
					want++
				}
			}
			switch {
			case length < 4096 && v.in.Class != segment.Garbage && length > 0:
				t.Fatalf("%d bytes: %v", length, v.in.Class)
			case len(v.found) != want || len(v.gaps) != 0:
				t.Fatalf("%d bytes: %d records of %d, gaps %+v", length, len(v.found), want, v.gaps)
			}
			for _, f := range v.found {
				s.check(f)
			}
		}
	})
}

// TestALostSectorCostsTheTouchedFramesOnly zeroes sectors, as a disk does that never wrote them, where frames of one
// group share a block.
func TestALostSectorCostsTheTouchedFramesOnly(t *testing.T) {
	s := open(t, vfs.NewMem(0), 64<<10)
	s.ok(s.group(30, 10, 290))
	s.w.Mark()
	s.ok(s.group(19, 1, 90))
	s.ok(s.w.Seal())
	p := bytesOf(t, s.file)
	whole := judge(t, p).found
	for at := 4096; at < len(p); at += 512 {
		cut := slices.Clone(p)
		clear(cut[at:min(len(p), at+512)])
		want := 0
		for _, f := range whole {
			if f.End <= segment.Offset(at) || f.Off >= segment.Offset(at+512) {
				want++
			}
		}
		v := judge(t, cut)
		var missed uint64
		for _, g := range v.gaps {
			missed += g.Records()
		}
		for _, f := range v.found {
			s.check(f)
		}
		if len(v.found) < want || v.in.Seal != nil && missed+uint64(len(v.found)) != uint64(len(whole)) {
			t.Errorf("sector at %d: found %d, untouched %d, missed %+v", at, len(v.found), want, v.gaps)
		}
	}
}

func TestTheLastRecordsOfASealedSegmentAreMissedByNumber(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	s.ok(s.w.Seal())
	p := bytesOf(t, s.file)
	whole := judge(t, p).found
	for keep := range whole {
		cut := slices.Clone(p)
		for i := whole[keep].Off; i < whole[len(whole)-1].End; i++ {
			cut[i] = 0
		}
		v := judge(t, cut)
		if len(v.found) != keep || len(v.gaps) != 1 || v.gaps[0].First != whole[keep].Seq ||
			v.gaps[0].Last != whole[len(whole)-1].Seq {
			t.Errorf("%d kept: found %d, gaps %+v", keep, len(v.found), v.gaps)
		}
		if len(v.scan.Gaps) != 1 || !v.scan.ToSeal || !v.scan.Gaps[0].Counted {
			t.Errorf("%d kept: the scan says %+v", keep, v.scan)
		}
		if v.scan.Gaps[0].Items+v.scan.Items != s.w.Summary().Items {
			t.Errorf("%d kept: %d items found and %d lost of %d", keep, v.scan.Items, v.scan.Gaps[0].Items,
				s.w.Summary().Items)
		}
		if v.scan.Witness < whole[len(whole)-1].End {
			t.Errorf("%d kept: a seal vouches for %d", keep, v.scan.Witness)
		}
	}
}

func TestASealIsNotTakenForTheRecordBeforeIt(t *testing.T) {
	s := open(t, vfs.NewMem(0), 32<<10)
	s.ok(s.group(3, 0, 100)) // the seal has the number of the third, and follows on the next block
	s.ok(s.w.Seal())
	p := bytesOf(t, s.file)
	whole := judge(t, p).found
	clear(p[whole[2].Off:whole[2].End])
	v := judge(t, p)
	if len(v.found) != 2 || v.scan.Records != 2 || v.scan.Opaque != 0 || !v.scan.ToSeal || len(v.scan.Gaps) != 1 ||
		v.scan.Gaps[0].First != whole[2].Seq || v.scan.Gaps[0].Items != uint64(whole[2].Items) {
		t.Errorf("found %d, the scan says %+v", len(v.found), v.scan)
	}
}

func TestRecoverySealsWhatItFound(t *testing.T) {
	mem := vfs.NewMem(0)
	s := small(t, mem)
	p := bytesOf(t, s.file)
	whole := judge(t, p).found
	lost := whole[1]
	_, err := s.file.WriteVAt([][]byte{{^p[lost.Off+70]}}, int64(lost.Off+70))
	s.ok(err)
	_, err = s.file.WriteVAt([][]byte{[]byte("torn")}, int64(whole[5].End))
	s.ok(err)
	in, file := look(t, mem)
	scan, err := in.Scan(file, nil)
	s.ok(err)
	if scan.Tail.Off != whole[5].End || scan.Tail.End != whole[5].End+8 || scan.Witness != whole[4].End {
		t.Errorf("tail %+v, witness %d", scan.Tail, scan.Witness)
	}
	s.ok(file.Datasync())
	s.ok(scan.Seal(file, &in.Header))
	for seed := range uint64(8) {
		in, file := look(t, mem.CrashClone(seed))
		if in.Class != segment.Sealed || in.Seal.Flags != segment.SealRecovered|segment.SealGaps || in.Seal.Records != 5 {
			t.Fatalf("seed %d: %+v", seed, in)
		}
		found, gaps := frames(t, segment.NewReader(file, bodies(in.Range())))
		if len(found) != 5 || len(gaps) != 1 || gaps[0].First != lost.Seq || gaps[0].Items != uint64(lost.Items) {
			t.Errorf("seed %d: found %d, gaps %+v", seed, len(found), gaps)
		}
	}
}

func TestAHeadlessSegmentGivesItsRecordsBack(t *testing.T) {
	mem := vfs.NewMem(0)
	s := small(t, mem)
	_, err := s.file.WriteVAt([][]byte{make([]byte, 4096)}, 0)
	s.ok(err)
	in, file := look(t, mem)
	if in.Class != segment.Headless || in.Header.BaseSeq != baseSeq || in.Header.BaseItems != baseItems ||
		in.Header.Salt != header(0).Salt {
		t.Fatalf("%+v", in)
	}
	got, gaps := frames(t, segment.NewReader(file, bodies(in.Range())))
	s.has(got, gaps, 6)
	scan, err := in.Scan(file, nil)
	s.ok(err)
	s.ok(scan.Seal(file, &in.Header))
	in, file = look(t, mem)
	if in.Class != segment.Headless || in.Seal == nil || in.Seal.Records != 6 {
		t.Fatalf("after recovery %+v", in)
	}
	got, gaps = frames(t, segment.NewReader(file, bodies(in.Range())))
	s.has(got, gaps, 6)
}

func TestAFileWhoseBeginningIsLostIsNotUnused(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		mem := vfs.NewMem(0)
		s := small(t, mem)
		if sealed {
			s.ok(s.w.Seal())
		}
		_, err := s.file.WriteVAt([][]byte{make([]byte, 8192)}, 0)
		s.ok(err)
		in, file := look(t, mem)
		if want := map[bool]segment.Class{true: segment.Headless, false: segment.Unused}[sealed]; in.Class != want {
			t.Fatalf("sealed %v: it is %s", sealed, in.Class)
		}
		s.ok(in.Search(file))
		if in.Class != segment.Headless || in.Header.BaseSeq != map[bool]queue.Seq{true: baseSeq, false: baseSeq + 2}[sealed] {
			t.Fatalf("sealed %v: after a search %+v", sealed, in)
		}
		scan, err := in.Scan(file, s.checked)
		s.ok(err)
		if scan.Records != 4 || sealed != (len(scan.Gaps) == 1 && scan.Gaps[0].Records() == 2) {
			t.Errorf("sealed %v: the scan says %+v", sealed, scan)
		}
	}
	mem := vfs.NewMem(0)
	file, err := segment.Prepare(mem, name, 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	in, err := segment.Inspect(file, name)
	if err == nil {
		err = in.Search(file)
	}
	if err != nil || in.Class != segment.Garbage {
		t.Errorf("a prepared file is %s, %v", in.Class, err)
	}
}

func TestASealOfOtherRecordsIsNotTrusted(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	s.ok(s.w.Seal())
	p := bytesOf(t, s.file)
	binary.LittleEndian.PutUint64(p[48:], baseSeq+1) // of the header, which now begins behind the seal's first record
	binary.LittleEndian.PutUint32(p[4092:], crc(p[:4092]))
	if in := judge(t, p).in; in.Class != segment.Unsealed || in.Seal != nil {
		t.Errorf("%v, seal %+v", in.Class, in.Seal)
	}
}

func TestATrailerThatPointsAnywhereIsNoHarm(t *testing.T) {
	s := open(t, vfs.NewMem(0), 256<<10)
	s.ok(s.group(40, 10, 3000))
	s.ok(s.w.Seal())
	p := bytesOf(t, s.file)
	trailer := p[len(p)-16:]
	for _, at := range []uint64{0, 8, 4096, 8192, uint64(len(p)) - 16, uint64(len(p)) &^ 4095, uint64(len(p)-80) &^ 4095,
		1 << 40, 1 << 63, 1<<64 - 4096} {
		if at == uint64(p.sealAt()) {
			continue
		}
		binary.LittleEndian.PutUint64(trailer, at)
		binary.LittleEndian.PutUint32(trailer[12:], crc(trailer[:12]))
		v := judge(t, p)
		if v.in.Class != segment.Unsealed || !v.scan.ToSeal {
			t.Errorf("to %d: %v", at, v.in.Class)
		}
		s.has(v.found, v.gaps, 40)
	}
}

func (p image) sealAt() int { return (len(p) - 16 - 64) &^ 4095 } // of a seal shorter than a block

func TestNewerFormatsAreNamed(t *testing.T) {
	p := bytesOf(t, small(t, vfs.NewMem(0)).file)
	sign := func() { binary.LittleEndian.PutUint32(p[4092:], crc(p[:4092])) }
	p[8] = 2
	sign()
	if in := judge(t, p).in; in.Class != segment.Newer || in.Newer.Version != 2 {
		t.Errorf("version 2: %+v", in)
	}
	p[8], p[13] = 1, 0x80 // a flag that must be understood
	sign()
	if in := judge(t, p).in; in.Class != segment.Newer || in.Newer.Flags != 0x8000 || in.Newer.Error() == "" {
		t.Errorf("unknown flag: %+v", in)
	}
	p[13], p[14] = 0, 1 // one that need not be
	sign()
	if v := judge(t, p); v.in.Class != segment.Unsealed || len(v.found) != 6 {
		t.Errorf("optional flag: %+v", v.in)
	}
}

func TestUnknownFramesAreSteppedOverAndUnknownRecordsKept(t *testing.T) {
	p := bytesOf(t, small(t, vfs.NewMem(0)).file)
	whole := judge(t, p).found
	sign := func(at segment.Offset) { binary.LittleEndian.PutUint32(p[at:], crc(p[at+4:at+64])) }
	p[whole[0].Off+5] = 1    // codec
	p[whole[1].Off+7] = 0x08 // flag that must be understood
	p[whole[2].Off+7] = 0x80 // one that need not be
	p[whole[3].Off+4] = 9    // type
	for _, f := range whole[:4] {
		sign(f.Off)
	}
	v := judge(t, p)
	if len(v.found) != 6 || v.scan.Opaque != 3 || len(v.gaps) != 0 {
		t.Fatalf("found %d, %d opaque, gaps %+v", len(v.found), v.scan.Opaque, v.gaps)
	}
	for i, known := range []bool{false, false, true, false, true, true} {
		if v.found[i].Known() != known {
			t.Errorf("record %d: known is not %v", i, known)
		}
	}
	// A frame that takes no number, in place of the gap between two groups.
	at := whole[1].End
	copy(p[at:], rawFrame(9, whole[1].Seq, nil))
	if v := judge(t, p); len(v.found) != 6 || len(v.gaps) != 0 {
		t.Errorf("with a frame without a number: found %d, gaps %+v", len(v.found), v.gaps)
	}
}

func crc(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// rawFrame is a frame of the sheet's segment, put together by hand.
func rawFrame(kind byte, seq queue.Seq, body []byte) []byte {
	p := make([]byte, 64, 64+len(body))
	le := binary.LittleEndian
	p[4] = kind
	le.PutUint32(p[8:], uint32(len(body)))
	le.PutUint32(p[12:], crc(body))
	le.PutUint64(p[16:], uint64(seq))
	le.PutUint32(p[36:], header(0).Salt)
	le.PutUint32(p, crc(p[4:64]))
	p = append(p, body...)
	return append(p, make([]byte, -len(p)&7)...)
}

// TestAFileMadeToKeepReadersBusyDoesNot fills a file with headers that hold and bodies that do not, each as long as the
// rest of the file.
func TestAFileMadeToKeepReadersBusyDoesNot(t *testing.T) {
	good := bytesOf(t, small(t, vfs.NewMem(0)).file)
	p := make(image, 16<<20)
	copy(p, good)
	for at := 32 << 10; at+64 <= len(p); at += 64 {
		f := rawFrame(1, 200, nil)
		binary.LittleEndian.PutUint32(f[8:], uint32(len(p)-at-64))
		binary.LittleEndian.PutUint32(f, crc(f[4:64]))
		copy(p[at:], f)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	in, err := segment.Inspect(p, name)
	if err != nil {
		t.Fatal(err)
	}
	scan, err := in.Scan(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if !scan.Abandoned || scan.Records != 6 || scan.Seal(p, &in.Header) == nil {
		t.Errorf("abandoned %v, %d records", scan.Abandoned, scan.Records)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; took > 20*time.Second || grown > uint64(len(p)) {
		t.Errorf("took %v and %d bytes", took, grown)
	}
	copy(p[:4096], make([]byte, 4096)) // headless too
	if v := judge(t, p); v.in.Class != segment.Headless || len(v.found) != 6 {
		t.Errorf("headless: %v, %d records", v.in.Class, len(v.found))
	}
}

func TestWhatTheDiskRefusesIsAskedForTwice(t *testing.T) {
	mem := vfs.NewMem(0)
	small(t, mem)
	disk := vfs.NewFaulty(mem)
	in, file := look(t, disk)
	r := segment.NewReader(file, bodies(in.Range()))
	disk.Plan(vfs.Rule{Call: "read *", Times: 1, Err: syscall.EIO})
	if f, err := r.Next(); err != nil || f.Seq != baseSeq {
		t.Errorf("one refusal: %v", err)
	}

	r = segment.NewReader(file, bodies(in.Range()))
	disk.Plan(vfs.Rule{Call: "read *", Times: 4, Err: syscall.EIO}) // two of all that is ahead, two of what is needed
	var refused *segment.ReadError
	if _, err := r.Next(); !errors.As(err, &refused) || !errors.Is(err, syscall.EIO) || disk.Hits() != 4 {
		t.Errorf("two refusals: %v", err)
	}
	if f, err := r.Next(); err != nil || f.Seq != baseSeq {
		t.Errorf("asked again: %v", err)
	}
}

// badBlock refuses one block of an image.
type badBlock struct {
	image
	from, to int64
}

func (b badBlock) ReadAt(p []byte, off int64) (int, error) {
	if off < b.to && off+int64(len(p)) > b.from {
		return 0, syscall.EIO
	}
	return b.image.ReadAt(p, off)
}

func TestABadBlockCostsTheRecordsInIt(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	p := bytesOf(t, s.file)
	for block, want := range map[int64]uint64{1: 4, 2: 3, 3: 5, 4: 6} {
		bad := badBlock{p, block * 4096, block*4096 + 4096}
		in, err := segment.Inspect(bad, name)
		s.ok(err)
		scan, err := in.Scan(bad, s.checked)
		if err != nil || scan.Records != want || scan.Unreadable != 4096 {
			t.Errorf("block %d: %d records, %d bytes unreadable, %v", block, scan.Records, scan.Unreadable, err)
		}
	}
	in, err := segment.Inspect(badBlock{p, 0, 512}, name)
	if err != nil || in.Class != segment.Headless || in.Unreadable == 0 {
		t.Errorf("without its header: %+v, %v", in, err)
	}
}

// A block that cannot be read keeps nobody from the records before it, nor from those behind it that are asked for.
func TestABadBlockAheadHoldsNobodyUp(t *testing.T) {
	s := small(t, vfs.NewMem(0))
	p := bytesOf(t, s.file)
	whole := judge(t, p).found
	for i, f := range whole {
		bad := badBlock{p, int64(f.Off) + 8, int64(f.Off) + 9}
		in, err := segment.Inspect(p, name)
		s.ok(err)
		r := segment.NewReader(bad, bodies(in.Range()))
		for k := range i {
			if got, err := r.Next(); err != nil || got.Seq != whole[k].Seq {
				t.Fatalf("record %d with %d unreadable: %v", k, i, err)
			}
		}
		var refused *segment.ReadError
		if _, err := r.Next(); !errors.As(err, &refused) {
			t.Errorf("record %d, which is unreadable: %v", i, err)
		}
		if i+1 == len(whole) {
			continue
		}
		next := whole[i+1]
		r = segment.NewReader(bad, segment.Range{Path: name, Salt: in.Header.Salt, From: segment.Place{Seq: next.Seq, Off: next.Off},
			End: in.Range().End, Bodies: true})
		if got, err := r.Next(); err != nil || got.Seq != next.Seq {
			t.Errorf("the record behind %d: %v", i, err)
		}
	}
}

func (s *sheet) checked(f *segment.Frame) { s.check(*f) }
