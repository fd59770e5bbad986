// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package memory is the queue of a pipeline without storage: records in memory, stored once, one cursor per destination.
//
// It stands between the processors and the delivery loops. It promises the queue contract (section 3 of the journal's
// specification) as far as memory can: every record is owed to the destinations attached when it was appended, handed
// out by lease, and resolved once; its bytes are let go exactly once; the books balance at every instant. What it
// cannot promise is survival: Close books what is left as dropped, reason shutdown. It refuses to know what a record
// holds, where it goes and why a delivery failed.
//
// One mutex guards a queue, and nothing blocks under it: functions of the caller (Record.Free, Settings.OnDrop and
// OnDead) run after it was let go. Want.Joins is the exception, it runs under the lock and must be pure and quick. The
// queue owns no goroutine; per cursor one timer runs while a Take waits for a moment.
package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Bounds of the queue contract (journal specification, section 2).
const (
	maxRecordBytes = 128 << 20 // meta and body of one record
	maxNackDelay   = time.Hour
	maxHeld        = 16384 // leased and delayed records of one cursor; a Take waits there
	windowRecords  = 1024  // how far ahead of the oldest candidate a Take looks
	minWindowBytes = 8 << 20
	maxWindowBytes = 32 << 20
	maxOpenBatches = 64
	maxSpare       = 1024 // records and places kept for reuse; more are left to the collector
)

// Reasons of drops that the queue decides itself.
const (
	ReasonOverflow = "overflow" // a destination at its limit while another was not
	ReasonShutdown = "shutdown" // unresolved when the queue was closed
)

// Settings are what the program passes to a queue. The zero value works.
type Settings struct {
	Now func() time.Time // nil = time.Now
	// OnDrop is told of every drop, OnDead of every record set aside as rejected (Dead): this queue has no place for
	// dead letters, so both are final. Called outside all locks from the goroutine whose call caused it; may be nil.
	OnDrop, OnDead func(Drop)
}

// Drop is the entry for records that were given up.
type Drop struct {
	Destination    string
	Reason         string
	Items, Records uint64
	First, Last    queue.Seq // lowest and highest number; others in between may be well
	At             time.Time
}

// Queue keeps the records of one pipeline in memory. It implements queue.Queue and queue.Roster.
type Queue struct {
	set     Settings
	effects sync.Pool // *effects; a field, so that channels never cross test bubbles
	waiters sync.Pool // *waiter

	mu struct {
		sync.Mutex
		closed  bool
		last    queue.Seq
		cursors []*cursor // every cursor, in order of birth
		live    []*cursor // those a new record is owed to
		blocked []*appender
		heirs   map[string][]inheritance // by heir
		nodes   []*node                  // spare
		records []*stored                // spare
	}
}

// stored is the one copy of a record. refs counts the cursors that owe it or lend its bytes.
type stored struct {
	queue.Record
	seq      queue.Seq
	accepted time.Time
	refs     int
}

// appender waits for room (Limit.Block). done has room for the one answer it gets.
type appender struct {
	rec  queue.Record
	done chan error
}

// effects are the calls owed to the caller once the lock is gone.
type effects struct {
	frees []func()
	drops []Drop
	dead  []Drop
}

// New returns an empty queue without cursors.
func New(set Settings) *Queue {
	if set.Now == nil {
		set.Now = time.Now
	}
	q := &Queue{set: set}
	q.effects.New = func() any { return new(effects) }
	q.waiters.New = func() any { return &waiter{ready: make(chan struct{}, 1)} }
	q.mu.heirs = make(map[string][]inheritance)
	return q
}

// Append implements queue.Queue. A destination is at its limit when its size has reached Max, so one record may take
// a size in items or bytes above it, and a record larger than the limit still passes an empty queue. When every
// destination is at its limit the answer is *queue.FullError, after waiting until ctx ends if one of them blocks.
// When only some are, each of those drops as many of its oldest unleased records as keep it from growing. With no
// destination attached the record is owed to nobody: it is freed and the answer is nil.
func (q *Queue) Append(ctx context.Context, r queue.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(r.Meta)+len(r.Body) > maxRecordBytes {
		return queue.ErrTooLarge
	}
	fx := q.lock()
	if q.mu.closed {
		q.unlock(fx)
		return queue.ErrClosed
	}
	full, block := q.fullLocked()
	if full == nil {
		q.addLocked(r, fx)
		q.unlock(fx)
		return nil
	}
	if !block {
		err := full.full()
		q.unlock(fx)
		return err
	}
	a := &appender{rec: r, done: make(chan error, 1)}
	q.mu.blocked = append(q.mu.blocked, a)
	q.unlock(fx)
	return q.waitForRoom(ctx, a)
}

