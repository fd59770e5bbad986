// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import "github.com/holdfast-telemetry/holdfast/internal/queue"

// counts returns the books of name, which must exist and balance.
func (r *rig) counts(name string) queue.Counts {
	r.Helper()
	r.balanced()
	for _, info := range r.roster.List() {
		if info.Name == name {
			return info.Counts
		}
	}
	r.Fatalf("%q is not listed", name)
	return queue.Counts{}
}

func (r *rig) state(name string) queue.State {
	r.Helper()
	for _, info := range r.roster.List() {
		if info.Name == name {
			return info.State
		}
	}
	return 0
}

// balanced checks the equation of the promise for every destination.
func (r *rig) balanced() {
	r.Helper()
	for _, info := range r.roster.List() {
		if c := info.Counts; c.Accepted != c.Delivered+c.Rejected+c.Queued+c.Parked+sum(c.Dropped) {
			r.Errorf("the books of %q do not balance: %+v", info.Name, c)
		}
	}
}

// booked checks the books of name.
func (r *rig) booked(name string, want queue.Counts) {
	r.Helper()
	if got := r.counts(name); !sameCounts(got, want) {
		r.Errorf("books of %q: %+v, want %+v", name, got, want)
	}
}

func sameCounts(a, b queue.Counts) bool {
	if a.Accepted != b.Accepted || a.Delivered != b.Delivered || a.Rejected != b.Rejected || a.Queued != b.Queued ||
		a.Parked != b.Parked || sum(a.Dropped) != sum(b.Dropped) {
		return false
	}
	for reason, n := range b.Dropped {
		if a.Dropped[reason] != n {
			return false
		}
	}
	return true
}

func sum(dropped map[string]uint64) (n uint64) {
	for _, items := range dropped {
		n += items
	}
	return n
}

// freed checks how often the bytes of a record were let go; only for queues that do it at once.
func (r *rig) freed(id int, times int32) {
	r.Helper()
	if s := r.mu.sent[id-1]; r.can.FreesAtOnce && s.frees.Load() != times {
		r.Errorf("record %d was freed %d times, want %d", id, s.frees.Load(), times)
	}
}
