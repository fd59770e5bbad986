// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// span is a run of numbers owed to a cursor, both ends included. The last one is open while the cursor is live.
type span struct{ from, to queue.Seq }

const openEnd = queue.Seq(math.MaxUint64)

// inheritance is what an heir got from one parked cursor.
type inheritance struct {
	name  string
	spans []span
}

// Prepare implements queue.Roster. For a name that has a cursor it only takes over limits and exporters, from now on;
// a lower limit drops nothing.
func (q *Queue) Prepare(d queue.Destination) error {
	if d.Name == "" {
		return errors.New("prepare destination: no name")
	}
	q.lock()
	defer q.unlock()
	if q.mu.closed {
		return fmt.Errorf("prepare destination %q: %w", d.Name, queue.ErrClosed)
	}
	d.Exporters = slices.Clone(d.Exporters)
	c := q.find(d.Name)
	if c == nil {
		c = q.addCursor(d.Name, queue.Prepared)
	}
	if c.state == queue.Done {
		c.state = queue.Prepared
	}
	c.dest = d
	q.admitLocked()
	return nil
}

// Attach implements queue.Queue. A name that was not prepared gets no limit. On a closed queue the handle's Take
// returns queue.ErrClosed.
func (q *Queue) Attach(name string) queue.Cursor {
	q.lock()
	defer q.unlock()
	c := q.find(name)
	if c == nil {
		c = q.addCursor(name, queue.Prepared)
	}
	if c.state != queue.Live && !q.mu.closed {
		q.disinherit(c)
		c.state = queue.Live
		c.spans = append(c.spans, span{from: q.mu.last + 1, to: openEnd})
		q.mu.live = append(q.mu.live, c)
		c.changed()
	}
	return newHandle(c)
}

// Detach implements queue.Roster. Leases that are out may still be resolved. With nothing left the cursor is done.
func (q *Queue) Detach(name string) {
	q.lock()
	defer q.unlock()
	c := q.find(name)
	if c == nil || q.mu.closed || c.state != queue.Live && c.state != queue.Prepared {
		return
	}
	q.endLive(c)
	c.state = queue.Parked
	if c.records == 0 {
		c.state = queue.Done
	}
	q.admitLocked()
}

// Inherit implements queue.Roster. Numbers the heir is owed already, by its own cursor here or by an earlier
// inheritance, become not owed, so the heir gets each record once. A second heir is an error; the same heir again gets
// one more handle. The inheritance ends when the name is attached again.
func (q *Queue) Inherit(name, heir string) (queue.Cursor, error) {
	q.lock()
	defer q.unlock()
	c := q.find(name)
	switch {
	case q.mu.closed:
		return nil, fmt.Errorf("inherit %q: %w", name, queue.ErrClosed)
	case c == nil:
		return nil, fmt.Errorf("inherit %q: no such destination", name)
	case name == heir:
		return nil, fmt.Errorf("inherit %q: it cannot be its own heir", name)
	case c.state != queue.Parked:
		return nil, fmt.Errorf("inherit %q: it is not parked", name)
	case c.heir != "" && c.heir != heir:
		return nil, fmt.Errorf("inherit %q: %q is its heir already", name, c.heir)
	}
	if c.heir == "" {
		q.takeOff(c, heir)
		c.heir = heir
		q.mu.heirs[heir] = append(q.mu.heirs[heir], inheritance{name: name, spans: slices.Clone(c.spans)})
	}
	return newHeir(c, heir), nil
}

// Disinherit implements queue.Roster.
func (q *Queue) Disinherit(name string) {
	q.lock()
	defer q.unlock()
	if c := q.find(name); c != nil && !q.mu.closed {
		q.disinherit(c)
	}
}

// takeOff makes not owed what of c the heir is owed already.
func (q *Queue) takeOff(c *cursor, heir string) {
	var owed []span
	if h := q.find(heir); h != nil {
		owed = append(owed, h.spans...)
	}
	for _, i := range q.mu.heirs[heir] {
		owed = append(owed, i.spans...)
	}
	for n := c.win.Oldest(); n != nil; {
		younger, e := n.Younger(), n.Entry
		for _, s := range owed {
			if s.from <= e.Seq && e.Seq <= s.to {
				c.books.accepted -= uint64(e.Items)
				c.settle(n)
				break
			}
		}
		n = younger
	}
}

// Forget implements queue.Roster. Leases that are out only let go of their bytes then. The books stay in the list.
func (q *Queue) Forget(name string) queue.Counts {
	q.lock()
	defer q.unlock()
	c := q.find(name)
	if c == nil {
		return queue.Counts{}
	}
	if q.mu.closed {
		return c.counts()
	}
	q.endLive(c)
	q.disinherit(c)
	c.forget()
	c.state, c.spans = queue.Done, nil
	q.admitLocked()
	return c.counts()
}

// List implements queue.Roster, in the order the names came.
func (q *Queue) List() []queue.Info {
	q.lock()
	defer q.unlock()
	now := q.set.Now()
	infos := make([]queue.Info, len(q.mu.cursors))
	for i, c := range q.mu.cursors {
		infos[i] = queue.Info{
			Name: c.dest.Name, Exporters: slices.Clone(c.dest.Exporters), State: c.state, Heir: c.heir,
			Counts: c.counts(), Oldest: c.oldest(now),
		}
	}
	return infos
}

// Counts returns the books of one destination; false says that the name is unknown.
func (q *Queue) Counts(name string) (queue.Counts, bool) {
	q.lock()
	defer q.unlock()
	if c := q.find(name); c != nil {
		return c.counts(), true
	}
	return queue.Counts{}, false
}

func (q *Queue) find(name string) *cursor {
	for _, c := range q.mu.cursors {
		if c.dest.Name == name {
			return c
		}
	}
	return nil
}

func (q *Queue) addCursor(name string, s queue.State) *cursor {
	c := &cursor{q: q, dest: queue.Destination{Name: name}, state: s}
	c.win = window.New(c, c.merge)
	if q.mu.closed {
		c.win.Close()
	}
	q.mu.cursors = append(q.mu.cursors, c)
	return c
}

// endLive stops owing new records to c.
func (q *Queue) endLive(c *cursor) {
	for i, l := range q.mu.live {
		if l == c {
			q.mu.live = slices.Delete(q.mu.live, i, i+1)
			c.spans[len(c.spans)-1].to = q.mu.last
			return
		}
	}
}

// disinherit ends the service of c's heir. What the heir got is forgotten with it: should another cursor with the same
// numbers come to that heir, it repeats some rather than skip any.
func (q *Queue) disinherit(c *cursor) {
	if c.heir == "" {
		return
	}
	q.mu.heirs[c.heir] = slices.DeleteFunc(q.mu.heirs[c.heir], func(i inheritance) bool { return i.name == c.dest.Name })
	c.heir = ""
}
