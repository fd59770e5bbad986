// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cursor

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// ParseSlot reads the slot that b begins with; what follows it is not looked at. The slot shares nothing with b. It is
// bounded by SlotBytes however b came about: at most 16 bytes of memory for each two of b, and the names. Errors:
// *NewerError for a slot whose checksum holds; any other says why this is no slot.
func ParseSlot(b []byte) (Slot, error) {
	p, err := whole(b)
	if err != nil {
		return Slot{}, err
	}
	le := binary.LittleEndian
	if v, flags := le.Uint16(p[16:]), le.Uint16(p[18:]); v > version || v == version && flags&unknownToUs != 0 {
		return Slot{}, &NewerError{Version: v, Flags: flags & unknownToUs}
	} else if v != version {
		return Slot{}, errFields
	}
	s, ok := parseHead(p)
	if !ok {
		return Slot{}, errFields
	}
	names, ranges, drops, ok := parts(p)
	if !ok {
		return Slot{}, errFields
	}
	if s.Name, s.Exporters, ok = parseNames(names); !ok {
		return Slot{}, errNames
	}
	floor := queue.Seq(le.Uint64(p[48:]))
	if s.Resolved, ok = parseSet(floor, le.Uint32(p[404:]), ranges); !ok {
		return Slot{}, errRanges
	}
	s.Drops = parseDrops(drops)
	if s.Resolved.High() > s.High || !s.plausible() {
		return Slot{}, errFields
	}
	return s, nil
}

// whole is the bytes of the slot, of whatever version, if their checksum holds.
func whole(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(b) < headBytes {
		return nil, errCut
	}
	if string(b[:8]) != slotMagic {
		if le.Uint64(b) == 0 && le.Uint64(b[8:]) == 0 {
			return nil, errNoSlot
		}
		return nil, errMagic
	}
	length := le.Uint32(b[12:])
	if length < headBytes || length > SlotBytes {
		return nil, errFields
	}
	if int64(length) > int64(len(b)) {
		return nil, errCut
	}
	p := b[:length]
	if crc32.Checksum(p[crcStart:], castagnoli) != le.Uint32(p[8:]) {
		return nil, errCRC
	}
	return p, nil
}

// parts are the three stretches behind the head, which have exactly the lengths the head says.
func parts(p []byte) (names, ranges, drops []byte, ok bool) {
	le := binary.LittleEndian
	// Each is below 2^32 and the sum of them, in 64 bits, cannot overflow.
	n, r, d := int64(le.Uint32(p[400:])), int64(le.Uint32(p[408:])), int64(le.Uint32(p[412:]))
	if n > MaxNamesBytes || d > MaxDrops || headBytes+n+r+d*dropBytes != int64(len(p)) {
		return nil, nil, nil, false
	}
	p = p[headBytes:]
	return p[:n], p[n : n+r], p[n+r:], true
}

func parseHead(p []byte) (s Slot, ok bool) {
	le := binary.LittleEndian
	state := le.Uint32(p[20:])
	s = Slot{
		State:        queue.State(state),
		Journal:      [16]byte(p[24:40]),
		Generation:   le.Uint64(p[40:]),
		High:         queue.Seq(le.Uint64(p[56:])),
		Until:        queue.Seq(le.Uint64(p[64:])),
		DurableSeq:   queue.Seq(le.Uint64(p[80:])),
		DurableItems: le.Uint64(p[88:]),
		ParkedAt:     int64(le.Uint64(p[96:])),
		NotOwed:      le.Uint64(p[104:]),
		Delivered:    getCount(p[112:]),
		Rejected:     getCount(p[128:]),
		TakenOff:     le.Uint16(p[18:])&flagTakenOff != 0,
		Estimated:    le.Uint16(p[18:])&flagEstimated != 0,
	}
	for i := range s.Dropped {
		s.Dropped[i] = getCount(p[droppedAt+16*i:])
	}
	return s, state <= uint32(queue.Done)
}

func getCount(p []byte) Count {
	return Count{Records: binary.LittleEndian.Uint64(p), Items: binary.LittleEndian.Uint64(p[8:])}
}

// parseNames reads the own name and those behind it.
func parseNames(p []byte) (own string, others []string, ok bool) {
	for first := true; len(p) > 0; first = false {
		if len(p) < 2 {
			return "", nil, false
		}
		n := int(binary.LittleEndian.Uint16(p))
		if p = p[2:]; n > len(p) {
			return "", nil, false
		}
		if first {
			own = string(p[:n])
		} else {
			others = append(others, string(p[:n]))
		}
		p = p[n:]
	}
	return own, others, own != ""
}

// parseSet reads count ranges, which take all of p.
func parseSet(floor queue.Seq, count uint32, p []byte) (s Set, ok bool) {
	if floor > MaxSeq || int64(count) > int64(len(p)/2) || count == 0 && len(p) > 0 {
		return Set{}, false
	}
	s = Set{floor: floor, encoded: len(p), hi: int(count)}
	if count == 0 {
		return s, true
	}
	s.ring = make([]span, count)
	previous := floor
	for i := range s.ring {
		var gap, more uint64
		if gap, p, ok = cutVarint(p); !ok || gap < 2 || gap > uint64(MaxSeq-previous) {
			return Set{}, false // it would touch the one before, or be none
		}
		r := span{first: previous + queue.Seq(gap)}
		if more, p, ok = cutVarint(p); !ok || more > uint64(MaxSeq-r.first) {
			return Set{}, false
		}
		r.last = r.first + queue.Seq(more)
		s.ring[i], previous = r, r.last
	}
	return s, len(p) == 0
}

// cutVarint reads a varint as a Set writes it: there is one way to write a number.
func cutVarint(p []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(p)
	if n <= 0 || n != varintBytes(v) {
		return 0, nil, false
	}
	return v, p[n:], true
}

// parseDrops reads what are whole drops.
func parseDrops(p []byte) []Drop {
	if len(p) == 0 {
		return nil
	}
	le := binary.LittleEndian
	drops := make([]Drop, len(p)/dropBytes)
	for i := range drops {
		d := p[dropBytes*i:]
		drops[i] = Drop{
			First: queue.Seq(le.Uint64(d)), Last: queue.Seq(le.Uint64(d[8:])), Count: getCount(d[16:]),
			At: int64(le.Uint64(d[32:])), Reason: Reason(d[40]),
		}
	}
	return drops
}
