// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// act does one thing. What comes of it at once is the event it returns; what takes time answers later.
func (d *Driver) act(ctx context.Context, a *Action) (Event, bool) {
	switch a.Kind {
	case ActionLoad:
		d.beginLoad(ctx, a)
	case ActionPrepare:
		d.beginPrepare(ctx, a)
	case ActionCancel:
		if d.cancel != nil {
			d.cancel()
		}
	case ActionUnwind, ActionRetire:
		d.retire(ctx, a.Generation)
	case ActionSwitch:
		return d.switchTo(a.Generation), true
	case ActionCommit:
		if in := d.instances[a.Generation]; in != nil {
			d.guard("commit", a.Generation, func() { in.Commit() })
		}
	case ActionRefresh:
		d.refresh(ctx, a.Generation)
	case ActionWriteAttempt:
		d.writeAttempt(a.Attempt)
	case ActionClearAttempt:
		d.keep("attempt", func() error { return d.store.ClearAttempt() })
	case ActionStoreGood:
		return Event{Kind: EventStored, Generation: a.Generation, Err: d.storeGood(a)}, true
	case ActionAnswer:
		d.show() // who is told looks at the status next
		d.inbox.answer(a.Request, a.Result)
	case ActionTell:
		d.tell(a)
	case ActionGiveUp:
		d.bootOver(a.Err)
	}
	return Event{}, false
}

// writeAttempt keeps, with an attempt, who delivered until now: the process may be killed in the trial, and the one after it
// is to judge the trial by that. The baseline on disk may be a minute old, or not be there yet.
func (d *Driver) writeAttempt(a Attempt) {
	if s := d.sample(); s != nil {
		d.sampled = s
	}
	last := d.lastDeliveries()
	d.keep("attempt", func() error { return d.store.SaveAttempt(a, last) })
}

// beginPrepare answers with EventPrepared. It waits for what is being retired: more than three generations at a time
// are not kept.
func (d *Driver) beginPrepare(ctx context.Context, a *Action) {
	g, of := a.Generation, a.Of
	if of == 0 {
		of = g
	}
	l, preflight, idle := d.loads[of], a.Preflight, d.retiring.wait()
	limit := prepareLimit + preflightLimit
	select {
	case <-idle:
	default:
		limit += retireLimit
	}
	d.loads[g] = l
	before := d.sample()
	d.call(ctx, EventPrepared, g, func(ctx context.Context) (Event, func()) {
		in, probes, err := d.prepare(ctx, l, idle, preflight)
		return Event{Before: before, Probes: probes, Err: err}, func() {
			if in != nil {
				d.instances[g] = in
			}
		}
	}, limit)
}

func (d *Driver) prepare(ctx context.Context, l *loaded, idle <-chan struct{}, preflight bool) (in Instance, probes []Probe, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = d.panicked("prepare", r)
			if in != nil { // it was the preflight
				in, err = d.unwound(ctx, in, err)
			}
		}
	}()
	if l == nil || l.candidate == nil {
		return nil, nil, errors.New("prepare: nothing was loaded")
	}
	select {
	case <-idle:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, prepareLimit)
	defer cancel()
	in, err = d.set.Builder.Prepare(limited, l.candidate)
	switch {
	case err == nil && in == nil:
		return nil, nil, errors.New("prepare: there is no instance")
	case err == nil && limited.Err() != nil: // it came too late, or nobody wants it any more
		in, err = d.unwound(ctx, in, limited.Err())
	}
	if errors.Is(limited.Err(), context.DeadlineExceeded) {
		err = refuse(ReasonTimeout, "prepare took longer than %s: %w", prepareLimit, err)
	}
	if err != nil {
		return nil, nil, err
	}
	if preflight {
		limited, cancel := context.WithTimeout(ctx, preflightLimit)
		defer cancel()
		probes = in.Preflight(limited)
	}
	return in, probes, nil
}

// unwound retires an instance nobody will see.
func (d *Driver) unwound(ctx context.Context, in Instance, why error) (Instance, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), retireLimit)
	defer cancel()
	if err := in.Retire(ctx); err != nil {
		d.log.Warn("Config generation did not stop in order", zap.Error(err))
	}
	return nil, why
}

