// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// lift moves the levels' queues and retries above the connector (failover, section 4.4): a dead level must hold
// nothing hostage, and a queue inside a level would.
func (r *resolver) lift(p *Pipeline, d *Destination) {
	var all []ask
	for _, l := range r.levels {
		var asks []ask
		for _, id := range l.exporters {
			c := r.component(config.Exporters, id)
			a := r.ask(c)
			r.noteElapsed(c, a)
			r.noteLifted(d.Route, c)
			asks = append(asks, a)
		}
		d.Levels = append(d.Levels, l.plan(asks))
		all = append(all, asks...)
	}
	r.liftQueue(p, d, all)
}

// noteLifted says that settings stand elsewhere than they are written, once per block.
func (r *resolver) noteLifted(route *Route, c *config.Component) {
	for _, key := range []string{"sending_queue", "retry_on_failure"} {
		path := "exporters::" + c.ID + "::" + key
		if r.builder.cfg.Written(path) {
			route.Lifted = append(route.Lifted, c.ID)
			r.note(config.Note, "exporters/"+c.ID, path, "", "queue and retry settings of %s belong to %s", c.ID,
				r.conn.ID)
			return
		}
	}
}

// plan is the level with its members' settings: the fewest slots, the longest patience, the first backoff.
func (l *level) plan(asks []ask) Level {
	out := Level{
		Pipelines: l.pipelines, Exporters: l.exporters, Emergency: l.emergency, MaxItems: l.maxItems,
		Workers: asks[0].queue.NumConsumers, Retry: asks[0].retry,
	}
	for _, a := range asks {
		out.Timeout = max(out.Timeout, a.timeout)
		out.Workers = min(out.Workers, a.queue.NumConsumers)
	}
	for _, a := range asks[1:] {
		switch {
		case !a.retry.Enabled:
		case !out.Retry.Enabled:
			out.Retry = a.retry
		case out.Retry.MaxElapsedTime == 0 || a.retry.MaxElapsedTime == 0:
			out.Retry.MaxElapsedTime = 0
		default:
			out.Retry.MaxElapsedTime = max(out.Retry.MaxElapsedTime, a.retry.MaxElapsedTime)
		}
	}
	out.Workers = max(out.Workers, 1)
	return out
}

// liftQueue makes the one queue above the levels: their sizes added up, unless the connector says otherwise.
func (r *resolver) liftQueue(p *Pipeline, d *Destination, asks []ask) {
	q := exporter.DefaultQueue()
	q.Enabled, q.QueueSize, q.Sizer = false, 0, ""
	disabled := false
	for _, a := range asks {
		disabled = disabled || a.written && !a.queued
		if a.written && a.queued {
			r.addQueue(&q, &a.queue)
		}
	}
	if !q.Enabled && !disabled && slices.ContainsFunc(asks, func(a ask) bool { return a.queued }) {
		q.Enabled = true // levels of files alone: the queue they imply
	}
	for _, l := range d.Levels {
		d.Workers += l.Workers
	}
	r.override(&q, d)
	own := batchOf(&q)
	if own == nil && p.Batch == nil && asks[0].written {
		own = batchOf(&asks[0].queue)
	}
	d.Want = want(p.Batch, own)
	if d.Wait = !q.Enabled; d.Wait {
		return
	}
	if q.QueueSize == 0 {
		q.QueueSize = exporter.DefaultQueue().QueueSize
	}
	d.Storage, d.Stored = q.Storage, q.Storage != ""
	d.Limit = limit(q.Sizer, q.QueueSize, q.BlockOnOverflow, d.Want)
	if p.Batch != nil && own == nil {
		d.Limit.BatchItems = p.Batch.Size
	}
}

// addQueue adds one member's queue to the sum.
func (r *resolver) addQueue(sum, one *exporter.QueueConfig) {
	sum.Enabled = true
	switch sum.Sizer {
	case "":
		sum.Sizer, sum.QueueSize = one.Sizer, one.QueueSize
	case one.Sizer:
		sum.QueueSize += one.QueueSize
	default:
		r.say(config.Warning, r.path(), "use one sizer in all levels",
			"a queue_size in %s is ignored: the first level counts %s", one.Sizer, sum.Sizer)
	}
	switch {
	case sum.Storage == "":
		sum.Storage = one.Storage
	case one.Storage != "" && one.Storage != sum.Storage:
		r.say(config.Warning, r.path(), "name one storage in all levels",
			"storage %s is not used: the queue above the levels is in %s", one.Storage, sum.Storage)
	}
	sum.BlockOnOverflow = sum.BlockOnOverflow || one.BlockOnOverflow
}

// override applies what the connector itself says.
func (r *resolver) override(q *exporter.QueueConfig, d *Destination) {
	own := r.cfg.Queue
	if own == nil {
		return
	}
	q.Enabled = own.Enabled == nil || *own.Enabled
	if own.NumConsumers != nil {
		d.Workers = min(d.Workers, *own.NumConsumers)
	}
	if own.QueueSize != nil {
		q.QueueSize = *own.QueueSize
		if own.Sizer == nil && q.Sizer == "" {
			q.Sizer = exporter.DefaultQueue().Sizer
		}
	}
	if own.Sizer != nil {
		q.Sizer = *own.Sizer
	}
	if own.BlockOnOverflow != nil {
		q.BlockOnOverflow = *own.BlockOnOverflow
	}
	if own.Storage != nil {
		q.Storage = *own.Storage
	}
	q.Batch = own.Batch
}

// timers fills in the effective probe times and says where they differ from what is written.
func (r *resolver) timers(d *Destination) {
	ordinary := 0
	for _, l := range d.Levels {
		if !l.Emergency {
			ordinary++
		}
	}
	d.Route.RetryGap = r.cfg.EffectiveGap(ordinary)
	if d.Route.RetryGap != r.cfg.RetryGap && r.builder.cfg.Written(r.path("retry_gap")) {
		r.say(config.Note, r.path("retry_gap"), "", "retry_gap is %s: %s / %d ordinary levels", d.Route.RetryGap,
			r.cfg.RetryInterval, ordinary)
	}
	if r.cfg.MaxRetries > 0 && r.builder.cfg.Written(r.path("max_retries")) {
		r.say(config.Note, r.path("max_retries"), "", "%d failed probes every %s, then one every %s; no level is ever given up",
			r.cfg.MaxRetries, r.cfg.RetryInterval, r.cfg.RareInterval())
	}
}
