// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline/recordmeta"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Hints to clients, before jitter (compat, section 10).
const (
	admissionHint = 2 * time.Second // 1–3 s
	busyHint      = 2 * time.Second // the commit is behind for a moment
	queueHint     = 5 * time.Second // within 1–30 s
	stoppingHint  = 3 * time.Second // 1–5 s
)

// Entry is where a pipeline begins: the sink of its receivers.
type Entry struct {
	set     *Settings
	waits   []*waiter
	queued  []*dispatch // of the destinations with a queue
	room    func() bool // whether the queue has room
	stopped atomic.Bool
	// refusedSince is the Unix time in ns since which nothing was accepted although it was tried, 0 = accepting.
	refusedSince atomic.Int64

	refusals refusals
	appended struct{ records, items, failed atomic.Uint64 }

	incoming []*telemetry.Counter // per processor
	outgoing []*telemetry.Counter
	full     []*telemetry.Counter // otelcol_exporter_enqueue_failed_* per queued destination
}

var _ receiver.Sink = (*Entry)(nil)

func newEntry(set *Settings, waits []*waiter, room func() bool) *Entry {
	e := &Entry{set: set, waits: waits, room: room}
	e.refusals.log = set.Telemetry.Logger.With(zap.String("otelcol.pipeline.id", set.Plan.ID),
		zap.String("otelcol.signal", set.Plan.Signal.String()))
	e.refusals.mu.items = map[string]uint64{}
	m, signal := set.Telemetry.Metrics, set.Plan.Signal
	processors := set.Plan.MemoryLimiters
	if b := set.Plan.Batch; b != nil {
		processors = append(processors[:len(processors):len(processors)], b.Processor)
	}
	for _, id := range processors {
		labels := []string{"processor", id, "otel_signal", signal.String()}
		e.incoming = append(e.incoming, m.Counter("otelcol_processor_incoming_items",
			"Items handed to the processor.", labels...))
		e.outgoing = append(e.outgoing, m.Counter("otelcol_processor_outgoing_items",
			"Items the processor passed on.", labels...))
	}
	for i := range set.Plan.Destinations {
		if d := &set.Plan.Destinations[i]; !d.Wait {
			for _, id := range d.Levels[0].Exporters {
				e.full = append(e.full, m.Counter("otelcol_exporter_enqueue_failed_"+signal.ItemName(),
					"Items refused because the exporter's queue was full.", "exporter", id))
			}
		}
	}
	return e
}

// MetadataKeys implements receiver.Sink.
func (e *Entry) MetadataKeys() []string { return e.set.MetadataKeys }

// Admit implements receiver.Sink: memory limiters first, then the budget.
func (e *Entry) Admit(n int64) (*admission.Grant, error) {
	if e.stopped.Load() {
		return nil, e.refuse(receiver.ReasonStopping, stoppingHint, "shutting down")
	}
	for _, l := range e.set.Limiters {
		if l.Refusing() {
			l.Refused(e.set.Plan.Signal, 1)
			return nil, e.refuse(receiver.ReasonAdmission, admissionHint, "memory usage is above the limit")
		}
	}
	grant, err := e.set.Gate.Admit(n)
	if err != nil {
		return nil, e.refuse(receiver.ReasonAdmission, admissionHint, err.Error())
	}
	return grant, nil
}

// Accept implements receiver.Sink. Destinations that wait deliver first; what they took stays delivered when the
// queue then refuses, and the sender's repetition reaches them twice.
func (e *Entry) Accept(ctx context.Context, p *otlp.Payload) (receiver.Result, error) {
	if e.stopped.Load() {
		return receiver.Result{}, e.refuse(receiver.ReasonStopping, stoppingHint, "shutting down")
	}
	for _, c := range e.incoming {
		c.Add(int64(p.Items))
	}
	var res receiver.Result
	if len(e.waits) > 0 {
		var err error
		if res, err = e.deliver(ctx, p); err != nil {
			return res, err
		}
	}
	items := int64(p.Items) // the queue may free the payload before Append returns
	if e.set.Queue != nil {
		if err := e.append(ctx, p); err != nil {
			return receiver.Result{}, err
		}
	} else {
		p.Release()
	}
	for _, c := range e.outgoing {
		c.Add(items)
	}
	for _, l := range e.set.Limiters {
		l.Accepted(e.set.Plan.Signal, items)
	}
	if e.refusedSince.Load() != 0 {
		e.refusedSince.Store(0)
	}
	return res, nil
}

