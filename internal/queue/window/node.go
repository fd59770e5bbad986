// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// place is where a record stands with one destination.
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

// Node is one record's place at one cursor. It lives until it is resolved and no handle claims its bytes; then it is
// used again for another record.
type Node struct {
	Entry   *Entry // not to be replaced
	place   place
	attempt int
	claims  int // handles that have yet to resolve it: the lease, and older leases of closed handles
	due     time.Time
	heap    int // index among the delays while late

	older, younger *Node // all unresolved places of the window
	prev, next     *Node // the list of its place, if that is ready or late
}

// Younger is the unresolved place with the next higher number in the window, nil without one.
func (n *Node) Younger() *Node { return n.younger }

// Leased says that the record is handed out.
func (n *Node) Leased() bool { return n.place == leased }

// Attempt is how often the record was nacked here.
func (n *Node) Attempt() int { return n.attempt }

func (n *Node) seq() queue.Seq { return n.Entry.Seq }

// link puts n into all, the youngest of part i; unlink takes it off.
func (w *Window) link(n *Node, i int) {
	next := w.above(i)
	if n.younger = next; next != nil {
		n.older, next.older = next.older, n
	} else {
		n.older, w.all.tail = w.all.tail, n
	}
	if n.older == nil {
		w.all.head = n
	} else {
		n.older.younger = n
	}
	if p := w.parts[i]; i > 0 && p.first == nil {
		p.first = n
	}
}

func (w *Window) unlink(n *Node) {
	if len(w.parts) > 1 {
		w.leavesPart(n)
	}
	if n.older == nil {
		w.all.head = n.younger
	} else {
		n.older.younger = n.younger
	}
	if n.younger == nil {
		w.all.tail = n.older
	} else {
		n.younger.older = n.older
	}
	n.older, n.younger = nil, nil
}
