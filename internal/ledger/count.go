// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

const (
	// slack is how far outside of its window a sink may be used: clocks of processes are read at different moments.
	slack = time.Second
	// maxLost bounds the ranges of lost items a verdict names.
	maxLost = 1000
)

// producerID names a producer of one signal.
type producerID struct {
	signal   item.Signal
	producer uint16
}

// request is what is known about one request of a producer.
type request struct {
	number      uint64
	first, last uint64
	best        State
	rejected    uint64 // of a partial success
	maybe       uint32 // attempts that may have been accepted
	endedAt     int64  // when it got its best answer
}

func (r *request) items() uint64 { return r.last - r.first + 1 }

// track is one producer's life: its requests in order, and what each place holds of it.
type track struct {
	id       producerID
	requests []request
	shelves  []*shelf // by PlaceIndex; nil where nothing arrived
}

// find returns the request that holds an item, nil if none was invoked with it.
func (t *track) find(seq uint64) *request {
	i := sort.Search(len(t.requests), func(i int) bool { return t.requests[i].last >= seq })
	if i == len(t.requests) || t.requests[i].first > seq {
		return nil
	}
	return &t.requests[i]
}

// count is a verdict in the making.
type count struct {
	notes  *Notes
	o      Options
	v      *Verdict
	each   []string // sinks that must have every item; nil: any
	tracks map[producerID]*track
	order  []*track
	stored map[PlaceKind]map[item.Signal]uint64 // arrivals that were stored
	lastAt int64                                // the last arrival at any sink
}

func newCount(n *Notes, o Options) (*count, error) {
	c := &count{notes: n, o: o, tracks: make(map[producerID]*track), stored: make(map[PlaceKind]map[item.Signal]uint64)}
	c.v = &Verdict{Run: n.Run.Name, Mode: n.Run.Mode, Want: o.Want, Signals: make(map[string]*Totals), Faults: n.Faults,
		base: n.Run.BaseMicro}
	if c.v.Want == "" {
		c.v.Want = n.Run.Want
	}
	if c.v.Want == "" {
		c.v.Want = "any"
	}
	c.v.Duplicates.Bound = n.Run.MaxDuplicates
	if o.MaxDuplicates != nil {
		c.v.Duplicates.Bound = *o.MaxDuplicates
	}
	c.o.Expect = append(slices.Clone(n.Run.Expect), o.Expect...)
	c.o.AllowDrop = append(slices.Clone(n.Run.AllowDrop), o.AllowDrop...)
	if len(o.Allow) == 0 {
		for _, text := range n.Run.Allow {
			w, err := ParseWindow(text, n.Run.Base())
			if err != nil {
				return nil, err
			}
			c.o.Allow = append(c.o.Allow, w)
		}
	}
	if names, ok := strings.CutPrefix(c.v.Want, "each:"); ok {
		c.each = strings.Split(names, ",")
		for _, name := range c.each {
			if c.named(name) < 0 {
				return nil, fmt.Errorf("want %q: there are no notes of %q", c.v.Want, name)
			}
		}
	} else if c.v.Want != "any" {
		return nil, fmt.Errorf("want %q: any or each:a,b is needed", c.v.Want)
	}
	for _, d := range n.Doubts {
		c.v.doubt("notes", "%s", d)
	}
	c.readAttempts()
	return c, nil
}

// named finds a sink, or the emergency file, by name.
func (c *count) named(name string) PlaceIndex {
	for i, p := range c.notes.Places {
		if (p.Kind == AtSink || p.Kind == InFile) && p.Name == name {
			return PlaceIndex(i)
		}
	}
	return -1
}

var ranks = map[State]int{Acked: 3, Partial: 2, Unknown: 1, Refused: 0}

