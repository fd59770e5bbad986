// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
)

// hasHeader says whether the header of the file holds and names the file.
func (f *found) hasHeader() bool {
	return f.lost == nil && (f.in.Class == segment.Sealed || f.in.Class == segment.Unsealed) && f.in.Header.ID == f.id
}

// choose finds out which journal this is: that of most segments, and of the newest of them if there are as many of
// another one. It orders the files that belong to it.
func (l *look) choose() {
	type votes struct {
		files  int
		newest uint64
	}
	all := map[[16]byte]votes{}
	best := votes{}
	for _, f := range l.files {
		if !f.hasHeader() {
			continue
		}
		v := all[f.in.Header.Journal]
		all[f.in.Header.Journal] = votes{v.files + 1, max(v.newest, f.id)}
	}
	for id, v := range all {
		if v.files > best.files || v.files == best.files && v.newest > best.newest {
			best, l.journal = v, id
		}
	}
	l.order = l.order[:0]
	for _, f := range l.files {
		if f.hasHeader() && f.in.Header.Journal == l.journal || f.lost == nil && f.in.Class == segment.Headless {
			l.order = append(l.order, f)
		}
	}
	slices.SortFunc(l.order, func(a, b *found) int {
		switch x, y := a.in.Header.BaseSeq, b.in.Header.BaseSeq; {
		case x < y || x == y && a.id < b.id:
			return -1
		default:
			return 1
		}
	})
}

// arrange says which numbers count where (section 5): frames above what the next header says was acknowledged are void,
// and of a number found twice the later segment's counts.
func (l *look) arrange() {
	rescued, vouched := map[uint64]bool{}, map[uint64]segment.Offset{}
	for _, f := range l.order {
		if h := &f.in.Header; f.hasHeader() {
			rescued[h.PrevID] = rescued[h.PrevID] || h.Flags&segment.FlagRescue != 0
			vouched[h.PrevID] = max(vouched[h.PrevID], h.PrevDurable)
		}
	}
	for i, f := range l.order {
		f.limit = segment.MaxSeq
		for _, next := range l.order[i+1:] {
			if next.hasHeader() {
				f.limit = next.in.Header.PrevLastSeq
				break
			}
		}
		f.first, f.last = f.sum.First, min(f.sum.Last, f.limit)
		f.unsynced, f.condemned, f.vouched = l.modeOf(i), rescued[f.id], vouched[f.id]
	}
	for i, f := range l.order {
		for _, later := range l.order[i+1:] {
			if f.last < f.first || later.in.Header.BaseSeq > f.last {
				break
			}
			switch {
			case later.last < later.first:
			case later.last >= f.last:
				f.last = min(f.last, later.first-1)
			case later.first <= f.last: // all of it is here too, and more
				later.last = later.first - 1
			}
		}
	}
}

// modeOf says whether segment i was written in unsynced mode. A headless one was in that of its neighbour.
func (l *look) modeOf(i int) bool {
	for ; i >= 0; i-- {
		if l.order[i].hasHeader() {
			return l.order[i].in.Header.Flags&segment.FlagUnsynced != 0
		}
	}
	for _, f := range l.order {
		if f.hasHeader() {
			return f.in.Header.Flags&segment.FlagUnsynced != 0
		}
	}
	return true // nobody knows: what is lost is listed
}
