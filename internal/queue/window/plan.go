// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"slices"
	"time"
	"unsafe"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// plan is one question: what a Take looks at, sorted into batches as its Want asks, at both places to read at.
type plan struct {
	want        queue.Want
	windowBytes int64
	waiters     []*waiter // first come, first served
	sides       [2]side   // of the lowest part; of the highest, if that is another
}

// side is the batches of one part. It covers the part's ready records up to tail and is carried on from append to append
// and from batch to batch, so each record is placed about once; whatever changes the covered records otherwise resets it.
//
// Invariants: batches are ascending by their first number; every loose record is above all firsts; records and bytes
// sum what is covered.
type side struct {
	*plan
	batches []*batch
	open    []*batch // those that still take records, at most maxOpenBatches
	due     int      // batches that are closed or have Min
	loose   []*Node  // met no batch while none could be opened
	tail    *Node    // last record covered, nil = none
	records int
	bytes   int64
	full    bool
	spare   []*batch
}

// batch is what one Take may get.
type batch struct {
	nodes  []*Node
	sum    int64 // in the Want's sizer
	bytes  int64
	closed bool
	due    bool
}

// waiter is a Take that waits. Whoever makes its batch ripe fills it in, takes it off its plan and signals ready.
type waiter struct {
	handle *Handle
	plan   *plan
	high   bool // it asked for the highest part first
	ready  chan struct{}
	got    []queue.Delivered
	absent int
	err    error
}

func (p *plan) start(w queue.Want) {
	p.want = w
	p.windowBytes = min(max(MinBytes, w.MaxBytes), MaxBytes)
	p.sides[0].plan, p.sides[1].plan = p, p
}

// serves says whether the plan was made for the same question, but for where it is asked first.
func (p *plan) serves(w queue.Want) bool {
	return p.want.Sizer == w.Sizer && p.want.Min == w.Min && p.want.Max == w.Max && p.want.MaxBytes == w.MaxBytes &&
		p.want.Linger == w.Linger && sameRule(p.want.Joins, w.Joins)
}

// sameRule says whether a and b are one and the same function value: the same code over the same variables. Unequal
// means nothing but that a plan cannot be shared. The language compares functions with nil only, so this compares the
// pointers that function values are.
func sameRule(a, b func(first, next *queue.Record) bool) bool {
	return *(*unsafe.Pointer)(unsafe.Pointer(&a)) == *(*unsafe.Pointer)(unsafe.Pointer(&b))
}

// reset forgets everything but the question and who waits.
func (p *plan) reset() {
	p.sides[0].reset()
	p.sides[1].reset()
}

// reset forgets all batches.
func (p *side) reset() {
	if p.tail == nil {
		return
	}
	for _, b := range p.batches {
		p.recycle(b)
	}
	clear(p.batches)
	clear(p.open)
	clear(p.loose)
	p.batches, p.open, p.loose = p.batches[:0], p.open[:0], p.loose[:0]
	p.due, p.tail, p.records, p.bytes, p.full = 0, nil, 0, 0, false
}

// extend covers what of the ready records fits the window and is not above the ceiling, if there is one.
func (p *side) extend(l *list, ceiling queue.Seq, bound bool) {
	if len(p.loose) > 0 && len(p.open) < maxOpenBatches {
		p.placeLoose()
	}
	for !p.full {
		n := l.head
		if p.tail != nil {
			n = p.tail.next
		}
		if n == nil || bound && n.seq() > ceiling {
			return
		}
		size := int64(n.Entry.Size)
		if p.records > 0 && p.bytes+size > p.windowBytes {
			p.full = true
			return
		}
		p.tail = n
		p.records++
		p.bytes += size
		p.full = p.records >= Records || p.bytes >= p.windowBytes
		if !p.place(n, len(p.loose) == 0) {
			p.loose = append(p.loose, n)
		}
	}
}

// placeLoose gives loose records, oldest first, the batches that can be opened again.
func (p *side) placeLoose() {
	kept := p.loose[:0]
	for _, n := range p.loose {
		if !p.place(n, len(kept) == 0) {
			kept = append(kept, n)
		}
	}
	clear(p.loose[len(kept):])
	p.loose = kept
}