// readAttempts makes the requests out of their attempts; each is worth its best one.
func (c *count) readAttempts() {
	type key struct {
		producerID
		number uint64
	}
	requests := make(map[key]*request)
	for i := range c.notes.Tried {
		a := &c.notes.Tried[i]
		id := producerID{a.Signal, a.Producer}
		r := requests[key{id, a.Request}]
		if r == nil {
			r = &request{number: a.Request, first: a.First, last: a.Last, best: Refused}
			requests[key{id, a.Request}] = r
		} else if r.first != a.First || r.last != a.Last {
			c.v.doubt("notes", "%s producer %d request %d was sent with different items", a.Signal, a.Producer, a.Request)
		}
		if a.Result.State != Refused {
			r.maybe++
		}
		if r.endedAt == 0 || ranks[a.Result.State] > ranks[r.best] {
			r.best, r.rejected, r.endedAt = a.Result.State, min(a.Result.Rejected, r.items()), max(a.Ended, a.T)
		}
	}
	for k, r := range requests {
		c.track(k.producerID).requests = append(c.track(k.producerID).requests, *r)
	}
	for _, t := range c.tracks {
		slices.SortFunc(t.requests, func(a, b request) int {
			if a.first < b.first {
				return -1
			}
			return 1
		})
		for i := 1; i < len(t.requests); i++ {
			if t.requests[i].first <= t.requests[i-1].last {
				c.v.doubt("notes", "%s producer %d used number %d twice", t.id.signal, t.id.producer, t.requests[i].first)
			}
		}
		c.order = append(c.order, t)
	}
	slices.SortFunc(c.order, func(a, b *track) int {
		if a.id.signal != b.id.signal {
			return a.id.signal.Index() - b.id.signal.Index()
		}
		return int(a.id.producer) - int(b.id.producer)
	})
}

func (c *count) track(id producerID) *track {
	t := c.tracks[id]
	if t == nil {
		t = &track{id: id, shelves: make([]*shelf, len(c.notes.Places))}
		c.tracks[id] = t
	}
	return t
}

// shelve puts every arrival where it belongs, and counts what has no place among the requests.
func (c *count) shelve() {
	c.v.Places = make([]PlaceTotals, len(c.notes.Places))
	for i, p := range c.notes.Places {
		c.v.Places[i] = PlaceTotals{Kind: p.Kind, Name: p.Name, Foreign: p.Foreign}
		c.v.Foreign += p.Foreign
		c.v.Corrupted += p.Damaged
	}
	highest := make(map[PlaceIndex]map[producerID]uint64)
	for i := range c.notes.Arrivals {
		a := &c.notes.Arrivals[i]
		kind := c.notes.Places[a.Place].Kind
		n := a.Last - a.First + 1
		if kind == AtSink {
			c.lastAt = max(c.lastAt, a.T)
		}
		if a.Flags&item.Corrupted != 0 {
			c.v.Corrupted += n
		}
		if a.Flags&item.Stripped != 0 {
			c.v.Stripped += n
		}
		id := producerID{a.Signal, a.Producer}
		t := c.tracks[id]
		for seq := a.First; seq <= a.Last; seq++ {
			var r *request
			if t != nil {
				r = t.find(seq)
			}
			if r == nil {
				c.phantom(a, seq)
				continue
			}
			if t.shelves[a.Place] == nil {
				t.shelves[a.Place] = newShelf()
			}
			for end := min(r.last, a.Last); ; seq++ {
				t.shelves[a.Place].put(seq, a.Stored)
				if seq == end {
					break
				}
			}
		}
		if !a.Stored {
			continue
		}
		c.v.Places[a.Place].Stored += n
		if c.stored[kind] == nil {
			c.stored[kind] = make(map[item.Signal]uint64)
		}
		c.stored[kind][a.Signal] += n
		if highest[a.Place] == nil {
			highest[a.Place] = make(map[producerID]uint64)
		}
		if a.First < highest[a.Place][id] {
			c.v.Places[a.Place].Inverted += n
		}
		highest[a.Place][id] = max(highest[a.Place][id], a.Last)
	}
	for _, t := range c.order {
		for i, s := range t.shelves {
			if s != nil {
				c.v.Places[i].Items += s.stored.len()
			}
		}
	}
}

func (c *count) phantom(a *Arrival, seq uint64) {
	c.v.Phantom++
	if c.v.Phantom == 1 {
		c.v.fail("phantom", "%s producer %d item %d arrived at %s, and nobody sent it", a.Signal, a.Producer, seq,
			c.notes.Places[a.Place].Name)
	}
}

