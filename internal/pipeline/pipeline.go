// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package pipeline joins the rooms: it takes payloads from receivers, appends them to the pipeline's queue, and runs
// the delivery loops that take from the queue and send.
//
//	receiver ─► Entry ─► queue ─► dispatch (one per destination) ─► router ─► exporters of a level
//	                                  ▲ view     outcomes └─► switch room ─► probes
//
// An Entry answers a receiver only after the queue has taken the payload (decision D3), or, for destinations that
// wait, after they delivered. Each destination, a connector or a plain exporter, has its own cursor, slots and router,
// so that a dead or slow one neither delays nor starves another. Retry time running out never resolves a record: it
// goes to the next level, or back to the queue.
// The package opens no sockets and no files and knows no implementation of any room.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/switchroom"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Queue is what a pipeline needs of a queue.
type Queue interface {
	queue.Queue
	// Counts returns the books of one destination.
	Counts(name string) (queue.Counts, bool)
}

// Limiter is a memory limiter in front of the pipeline.
type Limiter interface {
	// Refusing reports whether new data is refused now.
	Refusing() bool
	Accepted(s otlp.Signal, items int64)
	Refused(s otlp.Signal, n int64)
}

// Settings are what a pipeline is built from.
type Settings struct {
	Plan      plan.Pipeline
	Telemetry *telemetry.Telemetry
	Gate      *admission.Gate
	Limiters  []Limiter
	// Queue is nil where every destination waits.
	Queue Queue
	// Room reports whether the queue could store more, queue_size aside; nil = it always could. It never blocks.
	Room func() bool
	// Switch says which exporters are up; it knows every destination.
	Switch *switchroom.Room
	// Exporters holds every exporter the plan names, by ID as written. The caller starts and stops them.
	Exporters map[string]exporter.Exporter
	// Decode returns the identity form of a compressed body of size bytes; needed to split what a backend finds
	// too large.
	Decode func(e otlp.Encoding, body []byte, size int) ([]byte, error)
	// Debts returns what the emergency level of a destination took and owes; nil = of none.
	Debts func(d *plan.Destination) Debts
	// MetadataKeys are the request metadata keys to keep, lower case.
	MetadataKeys []string
	// Jitter spreads delays: a number in [0, 1).
	Jitter func() float64
}

// storedStop is how long what is in flight may take when the process stops and the queue is a journal: what is not
// delivered then stays on disk (reload, section 11).
const storedStop = 5 * time.Second

// Pipeline runs one pipeline of a plan.
type Pipeline struct {
	set        Settings
	entry      *Entry
	deliveries []*dispatch // of the destinations with a queue
	workers    sync.WaitGroup
	stopping   atomic.Bool
	started    atomic.Bool
	halted     atomic.Bool
	levels     []level // of the deliveries' queues, owned by Watch
	looked     struct {
		sync.Mutex
		records uint64
		last    time.Time
	}
}

// New builds a pipeline; it starts nothing, and nothing is owed to its destinations before Attach.
func New(set Settings) (*Pipeline, error) {
	p := &Pipeline{set: set}
	var waits []*waiter
	for i := range set.Plan.Destinations {
		x, err := newDispatch(&p.set, &p.set.Plan.Destinations[i])
		switch {
		case err != nil:
			return nil, err
		case x.dest.Wait:
			waits = append(waits, &waiter{dispatch: x})
		default:
			p.deliveries = append(p.deliveries, x)
		}
	}
	p.levels = make([]level, len(p.deliveries))
	p.entry = newEntry(&p.set, waits, p.room)
	p.entry.queued = p.deliveries
	return p, nil
}

// Entry is the pipeline's sink for receivers.
func (p *Pipeline) Entry() *Entry { return p.entry }

// Settings are what the pipeline was built from.
func (p *Pipeline) Settings() Settings { return p.set }

// Attach makes what is appended from now on owed to the destinations. It cannot fail; again, it does nothing.
func (p *Pipeline) Attach() {
	for _, d := range p.deliveries {
		d.attach()
	}
}

// Start starts the delivery loops, after an Attach.
func (p *Pipeline) Start() {
	p.started.Store(true)
	p.Attach()
	for _, d := range p.all() {
		d.start(&p.workers)
	}
}

// KeepViews lets the deliveries go on by what they see of their endpoints now: from here on the same names are those of
// another generation's senders, and the failures of these are not to count against them. Halt or Stop must follow.
func (p *Pipeline) KeepViews() {
	for _, d := range p.all() {
		d.kept.Store(d.at.Load())
	}
}

