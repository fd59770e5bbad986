// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// DriverSettings are what a Driver is made from.
type DriverSettings struct {
	Builder Builder
	Reader  Reader
	// Watched reads those sources that are watched where a configuration says so, under the URIs that Reader gives them:
	// called from another goroutine, beside Reader. nil = none.
	Watched   Reader
	Telemetry *telemetry.Telemetry
	Disk      vfs.FS
	// URIs name the sources; the store of one set of URIs is not that of another.
	URIs []string
	// Places lists where the state directory may be, best first; storages as for the function Places.
	Places  func(storages []string) []Place
	Version string // of the program
}

// Intervals of the driver.
const (
	trialEvery    = time.Second
	idleEvery     = 10 * time.Second
	baselineEvery = time.Minute
	diskLimit     = 5 * time.Second // for one operation of the store; a stalled disk must not hold up a rollback
	sourcesLimit  = 2 * time.Second
	expectLimit   = 120 * time.Second
	expectEvery   = time.Second
)

// Driver is the one goroutine that drives the machine.
//
//	Request ─► inbox ─┐                       ┌─► Builder.Load, Prepare     a goroutine, answers to the loop
//	                  ├─► loop ─► Step ─► actions ─► Instance.Switch, Sample …  in the loop
//	clock, answers ───┘                       ├─► Store                     a goroutine, waited for diskLimit at most
//	                                          └─► Instance.Retire           a goroutine each
type Driver struct {
	set     DriverSettings
	log     *zap.Logger
	figures *figures

	inbox   inbox
	answers chan answer // of load and prepare
	halt    chan struct{}
	halting sync.Once
	booted  chan struct{} // closed when the start has succeeded or failed
	done    chan struct{} // closed when the loop has ended
	started atomic.Bool
	lookout lookout
	looking sync.WaitGroup

	// The loop's own.
	state     State
	fresh     bool // the boot's answers are in
	store     *Store
	disk      slowDisk
	loads     map[Generation]*loaded
	instances map[Generation]Instance
	running   Instance
	runs      Generation
	broken    map[Generation]string // how an instance broke the promise that a call cannot fail
	cancel    context.CancelFunc    // of the call under way
	boot      chan error            // one place
	offered   *loaded               // read before the store was found, for the boot's ActionLoad
	sampled   *Sample
	// deliveries are the last known ones, those of the process before included.
	deliveries map[string]time.Time
	saved      time.Time // baseline
	history    []Entry   // oldest first
	stored     []kept
	storeErr   error
	calls      sync.WaitGroup // load and prepare
	retiring   retiring

	shown struct {
		sync.Mutex
		Snapshot
	}
}

// answer is an event that comes from another goroutine, and what the loop does before it looks at it.
type answer struct {
	Event
	own func()
}

// loaded is a generation's text and what Load made of it.
type loaded struct {
	texts     []Text
	candidate Candidate
	known     Loaded
	err       error
}

// New returns a driver that has not begun.
func New(set DriverSettings) *Driver {
	d := &Driver{
		set: set, log: set.Telemetry.Logger, answers: make(chan answer), halt: make(chan struct{}),
		booted: make(chan struct{}), done: make(chan struct{}), boot: make(chan error, 1),
		loads: map[Generation]*loaded{}, instances: map[Generation]Instance{}, broken: map[Generation]string{},
		disk: slowDisk{busy: make(chan struct{}, 1)},
	}
	d.inbox.wake = make(chan struct{}, 1)
	d.retiring.idle = closedChan()
	d.figures = newFigures(set.Telemetry.Metrics)
	return d
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Start starts the process's first generation and returns when it serves: the one that is offered, or the good one
// where that is refused. An error says that nothing could be started, and nothing was left behind. Requests may come
// before; they are served after. A ctx that ends meanwhile ends the start.
func (d *Driver) Start(ctx context.Context) error {
	d.started.Store(true)
	go d.run(context.WithoutCancel(ctx))
	select {
	case <-d.booted:
	case <-ctx.Done():
		d.beginStop()
		<-d.booted
	}
	select {
	case err := <-d.boot:
		<-d.done
		return err
	default:
		return nil
	}
}

// Stop ends what is half built, answers whoever waits, and retires the warm instance. What runs goes on: its owner
// stops it afterwards (section 11). It returns when all goroutines have ended, or ctx has.
func (d *Driver) Stop(ctx context.Context) error {
	if !d.started.Load() {
		return nil
	}
	d.beginStop()
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reload: still %s: %w", d.Snapshot().State, ctx.Err())
	}
}

