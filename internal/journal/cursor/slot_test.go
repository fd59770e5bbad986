// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

func TestAnySlotIsReadAsItWasWritten(t *testing.T) {
	written := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := random(r, 1<<r.IntN(13))
		front := []byte("before")
		p, err := s.Append(front)
		if errors.Is(err, cursor.ErrTooLarge) {
			if string(p) != "before" {
				t.Fatalf("seed %d: %d bytes were added with %v", seed, len(p), err)
			}
			continue
		}
		ok(t, err)
		written++
		p = p[len(front):]
		got, err := cursor.ParseSlot(append(slices.Clone(p), text(r, r.IntN(99))...))
		if err != nil || !same(s, &got) || got.Generation != s.Generation || len(p) > cursor.SlotBytes {
			t.Fatalf("seed %d: %v\n%+v\nwant\n%+v", seed, err, got, s)
		}
		again, err := got.Append(nil)
		if err != nil || !bytes.Equal(again, p) {
			t.Fatalf("seed %d: written again it is something else, %v", seed, err)
		}
	}
	if written < 1000 {
		t.Errorf("only %d slots fit", written)
	}
}

func TestHighIsNeverBelowTheRanges(t *testing.T) {
	s := small(1)
	s.High = 0
	p, err := s.Append(nil)
	ok(t, err)
	if got, err := cursor.ParseSlot(p); err != nil || got.High != 401 {
		t.Errorf("high %d, %v", got.High, err)
	}
}

func TestWhatDoesNotFitASlotIsRefused(t *testing.T) {
	refuse := func(what string, want error, change func(s *cursor.Slot)) {
		t.Helper()
		s := small(1)
		change(s)
		p, err := s.Append([]byte("before"))
		if err == nil || string(p) != "before" || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %d bytes, %v", what, len(p), err)
		}
	}
	refuse("names", cursor.ErrTooLarge, func(s *cursor.Slot) {
		s.Exporters = []string{strings.Repeat("x", cursor.MaxNamesBytes-len(s.Name)-3)}
	})
	refuse("drops", cursor.ErrTooLarge, func(s *cursor.Slot) { s.Drops = make([]cursor.Drop, cursor.MaxDrops+1) })
	refuse("ranges", cursor.ErrTooLarge, func(s *cursor.Slot) {
		for i := range queue.Seq(40000) {
			s.Resolved.Add(1000+2*i, 1000+2*i)
		}
	})
	refuse("no name", nil, func(s *cursor.Slot) { s.Name = "" })
	refuse("no state", nil, func(s *cursor.Slot) { s.State = 0 })
	refuse("unknown state", nil, func(s *cursor.Slot) { s.State = queue.Done + 1 })
	refuse("high", nil, func(s *cursor.Slot) { s.High = cursor.MaxSeq + 1 })
	refuse("until", nil, func(s *cursor.Slot) { s.Until = cursor.MaxSeq + 1 })
	refuse("durable", nil, func(s *cursor.Slot) { s.DurableSeq = cursor.MaxSeq + 1 })
	refuse("generation", nil, func(s *cursor.Slot) { s.Generation = 1<<62 + 1 })
	refuse("reason", nil, func(s *cursor.Slot) { s.Drops[0].Reason = 16 })
}

// TestAFullSetFitsWithWhateverIsLeased: names and drops are as long as can be, the set is Full, and then every second
// of 16,384 leased numbers is resolved.
func TestAFullSetFitsWithWhateverIsLeased(t *testing.T) {
	s := many(4093)
	s.Exporters = []string{strings.Repeat("x", cursor.MaxNamesBytes-len(s.Name)-4)}
	if s.Resolved.Full() || s.Resolved.Len() < 4000 {
		t.Fatalf("%d ranges", s.Resolved.Len())
	}
	for i, high := queue.Seq(0), s.Resolved.High(); i < 16384; i += 2 {
		s.Resolved.Add(high+2+i, high+2+i)
	}
	s.High = s.Resolved.High()
	p, err := s.Append(nil)
	ok(t, err)
	if got, err := cursor.ParseSlot(p); err != nil || !same(&got, s) || !got.Resolved.Full() {
		t.Errorf("%d bytes: %v", len(p), err)
	}
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// signed is p with a checksum that holds.
func signed(p []byte) []byte {
	if len(p) >= 16 {
		length := min(int(binary.LittleEndian.Uint32(p[12:])), len(p))
		binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p[12:max(12, length)], crcTable))
	}
	return p
}