// call runs f beside the loop and sends its event, or one that says that it took too long. The second result of f is
// run by the loop, just before the event is looked at. A call that does not return although its time is over and more
// is given up: what it may return still is unwound.
func (d *Driver) call(ctx context.Context, kind EventKind, g Generation, f func(context.Context) (Event, func()), limit time.Duration) {
	ctx, d.cancel = context.WithCancel(ctx)
	cancel := d.cancel
	d.calls.Add(1)
	got := make(chan answer, 1)
	go func() { // given up by the next goroutine if it hangs
		ev, own := f(ctx)
		got <- answer{ev, own}
	}()
	go func() {
		defer d.calls.Done()
		defer cancel()
		t := time.NewTimer(limit + callGrace)
		defer t.Stop()
		a := answer{own: func() {}}
		select {
		case a = <-got:
		case <-t.C:
			a.Err = refuse(ReasonTimeout, "it hangs: no answer after %s", limit+callGrace)
		}
		a.Kind, a.Generation = kind, g
		d.answers <- a
	}()
}

// switchTo hands over. A panic in it is a symptom of the new one.
func (d *Driver) switchTo(g Generation) Event {
	before := d.sample()
	began := time.Now()
	ev := Event{Kind: EventSwitched, Generation: g, Before: before}
	in := d.instances[g]
	broken := d.guard("switch", g, func() { in.Switch() })
	took := time.Since(began)
	d.figures.switched(took)
	if took > time.Second {
		d.log.Warn("Config switch was slow", zap.Uint64("generation", uint64(g)), zap.Duration("took", took))
	}
	d.running, d.runs = in, g
	if broken != "" {
		d.broken[g] = broken
	}
	ev.Sample = d.sample()
	return ev
}

// guard runs a call that promises not to fail, and says how it broke the promise.
func (d *Driver) guard(what string, g Generation, f func()) (broken string) {
	defer func() {
		if r := recover(); r != nil {
			broken = fmt.Sprintf("%s panicked: %v", what, r)
			d.log.Error("Config "+what+" panicked", zap.Uint64("generation", uint64(g)),
				telemetry.Foreign("error", fmt.Sprint(r)), zap.ByteString("stack", debug.Stack()))
		}
	}()
	f()
	return ""
}

func (d *Driver) refresh(ctx context.Context, g Generation) {
	in := d.instances[g]
	if in == nil {
		return
	}
	d.retiring.add()
	go func() { // waited for by leave
		defer d.retiring.done()
		ctx, cancel := context.WithTimeout(ctx, refreshLimit)
		defer cancel()
		d.guard("refresh", g, func() {
			if err := in.Refresh(ctx); err != nil {
				d.log.Warn("Config files are kept as they were", zap.Uint64("generation", uint64(g)), zap.Error(err))
			}
		})
	}()
}

// retire stops an instance in its own goroutine.
func (d *Driver) retire(ctx context.Context, g Generation) {
	in := d.instances[g]
	delete(d.instances, g)
	delete(d.broken, g)
	if in == nil {
		return
	}
	d.retiring.add()
	over := make(chan struct{})
	go func() { // bounded by the next goroutine, unless the instance ignores its limit
		defer close(over)
		ctx, cancel := context.WithTimeout(ctx, retireLimit)
		defer cancel()
		d.guard("retire", g, func() {
			if err := in.Retire(ctx); err != nil {
				d.log.Warn("Config generation did not stop in order", zap.Uint64("generation", uint64(g)), zap.Error(err))
			}
		})
	}()
	go func() { // waited for by leave
		defer d.retiring.done()
		t := time.NewTimer(retireLimit + callGrace)
		defer t.Stop()
		select {
		case <-over:
		case <-t.C:
			d.log.Error("Config generation does not stop; it is given up", zap.Uint64("generation", uint64(g)))
		}
	}()
}

// retiring counts what is being stopped.
type retiring struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed while n is 0
}

func (r *retiring) add() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		r.idle = make(chan struct{})
	}
	r.n++
}

func (r *retiring) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n--; r.n == 0 {
		close(r.idle)
	}
}

// wait is closed when nothing of what is being stopped now is left.
func (r *retiring) wait() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}
