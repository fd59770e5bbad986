// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// seedVariable sets the seed of the walk; a walk that fails prints its own.
const seedVariable = "HOLDFAST_QUEUE_SEED"

// modelRecord is what the model knows of one record; candidates are those that nobody holds, that are not delayed.
type modelRecord struct {
	seq     queue.Seq
	due     time.Time
	attempt int
	holder  *modelHandle
}

// modelHandle is a handle and the records it has to resolve, by number; nil = resolved otherwise.
type modelHandle struct {
	h      *window.Handle
	closed bool
	leases map[queue.Seq]*modelRecord
}

// walker makes one random sequence of calls on a window, most of whose records are on disk, and on a list.
type walker struct {
	*testing.T
	d          *desk
	rng        *rand.Rand
	unresolved []*modelRecord // ascending
	handles    []*modelHandle
	ceiling    queue.Seq
	taken      int
}

func TestARandomWalkOverALoadedPartAgreesWithAList(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		seed = s
	}
	defer t.Logf("replay: %s=%d", seedVariable, seed)
	synctest.Test(t, func(t *testing.T) {
		w := &walker{T: t, d: newDesk(), rng: rand.New(rand.NewPCG(seed, 3))}
		w.grow(4 * window.Records)
		for step := 0; step < 2500 && !t.Failed(); step++ {
			w.once()
			w.compare(step)
		}
		if w.taken < 500 {
			t.Errorf("a walk that tests little: %d taken", w.taken)
		}
	})
}

func (w *walker) grow(n int) {
	w.d.onDisk(n, one)
	for i := range n {
		w.unresolved = append(w.unresolved, &modelRecord{seq: w.d.last - queue.Seq(n-1-i)})
	}
}

func (w *walker) once() {
	switch n := w.rng.IntN(100); {
	case n < 5:
		w.grow(w.rng.IntN(100))
	case n < 10 || len(w.handles) == 0:
		w.handles = append(w.handles, &modelHandle{h: w.d.handle(), leases: make(map[queue.Seq]*modelRecord)})
	case n < 50:
		w.take()
	case n < 85:
		w.resolve()
	case n < 88:
		w.close()
	case n < 91:
		w.settle()
	case n < 93:
		w.d.do(w.d.w.Wake)
		for _, r := range w.unresolved {
			r.due = time.Time{}
		}
	case n < 96:
		w.ceiling = 0
		if w.rng.IntN(2) == 0 {
			w.ceiling = w.d.last - queue.Seq(w.rng.IntN(len(w.unresolved)+1))
		}
		w.d.do(func() { w.d.w.SetCeiling(w.ceiling) })
	default:
		time.Sleep(time.Duration(w.rng.IntN(300)) * time.Millisecond)
		synctest.Wait()
	}
}

// next is what a Take must get, which is at most so many records.
func (w *walker) next(most int) (next []*modelRecord) {
	for _, r := range w.unresolved {
		if len(next) == min(most, window.Records) || w.ceiling > 0 && r.seq > w.ceiling {
			break
		}
		if r.holder == nil && !r.due.After(time.Now()) {
			next = append(next, r)
		}
	}
	return next
}

func (w *walker) take() {
	m := w.handles[w.rng.IntN(len(w.handles))]
	want, most := all, window.Records
	switch w.rng.IntN(4) { // few questions, so that the window keeps what it found out for each
	case 0:
		want, most = single, 1
	case 1:
		want.Max, most = 7, 7
	case 2:
		want.Max, most = 40, 40
	}
	ctx, cancel := context.WithTimeout(context.Background(), 1)
	defer cancel()
	expected := w.next(most)
	got, _, err := m.h.Take(ctx, want)
	if m.closed {
		expected = nil
	}
	if len(got) != len(expected) || (err == nil) != (len(got) > 0) {
		w.Fatalf("took %d records, %v; want %d", len(got), err, len(expected))
	}
	for i, r := range expected {
		if got[i].Seq != r.seq || got[i].Attempt != r.attempt {
			w.Fatalf("record %d, attempt %d; want %d, %d", got[i].Seq, got[i].Attempt, r.seq, r.attempt)
		}
		r.holder, m.leases[r.seq], r.due = m, r, time.Time{}
		w.taken++
	}
}

