// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
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

// load reads and loads, stored texts or those of the sources; still is take's. It is the only place that calls Builder.Load.
func (d *Driver) load(ctx context.Context, stored []Text, still func(time.Duration) bool) (l *loaded) {
	l = &loaded{texts: stored}
	defer func() {
		if r := recover(); r != nil {
			l.candidate, l.err = nil, d.panicked("load", r)
		}
	}()
	if stored == nil {
		if l.texts, l.err = take(ctx, d.set.Reader, still); l.texts != nil {
			d.lookout.note(l.texts)
			l.known.Hash = HashOf(l.texts)
		}
		if l.err != nil {
			return l
		}
	}
	l.known.Hash = HashOf(l.texts)
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	l.candidate, l.err = d.set.Builder.Load(ctx, l.texts)
	switch {
	case l.err == nil && l.candidate == nil:
		l.err = errors.New("load: there is no candidate")
	case l.err == nil:
		l.known.Settings = l.candidate.Settings()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		l.err = refuse(ReasonTimeout, "load took longer than %s: %w", loadLimit, l.err)
	}
	return l
}

func (d *Driver) panicked(what string, r any) error {
	d.log.Error("Config "+what+" panicked", telemetry.Foreign("error", fmt.Sprint(r)), zap.ByteString("stack", debug.Stack()))
	return refuse(ReasonPanic, "%s panicked: %v", what, r)
}

// beginLoad answers with EventLoaded.
func (d *Driver) beginLoad(ctx context.Context, a *Action) {
	stored, err := d.storedGood(a)
	ready := d.offered // read before the store was found
	d.offered = nil
	d.call(ctx, EventLoaded, a.Generation, func(ctx context.Context) (Event, func()) {
		l := ready
		switch {
		case err != nil:
			l = &loaded{err: err}
		case stored != nil:
			l = d.load(ctx, stored.Texts, nil)
		case l == nil:
			l = d.load(ctx, nil, nil)
		}
		if l.candidate != nil && d.store != nil && l.err == nil {
			l.known.Fingerprint = d.store.Fingerprint(l.candidate.Expanded())
		}
		if a.Back {
			l.known.Sources = d.sources(ctx)
			if stored != nil {
				l.known.From = cmp.Or(a.Of, stored.Generation)
			}
		}
		return Event{Loaded: l.known, Err: l.err}, func() { d.loads[a.Generation] = l }
	}, readLimit+loadLimit)
}

// sources is the hash of what the sources say, if they say it at once: a rollback does not wait for them.
func (d *Driver) sources(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, sourcesLimit)
	defer cancel()
	texts, err := d.read(ctx, d.set.Reader)
	if err != nil {
		return ""
	}
	return HashOf(texts)
}

// storedGood is the stored configuration an action is about; nil = it is about the sources.
func (d *Driver) storedGood(a *Action) (good *Good, err error) {
	switch {
	case !a.Stored && !a.Back:
		return nil, nil
	case d.store == nil && a.Back:
		return nil, refuse(ReasonNotStored, "%w: nothing was kept to go back to", errNoStore)
	case d.store == nil:
		return nil, errors.New("there is no store")
	}
	err = d.disk.do(func() (err error) {
		if a.Back {
			good, err = d.store.Newest(d.meant(a.Of))
		} else {
			good, err = d.store.Good()
		}
		return err
	})
	g := a.Generation
	if a.Back {
		g = a.Of
	}
	if errors.Is(err, errStalled) { // good is still being written to
		return nil, fmt.Errorf("generation %d: %w", g, err)
	}
	d.noteStore()
	switch {
	case good != nil && (good.Generation == g || a.Back):
		return good, nil
	case a.Back && err == nil:
		return nil, d.notStored(g)
	case err == nil:
		err = errors.New("it is not in the store any more")
	}
	return nil, fmt.Errorf("generation %d: %w", g, err)
}

// meant is the stored text that a number of the history means; 0 = the newest of those that say something else than what runs.
// The same text may be stored under a newer number.
func (d *Driver) meant(g Generation) func(*Good) bool {
	running := d.state.run.Hash
	if g == 0 {
		return func(good *Good) bool { return good.Hash != running }
	}
	hash := ""
	for i := range d.history {
		if e := &d.history[i]; e.Generation == g && e.State == Committed {
			hash = e.Hash
		}
	}
	return func(good *Good) bool { return good.Generation == g || hash != "" && good.Hash == hash }
}

// notStored says what there is instead.
func (d *Driver) notStored(g Generation) error {
	switch {
	case g == 0:
		return refuse(ReasonNotStored, "nothing was committed before that says something else than what runs")
	case len(d.stored) == 0:
		return refuse(ReasonNotStored, "generation %d is not stored, and nothing else is", g)
	}
	var others []string
	for _, k := range d.stored {
		others = append(others, fmt.Sprintf("%d (%.12s)", k.generation, k.hash))
	}
	return refuse(ReasonNotStored, "generation %d is not stored; stored are %s", g, strings.Join(others, ", "))
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
