// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

const (
	// maxDoubts is as many records as a queue lets a cursor hold back. Beyond it all are forgotten: they live longer.
	maxDoubts = 16384
	// maxUnclear nacks with nothing but unclear answers, while the levels asked deliver others, are enough.
	maxUnclear = 10
)

// doubtKey names a record across its nacks.
type doubtKey struct {
	source uint32
	seq    uint64
}

// doubt is what is remembered of a record that every answer so far left unclear (500, Internal, Unknown) or rejected.
type doubt struct {
	nacks int
	asked uint64    // levels
	since time.Time // the first nack
}

// doubtful notes that b goes back to the queue, and reports whether it has done so often enough: the answers blame no
// endpoint, and others pass.
func (r *Router) doubtful(now time.Time, b *Batch) bool {
	if b.Piece || !b.judged {
		return false // pieces of one record would be counted for it together; no verdict is none
	}
	if !b.unclear {
		r.clear(b)
		return false
	}
	enough := len(b.Seqs) > 0
	for _, seq := range b.Seqs {
		key := doubtKey{b.Source, seq}
		d, known := r.doubts[key]
		switch {
		case known:
		case b.Attempt > 0:
			enough = false // it was cleared before, or forgotten
			continue
		default:
			d.since = now
			if len(r.doubts) >= maxDoubts {
				clear(r.doubts)
			}
		}
		d.nacks++
		d.asked |= b.asked
		r.doubts[key] = d
		enough = enough && d.nacks >= maxUnclear && r.others(d)
	}
	return enough
}

// others reports whether every level that was asked has delivered something since.
func (r *Router) others(d doubt) bool {
	for i := range r.levels {
		if d.asked>>i&1 != 0 && !r.levels[i].delivered.After(d.since) {
			return false
		}
	}
	return true
}

// clear forgets what was held against b's records.
func (r *Router) clear(b *Batch) {
	if len(r.doubts) == 0 || b.Attempt == 0 {
		return
	}
	for _, seq := range b.Seqs {
		delete(r.doubts, doubtKey{b.Source, seq})
	}
}

// stuck are the results of an attempt that nobody waits for any more.
var stuck = func() (s [maxMembers]Result) {
	for i := range s {
		s[i].Kind = exporter.Ambiguous
	}
	return s
}()