// countRequests compares every item that was sent with the places it may be in.
func (c *count) countRequests() {
	for _, t := range c.order {
		word := t.id.signal.String()
		sums := c.v.Signals[word]
		if sums == nil {
			sums = &Totals{}
			c.v.Signals[word] = sums
		}
		for i := range t.requests {
			r := &t.requests[i]
			sums.Invoked += r.items()
			sums.MayBeAccepted += uint64(r.maybe) * r.items()
			switch r.best {
			case Acked:
				sums.Acked += r.items()
			case Partial:
				sums.Acked += r.items() - r.rejected
				sums.Partial += r.rejected
			case Unknown:
				sums.Unknown += r.items()
			case Refused:
				sums.Refused += r.items()
			}
			c.countItems(t, r, sums)
		}
	}
	for _, s := range c.v.Signals {
		t := &c.v.Totals
		t.Invoked += s.Invoked
		t.Acked += s.Acked
		t.Partial += s.Partial
		t.Unknown += s.Unknown
		t.Refused += s.Refused
		t.MayBeAccepted += s.MayBeAccepted
		t.Missing += s.Missing
		t.MissingElse += s.MissingElse
	}
}

func (c *count) countItems(t *track, r *request, sums *Totals) {
	wanted := []string{""}
	if c.each != nil {
		wanted = c.each
	}
	for _, at := range wanted {
		var missing uint64
		for seq := r.first; seq <= r.last; seq++ {
			if c.present(t, seq, at) {
				continue
			}
			missing++
			switch r.best {
			case Acked:
				c.missing(t, r, seq, at)
			case Unknown:
				sums.MissingElse++
			}
		}
		switch r.best {
		case Acked:
			sums.Missing += missing
		case Partial:
			// The protocol does not say which were rejected, so these are proven by number.
			if missing > r.rejected {
				sums.Missing += missing - r.rejected
				c.missing(t, r, r.first, at)
			}
			sums.MissingElse += min(missing, r.rejected)
		}
	}
	for seq := r.first; seq <= r.last; seq++ {
		c.countCopies(t, r, seq)
	}
}

// present reports whether an item is in a place that counts; at names the sink that must have it, empty for any.
func (c *count) present(t *track, seq uint64, at string) bool {
	for i, s := range t.shelves {
		if s == nil || !s.stored.has(seq) {
			continue
		}
		p := &c.notes.Places[i]
		switch p.Kind {
		case AtSink, InFile:
			if at == "" || p.Name == at {
				return true
			}
		case Queued, Parked, Dead:
			if at == "" || p.Name == "" || p.Name == at || strings.HasSuffix(p.Name, "/"+at) {
				return true
			}
		}
	}
	return false
}

// countCopies counts how often an item came, and whether it should have come at all.
func (c *count) countCopies(t *track, r *request, seq uint64) {
	sinks, seen := 0, false
	for i, s := range t.shelves {
		if s == nil || c.notes.Places[i].Kind != AtSink {
			continue
		}
		seen = seen || s.seen.has(seq)
		n := s.times(seq)
		if n == 0 {
			continue
		}
		sinks++
		if n > r.maybe && r.maybe > 0 {
			c.v.Duplicates.Ours += uint64(n - r.maybe)
		}
		if m := min(n, r.maybe); m > 1 {
			c.v.Duplicates.Resent += uint64(m - 1)
		}
	}
	if sinks > 1 && c.each == nil {
		c.v.Duplicates.Across += uint64(sinks - 1)
	}
	switch {
	case r.best == Refused && seen:
		c.v.Undead++
		if c.v.Undead == 1 {
			c.v.fail("undead", "%s producer %d item %d was refused, and arrived all the same", t.id.signal, t.id.producer, seq)
		}
	case r.best == Unknown && sinks > 0:
		c.v.Recovered++
	}
}

// missing notes an acknowledged item that is nowhere; neighbours become one range.
func (c *count) missing(t *track, r *request, seq uint64, at string) {
	last := seq
	if r.best == Partial {
		last = r.last
	}
	if n := len(c.v.LostItems); n > 0 {
		l := &c.v.LostItems[n-1]
		if l.Signal == t.id.signal.String() && l.Producer == t.id.producer && l.At == at && l.Last+1 == seq {
			l.Last = last
			return
		}
	}
	if len(c.v.LostItems) < maxLost {
		c.v.LostItems = append(c.v.LostItems, Lost{Signal: t.id.signal.String(), Producer: t.id.producer, First: seq, Last: last,
			At: at, AckedAt: r.endedAt})
	}
}
