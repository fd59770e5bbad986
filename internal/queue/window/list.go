// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package window

// list is ascending by number.
type list struct {
	head, tail *Node
	last       *Node // where the last one was inserted, nil = unknown: records come back in runs
	n          int
}

func (l *list) insertAfter(prev, n *Node) {
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

// insert puts n where its number belongs: after the last one if that is the place, else it searches from both ends at
// once: what comes back is mostly older than all, what is delayed mostly younger.
func (l *list) insert(n *Node) {
	seq, last := n.seq(), l.last
	l.last = n
	if last != nil && last.seq() < seq && (last.next == nil || last.next.seq() > seq) {
		l.insertAfter(last, n)
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

func (l *list) remove(n *Node) {
	if l.last == n {
		l.last = n.prev
	}
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
type delays []*Node

func (d *delays) push(n *Node) {
	n.heap = len(*d)
	*d = append(*d, n)
	d.up(n.heap)
}

func (d *delays) remove(n *Node) {
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