func (w *walker) resolve() {
	m := w.handles[w.rng.IntN(len(w.handles))]
	kind := queue.Kind(1 + w.rng.IntN(5))
	if w.rng.IntN(2) == 0 {
		kind = queue.Ack
	}
	var held []queue.Seq
	for seq := range m.leases {
		held = append(held, seq)
	}
	slices.Sort(held)
	w.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	held = held[:w.rng.IntN(len(held)+1)]
	delay := time.Duration(w.rng.IntN(1000)) * time.Millisecond
	act := w.d.w.Settle
	switch kind {
	case queue.Nack:
		act = func(n *window.Node) { w.d.w.Nack(n, w.d.w.Due(delay)) }
	case queue.Release:
		act = w.d.w.Release
	}
	w.d.lift(m.h, kind, act, held...)
	for _, seq := range held {
		r := m.leases[seq]
		delete(m.leases, seq)
		if r == nil || m.closed && kind != queue.Ack {
			continue
		}
		switch kind {
		case queue.Nack:
			r.holder, r.due = nil, time.Now().Add(delay)
			r.attempt++
		case queue.Release:
			r.holder = nil
		default:
			w.final(r)
		}
	}
}

// final forgets a record; who holds it still has to let go.
func (w *walker) final(r *modelRecord) {
	i := slices.Index(w.unresolved, r)
	w.unresolved = slices.Delete(w.unresolved, i, i+1)
	for _, m := range w.handles {
		if _, ok := m.leases[r.seq]; ok {
			m.leases[r.seq] = nil
		}
	}
}

func (w *walker) close() {
	i := w.rng.IntN(len(w.handles))
	m := w.handles[i]
	w.d.do(func() {
		if m.h.Close() == m.closed {
			w.Errorf("closed %v", m.closed)
		}
	})
	m.closed = true
	for _, r := range m.leases {
		if r != nil && r.holder == m {
			r.holder = nil
		}
	}
	if len(m.leases) == 0 {
		w.handles = slices.Delete(w.handles, i, i+1)
	}
}

// settle resolves a run of records, wherever they stand, as an owner that gives up data does.
func (w *walker) settle() {
	w.d.do(func() {
		skip, n := w.rng.IntN(window.Records), w.d.w.Oldest()
		for i := 0; i < skip && n != nil; i++ {
			n = n.Younger()
		}
		for i := w.rng.IntN(20); i > 0 && n != nil; i-- {
			younger := n.Younger()
			w.final(w.unresolved[skip])
			w.d.w.Settle(n)
			n = younger
		}
	})
}

func (w *walker) compare(step int) {
	w.d.Lock()
	defer w.d.Unlock()
	leased, claimed := 0, make(map[queue.Seq]bool)
	for _, r := range w.unresolved {
		if r.holder != nil {
			leased++
		}
	}
	for _, m := range w.handles {
		for seq, r := range m.leases {
			claimed[seq] = claimed[seq] || r == nil
		}
	}
	lent := 0 // resolved, and the bytes still out
	for _, resolved := range claimed {
		if resolved {
			lent++
		}
	}
	if n := w.d.w.Oldest(); w.d.w.Leased() != leased || len(w.unresolved)+lent+len(w.d.gone) != int(w.d.last) ||
		n != nil && n.Entry.Seq != w.unresolved[0].seq {
		w.Errorf("step %d: %d leased, want %d; of %d records %d unresolved, %d lent, %d gone", step, w.d.w.Leased(), leased,
			w.d.last, len(w.unresolved), lent, len(w.d.gone))
	}
	listed, ready := 0, 0
	for n := w.d.w.Oldest(); n != nil; n = n.Younger() {
		listed++
	}
	if ready, _ = w.d.w.Ready(); listed != ready+w.d.w.Held() || listed+len(w.d.disk) != len(w.unresolved) {
		w.Errorf("step %d: %d listed, %d ready, %d held, %d on disk, %d unresolved", step, listed, ready, w.d.w.Held(),
			len(w.d.disk), len(w.unresolved))
	}
}
