// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// How long somebody may take to confirm a trial: whether it does harm shows within seconds, and a way back that is kept
// warm for longer than a day holds up its memory.
const (
	MinConfirm = time.Second
	MaxConfirm = 24 * time.Hour
)

// Ask is what a request wants.
type Ask struct {
	Source string // who asks, a fixed word: SIGHUP, reload, watch
	Force  bool   // skips hold and preflight
	Expect string // hash to wait for, at most expectLimit, before anything is asked; "" = take what is there
	// Confirm, MinConfirm to MaxConfirm: the trial lasts until Confirm is called, and is undone after so long; 0 = an
	// ordinary trial.
	Confirm time.Duration
	Begun   bool // wait until it is on trial, or ended before that: then the Outcome is OnTrial
	// Back offers the stored configuration To instead of what the sources say, which are not changed; To 0 = what ran before.
	Back bool
	To   Generation
}

// Request asks for the sources to be read again and waits for what becomes of it: a trial takes its time. A result
// always comes, at the latest when ctx ends; then it says that it is not known yet, with an Outcome of "". May be
// called from any goroutine, before Start too; after Stop it answers Rejected.
func (d *Driver) Request(ctx context.Context, ask Ask) Result {
	if ask.Expect != "" {
		if res, ok := d.expect(ctx, ask.Expect); !ok {
			return res
		}
	}
	return d.wait(ctx, Event{Kind: EventRequested, Request: Request{Source: ask.Source, Force: ask.Force, Confirm: ask.Confirm,
		Begun: ask.Begun, Back: ask.Back, To: ask.To}})
}

// wait puts an event in front of the loop and returns what comes of it.
func (d *Driver) wait(ctx context.Context, ev Event) Result {
	id, result := d.inbox.add(ev)
	select {
	case res := <-result:
		return res
	case <-ctx.Done():
		d.inbox.leave(id)
		return Result{Reason: NoReason, Text: fmt.Sprintf("still %s: %v", d.Snapshot().State, context.Cause(ctx))}
	}
}

// Notify is a request nobody waits for (SIGHUP). One that is not looked at yet stands for all that come meanwhile.
func (d *Driver) Notify(source string) { d.inbox.notify(source) }

// Confirm says that the trial which waits for it went well: Committed, or Rejected where none waits, or one of another
// hash than expect, of which first digits are enough; "" = whatever waits. May be called from any goroutine.
func (d *Driver) Confirm(ctx context.Context, expect string) Result {
	return d.wait(ctx, Event{Kind: EventConfirmed, Request: Request{Expect: expect}})
}

// expect waits until the sources have a hash: a mounted file arrives when it arrives.
func (d *Driver) expect(ctx context.Context, hash string) (Result, bool) {
	ctx, cancel := context.WithTimeout(ctx, expectLimit)
	defer cancel()
	found := ""
	for {
		texts, err := d.read(ctx, d.set.Reader)
		if err == nil {
			if found = HashOf(texts); strings.EqualFold(found, hash) {
				return Result{}, true
			}
		}
		if pause(ctx, expectEvery) != nil {
			text := fmt.Sprintf("the text with hash %s did not come; there is %s", hash, found)
			if err != nil {
				text = fmt.Sprintf("the text with hash %s did not come: %v", hash, err)
			}
			return Result{Outcome: Rejected, Reason: ReasonExpected, Hash: found, Text: text}, false
		}
	}
}

func (d *Driver) read(ctx context.Context, r Reader) (texts []Text, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = d.panicked("read", p)
		}
	}()
	return r.Read(ctx)
}

// inbox is where requests wait for the loop. It is bounded by those who ask: each waits for its result.
type inbox struct {
	wake chan struct{} // one place: there is something
	mu   sync.Mutex
	// The rest is guarded by mu.
	last     uint64
	waiting  []Event
	results  map[uint64]chan Result // each with one place
	notified bool                   // one of the waiting is of nobody
	closed   bool
}

func (b *inbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) add(ev Event) (uint64, <-chan Result) {
	result := make(chan Result, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		result <- Result{Outcome: Rejected, Reason: ReasonStopping, Text: "the process is stopping"}
		return 0, result
	}
	b.last++
	ev.Request.ID = b.last
	if b.results == nil {
		b.results = map[uint64]chan Result{}
	}
	b.results[b.last] = result
	b.waiting = append(b.waiting, ev)
	b.ring()
	return b.last, result
}

func (b *inbox) notify(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.notified || b.closed {
		return
	}
	b.notified = true
	b.waiting = append(b.waiting, Event{Kind: EventRequested, Request: Request{Source: source}})
	b.ring()
}

func (b *inbox) leave(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.results, id)
}

func (b *inbox) take() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.waiting
	b.waiting, b.notified = nil, false
	return all
}

func (b *inbox) answer(id uint64, res Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if result := b.results[id]; result != nil {
		result <- res
		delete(b.results, id)
	}
}

func (b *inbox) close() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	all := b.waiting
	b.waiting = nil
	return all
}
