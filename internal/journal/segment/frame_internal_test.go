// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// A search passes over what a look at every eighth byte would pass over, and finds the same junk on the way.
func TestASearchSkipsWhatALookAtEveryPlaceWould(t *testing.T) {
	slowly := func(s *stretch, buf []byte, off Offset, salt uint32) (n int) {
		for ; n+frameHeaderBytes <= len(buf) && binary.LittleEndian.Uint32(buf[n+frameSalt:]) != salt; n += alignment {
			if binary.LittleEndian.Uint64(buf[n:]) != 0 {
				s.add(off+Offset(n), off+Offset(n)+alignment)
			}
		}
		return n
	}
	rng := rand.New(rand.NewPCG(1, 2))
	matches, junk := 0, 0
	for range 30_000 {
		buf := make([]byte, []int{0, 50, 64, 70, 72, 200, 5000, 9000, 30_000}[rng.IntN(9)]+rng.IntN(9))
		salt := []uint32{0x01020304, 0x07000700, 0x05050505, 9, 0}[rng.IntN(5)]
		for range rng.IntN(4) {
			if n := len(buf) - 8; n > 0 {
				binary.LittleEndian.PutUint32(buf[rng.IntN(n):], salt>>(8*rng.IntN(2)))
			}
		}
		for range rng.IntN(3) {
			if len(buf) > 0 {
				buf[rng.IntN(len(buf))] = byte(rng.IntN(8))
			}
		}
		var got, want stretch
		if rng.IntN(2) == 0 {
			got.add(8, 16)
			want.add(8, 16)
		}
		n, expect := got.skip(buf, 4096, salt), slowly(&want, buf, 4096, salt)
		if n != expect || got != want {
			t.Fatalf("of %d bytes with salt %x %d are passed over with %+v, want %d with %+v", len(buf), salt, n, got, expect, want)
		}
		if n+frameHeaderBytes <= len(buf) {
			matches++
		}
		if want.end > 16 {
			junk++
		}
	}
	if matches < 1000 || junk < 1000 {
		t.Errorf("%d matches, %d times junk", matches, junk)
	}
}

func TestFramesOutOfBoundsAreNoFrames(t *testing.T) {
	good := Frame{Type: TypeRecord, Seq: 7, Items: 3, bodyLen: 100, metaLen: 10, salt: 77}
	for what, spoil := range map[string]func(f *Frame){
		"":                              func(f *Frame) {},
		"the largest body":              func(f *Frame) { f.bodyLen = MaxRecordBytes },
		"the largest number":            func(f *Frame) { f.Seq = MaxSeq },
		"no type":                       func(f *Frame) { f.Type = 0 },
		"no salt":                       func(f *Frame) { f.salt = 0 },
		"another salt":                  func(f *Frame) { f.salt = 78 },
		"a body above the bound":        func(f *Frame) { f.bodyLen = MaxRecordBytes + 1 },
		"a body beyond the file":        func(f *Frame) { f.bodyLen = 1 << 27; f.Off = 200 << 20 },
		"a meta longer than the body":   func(f *Frame) { f.metaLen = 101 },
		"the number 0":                  func(f *Frame) { f.Seq = 0 },
		"a number above all":            func(f *Frame) { f.Seq = MaxSeq + 1 },
		"a sum of items that overflows": func(f *Frame) { f.ItemsBefore = 1<<64 - 2 },
		"durable bytes behind itself":   func(f *Frame) { f.Synced = 8192 },
	} {
		f := good
		f.Off = 4096
		spoil(&f)
		p := f.appendHeader(nil)
		_, ok := parseFrame(p, f.Off, 256<<20, 77)
		if want := what == "" || what[:3] == "the" && f.Seq > 0; ok != want {
			t.Errorf("a frame with %q: good is %v", what, ok)
		}
		for i := range p {
			p[i] ^= 0x10
			if _, ok := parseFrame(p, f.Off, 256<<20, 77); ok {
				t.Errorf("a frame with %q and byte %d changed is good", what, i)
			}
			p[i] ^= 0x10
		}
	}
}

