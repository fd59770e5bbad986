// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// seedVariable sets the seed of every walk; a walk that fails prints its own.
const seedVariable = "HOLDFAST_QUEUE_SEED"

var walkRules = []rule{
	{"a random walk over three destinations without limits agrees with the model", walkWith(walkSettings{steps: 4000})},
	{"a random walk with a limit at each destination agrees with the model", walkWith(walkSettings{steps: 4000, limits: true})},
	{"a random walk with a changing roster agrees with the model", walkWith(walkSettings{steps: 4000, limits: true, roster: true})},
	{"a random walk over a long backlog agrees with the model", walkWith(walkSettings{steps: 1500, backlog: 3 * windowRecords})},
	{"a random walk that takes fresh records first agrees with the model", walkWith(walkSettings{steps: 2500, roster: true, fresh: true})},
	{"a random walk that takes fresh records beside a long backlog agrees with the model", walkWith(walkSettings{steps: 1500,
		backlog: 3 * windowRecords, fresh: true})},
}

type walkSettings struct {
	steps   int
	backlog int
	limits  bool
	roster  bool
	fresh   bool // some Takes ask for fresh records first
}

// walk is one random sequence of calls, made on a queue and on the model.
type walk struct {
	*rig
	set     walkSettings
	rng     *rand.Rand
	model   model
	handles []*modelHandle
	wants   []queue.Want
	step    int
	taken   int
	refused int
	fresh   queue.Seq
	ahead   int // records taken before older ones
}

func walkWith(set walkSettings) func(*rig) {
	return func(r *rig) {
		seed := rand.Uint64()
		if s, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
			seed = s
		}
		w := &walk{rig: r, set: set, rng: rand.New(rand.NewPCG(seed, 1)), model: model{drops: r.can.DropsOverflow}}
		defer func() { r.Logf("replay: %s=%d, %d steps", seedVariable, seed, w.step) }()
		w.begin()
		for w.step = 1; w.step <= set.steps && !r.Failed(); w.step++ {
			w.once()
			w.compare()
		}
		if w.set.fresh && w.ahead == 0 {
			r.Error("a walk in which nothing was taken ahead of older records")
		}
		if w.taken == 0 || set.limits && w.refused == 0 && w.dropped() == 0 {
			r.Errorf("a walk that tests little: %d taken, %d refused", w.taken, w.refused)
		}
	}
}

func (w *walk) begin() {
	for i, name := range []string{"a", "b", "c"} {
		c := &modelCursor{name: name, state: queue.Live, books: queue.Counts{Dropped: make(map[string]uint64)}}
		if w.set.limits {
			c.limit = []queue.Limit{
				{Max: int64(1 + w.rng.IntN(40))}, {Sizer: queue.Items, Max: int64(100 + w.rng.IntN(300))},
				{Max: int64(1 + w.rng.IntN(10)), BatchItems: 32},
			}[i]
		}
		w.model.cursors = append(w.model.cursors, c)
		w.handles = append(w.handles, &modelHandle{cursor: w.attach(name, c.limit), of: c})
		w.handles = append(w.handles, &modelHandle{cursor: w.q.Attach(name), of: c})
	}
	for range 6 {
		w.wants = append(w.wants, w.newWant())
	}
	w.wants = append(w.wants, single, all)
	for range w.set.backlog {
		w.append()
	}
	w.fresh = w.model.last + 1
}

func (w *walk) newWant() queue.Want {
	x := queue.Want{Sizer: queue.Items, Joins: together, Linger: time.Duration(w.rng.IntN(100)) * time.Millisecond}
	if w.rng.IntN(2) == 0 {
		x.Joins = sameKey
	}
	scale := int64(1)
	if w.rng.IntN(3) == 0 {
		x.Sizer, scale = queue.Bytes, 100
	}
	if w.rng.IntN(3) > 0 {
		x.Max = scale * int64(1+w.rng.IntN(100))
	}
	if w.rng.IntN(2) == 0 {
		x.Min = scale * int64(w.rng.IntN(100))
		if x.Max > 0 {
			x.Min = min(x.Min, x.Max)
		}
	}
	if w.rng.IntN(3) == 0 {
		x.MaxBytes = int64(1 + w.rng.IntN(10000))
	}
	return x
}

func (w *walk) once() {
	switch n := w.rng.IntN(100); {
	case n < 40:
		w.append()
	case n < 65:
		w.take()
	case n < 88:
		w.resolve()
	case n < 93:
		time.Sleep(time.Duration(w.rng.IntN(100)) * time.Millisecond)
	case n < 95:
		w.wake()
	case n < 98 || !w.set.roster:
		w.reopen()
	default:
		w.reroster()
	}
}

func (w *walk) append() {
	refuse := w.model.refuses()
	id, err := w.tryAppend(context.Background(), uint32(w.rng.IntN(21)), uint32(w.rng.IntN(3000)), string(rune('p'+w.rng.IntN(5))))
	var full *queue.FullError
	switch {
	case refuse && !errors.As(err, &full):
		w.Errorf("append at every limit: %v", err)
	case refuse:
		w.refused++
	case err != nil:
		w.Errorf("append: %v", err)
	default:
		w.model.append(w.mu.sent[id-1], time.Now())
	}
}