func (e *Entry) append(ctx context.Context, p *otlp.Payload) error {
	if err := e.refuseHeld(); err != nil {
		return err
	}
	r := queue.Record{
		Tag: uint8(p.Signal), Items: p.Items, Size: p.Size, Meta: recordmeta.Encode(p), Body: p.Body, Free: p.Free,
		Keep: p.Keep,
	}
	err := e.set.Queue.Append(ctx, r)
	if err == nil {
		p.Free = nil // the queue's now
		e.appended.records.Add(1)
		e.appended.items.Add(uint64(r.Items))
		return nil
	}
	var full *queue.FullError
	isFull := errors.As(err, &full)
	if !isFull && ctx.Err() != nil {
		return ctx.Err()
	}
	w := wordsOf(err)
	if w.reason == receiver.ReasonDisk {
		e.appended.failed.Add(1)
	}
	if isFull {
		for _, c := range e.full {
			c.Add(int64(p.Items))
		}
	}
	e.refusals.note(w, p.Items)
	if w.reason == receiver.ReasonTooLarge {
		return &receiver.Refusal{Code: receiver.TooLarge, Reason: w.reason, Text: w.text}
	}
	no := e.refuse(w.reason, w.hint, w.text)
	if next, held := e.heldFor(false); isFull && held { // there is no room before one of them is back
		no.After = next
	}
	return no
}

// Where all levels of a destination are down, the next probe is when that may end; the hint is within these bounds
// (failover, section 9).
const (
	minHeldHint = time.Second
	maxHeldHint = 30 * time.Second
)

// refuseHeld refuses what a destination would only hold, where its connector asks for that.
func (e *Entry) refuseHeld() error {
	next, held := e.heldFor(true)
	if !held {
		return nil
	}
	r := e.refuse(receiver.ReasonQueueFull, next, "all levels are down, and all_down.policy is refuse")
	r.After = next
	return r
}

// heldFor reports whether some destination takes nothing now, and how long that will last at least. With refusing only
// those count that want to be refused for.
func (e *Entry) heldFor(refusing bool) (next time.Duration, held bool) {
	for _, x := range e.queued {
		if refusing && x.config.AllDown.Policy != "refuse" {
			continue
		}
		if left, down := x.held(); down {
			held, next = true, max(next, left)
		}
	}
	next += time.Duration(e.set.Jitter() * float64(next) / 10)
	return min(max(next, minHeldHint), maxHeldHint), held
}

// refuse makes a retryable refusal whose hint lies between half and one and a half of around.
func (e *Entry) refuse(reason string, around time.Duration, text string) *receiver.Refusal {
	if reason != receiver.ReasonStopping {
		e.refusedSince.CompareAndSwap(0, time.Now().UnixNano())
	}
	after := around/2 + time.Duration(e.set.Jitter()*float64(around))
	return &receiver.Refusal{Code: receiver.Unavailable, Reason: reason, After: after, Text: text}
}

func (e *Entry) stop() { e.stopped.Store(true) }

// accepting reports whether data is taken, and since when not. Room that came back ends a refusal without a request:
// a process that is not ready is sent none.
func (e *Entry) accepting() (bool, time.Time) {
	ns := e.refusedSince.Load()
	switch {
	case e.stopped.Load():
		return false, time.Time{}
	case ns == 0:
		return true, time.Time{}
	case e.couldAccept():
		e.refusedSince.CompareAndSwap(ns, 0)
		return true, time.Time{}
	}
	return false, time.Unix(0, ns)
}

// look notes that nothing could be accepted now, although nobody tried: who asks whether the pipeline is ready should
// not learn it from the first request that is refused.
func (e *Entry) look(now time.Time) {
	if !e.stopped.Load() && !e.couldAccept() {
		e.refusedSince.CompareAndSwap(0, now.UnixNano())
	}
}

func (e *Entry) couldAccept() bool {
	for _, l := range e.set.Limiters {
		if l.Refusing() {
			return false
		}
	}
	if _, held := e.heldFor(true); held {
		return false
	}
	return e.set.Gate.Used() < e.set.Gate.Limit() && e.room()
}
