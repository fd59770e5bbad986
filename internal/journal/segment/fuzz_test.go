// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment_test

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// FuzzScanSegment reads any bytes as a segment. With forge, frames are made out of them whose checksums hold: no fuzzer
// finds those by itself.
func FuzzScanSegment(f *testing.F) {
	files, err := filepath.Glob("testdata/v1/*.seg")
	if err != nil || len(files) == 0 {
		f.Fatal("no golden files", err)
	}
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p, false)
		f.Add(p[4096:], true)
	}
	f.Add(forgeable(), true)
	f.Fuzz(func(t *testing.T, p []byte, forge bool) {
		if forge {
			p = forged(p)
		}
		before := allocated()
		in, err := segment.Inspect(image(p), name)
		if err != nil {
			t.Fatal(err)
		}
		if in.Class != segment.Sealed && in.Class != segment.Unsealed && in.Class != segment.Headless {
			return
		}
		scan, err := in.Scan(image(p), nil)
		if err != nil {
			t.Fatal(err)
		}
		if grown := allocated() - before; grown > uint64(4*len(p))+4<<20 {
			t.Errorf("%d bytes allocated for a file of %d", grown, len(p))
		}
		plausible(t, p, &scan)
		found, _ := frames(t, segment.NewReader(image(p), bodies(in.Range())))
		for _, frame := range found {
			if crc(slices.Concat(frame.Meta, frame.Body)) != binary.LittleEndian.Uint32(p[frame.Off+12:]) {
				t.Errorf("record %d was returned with a checksum that does not hold", frame.Seq)
			}
		}
		if in.Seal != nil {
			r := segment.NewReader(image(p), in.Range())
			if f, err := r.Seek(in.Seal.Index, in.Seal.First); err != nil && !errors.Is(err, segment.ErrMissing) {
				t.Errorf("seek: %+v, %v", f, err)
			}
		}
		if err := segment.Dump(io.Discard, image(p), name); err != nil {
			t.Error(err)
		}
		recovered(t, p, &in, &scan)
	})
}

// plausible checks what holds of every scan.
func plausible(t *testing.T, p []byte, s *segment.Scan) {
	t.Helper()
	if s.DataEnd > segment.Offset(max(len(p), 4096)) || s.Tail.End > segment.Offset(len(p)) ||
		s.Records > uint64(len(p)/64) || s.Last+1 < s.First || s.Records > uint64(s.Last-s.First)+1 {
		t.Fatalf("%d bytes: %+v", len(p), s)
	}
	var seq queue.Seq
	var off segment.Offset
	for _, g := range s.Gaps {
		if g.First <= seq || g.Last < g.First || g.Off < off || g.End < g.Off {
			t.Fatalf("gaps out of order: %+v", s.Gaps)
		}
		seq, off = g.Last, g.End
	}
}

