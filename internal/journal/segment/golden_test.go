// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

var update = flag.Bool("update", false, "rewrite the golden files: only for a change of format that is meant")

// golden are segments in each state a file can be left in. Their bytes and what Dump says of them are files of the
// released version; both must never change.
var golden = map[string]func(s *sheet){
	"synced": func(s *sheet) { s.ok(s.w.Seal()) },
	"active": func(s *sheet) {},
	"recovered": func(s *sheet) {
		in, file := look(s.TB, s.disk)
		_, err := file.WriteVAt([][]byte{{0xff}}, 8192+40)
		s.ok(err)
		scan, err := in.Scan(file, nil)
		s.ok(err)
		s.ok(scan.Seal(file, &in.Header))
	},
	"headless": func(s *sheet) {
		_, err := s.file.WriteVAt([][]byte{{0xff}}, 4000)
		s.ok(err)
	},
	"torn": func(s *sheet) {
		s.ok(s.group(2, 3, 200))
		s.ok(s.file.Truncate(12288 + 400))
	},
}

func goldenSheet(t *testing.T, what string, make func(s *sheet)) *sheet {
	s := open(t, vfs.NewMem(0), 28<<10)
	if what == "active" {
		h := header(28 << 10)
		h.Flags = segment.FlagUnsynced | segment.FlagRescue
		w, err := segment.NewWriter(s.file, h)
		s.ok(err)
		s.w = w
	}
	s.ok(s.group(2, 10, 100))
	s.ok(s.sync())
	s.ok(s.group(3, 0, 33))
	s.ok(s.sync())
	make(s)
	return s
}

func TestOldSegmentsStayReadable(t *testing.T) {
	for what, make := range golden {
		t.Run(what, func(t *testing.T) {
			s := goldenSheet(t, what, make)
			p := bytesOf(t, s.file)
			var text bytes.Buffer
			s.ok(segment.Dump(&text, p, what+".seg"))
			binaryFile := filepath.Join("testdata", "v1", what+".seg")
			textFile := filepath.Join("testdata", "v1", what+".txt")
			if *update {
				s.ok(os.MkdirAll(filepath.Dir(binaryFile), 0o755))
				s.ok(os.WriteFile(binaryFile, p, 0o644))
				s.ok(os.WriteFile(textFile, text.Bytes(), 0o644))
			}
			old, err := os.ReadFile(binaryFile)
			s.ok(err)
			if !bytes.Equal(old, p) {
				t.Errorf("%s: the same records are written as other bytes", binaryFile)
			}
			want, err := os.ReadFile(textFile)
			s.ok(err)
			var said bytes.Buffer
			s.ok(segment.Dump(&said, image(old), what+".seg"))
			if said.String() != string(want) {
				t.Errorf("%s is read as\n%swant\n%s", binaryFile, said.String(), want)
			}
			for _, f := range judge(t, old).found {
				s.check(f)
			}
		})
	}
}

