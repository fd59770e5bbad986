// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// minBody is the smallest body: it holds the number.
const minBody = 16

// sizeOf is the size of record n's body: fixed, or mixed: mostly small, now and then many pages, now and then more than
// a small segment.
func sizeOf(n, fixed int) int {
	if fixed > 0 {
		return max(minBody, fixed)
	}
	x := int(mix(uint64(n)) >> 33)
	switch {
	case x%97 == 0:
		return 70<<10 + x/97%(100<<10)
	case x%13 == 0:
		return 8<<10 + x/13%(32<<10)
	}
	return minBody + x%3000
}

func itemsOf(n int) uint32 { return uint32(n%5 + 1) }

func metaOf(n int) []byte { return fmt.Appendf(nil, "record %d", n) }

func recordOf(n, fixed int) queue.Record {
	body := bodyOf(n, sizeOf(n, fixed))
	return queue.Record{Tag: 1, Items: itemsOf(n), Size: uint32(len(body)), Meta: metaOf(n), Body: body}
}

// bodyOf is bytes that belong to n at every place, so that no part of another record passes for one of it.
func bodyOf(n, size int) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint64(b, uint64(n))
	x := mix(uint64(n))
	i := 8
	for ; i+8 <= size; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[i:], x)
	}
	for ; i < size; i++ {
		b[i] = byte(x)
	}
	return b
}

// numberOf says which record it is, and whether every byte of it is as it was appended.
func numberOf(r *queue.Record, fixed int) (int, error) {
	if len(r.Body) < minBody {
		return 0, fmt.Errorf("a body of %d bytes", len(r.Body))
	}
	n := int(binary.LittleEndian.Uint64(r.Body))
	switch want := sizeOf(n, fixed); {
	case len(r.Body) != want || r.Size != uint32(want):
		return n, fmt.Errorf("record %d has %d bytes (size %d), %d were appended", n, len(r.Body), r.Size, want)
	case !bytes.Equal(r.Meta, metaOf(n)) || r.Tag != 1 || r.Items != itemsOf(n):
		return n, fmt.Errorf("record %d has meta %q, tag %d, %d items", n, r.Meta, r.Tag, r.Items)
	case !bytes.Equal(r.Body, bodyOf(n, want)):
		return n, fmt.Errorf("record %d has bytes nobody appended: %.24x…", n, r.Body)
	}
	return n, nil
}

func mix(x uint64) uint64 {
	x = (x + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31 | 1
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ticks is the system's monotonic clock in nanoseconds: the same one in all processes.
func ticks() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}