// place puts n into the first open batch that accepts it, or into one of its own if it may open one.
func (p *side) place(n *Node, mayOpen bool) bool {
	sum, bytes := p.measure(n), int64(n.Entry.Size)
	for i := 0; i < len(p.open); i++ {
		b := p.open[i]
		if b.nodes[len(b.nodes)-1].seq() > n.seq() || !p.want.Joins(&b.nodes[0].Entry.Record, &n.Entry.Record) {
			continue
		}
		if p.passes(b.sum+sum, b.bytes+bytes) {
			p.close(i)
			i--
			continue
		}
		b.add(n, sum, bytes)
		p.judge(b, i)
		return true
	}
	if !mayOpen || len(p.open) >= maxOpenBatches {
		return false
	}
	b := p.newBatch()
	b.add(n, sum, bytes)
	p.batches = append(p.batches, b)
	p.open = append(p.open, b)
	p.judge(b, len(p.open)-1)
	return true
}

// judge marks b, at index i of the open ones, after it grew. What is above a bound is one record that travels alone.
func (p *side) judge(b *batch, i int) {
	if !b.due && b.sum >= p.want.Min {
		b.due = true
		p.due++
	}
	if p.passes(b.sum, b.bytes) {
		p.close(i)
	}
}

func (p *side) close(i int) {
	b := p.open[i]
	p.open = slices.Delete(p.open, i, i+1)
	b.closed = true
	if !b.due {
		b.due = true
		p.due++
	}
}

func (p *plan) passes(sum, bytes int64) bool {
	return p.want.Max > 0 && sum > p.want.Max || p.want.MaxBytes > 0 && bytes > p.want.MaxBytes
}

func (p *plan) measure(n *Node) int64 {
	if p.want.Sizer == queue.Bytes {
		return int64(n.Entry.Size)
	}
	return int64(n.Entry.Items)
}

// ripe returns the index of the ripe batch with the lowest first number, or -1.
func (p *side) ripe(now time.Time) int {
	if len(p.batches) == 0 {
		return -1
	}
	first := p.batches[0].nodes[0].Entry
	if p.batches[0].due || p.full || first.Ripe || now.Sub(first.Accepted) >= p.want.Linger {
		return 0
	}
	if p.due > 0 {
		for i, b := range p.batches {
			if b.due {
				return i
			}
		}
	}
	return -1
}

// ripensAt is when the first batch has waited long enough; ok is false without one.
func (p *side) ripensAt() (at time.Time, ok bool) {
	if len(p.batches) == 0 {
		return at, false
	}
	return p.batches[0].nodes[0].Entry.Accepted.Add(p.want.Linger), true
}

// remove takes batch i off the plan. The caller takes its nodes off the ready list, from the last to the first, each
// after a call of leaves, and recycles it.
func (p *side) remove(i int) *batch {
	b := p.batches[i]
	p.batches = slices.Delete(p.batches, i, i+1)
	if !b.closed {
		j := slices.Index(p.open, b)
		p.open = slices.Delete(p.open, j, j+1)
	}
	if b.due {
		p.due--
	}
	p.records -= len(b.nodes)
	p.bytes -= b.bytes
	p.full = false
	return b
}

func (p *side) leaves(n *Node) {
	if p.tail == n {
		p.tail = n.prev
	}
}

func (b *batch) add(n *Node, sum, bytes int64) {
	b.nodes = append(b.nodes, n)
	b.sum += sum
	b.bytes += bytes
}

func (p *side) newBatch() *batch {
	if k := len(p.spare); k > 0 {
		b := p.spare[k-1]
		p.spare = p.spare[:k-1]
		return b
	}
	return new(batch)
}

func (p *side) recycle(b *batch) {
	clear(b.nodes)
	*b = batch{nodes: b.nodes[:0]}
	if len(p.spare) < maxOpenBatches {
		p.spare = append(p.spare, b)
	}
}
