// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// duty is what a journal owes one destination of one record. A record without a duty never comes.
type duty uint8

const (
	owed    duty = iota + 1 // it has to come
	perhaps                 // a crash came between: it may come, or not
	settled                 // it does not come in this process; the disk may not know that yet
	refused                 // likewise, until a record behind it is on the disk
)

// model is a journal in its plainest form: maps. It is what the random walk compares the real one with. Its lock is
// never held over a call of the journal.
type model struct {
	synced bool
	mu     sync.Mutex
	// The rest is guarded by mu.
	tried   int               // records appended, answered or not
	open    map[int]bool      // not answered
	answers map[int]bool      // answered with nil
	recent  map[int]time.Time // of them those that are not settled, and when
	dests   map[string]*modelDest
	frail   bool // in unsynced mode a write or sync has failed: a power cut may cost more than the last moment
	seqs    map[queue.Seq]int
}

type modelDest struct {
	state  queue.State
	duties map[int]duty
	leases map[int]bool
	gone   uint64 // items given up by limits that are known to be missing
}

func newModel(synced bool) *model {
	return &model{synced: synced, open: map[int]bool{}, answers: map[int]bool{}, recent: map[int]time.Time{},
		dests: map[string]*modelDest{}, seqs: map[queue.Seq]int{}}
}

// change makes one change.
func (m *model) change(what func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	what()
}

func (m *model) dest(name string) *modelDest {
	if m.dests[name] == nil {
		m.dests[name] = &modelDest{duties: map[int]duty{}, leases: map[int]bool{}}
	}
	return m.dests[name]
}

// begin is called before a record is appended, answered after it.
func (m *model) begin() (n int) {
	m.change(func() {
		m.tried++
		n = m.tried
		m.open[n] = true
	})
	return n
}

func (m *model) answered(n int, err error) {
	m.change(func() {
		delete(m.open, n)
		if err == nil {
			m.answers[n], m.recent[n] = true, time.Now()
		}
		for _, d := range m.dests {
			switch {
			case err != nil:
				d.duties[n] = refused
			case d.state == queue.Live:
				d.duties[n] = owed
			default:
				d.duties[n] = settled
			}
			for o, duty := range d.duties {
				if err == nil && duty == refused && o < n && m.synced {
					delete(d.duties, o)
				}
			}
		}
	})
}

// settle says that what is known is on the disk, too.
func (m *model) settle() {
	m.change(func() {
		newest := 0
		for n := range m.recent {
			newest = max(newest, n)
		}
		for _, d := range m.dests {
			maps.DeleteFunc(d.duties, func(n int, duty duty) bool {
				return duty == settled || duty == refused && n < newest
			})
		}
		clear(m.recent)
	})
}

// crashed is the model after a crash now: nobody holds anything, and what the disk may not know may come again. cut: it
// was a power cut, which in unsynced mode takes the last moment with it.
func (m *model) crashed(cut bool) *model {
	c := newModel(m.synced)
	m.change(func() {
		c.tried, c.frail, c.seqs, c.answers = m.tried, m.frail, maps.Clone(m.seqs), maps.Clone(m.answers)
		for name, d := range m.dests {
			to := c.dest(name)
			to.state, to.gone = d.state, d.gone
			for n, duty := range d.duties {
				late := cut && !m.synced && (m.frail || time.Since(m.recent[n]) <= lastMoment)
				if duty != owed || late {
					duty = perhaps
				}
				to.duties[n] = duty
			}
			for n := range m.open {
				to.duties[n] = perhaps
			}
		}
		if cut && !m.synced {
			clear(c.seqs) // numbers that are lost with their records may be given out again
		}
	})
	return c
}

// lastMoment is what a power cut may cost in unsynced mode; a sync takes no time on the disk of the tests.
const lastMoment = 200 * time.Millisecond

// came books that a record was handed out to name, and says what is wrong with that.
func (m *model) came(name string, got queue.Delivered) (n int, wrong string) {
	n, ok := numberOf(got.Body)
	if !ok || string(got.Meta) != "meta" || uint64(got.Items) != itemsOf(n) || int(got.Size) != len(got.Body) {
		return n, fmt.Sprintf("number %d holds what nobody appended: %q, %d items, %.16x…", got.Seq, got.Meta, got.Items, got.Body)
	}
	m.change(func() {
		d := m.dest(name)
		other, known := m.seqs[got.Seq]
		switch duty := d.duties[n]; {
		case known && other != n:
			wrong = fmt.Sprintf("number %d is record %d and was record %d", got.Seq, n, other)
		case duty != owed && duty != perhaps:
			wrong = fmt.Sprintf("record %d (number %d) comes although its duty is %d", n, got.Seq, duty)
		case d.leases[n]:
			wrong = fmt.Sprintf("record %d is in two leases", n)
		}
		d.leases[n], m.seqs[got.Seq] = true, n
		if m.answers[n] { // else a disk that refused it may lose it again
			d.duties[n] = owed
		}
	})
	return n, wrong
}

// resolved ends the lease of n; final says that it is resolved.
func (m *model) resolved(name string, n int, final bool) {
	m.change(func() {
		d := m.dest(name)
		delete(d.leases, n)
		if final {
			d.duties[n] = settled
		}
	})
}

// drained says that nothing is left to come for name, and returns what was owed.
func (m *model) drained(name string) (missing []int) {
	m.change(func() {
		for n, duty := range m.dest(name).duties {
			if duty == owed {
				missing = append(missing, n)
			}
			if duty == perhaps || duty == owed {
				m.dest(name).duties[n] = settled
			}
		}
	})
	slices.Sort(missing)
	return missing
}

// backlog is how many records are owed to name, at least and at most.
func (m *model) backlog(name string) (least, most int64) {
	m.change(func() {
		for _, duty := range m.dest(name).duties {
			if duty == owed {
				least++
			}
			if duty == owed || duty == perhaps {
				most++
			}
		}
	})
	return least, most
}

// itemsOf is the items of these records.
func itemsOf(records ...int) (items uint64) {
	for _, n := range records {
		items += uint64(n%5 + 1)
	}
	return items
}