// TestSealsThatContradictThemselvesAreNoSeals changes fields of a seal and signs it again.
func TestSealsThatContradictThemselvesAreNoSeals(t *testing.T) {
	h := Header{Salt: 77, BaseSeq: 5, BaseItems: 100, FileBytes: 64 << 10}
	index := func(places ...Place) func(s *Summary) { return func(s *Summary) { s.Index = places } }
	for what, spoil := range map[string]func(s *Summary){
		"":                                func(s *Summary) {},
		"more records than numbers":       func(s *Summary) { s.Records = 5 },
		"a first number 0":                func(s *Summary) { s.First = 0 },
		"a first number behind the last":  func(s *Summary) { s.First = 10 },
		"more items than there ever were": func(s *Summary) { s.Items = s.ItemsEnd + 1 },
		"data behind the seal":            func(s *Summary) { s.DataEnd = 12289 },
		"data before the data":            func(s *Summary) { s.DataEnd = 4095 },
		"no index":                        index(),
		"an index out of order":           index(Place{6, 4096}, Place{5, 5000}),
		"an index that goes back":         index(Place{5, 5000}, Place{6, 4096}),
		"an index into the header":        index(Place{5, 8}),
		"an index behind the data":        index(Place{5, 9000}),
		"an index behind the last":        index(Place{9, 4096}),
		"an index before the first":       index(Place{4, 4096}),
	} {
		s := Summary{First: 5, Last: 8, Records: 4, Items: 40, DataEnd: 9000, ItemsEnd: 140, Index: Index{{5, 4096}, {7, 8000}}}
		spoil(&s)
		p := s.append(nil, &h, 0)
		f, ok := parseFrame(p, 12288, 1<<20, 77)
		if !ok {
			t.Fatalf("%s: no frame", what)
		}
		got, err := parseSeal(&f, p[frameHeaderBytes:][:f.bodyLen])
		if (err == nil) != (what == "") {
			t.Errorf("a seal with %q: %+v, %v", what, got, err)
		}
	}
}

// FuzzFrameHeader reads any 64 bytes as the header of a frame: one that is good is within all bounds and is written as
// it was read.
func FuzzFrameHeader(f *testing.F) {
	good := Frame{Off: 4096, Type: TypeRecord, Tag: 1, Seq: 7, Items: 3, Size: 9, Accepted: 1, ItemsBefore: 5, Synced: 4096,
		bodyLen: 100, bodyCRC: 1, metaLen: 10, salt: 77}
	f.Add(good.appendHeader(nil), int64(4096), int64(65536))
	f.Fuzz(func(t *testing.T, p []byte, off, end int64) {
		if len(p) < frameHeaderBytes {
			return
		}
		p = p[:frameHeaderBytes]
		off, end = min(max(off, 4096), int64(maxOffset))&^7, min(max(end, 0), int64(maxOffset))
		for _, sign := range []bool{false, true} {
			if sign {
				signed := bytes.Clone(p)
				h := Frame{}
				copy(signed, h.appendHeader(nil)[:4]) // any checksum, put right below
				crc := Checksum(signed[4:], nil)
				signed[0], signed[1], signed[2], signed[3] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
				p = signed
			}
			got, ok := parseFrame(p, Offset(off), Offset(end), 0)
			if !ok {
				continue
			}
			if got.Seq > MaxSeq || got.End > Offset(end) || got.End <= got.Off || got.metaLen > got.bodyLen ||
				got.bodyLen > MaxRecordBytes || got.ItemsBefore+uint64(got.Items) < got.ItemsBefore || got.salt == 0 {
				t.Fatalf("out of bounds: %+v", got)
			}
			again := got.appendHeader(nil)
			if !bytes.Equal(again[4:60], p[4:60]) { // 60..63 is reserved
				t.Fatalf("read %x, written %x", p, again)
			}
			if _, ok := parseFrame(p, Offset(off), Offset(end), max(got.salt+1, 1)); ok {
				t.Fatal("good with another salt")
			}
		}
	})
}
