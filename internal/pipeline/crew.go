// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// worker takes batches, sends them and resolves them. There are as many as were ever needed at once: one for each
// attempt in flight and those that take, never more of these than batches could be sent at once. One that has nothing
// to do waits for work; it is started once, since an attempt needs a deep stack.
type worker struct {
	x      *dispatch
	work   chan *sending // of one place; nil = take a batch
	ctx    context.Context
	cancel context.CancelFunc
	chores chores
	takes  *term     // set: it is one of the takers
	from   queue.Seq // where it takes, see Want.From
	astray bool      // its attempt was given up: nobody waits for it
}

// term is how long batches are wanted.
type term struct {
	ctx context.Context
	end context.CancelFunc
}

// assign gives an attempt, or nil for a taker's work, to a worker that has none.
func (x *dispatch) assign(a *sending) {
	m := &x.mu
	var w *worker
	if n := len(m.idle); n > 0 {
		w, m.idle = m.idle[n-1], m.idle[:n-1]
	} else {
		w = &worker{x: x, work: make(chan *sending, 1)}
		w.ready()
		x.crew.Add(1)
		go w.run()
	}
	if a == nil {
		w.takes, w.from = x.term(), x.besideLocked()
	} else {
		w.has(a)
	}
	w.work <- a // has room: it is idle
}

// term is the present one.
func (x *dispatch) term() *term {
	if x.mu.taking == nil {
		t := &term{}
		t.ctx, t.end = context.WithCancel(x.take)
		x.mu.taking = t
	}
	return x.mu.taking
}

// mayTake reports whether one more worker may take a batch.
func (x *dispatch) mayTake() bool {
	m := &x.mu
	return m.wanted && !m.dry && x.own != nil && !x.several && m.takers < m.router.Free()
}

// callTaker sees to it that somebody takes when batches are wanted, and nobody when they are not.
func (x *dispatch) callTaker() {
	m := &x.mu
	switch {
	case m.takers == 0 && x.mayTake():
		m.takers++
		x.assign(nil)
	case m.takers > 0 && !m.wanted && m.taking != nil:
		m.taking.end()
		m.taking = nil
	}
}

// wants reports whether batches are wanted; for those that take while the queue is drained.
func (x *dispatch) wants() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.mu.wanted && !x.mu.dry
}

// ready makes a worker's attempts possible to cancel, one by one.
func (w *worker) ready() {
	if w.ctx == nil || w.ctx.Err() != nil {
		w.ctx, w.cancel = context.WithCancel(w.x.send)
	}
}

// has makes a the worker's attempt.
func (w *worker) has(a *sending) { a.worker, a.cancel = w, w.cancel }

func (w *worker) run() {
	a, more := <-w.work, true
	for more && !w.astray {
		switch {
		case a != nil:
			a = w.send(a)
		case w.takes != nil:
			a = w.take()
		default:
			a, more = w.rest()
		}
	}
	if !w.astray {
		w.cancel()
		w.x.crew.Done()
	}
}

// rest waits until there is something to do; false when nothing comes any more.
func (w *worker) rest() (*sending, bool) {
	x := w.x
	x.mu.Lock()
	if x.mayTake() {
		x.mu.takers++
		w.takes, w.from = x.term(), x.besideLocked()
		x.mu.Unlock()
		return nil, true
	}
	x.mu.idle = append(x.mu.idle, w)
	x.mu.Unlock()
	select {
	case a := <-w.work:
		return a, true
	case <-x.over:
		return nil, false
	}
}

// take takes a batch and returns the attempt that came of it.
func (w *worker) take() *sending {
	x := w.x
	batch, err := x.next(w.takes.ctx, x.wants, w.from)
	if err == nil {
		if batch = x.unkept(x.own, batch); len(batch) == 0 {
			return nil // and takes again
		}
	}
	now := time.Now()
	x.mu.Lock()
	w.takes = nil
	x.mu.takers--
	if err != nil {
		x.mu.dry = x.mu.dry || errors.Is(err, errDry)
		return x.unlock(&w.chores)
	}
	w.chores.worker = w
	x.arrive(&w.chores, now, job{x.own, batch})
	w.goOn()
	return x.unlock(&w.chores)
}

// send makes an attempt, and returns the next one that came of it.
func (w *worker) send(a *sending) *sending {
	x := w.x
	now := a.run(w.ctx)
	x.mu.Lock()
	if w.astray {
		x.mu.Unlock()
		x.meter.freed(a.level)
		return nil
	}
	w.ready()
	w.chores.worker = w
	x.step(&w.chores, now, x.heard(a))
	w.goOn()
	return x.unlock(&w.chores)
}

// goOn makes a worker that has nothing to send a taker, if there can be one more: it need not be woken for that.
func (w *worker) goOn() {
	if w.chores.own == nil && w.takes == nil && w.x.mayTake() {
		w.x.mu.takers++
		w.takes, w.from = w.x.term(), w.x.besideLocked()
	}
}

// chores are what a step leaves to whoever took it, for when the lock is given back.
type chores struct {
	worker *worker // who may make an attempt itself
	once   *once   // the request that does
	own    *sending
	ends   []ended
	says   []said
	wake   bool // what rests in the queue is to be offered again
}

// ended is a load that left, or a record whose last piece did.
type ended struct {
	load   *load
	effect failover.RouterEffect
	record bool // of pieces: all of them have ended, and the outcome is settled
}

// said is a line about an exporter that does not take a batch.
type said struct {
	by      *sender
	verdict exporter.Verdict
	wait    time.Duration
}

func (c *chores) say(by *sender, l *load, wait time.Duration) {
	if l.last.Kind != 0 {
		c.says = append(c.says, said{by, l.last, wait})
	}
}

// perform does what was left. Nobody else has to do with what ended.
func (x *dispatch) perform(c *chores) {
	for i := range c.says {
		s := &c.says[i]
		s.by.retrying(s.verdict, s.wait)
	}
	for i := range c.ends {
		x.conclude(&c.ends[i])
	}
	if c.wake {
		x.delivery.wake()
	}
	clear(c.says)
	clear(c.ends)
	c.says, c.ends, c.wake, c.worker = c.says[:0], c.ends[:0], false, nil
}
