// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window

import "github.com/holdfast-telemetry/holdfast/internal/queue"

// MaxParts bounds the places to read at. Each but the lowest and the highest waits until the lowest comes to it.
const MaxParts = 8

// part is a stretch of numbers that is read by itself: those from its own from to the next part's. The first place to
// read at is in the lowest part, the second one (queue.Want.From) in the highest. A part in between was the highest
// once: what of it is in the window waits until all below it is.
//
//	numbers      1 ─────────────── from ──────────── from ─────────────►
//	parts        lowest            was the highest   highest
//	read         in order from     not now           in order from
//	             its beginning                       its beginning
//
// The owner Merges the lowest part with the next one when nothing of it is left to be handed out or to be loaded.
type part struct {
	from  queue.Seq // of the lowest: not looked at
	ready list
	bytes int64     // of ready
	first *Node     // the oldest unresolved place; of the lowest: not kept
	reach queue.Seq // the highest number that was leased
}

// Split begins a part at from, which becomes the highest; nothing above it may have been pushed but what is above all
// other numbers. It reports whether there is a new part: not, if there was one from there or from above it, or if there
// are MaxParts.
func (w *Window) Split(from queue.Seq) bool {
	top := w.parts[len(w.parts)-1]
	if from <= max(w.parted, 1) || len(w.parts) >= MaxParts {
		return false
	}
	w.parted = from
	p := &part{from: from}
	for n := top.ready.tail; n != nil && n.seq() >= from; n = top.ready.tail {
		top.ready.remove(n)
		top.bytes -= int64(n.Entry.Size)
		p.ready.insertAfter(nil, n)
		p.bytes += int64(n.Entry.Size)
	}
	for n := w.all.tail; n != nil && n.seq() >= from; n = n.older {
		p.first = n
	}
	if p.first != nil && top.first == p.first {
		top.first = nil
	}
	w.parts = append(w.parts, p)
	w.resetPlans(nil)
	return true
}

// Merge makes the two lowest parts one.
func (w *Window) Merge() {
	if len(w.parts) == 1 {
		return
	}
	p, next := w.parts[0], w.parts[1]
	if last := p.ready.tail; last == nil {
		p.ready = next.ready
	} else if next.ready.head != nil {
		last.next, next.ready.head.prev = next.ready.head, last
		p.ready.tail, p.ready.last = next.ready.tail, next.ready.last
		p.ready.n += next.ready.n
	}
	p.bytes += next.bytes
	p.reach = max(p.reach, next.reach)
	w.parts = append(w.parts[:1], w.parts[2:]...)
	w.resetPlans(nil)
}

// Parts is how many there are, 1 while the window is not split.
func (w *Window) Parts() int { return len(w.parts) }

// PartReady says how many candidates part i has, and the sum of their Size.
func (w *Window) PartReady(i int) (records int, bytes int64) {
	return w.parts[i].ready.n, w.parts[i].bytes
}

// PartLow says that the candidates of part i are fewer than a Take would look at.
func (w *Window) PartLow(i int) bool {
	p := w.parts[i]
	return p.ready.n < Records && p.bytes < w.depth
}

// EachReady calls what for the candidates of part i; it must not change the window.
func (w *Window) EachReady(i int, what func(*Entry)) {
	for n := w.parts[i].ready.head; n != nil; n = n.next {
		what(n.Entry)
	}
}

// Confine hands out nothing new: only numbers up to least, and what was handed out before. 0 = it does not. It is for an
// owner who may not know more resolved numbers that do not follow each other.
func (w *Window) Confine(least queue.Seq) {
	if least > 0 && w.confine == 0 {
		w.resetPlans(nil)
	}
	w.confine = least
}

// most is the number above which part i hands out nothing; ok is false if there is none.
func (w *Window) most(i int) (seq queue.Seq, ok bool) {
	seq, ok = w.ceiling, w.ceiling > 0
	if w.confine > 0 {
		confined := w.parts[i].reach
		if i == 0 {
			confined = max(confined, w.confine)
		}
		if !ok || confined < seq {
			seq, ok = confined, true
		}
	}
	return seq, ok
}

// partOf returns the part that has seq.
func (w *Window) partOf(seq queue.Seq) int {
	i := len(w.parts) - 1
	for i > 0 && seq < w.parts[i].from {
		i--
	}
	return i
}

// above is the oldest place above part i.
func (w *Window) above(i int) *Node {
	for i++; i < len(w.parts); i++ {
		if n := w.parts[i].first; n != nil {
			return n
		}
	}
	return nil
}

// leavesPart sees to it that n is not its part's first any more.
func (w *Window) leavesPart(n *Node) {
	i := w.partOf(n.seq())
	p := w.parts[i]
	if i == 0 || p.first != n {
		return
	}
	if p.first = n.younger; p.first != nil && w.partOf(p.first.seq()) != i {
		p.first = nil
	}
}
