// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

const (
	version   = 1
	slotMagic = "HOLDCUR1"

	headBytes   = 416 // everything before the names
	crcStart    = 12
	droppedAt   = 144
	dropBytes   = 48
	mustFlags   = 0x00ff // of the flags, these must be understood
	knownFlags  = 0
	unknownToUs = mustFlags &^ knownFlags
	// Flags that whoever does not know them may pass over.
	flagTakenOff  = 1 << 8
	flagEstimated = 1 << 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Slot is everything that is known of one destination's place in a journal.
type Slot struct {
	State        queue.State
	Journal      [16]byte  // the same in all files of a journal
	Generation   uint64    // File counts it: larger is later
	High         queue.Seq // highest resolved number; never below Resolved.High on disk
	Until        queue.Seq // last number owed, in state Parked, else 0
	DurableSeq   queue.Seq // last number of the journal known durable when this was written
	DurableItems uint64    // items accepted by the journal up to it
	ParkedAt     int64     // Unix s
	NotOwed      uint64    // items accepted by the journal, not owed to this cursor
	Delivered    Count
	Rejected     Count
	Dropped      [reasons]Count // by reason code
	Name         string
	Exporters    []string // IDs behind the destination
	Resolved     Set      // floor and the ranges above it
	Drops        []Drop   // oldest first, at most MaxDrops; see Book
	// TakenOff says that some of Resolved was never delivered here: whoever delivers for this cursor had it elsewhere.
	TakenOff bool
	// Estimated says that the items of some loss are a guess: what the balance lacks was lost with the rest.
	Estimated bool
}

// Clone is a copy that shares nothing which either of them changes.
func (s *Slot) Clone() Slot {
	c := *s
	c.Exporters, c.Drops, c.Resolved = slices.Clone(s.Exporters), slices.Clone(s.Drops), s.Resolved.Clone()
	return c
}

// Append adds the bytes of the slot, SlotBytes at most. Errors: ErrTooLarge, or a field is out of bounds; then b is
// returned as it was.
func (s *Slot) Append(b []byte) ([]byte, error) {
	names := 2 + len(s.Name)
	for _, e := range s.Exporters {
		names += 2 + len(e)
	}
	length := headBytes + names + s.Resolved.encoded + dropBytes*len(s.Drops)
	switch {
	case names > MaxNamesBytes || len(s.Drops) > MaxDrops || length > SlotBytes:
		return b, fmt.Errorf("cursor %q with %d bytes of names, %d ranges in %d bytes, %d drops: %w",
			s.Name, names, s.Resolved.Len(), s.Resolved.encoded, len(s.Drops), ErrTooLarge)
	case !s.plausible():
		return b, fmt.Errorf("cursor %q, state %d, generation %d, high %d, until %d, durable %d: %w",
			s.Name, s.State, s.Generation, s.High, s.Until, s.DurableSeq, errOutOfBounds)
	}
	start := len(b)
	b = slices.Grow(b, length)[:start+headBytes]
	s.putHead(b[start:], length, names)
	b = appendName(b, s.Name)
	for _, e := range s.Exporters {
		b = appendName(b, e)
	}
	b = s.Resolved.append(b)
	for i := range s.Drops {
		b = s.Drops[i].append(b)
	}
	p := b[start:]
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p[crcStart:], castagnoli))
	return b, nil
}

// plausible says whether the fields are such as ParseSlot accepts. Numbers that are too large would be given to records
// that nobody can write.
func (s *Slot) plausible() bool {
	ok := s.State >= queue.Prepared && s.State <= queue.Done && s.Name != "" && s.Generation <= uint64(MaxSeq) &&
		max(s.High, s.Until, s.DurableSeq, s.Resolved.High()) <= MaxSeq
	for i := range s.Drops {
		ok = ok && s.Drops[i].plausible()
	}
	return ok
}

func (d *Drop) plausible() bool { return d.First <= MaxSeq && d.Last <= MaxSeq && d.Reason < reasons }

func (s *Slot) putHead(p []byte, length, names int) {
	clear(p)
	le := binary.LittleEndian
	copy(p, slotMagic)
	le.PutUint32(p[12:], uint32(length))
	le.PutUint16(p[16:], version)
	le.PutUint16(p[18:], s.flags())
	le.PutUint32(p[20:], uint32(s.State))
	copy(p[24:40], s.Journal[:])
	le.PutUint64(p[40:], s.Generation)
	le.PutUint64(p[48:], uint64(s.Resolved.floor))
	le.PutUint64(p[56:], uint64(max(s.High, s.Resolved.High())))
	le.PutUint64(p[64:], uint64(s.Until))
	le.PutUint64(p[80:], uint64(s.DurableSeq))
	le.PutUint64(p[88:], s.DurableItems)
	le.PutUint64(p[96:], uint64(s.ParkedAt))
	le.PutUint64(p[104:], s.NotOwed)
	s.Delivered.put(p[112:])
	s.Rejected.put(p[128:])
	for i := range s.Dropped {
		s.Dropped[i].put(p[droppedAt+16*i:])
	}
	le.PutUint32(p[400:], uint32(names))
	le.PutUint32(p[404:], uint32(s.Resolved.Len()))
	le.PutUint32(p[408:], uint32(s.Resolved.encoded))
	le.PutUint32(p[412:], uint32(len(s.Drops)))
}

func (s *Slot) flags() (flags uint16) {
	if s.TakenOff {
		flags |= flagTakenOff
	}
	if s.Estimated {
		flags |= flagEstimated
	}
	return flags
}

func (c *Count) put(p []byte) {
	binary.LittleEndian.PutUint64(p, c.Records)
	binary.LittleEndian.PutUint64(p[8:], c.Items)
}

func appendName(b []byte, name string) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(name)))
	return append(b, name...)
}

func (s *Set) append(b []byte) []byte {
	previous := s.floor
	for _, r := range s.ring[s.lo:s.hi] {
		b = binary.AppendUvarint(b, uint64(r.first-previous))
		b = binary.AppendUvarint(b, uint64(r.last-r.first))
		previous = r.last
	}
	return b
}

func (d *Drop) append(b []byte) []byte {
	le := binary.LittleEndian
	for _, v := range [...]uint64{
		uint64(d.First), uint64(d.Last), d.Records, d.Items, uint64(d.At), uint64(d.Reason), // and 7 reserved bytes
	} {
		b = le.AppendUint64(b, v)
	}
	return b
}
