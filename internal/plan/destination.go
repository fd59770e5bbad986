// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"math"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// fileWorkers are enough for a file: one of them writes, the others wait for its sync together.
const fileWorkers = 4

// ask is what an exporter's configuration says of its queue, its retries and one attempt.
type ask struct {
	queue   exporter.QueueConfig
	queued  bool // a queue is written or implied, and enabled
	written bool // the queue is a key of the type, not implied by it
	retry   exporter.RetryConfig
	timeout time.Duration
}

// ask reads an exporter. Types without the keys have the queue their kind implies.
func (b *builder) ask(c *config.Component) ask {
	a := ask{queue: exporter.DefaultQueue(), retry: exporter.DefaultRetry()}
	var d exporter.Delivery
	if has, ok := c.Config.(exporter.Deliverer); ok {
		d = has.Delivery()
	}
	if d.Retry != nil {
		a.retry = *d.Retry
	}
	a.timeout = d.Timeout
	if d.Queue != nil {
		a.queue, a.queued, a.written = *d.Queue, d.Queue.Enabled, true
		return a
	}
	mode, _ := b.traits(c.Type)
	a.queued = mode != exporter.QueueIfWritten
	if mode == exporter.QueueImplied {
		a.queue.NumConsumers = fileWorkers
	}
	return a
}

// plain plans an exporter named by a pipeline.
func (b *builder) plain(p *Pipeline, c *config.Component) Destination {
	a := b.ask(c)
	b.noteElapsed(c, a)
	d := Destination{
		Destination: queue.Destination{Name: c.Canonical(), Exporters: []string{c.Canonical()}},
		Label:       c.ID,
		Wait:        !a.queued || a.queue.WaitForResult,
		Want:        want(p.Batch, batchOf(&a.queue)),
		Levels:      []Level{{Exporters: []string{c.ID}, Retry: a.retry, Timeout: a.timeout}},
	}
	if !a.queued {
		return d
	}
	d.Workers = a.queue.NumConsumers
	d.Levels[0].Workers = d.Workers
	if !d.Wait {
		d.Storage, d.Stored = a.queue.Storage, a.queue.Storage != ""
		d.Limit = limit(a.queue.Sizer, a.queue.QueueSize, a.queue.BlockOnOverflow, d.Want)
		if p.Batch != nil && batchOf(&a.queue) == nil {
			d.Limit.BatchItems = p.Batch.Size
		}
	}
	return d
}

// share gives a cursor to every destination of a durable pipeline that did not ask for the answer to wait: the copy is
// there anyway (journal, section 3). One worker keeps what such types print in order.
func (b *builder) share(p *Pipeline) {
	for i := range p.Destinations {
		d := &p.Destinations[i]
		if !d.Wait || d.Route != nil {
			continue
		}
		a := b.ask(b.component(config.Exporters, d.Label))
		if a.written {
			continue
		}
		d.Wait, d.Workers = false, 1
		d.Levels[0].Workers = d.Workers
		d.Limit = limit(a.queue.Sizer, a.queue.QueueSize, false, d.Want)
		if p.Batch != nil {
			d.Limit.BatchItems = p.Batch.Size
		}
	}
}

func batchOf(q *exporter.QueueConfig) *exporter.BatchConfig { return q.Batch.Get() }

// want is the batch that is asked for: the exporter's own, else the processor's, else what is there.
func want(processor *Batch, own *exporter.BatchConfig) queue.Want {
	switch {
	case own != nil:
		return queue.Want{
			Sizer: sizer(own.Sizer), Min: own.MinSize, Max: own.MaxSize, MaxBytes: maxBatchBytes,
			Linger: own.FlushTimeout,
		}
	case processor != nil:
		return processor.want()
	}
	return queue.Want{Sizer: queue.Items, MaxBytes: maxUnaskedBytes}
}

func limit(unit string, size int64, block bool, w queue.Want) queue.Limit {
	l := queue.Limit{Sizer: sizer(unit), Max: size, Block: block}
	if w.Sizer == queue.Items && w.Min > 0 {
		l.BatchItems = uint32(min(w.Min, math.MaxUint32))
	}
	return l
}

func sizer(word string) queue.Sizer {
	switch word {
	case "items":
		return queue.Items
	case "bytes":
		return queue.Bytes
	}
	return queue.Requests
}

// noteElapsed says what max_elapsed_time means here, where it is written.
func (b *builder) noteElapsed(c *config.Component, a ask) {
	path := "exporters::" + c.ID + "::retry_on_failure::max_elapsed_time"
	if a.retry.Enabled && a.retry.MaxElapsedTime > 0 && b.cfg.Written(path) {
		b.note(config.Note, "exporters/"+c.ID, path, "", "after %s data moves on or waits, it is not deleted",
			a.retry.MaxElapsedTime)
	}
}
