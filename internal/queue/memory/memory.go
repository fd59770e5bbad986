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
// What is handed out, and when, is queue/window's work; this package holds the records, the books, the limits and the
// roster. One mutex guards a queue and its windows, and nothing blocks under it: functions of the caller (Record.Free,
// Settings.OnDrop and OnDead) run after it was let go. Want.Joins is the exception, it runs under the lock and must be
// pure and quick. The queue owns no goroutine; per cursor one timer runs while a Take waits for a moment.
package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
)

// Bounds; those of Take are in queue/window.
const (
	maxRecordBytes = 128 << 20 // meta and body of one record (journal specification, section 2)
	maxSpare       = 1024      // records kept for reuse; more are left to the collector
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
	effects sync.Pool // *effects

	mu struct {
		sync.Mutex
		closed  bool
		last    queue.Seq
		cursors []*cursor // every cursor, in order of birth
		live    []*cursor // those a new record is owed to
		blocked []*appender
		heirs   map[string][]inheritance // by heir
		spare   []*window.Entry
		owed    *effects // what Unlock carries out, nil = nothing yet
	}
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
	q.lock()
	if q.mu.closed {
		q.unlock()
		return queue.ErrClosed
	}
	full, block := q.fullLocked()
	if full == nil {
		q.addLocked(r)
		q.unlock()
		return nil
	}
	if !block {
		err := full.full()
		q.unlock()
		return err
	}
	a := &appender{rec: r, done: make(chan error, 1)}
	q.mu.blocked = append(q.mu.blocked, a)
	q.unlock()
	return q.waitForRoom(ctx, a)
}

// waitForRoom returns when a was added, refused because ctx ended, or the queue closed.
func (q *Queue) waitForRoom(ctx context.Context, a *appender) error {
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
	}
	q.lock()
	defer q.unlock()
	for i, b := range q.mu.blocked {
		if b == a {
			q.mu.blocked = slices.Delete(q.mu.blocked, i, i+1)
			if full, _ := q.fullLocked(); full != nil {
				return full.full()
			}
			q.addLocked(a.rec)
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
func (q *Queue) addLocked(r queue.Record) {
	q.mu.last++
	if len(q.mu.live) == 0 {
		if r.Free != nil {
			fx := q.fxLocked()
			fx.frees = append(fx.frees, r.Free)
		}
		return
	}
	e, now := q.newEntry(), q.set.Now()
	*e = window.Entry{Record: r, Seq: q.mu.last, Accepted: now, Refs: int32(len(q.mu.live))}
	for _, c := range q.mu.live {
		c.add(e)
	}
	for _, c := range q.mu.live {
		c.win.Serve(now)
	}
}

// admitLocked adds records that waited for room, in the order they came, as long as there is any.
func (q *Queue) admitLocked() {
	for len(q.mu.blocked) > 0 {
		if full, _ := q.fullLocked(); full != nil {
			return
		}
		a := q.mu.blocked[0]
		q.mu.blocked = slices.Delete(q.mu.blocked, 0, 1)
		q.addLocked(a.rec)
		a.done <- nil
	}
}

// Close implements queue.Queue: appends and takes that wait get queue.ErrClosed, what is unresolved is dropped, reason
// shutdown, leased records included. Bytes of leased records stay valid until their handles resolve them; that counts
// nothing any more. It waits for nothing, so ctx is not used.
func (q *Queue) Close(context.Context) error {
	q.lock()
	defer q.unlock()
	if q.mu.closed {
		return nil
	}
	q.mu.closed = true
	for _, a := range q.mu.blocked {
		a.done <- queue.ErrClosed
	}
	q.mu.blocked = nil
	for _, c := range q.mu.cursors {
		c.shutdown()
	}
	q.mu.live, q.mu.spare = nil, nil
	return nil
}

func (q *Queue) lock() { q.mu.Lock() }

// unlock lets the lock go and carries out the effects.
func (q *Queue) unlock() {
	fx := q.mu.owed
	q.mu.owed = nil
	q.mu.Unlock()
	if fx == nil {
		return
	}
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

// fxLocked is the list of effects that the next unlock carries out.
func (q *Queue) fxLocked() *effects {
	if q.mu.owed == nil {
		q.mu.owed = q.effects.Get().(*effects)
	}
	return q.mu.owed
}

func (q *Queue) newEntry() *window.Entry {
	if n := len(q.mu.spare); n > 0 {
		e := q.mu.spare[n-1]
		q.mu.spare = q.mu.spare[:n-1]
		return e
	}
	return new(window.Entry)
}

// goneLocked lets go of the bytes with the last place of e.
func (q *Queue) goneLocked(e *window.Entry) {
	if e.Refs--; e.Refs > 0 {
		return
	}
	if e.Free != nil {
		fx := q.fxLocked()
		fx.frees = append(fx.frees, e.Free)
	}
	*e = window.Entry{}
	if len(q.mu.spare) < maxSpare && !q.mu.closed {
		q.mu.spare = append(q.mu.spare, e)
	}
}

var (
	_ queue.Queue  = (*Queue)(nil)
	_ queue.Roster = (*Queue)(nil)
)