// waitForRoom returns when a was added, refused because ctx ended, or the queue closed.
func (q *Queue) waitForRoom(ctx context.Context, a *appender) error {
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
	}
	fx := q.lock()
	defer q.unlock(fx)
	for i, b := range q.mu.blocked {
		if b == a {
			q.mu.blocked = slices.Delete(q.mu.blocked, i, i+1)
			if full, _ := q.fullLocked(); full != nil {
				return full.full()
			}
			q.addLocked(a.rec, fx)
			return nil
		}
	}
	return <-a.done // answered in the meantime
}

// fullLocked returns a destination that is at its limit if every one is, and whether one of them makes appends wait.
func (q *Queue) fullLocked() (full *cursor, block bool) {
	for _, c := range q.mu.live {
		if !c.atLimit() {
			return nil, false
		}
		if full == nil {
			full = c
		}
		block = block || c.dest.Limit.Block
	}
	return full, block
}

// addLocked accepts r: number, books, and a batch for whoever waits for one.
func (q *Queue) addLocked(r queue.Record, fx *effects) {
	q.mu.last++
	if len(q.mu.live) == 0 {
		if r.Free != nil {
			fx.frees = append(fx.frees, r.Free)
		}
		return
	}
	s := q.newStored()
	*s = stored{Record: r, seq: q.mu.last, accepted: q.set.Now(), refs: len(q.mu.live)}
	for _, c := range q.mu.live {
		c.add(s, fx)
	}
	for _, c := range q.mu.live {
		c.serve(s.accepted)
	}
}

// admitLocked adds records that waited for room, in the order they came, as long as there is any.
func (q *Queue) admitLocked(fx *effects) {
	for len(q.mu.blocked) > 0 {
		if full, _ := q.fullLocked(); full != nil {
			return
		}
		a := q.mu.blocked[0]
		q.mu.blocked = slices.Delete(q.mu.blocked, 0, 1)
		q.addLocked(a.rec, fx)
		a.done <- nil
	}
}

// Close implements queue.Queue: appends and takes that wait get queue.ErrClosed, what is unresolved is dropped, reason
// shutdown, leased records included. Bytes of leased records stay valid until their handles resolve them; that counts
// nothing any more. It waits for nothing, so ctx is not used.
func (q *Queue) Close(context.Context) error {
	fx := q.lock()
	defer q.unlock(fx)
	if q.mu.closed {
		return nil
	}
	q.mu.closed = true
	for _, a := range q.mu.blocked {
		a.done <- queue.ErrClosed
	}
	q.mu.blocked = nil
	for _, c := range q.mu.cursors {
		c.shutdown(fx)
	}
	q.mu.live, q.mu.nodes, q.mu.records = nil, nil, nil
	return nil
}

// lock takes the lock and opens a list of effects, unlock lets it go and carries them out.
func (q *Queue) lock() *effects {
	fx := q.effects.Get().(*effects)
	q.mu.Lock()
	return fx
}

func (q *Queue) unlock(fx *effects) {
	q.mu.Unlock()
	for i, free := range fx.frees {
		free()
		fx.frees[i] = nil
	}
	for _, d := range fx.drops {
		if q.set.OnDrop != nil {
			q.set.OnDrop(d)
		}
	}
	for _, d := range fx.dead {
		if q.set.OnDead != nil {
			q.set.OnDead(d)
		}
	}
	fx.frees, fx.drops, fx.dead = fx.frees[:0], fx.drops[:0], fx.dead[:0]
	q.effects.Put(fx)
}

func (q *Queue) newStored() *stored {
	if n := len(q.mu.records); n > 0 {
		s := q.mu.records[n-1]
		q.mu.records = q.mu.records[:n-1]
		return s
	}
	return new(stored)
}

func (q *Queue) newNode() *node {
	if n := len(q.mu.nodes); n > 0 {
		x := q.mu.nodes[n-1]
		q.mu.nodes = q.mu.nodes[:n-1]
		return x
	}
	return new(node)
}

// letGo drops a claim-free, resolved place and, with the last place, the bytes.
func (q *Queue) letGo(n *node, fx *effects) {
	if n.place != resolved || n.claims > 0 {
		return
	}
	s := n.rec
	if s.refs--; s.refs == 0 {
		if s.Free != nil {
			fx.frees = append(fx.frees, s.Free)
		}
		*s = stored{}
		if len(q.mu.records) < maxSpare && !q.mu.closed {
			q.mu.records = append(q.mu.records, s)
		}
	}
	*n = node{}
	if len(q.mu.nodes) < maxSpare && !q.mu.closed {
		q.mu.nodes = append(q.mu.nodes, n)
	}
}

var (
	_ queue.Queue  = (*Queue)(nil)
	_ queue.Roster = (*Queue)(nil)
)
