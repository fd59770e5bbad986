// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

var update = flag.Bool("update", false, "rewrite the golden files: only for a change of format that is meant")

// golden are slots of each kind. Their bytes and what they say are files of the released version; both must never
// change.
var golden = map[string]func() *cursor.Slot{
	"prepared": func() *cursor.Slot {
		return &cursor.Slot{State: queue.Prepared, Journal: [16]byte{1}, Generation: 1, Name: "otlp_grpc"}
	},
	"live": func() *cursor.Slot {
		s := small(5)
		s.Generation = 17
		for r := range s.Dropped {
			s.Book(cursor.Drop{First: queue.Seq(10 * r), Last: queue.Seq(10*r + 3), At: int64(r),
				Count: cursor.Count{Records: uint64(r), Items: uint64(100 * r)}, Reason: cursor.Reason(r)})
		}
		return s
	},
	"parked": func() *cursor.Slot {
		s := small(6)
		s.State, s.Until, s.Generation, s.Exporters = queue.Parked, 900, 1<<40, nil
		return s
	},
	"full": func() *cursor.Slot {
		s := many(4094)
		s.Generation, s.State = 3, queue.Done
		s.Exporters = []string{strings.Repeat("e", 2000), "", "caf\u00e9", strings.Repeat("f", 2000)}
		s.Resolved.Add(1<<62, 1<<62)
		s.High = 1 << 62
		return s
	},
}

func tell(s *cursor.Slot) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%q state %d generation %d journal %x\n", s.Name, s.State, s.Generation, s.Journal)
	for _, e := range s.Exporters {
		fmt.Fprintf(&b, "  exporter %q\n", e)
	}
	fmt.Fprintf(&b, "  floor %d high %d until %d durable %d with %d items, parked at %d\n",
		s.Resolved.Floor(), s.High, s.Until, s.DurableSeq, s.DurableItems, s.ParkedAt)
	fmt.Fprintf(&b, "  not owed %d, delivered %v, rejected %v, dropped %v\n", s.NotOwed, s.Delivered, s.Rejected, s.Dropped)
	all := pairs(&s.Resolved)
	fmt.Fprintf(&b, "  %d ranges in %d bytes, %d drops; of each every hundredth, and the last:\n",
		len(all), s.Resolved.EncodedBytes(), len(s.Drops))
	for i, r := range all {
		if i%100 == 0 || i == len(all)-1 {
			fmt.Fprintf(&b, "  resolved %d to %d\n", r[0], r[1])
		}
	}
	for i, d := range s.Drops {
		if i%100 > 0 && i < len(s.Drops)-1 {
			continue
		}
		fmt.Fprintf(&b, "  dropped %d to %d: %d records, %d items at %d, %s\n", d.First, d.Last, d.Records, d.Items, d.At, d.Reason)
	}
	return b.Bytes()
}

func TestOldCursorsStayReadable(t *testing.T) {
	for what, make := range golden {
		t.Run(what, func(t *testing.T) {
			s := make()
			p, err := s.Append(nil)
			ok(t, err)
			compare(t, what+".slot", p)
			old, err := os.ReadFile(filepath.Join("testdata", "v1", what+".slot"))
			ok(t, err)
			got, err := cursor.ParseSlot(old)
			ok(t, err)
			if !same(&got, s) {
				t.Errorf("%s.slot is read as\n%s", what, tell(&got))
			}
			compare(t, what+".txt", tell(&got))
		})
	}
}

// TestOldCursorFilesStayReadable: the file is stored without the zeros behind its last slot.
func TestOldCursorFilesStayReadable(t *testing.T) {
	disk := newDisk(t)
	create(t, disk, small(1), many(300), small(3))
	compare(t, "otlp.cur", bytes.TrimRight(bytesOf(t, disk), "\x00"))
	old, err := os.ReadFile(filepath.Join("testdata", "v1", "otlp.cur"))
	ok(t, err)
	if got, err := cursor.Read(image(append(old, make([]byte, cursor.FileBytes-len(old))...)), name); err != nil ||
		!same(&got, small(3)) || got.Generation != 3 {
		t.Errorf("%v, %s", err, tell(&got))
	}
	clear(old[cursor.SlotBytes:])
	if got, err := cursor.Read(image(old), name); err != nil || !same(&got, many(300)) || got.Generation != 2 {
		t.Errorf("%v, %s", err, tell(&got))
	}
}

// compare checks bytes against a golden file.
func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", "v1", file)
	if *update {
		ok(t, os.MkdirAll(filepath.Dir(file), 0o755))
		ok(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	ok(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the same is written as other bytes", file)
	}
}

// TestBytesAreWhereTheFormatSays reads a file by the tables of the format, with nothing of this package.
func TestBytesAreWhereTheFormatSays(t *testing.T) {
	disk := newDisk(t)
	create(t, disk, many(300), small(5)) // small is in the even slot, many in the odd one
	p := bytesOf(t, disk)
	if len(p) != 131072 || string(p[65536:65544]) != "HOLDCUR1" || p[65536+40] != 1 {
		t.Fatal("the odd slot")
	}
	odd := p[65536:]
	le := binary.LittleEndian
	at := func(off, width int, want uint64, what string) {
		t.Helper()
		var got uint64
		switch width {
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
	names := "\x0f\x00failover/traces\x0b\x00otlp_grpc/a\x0b\x00otlp_grpc/b"
	length := 416 + len(names) + 4 + 48
	if string(p[:8]) != "HOLDCUR1" || p[24] != 0 || p[39] != 15 {
		t.Error("magic or journal_id")
	}
	at(8, 4, uint64(crc32.Checksum(p[12:length], crcTable)), "crc")
	at(12, 4, uint64(length), "length")
	at(16, 2, 1, "version")
	at(18, 2, 0, "flags")
	at(20, 4, 2, "state")
	for i, want := range []uint64{2, 105, 1005, 0, 0, 2005, 30000, 1_750_000_000, 77, 5, 15, 5, 6} {
		at(40+8*i, 8, want, "field")
	}
	for reason := range 16 {
		at(144+16*reason, 8, map[int]uint64{4: 3}[reason], "dropped records")
		at(152+16*reason, 8, map[int]uint64{4: 30}[reason], "dropped items")
	}
	at(400, 4, uint64(len(names)), "names_len")
	at(404, 4, 2, "ranges_count")
	at(408, 4, 4, "ranges_len")
	at(412, 4, 1, "drops_count")
	if string(p[416:416+len(names)]) != names {
		t.Errorf("names are %q", p[416:416+len(names)])
	}
	ranges := 416 + len(names)
	if !slices.Equal(p[ranges:ranges+4], []byte{205 - 105, 100, 405 - 305, 0}) {
		t.Errorf("ranges are %v", p[ranges:ranges+4])
	}
	for i, want := range []uint64{7, 9, 3, 30, 1_750_000_000_000_000_000, 4} {
		at(ranges+4+8*i, 8, want, "field of the drop")
	}
	if strings.Trim(string(p[length:65536]), "\x00") != "" {
		t.Error("what follows the slot is not zero")
	}
	used := int(le.Uint32(odd[12:]))
	if strings.Trim(string(odd[used:]), "\x00") != "" || le.Uint32(odd[412:]) != 128 {
		t.Error("what follows the odd slot is not zero")
	}
	// 61 numbers behind 39 that are not resolved.
	if first := used - 128*48; odd[first-1] != 60 || odd[first-2] != 40 {
		t.Errorf("the last range is %v", odd[first-2:first])
	}
}