func (d *Driver) beginStop() { d.halting.Do(func() { close(d.halt) }) }

// run is the loop.
func (d *Driver) run(ctx context.Context) {
	defer close(d.done)
	d.begin(ctx)
	looking, look := context.WithCancel(ctx)
	defer d.looking.Wait()
	defer look()
	if d.set.Watched != nil {
		d.looking.Go(func() {
			d.lookout.watch(looking, func(ctx context.Context) ([]Text, error) { return d.read(ctx, d.set.Watched) },
				func() { d.Notify("watch") })
		})
	}
	tick := time.NewTimer(trialEvery)
	defer tick.Stop()
	halt := d.halt
	for d.state.phase != Ended {
		select {
		case <-halt:
			halt = nil
			d.step(ctx, Event{Kind: EventStop})
		case a := <-d.answers:
			a.own()
			d.step(ctx, a.Event)
		case <-d.inbox.wake:
			if d.state.phase == Trial { // what it has shown until now is part of the answer
				d.tick(ctx)
			}
			for _, ev := range d.inbox.take() {
				d.step(ctx, ev)
			}
		case <-tick.C:
			d.tick(ctx)
		}
		tick.Reset(d.every())
		d.show()
	}
	d.leave(ctx)
}

// begin reads what is offered, finds the store, and tells the machine what the store says.
func (d *Driver) begin(ctx context.Context) {
	bootCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	go func() { // ends with this function
		defer close(stopped)
		select {
		case <-d.halt:
			cancel()
		case <-bootCtx.Done():
		}
	}()
	var still func(time.Duration) bool
	if r, ok := d.set.Reader.(Still); ok {
		still = r.Still
	}
	d.offered = d.load(bootCtx, nil, still)
	var storages []string
	if d.offered.err == nil && d.offered.candidate != nil {
		storages = append([]string{}, d.offered.candidate.Storages()...)
	}
	boot := &Boot{}
	store, err := FindStore(bootCtx, d.set.Disk, d.set.Places(storages), d.set.URIs)
	if err != nil {
		boot.Forgets = true
		d.storeFailed("open", err)
	} else {
		d.store = store
		d.log.Info("Config store opened", zap.String("directory", store.Dir()))
		d.remember(boot)
	}
	cancel()
	<-stopped
	d.deliveries = boot.Deliveries
	d.show()
	select {
	case <-d.halt: // nothing begins; the loop ends
		d.step(ctx, Event{Kind: EventStop})
	default:
		d.step(ctx, Event{Kind: EventBoot, Boot: boot})
	}
}

// remember reads the store. What cannot be read is as if it were not there; the log says so.
func (d *Driver) remember(boot *Boot) {
	good, err := d.store.Good()
	if good != nil {
		boot.Good = &good.Record
	}
	var errs [4]error
	errs[0] = err
	boot.Attempt, errs[1] = d.store.Attempt()
	boot.Deliveries, errs[2] = d.store.Deliveries()
	if good != nil {
		latest(boot.Deliveries, good.Deliveries)
	}
	d.history, errs[3] = d.store.History()
	boot.Last = d.store.Last()
	d.stored = d.store.kept()
	if err := errors.Join(errs[:]...); err != nil {
		d.storeFailed("read", err)
	}
	d.noteStore()
}