// recovered seals what was found and reads it again.
func recovered(t *testing.T, p []byte, in *segment.Inspection, s *segment.Scan) {
	if s.Abandoned {
		return
	}
	mem := vfs.NewMem(0)
	file, err := mem.OpenFile(name, vfs.Create, 0o600)
	if err == nil {
		_, err = file.WriteVAt([][]byte{p}, 0)
	}
	if err == nil {
		err = s.Seal(file, &in.Header)
	}
	if err != nil {
		t.Fatal(err)
	}
	again, file := look(t, mem)
	if s.Records == 0 && in.Class == segment.Headless {
		return
	}
	if again.Seal == nil || again.Class == segment.Unsealed {
		t.Fatalf("%v with %d records and gaps %+v: sealed, it is %v", in.Class, s.Records, s.Gaps, again.Class)
	}
	found, _ := frames(t, segment.NewReader(file, again.Range()))
	if uint64(len(found)) != s.Records || again.Seal.Records != s.Records || again.Seal.Items != s.Items {
		t.Fatalf("%d records found, %d after recovery, the seal says %+v", s.Records, len(found), again.Seal)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// forged signs a header block and every frame the bytes ask for: where a multiple of 8 holds 0xf0, the frame that
// follows gets the salt, a length that fits if the next byte is odd, and checksums that hold.
func forged(p []byte) []byte {
	salt := header(0).Salt
	out := append(make([]byte, 4096), p...)
	le := binary.LittleEndian
	copy(out, "HOLDSEG1")
	out[8] = 1
	le.PutUint32(out[40:], salt)
	le.PutUint64(out[48:], 1)
	le.PutUint32(out[4092:], crc(out[:4092]))
	for at := 4096; at+64 <= len(out); at += 8 {
		if out[at] != 0xf0 {
			continue
		}
		h := out[at : at+64]
		rest := len(out) - at - 64
		if h[1]&1 != 0 {
			le.PutUint32(h[8:], le.Uint32(h[8:])%uint32(rest+1))
			le.PutUint32(h[28:], le.Uint32(h[28:])%(le.Uint32(h[8:])+1))
		}
		if h[1]&2 != 0 {
			le.PutUint64(h[16:], uint64(h[16]))
		}
		if h[1]&4 != 0 {
			clear(h[48:])
		}
		if n := le.Uint32(h[8:]); int64(n) <= int64(rest) && h[2]&1 != 0 {
			le.PutUint32(h[12:], crc(out[at+64:][:n]))
		}
		le.PutUint32(h[36:], salt)
		le.PutUint32(h, crc(h[4:]))
	}
	return out
}

// forgeable asks forged for a few frames of each kind.
func forgeable() []byte {
	var p []byte
	for i, kind := range []byte{1, 1, 7, 1, 4, 1, 1} {
		h := make([]byte, 64+i*24)
		h[0], h[1], h[2], h[4], h[8], h[16] = 0xf0, 7, byte(i%4), kind, byte(i*24), byte(i+i/5)
		p = append(p, h...)
	}
	return append(p, make([]byte, 9000)...)
}

func TestForgedFramesAreRead(t *testing.T) {
	p := forged(forgeable())
	in, err := segment.Inspect(image(p), name)
	if err != nil {
		t.Fatal(err)
	}
	scan, err := in.Scan(image(p), nil)
	if err != nil || in.Class != segment.Unsealed || scan.Records < 2 {
		t.Errorf("%v, %+v, %v: the fuzzer forges in vain", in.Class, scan, err)
	}
}

// FuzzDamage changes a segment of a Writer: every record whose bytes are untouched must be found.
func FuzzDamage(f *testing.F) {
	s := small(f, vfs.NewMem(0))
	active := bytesOf(f, s.file)
	whole := judge(f, active).found
	s.ok(s.w.Seal())
	sealed := bytesOf(f, s.file)
	f.Add([]byte{1, 2, 3}, false, uint16(0))
	f.Add([]byte{0x10, 0x20, 0xff, 0x20, 0x30, 0x01}, true, uint16(60000))
	f.Fuzz(func(t *testing.T, changes []byte, seal bool, cut uint16) {
		p := slices.Clone(active)
		if seal {
			p = slices.Clone(sealed)
		}
		if cut > 0 {
			p = p[:max(4096, min(len(p), int(cut)))]
		}
		intact := func(fr segment.Frame) bool {
			return fr.End <= segment.Offset(len(p)) && string(p[fr.Off:fr.End]) == string(active[fr.Off:fr.End])
		}
		for ; len(changes) >= 3; changes = changes[3:] {
			at := int(binary.LittleEndian.Uint16(changes)) % min(len(p), 14<<10)
			for i := at; i < min(len(p), at+1+int(changes[2]>>4)); i++ {
				p[i] ^= changes[2]
			}
		}
		mine := *s
		mine.TB = t
		v := judge(t, p)
		found := map[queue.Seq]bool{}
		for _, fr := range v.found {
			mine.check(fr)
			found[fr.Seq] = true
		}
		for _, fr := range whole {
			if intact(fr) && !found[fr.Seq] {
				t.Errorf("record %d is whole and was not found: %v", fr.Seq, v.in.Class)
			}
		}
	})
}