// TestBytesAreWhereTheFormatSays reads a segment by the tables of the format, with nothing of this package.
func TestBytesAreWhereTheFormatSays(t *testing.T) {
	s := goldenSheet(t, "synced", func(s *sheet) { s.ok(s.w.Seal()) })
	p := bytesOf(t, s.file)
	le := binary.LittleEndian
	at := func(off int, width int, want uint64, what string) {
		t.Helper()
		var got uint64
		switch width {
		case 1:
			got = uint64(p[off])
		case 2:
			got = uint64(le.Uint16(p[off:]))
		case 4:
			got = uint64(le.Uint32(p[off:]))
		case 8:
			got = le.Uint64(p[off:])
		}
		if got != want {
			t.Errorf("%s at %d is %#x, want %#x", what, off, got, want)
		}
	}
	if string(p[:8]) != "HOLDSEG1" || p[16] != 0 || p[31] != 15 {
		t.Error("magic or journal_id")
	}
	at(8, 2, 1, "version")
	at(10, 2, 0, "reserved")
	at(12, 4, 0, "flags")
	at(32, 8, 42, "segment_id")
	at(40, 4, 0x5a17c0de, "salt")
	at(44, 1, 2, "tag")
	at(48, 8, 101, "base_seq")
	at(56, 8, 5000, "base_items")
	at(64, 8, 41, "prev_id")
	at(72, 8, 99, "prev_last_seq")
	at(80, 8, 61440, "prev_durable")
	at(88, 8, 1_750_000_000_000_000_000, "created")
	at(96, 8, 28<<10, "file_bytes")
	at(104, 4, 2, "cursor_count")
	at(108, 4, 0, "reserved")
	at(112, 8, 0xfeed, "cursor")
	at(120, 8, 0xbeef, "cursor")
	at(4092, 4, uint64(crc(p[:4092])), "crc of the header")
	if strings.Trim(string(p[128:4092]), "\x00") != "" {
		t.Error("the rest of the header is not zero")
	}

	second := 4096 + 64 + 112 // 110 bytes and 2 of padding
	at(second, 4, uint64(crc(p[second+4:second+64])), "header_crc")
	at(second+4, 1, 1, "type")
	at(second+5, 1, 0, "codec")
	at(second+6, 1, 2, "tag")
	at(second+7, 1, 0, "flags")
	at(second+8, 4, 110, "body_len")
	at(second+12, 4, uint64(crc(p[second+64:second+64+110])), "body_crc")
	at(second+16, 8, 102, "seq")
	at(second+24, 4, 2, "items")
	at(second+28, 4, 10, "meta_len")
	at(second+32, 4, 300, "size")
	at(second+36, 4, 0x5a17c0de, "salt")
	at(second+40, 8, 1_750_000_001_000_000_000, "accepted")
	at(second+48, 8, 5001, "items_before")
	at(second+56, 4, 0, "synced")
	at(second+60, 4, 0, "reserved")
	end := second + 64 + 112
	at(end-2, 2, 0, "padding")
	if !bytes.Equal(p[second+64:][:110], append(bytes.Clone(s.records[1].Meta), s.records[1].Body...)) {
		t.Error("meta, body")
	}
	at(8192+16, 8, 103, "seq of the second group")
	at(8192+56, 4, uint64(end/8), "synced of the second group")

	seal := 12288
	at(seal+4, 1, 4, "type of the seal")
	at(seal+8, 4, 72+16, "body_len of the seal")
	at(seal+16, 8, 105, "seq of the seal")
	at(seal+24, 4, 0, "items of the seal")
	at(seal+48, 8, 5015, "items_before of the seal")
	dataEnd := 8192 + 3*(64+40)
	for i, want := range []uint64{101, 105, 5, 15, 2*300 + 3*99, uint64(dataEnd), 1_750_000_000_000_000_000,
		1_750_000_004_000_000_000, 1 << 32 /* flags 0, index_count 1 */, 101, 4096 / 8} {
		at(seal+64+8*i, 8, want, "field of the seal")
	}
	trailer := seal + 64 + 72 + 16
	at(trailer, 8, uint64(seal), "seal_offset")
	at(trailer+12, 4, uint64(crc(p[trailer:trailer+12])), "crc of the trailer")
	if string(p[trailer+8:trailer+12]) != "HFSE" || len(p) != trailer+16 {
		t.Errorf("the trailer is not the end of the file of %d bytes", len(p))
	}
}

func TestDumpTellsWhatIsNoSegment(t *testing.T) {
	for want, p := range map[string]image{
		"unused": nil, "garbage": image(strings.Repeat("no segment ", 999)),
	} {
		var text bytes.Buffer
		if err := segment.Dump(&text, p, "x.seg"); err != nil || !strings.HasPrefix(text.String(), "x.seg: "+want) {
			t.Errorf("%q, %v", text.String(), err)
		}
	}
}