// TestFieldsThatContradictEachOtherAreNoSlot forges checksums: what no crash leaves must not get past them either.
func TestFieldsThatContradictEachOtherAreNoSlot(t *testing.T) {
	s := small(1)
	whole, err := s.Append(nil)
	ok(t, err)
	if _, err := cursor.ParseSlot(signed(slices.Clone(whole))); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	namesLen := int(le.Uint32(whole[400:]))
	ranges := 416 + namesLen
	refuse := func(what string, change func(p []byte)) {
		t.Helper()
		p := slices.Clone(whole)
		change(p)
		got, err := cursor.ParseSlot(signed(p))
		var newer *cursor.NewerError
		if err == nil || errors.As(err, &newer) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	u32 := func(at int, v uint32) func([]byte) { return func(p []byte) { le.PutUint32(p[at:], v) } }
	u64 := func(at int, v uint64) func([]byte) { return func(p []byte) { le.PutUint64(p[at:], v) } }
	refuse("length above the slot", u32(12, cursor.SlotBytes+1))
	refuse("length above the bytes", u32(12, uint32(len(whole)+1)))
	refuse("length below the head", u32(12, 415))
	refuse("length one short", u32(12, uint32(len(whole)-1)))
	refuse("version 0", func(p []byte) { le.PutUint16(p[16:], 0) })
	refuse("state 0", u32(20, 0))
	refuse("state 5", u32(20, 5))
	refuse("state 258", u32(20, 258))
	refuse("generation", u64(40, 1<<62+1))
	refuse("floor above high", u64(48, 1003))
	refuse("floor above all numbers", u64(48, 1<<62+1))
	refuse("high below the ranges", u64(56, 400))
	refuse("high above all numbers", u64(56, 1<<62+1))
	refuse("until", u64(64, 1<<62+1))
	refuse("durable_seq", u64(80, 1<<62+1))
	refuse("names_len", u32(400, uint32(namesLen+1)))
	refuse("names_len above 4 KiB", u32(400, 1<<31))
	refuse("ranges_count too large", u32(404, 3))
	refuse("ranges_count too small", u32(404, 1))
	refuse("ranges_count 0", u32(404, 0))
	refuse("ranges_count huge", u32(404, 1<<32-1))
	refuse("ranges_len", u32(408, 1<<32-1))
	refuse("drops_count", u32(412, 1<<32-1))
	refuse("drops_count 0", u32(412, 0))
	refuse("own name longer than all", func(p []byte) { le.PutUint16(p[416:], uint16(namesLen)) })
	refuse("own name empty", func(p []byte) { le.PutUint16(p[416:], 0) })
	refuse("a range at the floor", func(p []byte) { p[ranges] = 1 })
	refuse("a range that touches the last", func(p []byte) { p[ranges+2] = 1 })
	refuse("reason 16", func(p []byte) { p[len(p)-8] = 16 })
	refuse("drop above all numbers", func(p []byte) { le.PutUint64(p[len(p)-48:], 1<<62+1) })

	// Gap and length of both ranges take one byte each; here the first length is written in two.
	if !bytes.Equal(whole[ranges:ranges+4], []byte{100, 100, 100, 0}) {
		t.Fatalf("ranges are %v", whole[ranges:ranges+4])
	}
	refuse("varint longer than needed", func(p []byte) {
		le.PutUint32(p[404:], 1)
		copy(p[ranges:], []byte{100 | 0x80, 0, 100 | 0x80, 0})
	})
	refuse("varint without an end", func(p []byte) { copy(p[ranges:], []byte{0xff, 0xff, 0xff, 0xff}) })
	refuse("overflow", func(p []byte) {
		le.PutUint64(p[48:], 1<<62-1)
		le.PutUint64(p[56:], 1<<62)
	})
}

// TestRangesThatOverflowAreNoSlot: sums of numbers that wrap around would come out in order, or small.
func TestRangesThatOverflowAreNoSlot(t *testing.T) {
	tail := func(ranges byte, varints ...uint64) []byte {
		p := append([]byte{5, ranges, 0}, "\x03\x00own"...)
		for _, v := range varints {
			p = binary.AppendUvarint(p, v)
		}
		return forged(p, 3)
	}
	const top = 1<<62 - 101 // from the floor
	for what, p := range map[string][]byte{
		"a gap above all numbers":     tail(1, top+1, 0),
		"a gap that wraps around":     tail(2, 50, 5, ^uint64(0)-20, 5),
		"a length above all numbers":  tail(1, 50, top-49),
		"a length that wraps around":  tail(1, 50, ^uint64(0)-20),
		"a length that wraps to last": tail(2, 50, ^uint64(0), 60, 0),
	} {
		if got, err := cursor.ParseSlot(p); err == nil {
			t.Errorf("%s: %v", what, pairs(&got.Resolved))
		}
	}
	got, err := cursor.ParseSlot(tail(2, 50, top-50-3, 2, 1))
	if err != nil || got.Resolved.High() != cursor.MaxSeq || got.Resolved.Floor() != 101 {
		t.Errorf("up to the last number: %v, %v", pairs(&got.Resolved), err)
	}
}

// TestMoreThanASlotTakesIsNoSlot: lengths that add up and are above their bounds.
func TestMoreThanASlotTakesIsNoSlot(t *testing.T) {
	s := many(0)
	s.Exporters = []string{strings.Repeat("x", cursor.MaxNamesBytes-len(s.Name)-4)}
	whole, err := s.Append(nil)
	ok(t, err)
	le := binary.LittleEndian
	grown := func(at, by, field int) []byte {
		p := slices.Insert(slices.Clone(whole), at, make([]byte, by)...)
		le.PutUint32(p[12:], uint32(len(p)))
		if field > 0 {
			le.PutUint32(p[field:], le.Uint32(p[field:])+uint32(max(1, by%48)))
		}
		return signed(p)
	}
	for what, p := range map[string][]byte{
		"names":  grown(416+cursor.MaxNamesBytes, 2, 400),
		"drops":  grown(len(whole), 48, 412),
		"behind": grown(len(whole), 1, 0),
	} {
		if got, err := cursor.ParseSlot(p); err == nil {
			t.Errorf("%s: %d drops, %d names are read", what, len(got.Drops), len(got.Exporters))
		}
	}
}

func TestNewerSlotsAreNamed(t *testing.T) {
	p, err := small(1).Append(nil)
	ok(t, err)
	flags := slices.Clone(p)
	flags[18] = 0x04
	later := slices.Clone(p)
	later[16] = 7
	later[400], later[20] = 0xff, 0xff // whatever else it is
	for want, p := range map[string][]byte{
		"slot needs features 0x4 this version does not have": flags, "slot of format 7, newer than 1": later,
	} {
		var newer *cursor.NewerError
		if _, err := cursor.ParseSlot(p); errors.As(err, &newer) {
			t.Errorf("%v with a checksum that does not hold", err)
		}
		if _, err := cursor.ParseSlot(signed(p)); !errors.As(err, &newer) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	optional := slices.Clone(p)
	optional[19] = 0x80
	if got, err := cursor.ParseSlot(signed(optional)); err != nil || !same(&got, small(1)) {
		t.Errorf("a flag that need not be understood: %v", err)
	}
}

func TestReasonsHaveTheirWords(t *testing.T) {
	words := []string{"", "overflow", "age", "corrupt", "missing", "unsynced", "operator", "parked", "drop_oldest"}
	for code, word := range words {
		r, known := cursor.ParseReason(word)
		if code == 0 {
			if known || cursor.Reason(0).String() != "reason 0" || cursor.Reason(200).String() != "reason 200" {
				t.Errorf("no reason: %v, %v", r, known)
			}
			continue
		}
		if r != cursor.Reason(code) || !known || r.String() != word {
			t.Errorf("%q is %d %v, and %q", word, r, known, r.String())
		}
	}
	if _, known := cursor.ParseReason("bored"); known {
		t.Error("bored is a reason")
	}
}

// TestDropsAreCountedExactlyHoweverMany books for few and many reasons: the list stays bounded, adds up to the counts,
// covers the numbers, and its newest entries are as they were booked.
func TestDropsAreCountedExactlyHoweverMany(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		kinds := 1 + r.IntN(15)
		var s cursor.Slot
		var booked []cursor.Drop
		var want [16]cursor.Count
		for i := range r.IntN(1500) {
			d := cursor.Drop{
				First: queue.Seq(10 * i), Last: queue.Seq(10*i + r.IntN(10)), At: int64(i),
				Count: cursor.Count{Records: 1 + r.Uint64N(9), Items: r.Uint64N(99)}, Reason: cursor.Reason(1 + r.IntN(kinds)),
			}
			if seed%5 == 0 {
				d.Reason = cursor.Reason(1 + i%kinds) // neighbours never agree
			}
			s.Book(d)
			booked = append(booked, d)
			want[d.Reason].Add(d.Count)
		}
		var listed [16]cursor.Count
		for _, d := range s.Drops {
			listed[d.Reason].Add(d.Count)
		}
		if listed != want || s.Dropped != want || len(s.Drops) != min(len(booked), cursor.MaxDrops) {
			t.Fatalf("seed %d: %d entries list %v, counted %v, want %v", seed, len(s.Drops), listed, s.Dropped, want)
		}
		if n := min(len(booked), cursor.MaxDrops-16); !slices.Equal(s.Drops[len(s.Drops)-n:], booked[len(booked)-n:]) {
			t.Fatalf("seed %d: the newest %d are not as they were booked", seed, n)
		}
		for _, b := range booked {
			if !slices.ContainsFunc(s.Drops, func(d cursor.Drop) bool {
				return d.Reason == b.Reason && d.First <= b.First && b.Last <= d.Last && d.At >= b.At
			}) {
				t.Fatalf("seed %d: %+v is in no entry", seed, b)
			}
		}
	}
}

func TestAnyDropCanBeWritten(t *testing.T) {
	s := small(1)
	s.Book(cursor.Drop{First: ^queue.Seq(0), Last: ^queue.Seq(0), Reason: 0xff, Count: cursor.Count{Items: 3}})
	p, err := s.Append(nil)
	ok(t, err)
	if got, err := cursor.ParseSlot(p); err != nil || !same(&got, s) || got.Dropped[15].Items != 3 {
		t.Errorf("%+v, %v", got.Drops, err)
	}
}

func TestHashIsTheStartOfSHA256(t *testing.T) {
	// SHA-256 of "abc" begins with ba 78 16 bf 8f 01 cf ea.
	if h := cursor.Hash("abc"); h != 0xeacf018fbf1678ba {
		t.Errorf("%#x", h)
	}
}
