// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import "github.com/holdfast-telemetry/holdfast/internal/vfs"

const (
	blockBytes = 4096

	minSegmentBytes = 4 << 20
	maxSegmentBytes = 64 << 20
	segmentsPerHead = 8 // of the cap, for four heads at least
	minHeads        = 4

	// headSegments is what a head needs to go on while one segment is full: four of the smallest segments, 16 MiB.
	headSegments = 4

	minMinFreeBytes = 16 << 20
	maxMinFreeBytes = 1 << 30
)

// Limits is what a directory may take, as configured. Zeros are filled from the volume.
type Limits struct {
	CapBytes        int64 // allocated bytes of everything under the directory; 0 = 80 % of the volume
	MinFreeBytes    int64 // nothing is allocated that leaves less; 0 = 5 % of the volume, within 16..1,024 MiB
	MaxJournalBytes int64 // allocated bytes of one journal; 0 = no bound
	SegmentBytes    int64 // 0 = by the cap, section 2's formula; tests set it smaller
	Heads           int   // journals that take appends
}

// bounds are Limits with nothing left open.
type bounds struct {
	cap, minFree, maxJournal, segment int64
	heads                             int
}

// on fills in what the volume decides. A cap that is too small for the heads is a *CapError.
func (l Limits) on(volume vfs.Usage) (bounds, error) {
	b := bounds{
		cap: l.CapBytes, minFree: l.MinFreeBytes, maxJournal: l.MaxJournalBytes, segment: l.SegmentBytes,
		heads: max(l.Heads, 0),
	}
	if b.cap == 0 {
		b.cap = volume.Total / 5 * 4
	}
	if b.minFree == 0 {
		b.minFree = min(max(volume.Total/20, minMinFreeBytes), maxMinFreeBytes)
	}
	smallest := int64(minSegmentBytes)
	if b.segment == 0 {
		fair := b.cap / int64(segmentsPerHead*max(minHeads, b.heads))
		if b.maxJournal > 0 { // else a journal whose bound is below one segment would take nothing at all
			fair = min(fair, b.maxJournal/headSegments)
		}
		b.segment = min(max(fair, minSegmentBytes), maxSegmentBytes) / blockBytes * blockBytes
	} else {
		smallest = min(smallest, b.segment)
	}
	if need := headSegments * smallest * int64(b.heads); b.cap < need {
		return bounds{}, &CapError{Cap: b.cap, Need: need, Heads: b.heads, Volume: l.CapBytes == 0}
	}
	return b, nil
}

// share is what is kept for each of so many heads.
func (b *bounds) share(heads int) int64 { return max(2*b.segment, b.cap/int64(2*max(heads, 1))) }

// reserve is the size of the RESERVE.
func (b *bounds) reserve() int64 { return min(b.segment, b.cap/16) / blockBytes * blockBytes }