// Halt ends the deliveries for another pipeline that goes on with the same queue: nothing more is taken, what waits
// returns to the queue, and what is in flight may end within grace. The channel is closed when all of them have ended
// and every lease is back. The entry goes on taking data, and destinations that wait go on delivering, until Stop.
func (p *Pipeline) Halt(grace time.Duration) <-chan struct{} {
	over := make(chan struct{})
	if p.stopping.Load() || !p.halted.CompareAndSwap(false, true) {
		close(over)
		return over
	}
	for _, d := range p.deliveries {
		d.halt(grace)
	}
	go func() { // ends when the deliveries do, at the latest after grace
		defer close(over)
		cut := time.NewTimer(grace)
		defer cut.Stop()
		for _, d := range p.deliveries {
			select {
			case <-d.over:
			case <-cut.C:
				cut.Reset(0) // for the next one, too
				d.cut()
				<-d.over
			}
			d.part()
		}
	}()
	return over
}

// Started reports whether Start was called.
func (p *Pipeline) Started() bool { return p.started.Load() }

// Halted reports whether Halt was called.
func (p *Pipeline) Halted() bool { return p.halted.Load() }

// Stop lets the deliveries drain what is queued in memory until ctx ends, then cuts them and waits for them. The
// receivers must have stopped. A durable queue is not drained: what is in flight may end, for five seconds at most,
// and what waits for another attempt is left. Stopping says nothing of any record.
func (p *Pipeline) Stop(ctx context.Context) {
	if !p.stopping.CompareAndSwap(false, true) {
		return
	}
	p.entry.stop()
	if p.set.Plan.Storage != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, storedStop)
		defer cancel()
	}
	rest := p.all()
	if p.halted.Load() {
		rest = rest[len(p.deliveries):]
	}
	for _, d := range rest {
		d.drain(p.set.Plan.Storage == "" && !d.dest.Wait)
	}
	done := make(chan struct{})
	go func() {
		p.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		for _, d := range rest {
			d.cut()
		}
		<-done
	}
	for _, d := range p.deliveries {
		if !p.halted.Load() {
			d.part()
		}
	}
}

// all are the dispatches of all destinations.
func (p *Pipeline) all() []*dispatch {
	out := slices.Clone(p.deliveries)
	for _, w := range p.entry.waits {
		out = append(out, w.dispatch)
	}
	return out
}

// OnTrial says which exporters are on trial: what they reject is kept until a call that names them no more, which has it
// offered again. It may be called from any goroutine, before Start too.
func (p *Pipeline) OnTrial(is func(exporterID string) bool) {
	for _, x := range p.all() {
		levels := uint64(0)
		for i := range x.dest.Levels {
			if slices.ContainsFunc(x.dest.Levels[i].Exporters, is) {
				levels |= 1 << i
			}
		}
		x.onTrial(levels)
	}
}

// Close closes the queue. What a memory queue still holds is dropped there with a record.
func (p *Pipeline) Close(ctx context.Context) error {
	if p.set.Queue == nil {
		return nil
	}
	if err := p.set.Queue.Close(ctx); err != nil && !errors.Is(err, queue.ErrClosed) {
		return fmt.Errorf("close queue of pipeline %s: %w", p.set.Plan.ID, err)
	}
	return nil
}

// Health is a copy of a destination's recent fortunes.
type Health struct {
	Pipeline, Name string
	Failed         int64 // attempts without a delivery since the last delivery
	Delivered      int64 // items since start
	LastFailure    time.Time
	LastDelivery   time.Time
	LastError      string
	Oldest         time.Duration
}

// Health describes every destination; it never blocks.
func (p *Pipeline) Health() []Health {
	var out []Health
	add := func(h Health, oldest time.Duration) {
		h.Pipeline, h.Oldest = p.set.Plan.ID, oldest
		out = append(out, h)
	}
	for _, d := range p.deliveries {
		add(d.health(), d.owed().Oldest)
	}
	for _, w := range p.entry.waits {
		add(w.health(), 0)
	}
	return out
}

// Accepting reports whether the pipeline took or could have taken data, and since when it does not.
func (p *Pipeline) Accepting() (bool, time.Time) { return p.entry.accepting() }

// room reports whether an append would be taken: there is room to store it, and some destination is below its limit.
func (p *Pipeline) room() bool {
	if p.set.Room != nil && !p.set.Room() {
		return false
	}
	for _, d := range p.deliveries {
		if f := d.fill(); f.Capacity == 0 || f.Size < f.Capacity {
			return true
		}
	}
	return len(p.deliveries) == 0
}

// logger of one destination.
func (s *Settings) logger(label string) *zap.Logger {
	return s.Telemetry.Logger.With(
		zap.String("otelcol.pipeline.id", s.Plan.ID),
		zap.String("otelcol.signal", s.Plan.Signal.String()),
		zap.String("exporter", label))
}
