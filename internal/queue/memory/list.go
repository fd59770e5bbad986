// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// place is where an unresolved record stands with one destination.
//
//	ready ──lease──► leased ──nack──► late ──delay over, wake──► ready
//	  ▲                │ release, close of the handle
//	  └────────────────┘            from each of them: resolved
type place uint8

const (
	ready place = iota
	late
	leased
	resolved
)

// node is one record at one cursor. It lives until it is resolved and no handle claims its bytes.
type node struct {
	rec     *stored
	place   place
	attempt int
	claims  int // handles that have yet to resolve it: the lease, and older leases of closed handles
	due     time.Time
	heap    int // index among the delays while late

	older, younger *node // all unresolved records of the cursor
	prev, next     *node // the list of its place, if that is ready or late
}

func (n *node) seq() queue.Seq { return n.rec.seq }

// list is ascending by number.
type list struct {
	head, tail *node
	n          int
}

func (l *list) insertAfter(prev, n *node) {
	n.prev = prev
	if prev == nil {
		n.next, l.head = l.head, n
	} else {
		n.next, prev.next = prev.next, n
	}
	if n.next == nil {
		l.tail = n
	} else {
		n.next.prev = n
	}
	l.n++
}

// insert puts n where its number belongs. hint is where the last one went, or nil: records come back in runs. Else it
// searches from both ends at once: what comes back is mostly older than all, what is delayed mostly younger.
func (l *list) insert(n, hint *node) {
	seq := n.seq()
	if hint != nil && hint.seq() < seq && (hint.next == nil || hint.next.seq() > seq) {
		l.insertAfter(hint, n)
		return
	}
	front, back := l.head, l.tail
	for front != nil {
		if front.seq() > seq {
			l.insertAfter(front.prev, n)
			return
		}
		if back.seq() < seq {
			l.insertAfter(back, n)
			return
		}
		front, back = front.next, back.prev
	}
	l.insertAfter(nil, n)
}

func (l *list) remove(n *node) {
	if n.prev == nil {
		l.head = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		l.tail = n.prev
	} else {
		n.next.prev = n.prev
	}
	n.prev, n.next = nil, nil
	l.n--
}

// delays is a heap of late records, the one due first on top.
type delays []*node

func (d *delays) push(n *node) {
	n.heap = len(*d)
	*d = append(*d, n)
	d.up(n.heap)
}

func (d *delays) remove(n *node) {
	h := *d
	i, last := n.heap, len(h)-1
	h[i] = h[last]
	h[i].heap = i
	h[last] = nil
	*d = h[:last]
	if i < last {
		d.down(i)
		d.up(i)
	}
}

func (d delays) less(i, j int) bool {
	if d[i].due.Equal(d[j].due) {
		return d[i].seq() < d[j].seq()
	}
	return d[i].due.Before(d[j].due)
}

func (d delays) swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heap, d[j].heap = i, j
}

func (d delays) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !d.less(i, parent) {
			return
		}
		d.swap(i, parent)
		i = parent
	}
}

func (d delays) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(d) {
			return
		}
		if child+1 < len(d) && d.less(child+1, child) {
			child++
		}
		if !d.less(child, i) {
			return
		}
		d.swap(i, child)
		i = child
	}
}
