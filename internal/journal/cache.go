// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"math"
	"sort"
	"sync/atomic"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// unfollowedBytes is how much of the tail stays in memory while nobody reads there: enough for a reader to find its way
// from the disk to the cache.
const unfollowedBytes = 4 << 20

// entryOverhead is what a record in memory costs besides its bytes.
const entryOverhead = 256

// budget is the memory of a store for records that are on disk too.
type budget struct {
	limit atomic.Int64
	used  atomic.Int64
}

func (b *budget) over() bool { return b.used.Load() > b.limit.Load() }

// cache is the tail of a journal in memory: what was written last, until every cursor has resolved it, or until the
// store's budget is used up, then oldest first. What is leased or not known durable stays: the first is being read,
// the second may have to be written again. The journal's lock guards it.
//
// Invariant: places is ascending by seq, and short or at least half of it held; bytes sums the Cost of the entries in it,
// and so does its part of the budget.
type cache struct {
	budget *budget
	places []place
	head   int // places before it are empty
	held   int // places that are not
	bytes  int64
}

type place struct {
	seq   queue.Seq
	entry *window.Entry // nil: it left
}

// add takes e in, the youngest. Its bytes are the queue's from now on.
func (c *cache) add(e *window.Entry) {
	e.Cost = int32(min(cap(e.Meta)+cap(e.Body)+entryOverhead, math.MaxInt32))
	if len(c.places) > 64 && c.held < len(c.places)/2 {
		c.compact()
	}
	c.places = append(c.places, place{e.Seq, e})
	c.held++
	c.bytes += int64(e.Cost)
	c.budget.used.Add(int64(e.Cost))
}

// compact drops the empty places, also those behind an entry that stays for long.
func (c *cache) compact() {
	kept := c.places[:0]
	for _, p := range c.places[c.head:] {
		if p.entry != nil {
			kept = append(kept, p)
		}
	}
	clear(c.places[len(kept):])
	c.places, c.head = kept, 0
}

// at returns the index of seq's place, or of the next above it.
func (c *cache) at(seq queue.Seq) int {
	p := c.places[c.head:]
	return c.head + sort.Search(len(p), func(i int) bool { return p[i].seq >= seq })
}

// find returns the entry of seq, or nil if it is not here, or not any more.
func (c *cache) find(seq queue.Seq) *window.Entry {
	if i := c.at(seq); i < len(c.places) && c.places[i].seq == seq {
		return c.places[i].entry
	}
	return nil
}

// each calls what for the entries from first to last; it may let them go.
func (c *cache) each(first, last queue.Seq, what func(*window.Entry)) {
	for i := c.at(first); i < len(c.places) && c.places[i].seq <= last; i++ {
		if e := c.places[i].entry; e != nil {
			what(e)
		}
	}
}

// free lets go of e's bytes, for whom nobody has a use any more, or who can be read from the disk again; fx calls Free
// once the lock is gone.
func (c *cache) free(i int, fx *effects) {
	e := c.places[i].entry
	c.places[i].entry = nil
	c.held--
	c.bytes -= int64(e.Cost)
	c.budget.used.Add(-int64(e.Cost))
	if e.Refs > 0 {
		e.Meta = bytes.Clone(e.Meta) // batches are made by it
	}
	e.Body, e.Keep, e.Absent = nil, nil, true
	if e.Free != nil {
		fx.frees = append(fx.frees, e.Free)
		e.Free = nil
	}
	for c.head < len(c.places) && c.places[c.head].entry == nil {
		c.head++
	}
}

// settled says that one cursor more needs e no longer, or that a lease of it ended.
func (c *cache) settled(e *window.Entry, durable queue.Seq, fx *effects) {
	if e.Refs > 0 || e.Leases > 0 || e.Seq > durable || e.Absent {
		return
	}
	if i := c.at(e.Seq); i < len(c.places) && c.places[i].entry == e {
		c.free(i, fx)
	}
}

// drop lets e's bytes go whoever owes it: the queue is closed.
func (c *cache) drop(e *window.Entry, fx *effects) {
	if i := c.at(e.Seq); i < len(c.places) && c.places[i].entry == e {
		c.free(i, fx)
	}
}

// moved says that everything up to durable is: what nobody needs goes.
func (c *cache) moved(from, durable queue.Seq, fx *effects) {
	for i := c.at(from + 1); i < len(c.places) && c.places[i].seq <= durable; i++ {
		if e := c.places[i].entry; e != nil && e.Refs == 0 && e.Leases == 0 {
			c.free(i, fx)
		}
	}
}

// trim lets the oldest go while the store is over its budget. When nobody follows, all read from disk what is long
// gone from here, and what comes in now will be gone before they are there: then little is kept.
func (c *cache) trim(durable queue.Seq, followed bool, fx *effects) {
	for i := c.head; i < len(c.places) && c.places[i].seq <= durable; i++ {
		if !c.budget.over() && (followed || c.bytes <= unfollowedBytes) {
			return
		}
		if e := c.places[i].entry; e != nil && e.Leases == 0 {
			c.free(i, fx)
		}
	}
}

// empty lets everything go that is not leased; leased entries go with their leases.
func (c *cache) empty(fx *effects) {
	for i := c.head; i < len(c.places); i++ {
		if e := c.places[i].entry; e != nil && e.Leases == 0 {
			c.free(i, fx)
		}
	}
}
