// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// FuzzCursorSlot reads any bytes as a slot: no panic, bounded memory, and what is read is what was written. With forge
// the checksum holds and lengths fit: no fuzzer finds those by itself. Seeds are small: it minimizes what it finds.
func FuzzCursorSlot(f *testing.F) {
	p, err := os.ReadFile("testdata/v1/prepared.slot")
	ok(f, err)
	f.Add(p, uint8(0))
	f.Add(p, uint8(1))
	f.Add(forgeable(), uint8(3))
	f.Add(forgeable()[:20], uint8(2))
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

// forged is a slot made of p: with bit 0 of how its checksum holds, with bit 1 p is what follows the head, except for its
// first three bytes, which are names_len, ranges_count and drops_count; ranges_len is what is left.
func forged(p []byte, how uint8) []byte {
	le := binary.LittleEndian
	if how&2 != 0 && len(p) >= 3 {
		head, err := small(1).Append(nil)
		if err != nil {
			panic(err)
		}
		le.PutUint32(head[12:], uint32(416+len(p)-3))
		le.PutUint32(head[400:], uint32(p[0]))
		le.PutUint32(head[404:], uint32(p[1]))
		le.PutUint32(head[408:], uint32(max(0, len(p)-3-int(p[0])-48*int(p[2]))))
		le.PutUint32(head[412:], uint32(p[2]))
		le.PutUint64(head[56:], 1<<62)
		p = append(head[:416], p[3:]...)
	}
	if p = slices.Clone(p); how&1 != 0 {
		signed(p)
	}
	return p
}

// forgeable is a slot of two names, two ranges and one drop.
func forgeable() []byte {
	p := append([]byte{10, 2, 1}, "\x03\x00own\x03\x00its"...)
	p = append(p, 2, 0, 0x80, 1, 5)
	drop := make([]byte, 48)
	drop[40] = 3
	return append(p, drop...)
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
	if _, err := cursor.ParseSlot(forged(forgeable(), 2)); err == nil {
		t.Error("read with a checksum that does not hold")
	}
	s, err := cursor.ParseSlot(forged(forgeable(), 3))
	if err != nil || s.Name != "own" || s.Exporters[0] != "its" || s.Resolved.Len() != 2 || s.Drops[0].Reason != 3 {
		t.Errorf("the fuzzer forges in vain: %+v, %v", s, err)
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