func (w *walk) take() {
	h := w.handles[w.rng.IntN(len(w.handles))]
	if h.closed {
		return
	}
	want := w.wants[w.rng.IntN(len(w.wants))]
	if w.set.fresh {
		want.From = w.from()
	}
	var ids []int
	expected := h.of.next(want, time.Now())
	for _, e := range expected {
		ids = append(ids, e.sent.id)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x := w.goTake(ctx, h.cursor, want)
	cancel()
	got, err := x.returns()
	if !slices.Equal(idsOf(got), ids) || (err == nil) != (len(ids) > 0) {
		w.Errorf("step %d: %q gave %v, %v; want %v, of %+v", w.step, h.of.name, idsOf(got), err, ids, want)
		return
	}
	for i, e := range expected {
		if d := got[i]; d.Attempt != e.attempt || !d.Accepted.Equal(e.accepted) {
			w.Errorf("step %d: record %d: attempt %d accepted %v, want %d, %v", w.step, e.sent.id, d.Attempt, d.Accepted, e.attempt, e.accepted)
		}
		if d := got[i]; d.Seq != e.seq {
			w.Errorf("step %d: record %d has number %d, want %d", w.step, e.sent.id, d.Seq, e.seq)
		}
		e.holder, e.due = h, time.Time{}
		h.leases = append(h.leases, modelLease{entry: e, got: got[i]})
		w.taken++
	}
	if len(expected) > 0 {
		h.of.merge(time.Now())
		if len(h.of.froms) > 0 && want.From > 0 {
			w.ahead++
		}
	}
}

// from is the number from which a Take asks for records first: mostly one that was asked for before, as whoever drains a
// backlog does.
func (w *walk) from() queue.Seq {
	switch n := w.rng.IntN(40); {
	case n < 18:
		return 0
	case n > 0 && n < 38:
		return w.fresh
	case n == 38:
		w.fresh = w.model.last + 1
	default:
		w.fresh = queue.Seq(w.rng.Int64N(int64(w.model.last) + 2))
	}
	return w.fresh
}

func (w *walk) resolve() {
	h := w.handles[w.rng.IntN(len(w.handles))]
	if len(h.leases) == 0 {
		return
	}
	o := queue.Outcome{Kind: queue.Kind(1 + w.rng.IntN(5)), Reason: reason}
	if w.rng.IntN(2) == 0 {
		o.Kind = queue.Ack
	}
	if o.Kind == queue.Nack {
		o.Delay = time.Duration(w.rng.IntN(300)) * time.Millisecond
		if w.rng.IntN(5) == 0 {
			o.Delay = 0
		}
	}
	n := 1 + w.rng.IntN(len(h.leases))
	if o.Kind == queue.Ack && w.rng.IntN(3) == 0 {
		n, o.Rejected = 1, uint32(w.rng.IntN(25))
	}
	w.rng.Shuffle(len(h.leases), func(i, j int) { h.leases[i], h.leases[j] = h.leases[j], h.leases[i] })
	now := time.Now()
	var got []queue.Delivered
	for _, l := range h.leases[:n] {
		got = append(got, l.got)
		h.resolve(o, l.entry, now)
	}
	h.leases = slices.Delete(h.leases, 0, n)
	w.rig.resolve(h.cursor, o, got...)
}

func (w *walk) wake() {
	h := w.handles[w.rng.IntN(len(w.handles))]
	if h.closed {
		return
	}
	h.cursor.Wake()
	for _, e := range h.of.entries {
		e.due = time.Time{}
	}
}

// reopen closes a handle and opens another one of the same cursor if that is live.
func (w *walk) reopen() {
	i := w.rng.IntN(len(w.handles))
	h := w.handles[i]
	h.cursor.Close()
	h.close()
	if h.of.state == queue.Live {
		w.handles = append(w.handles, &modelHandle{cursor: w.q.Attach(h.of.name), of: h.of})
	}
	if len(h.leases) == 0 {
		w.handles = slices.Delete(w.handles, i, i+1)
	}
}

// reroster parks, forgets or brings back a destination. One stays, since a record owed to nobody is nowhere.
func (w *walk) reroster() {
	c := w.model.cursors[w.rng.IntN(2)]
	switch {
	case c.state != queue.Live:
		w.handles = append(w.handles, &modelHandle{cursor: w.q.Attach(c.name), of: c})
		c.state = queue.Live
	case w.rng.IntN(3) == 0:
		c.forget()
		if n := w.roster.Forget(c.name); n.Delivered != c.books.Delivered {
			w.Errorf("step %d: forgot %+v, want %+v", w.step, n, c.books)
		}
	default:
		w.roster.Detach(c.name)
		c.state = queue.Parked
		if len(c.entries) == 0 {
			c.state = queue.Done
		}
	}
}

// compare checks what the queue says of itself.
func (w *walk) compare() {
	synctest.Wait()
	for _, info := range w.roster.List() {
		i := slices.IndexFunc(w.model.cursors, func(c *modelCursor) bool { return c.name == info.Name })
		c := w.model.cursors[i]
		if want := c.counts(); !sameCounts(info.Counts, want) || info.State != c.state {
			w.Errorf("step %d: %q is in state %d with %+v, want %d with %+v", w.step, c.name, info.State, info.Counts, c.state, want)
		}
	}
	w.balanced()
	h := w.handles[w.rng.IntN(len(w.handles))]
	f := h.cursor.Fill()
	f.Oldest = 0
	want := h.of.fill()
	want.Last = w.model.last
	if f != want {
		w.Errorf("step %d: fill of %q: %+v, want %+v", w.step, h.of.name, f, want)
	}
}

func (w *walk) dropped() (n uint64) {
	for _, c := range w.model.cursors {
		n += sum(c.books.Dropped)
	}
	return n
}
