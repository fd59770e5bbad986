// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// FuzzCursorSlot reads any bytes as a slot: no panic, bounded memory, and what is read is what was written. With forge
// the checksum holds, and length and counts may fit: no fuzzer finds those by itself.
func FuzzCursorSlot(f *testing.F) {
	files, err := filepath.Glob("testdata/v1/*.slot")
	if err != nil || len(files) == 0 {
		f.Fatal("no golden files", err)
	}
	for _, file := range files {
		p, err := os.ReadFile(file)
		ok(f, err)
		for forge := range uint8(4) {
			f.Add(p, forge)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, forge uint8) {
		p = forged(p, forge)
		before := allocated()
		s, err := cursor.ParseSlot(p)
		if grown := allocated() - before; grown > uint64(8*len(p))+64<<10 {
			t.Errorf("%d bytes allocated for %d", grown, len(p))
		}
		if err != nil {
			return
		}
		walk(t, &s)
		again, err := s.Append(nil)
		if err != nil || len(again) > cursor.SlotBytes {
			t.Fatalf("%+v cannot be written: %v", s, err)
		}
		same, err := cursor.ParseSlot(again)
		if err != nil || !reflect.DeepEqual(s, same) {
			t.Fatalf("%+v\nis read again as\n%+v, %v", s, same, err)
		}
		if third, err := same.Append(nil); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("written again it is something else: %v", err)
		}
	})
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// forged is p as a slot: with bit 0 of how the length is that of the bytes and the checksum holds, with bit 1 ranges_len
// is what names and drops leave.
func forged(p []byte, how uint8) []byte {
	p = slices.Clone(p)
	if how&1 == 0 || len(p) < 416 {
		return p
	}
	le := binary.LittleEndian
	copy(p, "HOLDCUR1")
	le.PutUint32(p[12:], uint32(len(p)))
	le.PutUint16(p[16:], 1)
	if rest := len(p) - 416 - int(le.Uint32(p[400:])) - 48*int(le.Uint32(p[412:])); how&2 != 0 && rest >= 0 {
		le.PutUint32(p[408:], uint32(rest))
	}
	return signed(p)
}

// walk checks what holds of every slot.
func walk(t *testing.T, s *cursor.Slot) {
	t.Helper()
	if s.State < queue.Prepared || s.State > queue.Done || s.Name == "" || len(s.Drops) > cursor.MaxDrops ||
		s.High < s.Resolved.High() || s.High > cursor.MaxSeq {
		t.Fatalf("%+v", s)
	}
	last, resolved := s.Resolved.Floor(), uint64(s.Resolved.Floor())
	s.Resolved.Ranges(func(first, end queue.Seq) {
		if first <= last+1 || end < first || end > cursor.MaxSeq {
			t.Fatalf("range %d to %d behind %d", first, end, last)
		}
		if !s.Resolved.Covers(first, end) || s.Resolved.Has(first-1) || s.Resolved.Next(first) != end+1 {
			t.Fatalf("range %d to %d is not resolved, or more is", first, end)
		}
		last, resolved = end, resolved+uint64(end-first)+1
	})
	if s.Resolved.Count(0, cursor.MaxSeq) != resolved || s.Resolved.High() != last {
		t.Fatalf("%d numbers up to %d, want %d up to %d",
			s.Resolved.Count(0, cursor.MaxSeq), s.Resolved.High(), resolved, last)
	}
}

func TestForgedSlotsAreRead(t *testing.T) {
	p, err := small(1).Append(nil)
	ok(t, err)
	p[430] ^= 1
	if _, err := cursor.ParseSlot(p); err == nil {
		t.Error("read with a checksum that does not hold")
	}
	if _, err := cursor.ParseSlot(forged(p, 3)); err != nil {
		t.Errorf("the fuzzer forges in vain: %v", err)
	}
}

// FuzzSet adds and compares with a map.
func FuzzSet(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 9, 3, 7, 1})
	f.Add([]byte{200, 0, 198, 0, 199, 0, 0, 255})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var s cursor.Set
		m := model{}
		for ; len(steps) >= 2; steps = steps[2:] {
			first, last := queue.Seq(steps[0]), queue.Seq(steps[0])+queue.Seq(steps[1]>>3)
			if got, want := s.Add(first, last), m.add(first, last); got != want {
				t.Fatalf("%d..%d added %d, want %d", first, last, got, want)
			}
		}
		m.check(t, &s, 300, newRandom(4))
	})
}