// step tells the machine one thing, does what it says, and tells it what came of that.
func (d *Driver) step(ctx context.Context, ev Event) {
	queue := []Event{ev}
	for len(queue) > 0 {
		var actions []Action
		d.state, actions = Step(d.state, queue[0], time.Now())
		queue = queue[1:]
		for i := range actions {
			if next, ok := d.act(ctx, &actions[i]); ok {
				queue = append(queue, next)
			}
		}
		if d.state.phase == Idle || d.state.phase == Trial {
			d.bootOver(nil)
		}
	}
	d.lookout.on.Store(d.state.watches())
	d.forget()
}

// bootOver lets Start return.
func (d *Driver) bootOver(err error) {
	if d.fresh {
		return
	}
	d.fresh = true
	if err != nil {
		d.boot <- err
	} else if !d.state.drift() {
		d.figures.success.Set(time.Now().Unix())
	}
	d.show()
	close(d.booted)
}

// every is how long until the clock is looked at again.
func (d *Driver) every() time.Duration {
	every := idleEvery
	if d.state.phase == Trial {
		every = trialEvery
	}
	if d.state.next != nil {
		every = min(every, max(time.Until(d.state.begun.Add(loadGap)), 10*time.Millisecond))
	}
	return every
}

// tick samples what runs, and remembers its deliveries.
func (d *Driver) tick(ctx context.Context) {
	s := d.sample()
	if s != nil {
		d.sampled = s
	}
	d.step(ctx, Event{Kind: EventSampled, Sample: s})
	if now := time.Now(); d.state.phase == Idle && now.Sub(d.saved) >= baselineEvery {
		d.saveBaseline(now)
	}
}

func (d *Driver) saveBaseline(now time.Time) {
	d.saved = now
	if d.sampled == nil {
		return
	}
	last := d.lastDeliveries()
	d.keep("baseline", func() error { return d.store.SaveDeliveries(last) })
}

// lastDeliveries are those of the senders of the last sample, and what was known of them before.
func (d *Driver) lastDeliveries() map[string]time.Time {
	if d.sampled == nil {
		return d.deliveries
	}
	last := map[string]time.Time{}
	for i := range d.sampled.Senders {
		x := &d.sampled.Senders[i]
		at := d.deliveries[x.ID]
		if x.LastDelivery.After(at) {
			at = x.LastDelivery
		}
		if !at.IsZero() {
			last[x.ID] = at
		}
	}
	d.deliveries = last
	return last
}

// leave ends what the loop owns.
func (d *Driver) leave(ctx context.Context) {
	for _, ev := range d.inbox.close() {
		d.inbox.answer(ev.Request.ID, Result{Outcome: Rejected, Reason: ReasonStopping, Text: "the process is stopping"})
	}
	calls := make(chan struct{})
	go func() { // ends when the calls do, each of which is bounded
		d.calls.Wait()
		close(calls)
	}()
	for waiting := true; waiting; {
		select {
		case a := <-d.answers: // late: nobody asks any more
			a.own()
			d.retire(ctx, a.Generation)
		case <-calls:
			waiting = false
		}
	}
	if !d.fresh && d.running != nil { // nobody is told that it runs
		d.retire(ctx, d.runs)
		d.running = nil
	}
	<-d.retiring.wait()
	if d.store != nil {
		if s := d.sample(); s != nil {
			d.sampled = s
			d.saveBaseline(time.Now())
		}
		d.keep("close", d.store.Close)
	}
	d.bootOver(errStopped)
	d.show()
}

var errStopped = errors.New("the start was stopped")

// forget lets go of texts nobody can ask for again: those of generations that have no instance, are not under way and
// are not to be stored.
func (d *Driver) forget() {
	s := &d.state
	maps.DeleteFunc(d.loads, func(g Generation, _ *loaded) bool {
		return d.instances[g] == nil && s.work.record.Generation != g && s.work.of != g && s.unsaved != g
	})
}
