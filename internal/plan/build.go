// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// batcher is implemented by the configuration of processors that ask for batches.
type batcher interface {
	Batching() (size, maxSize uint32, timeout time.Duration, metadataKeys []string)
}

const (
	memoryLimiterType = "memory_limiter"
	failoverType      = "failover"
	fileType          = "file"
	grpcType          = "otlp_grpc"
)

// minAdmissionMiB is the smallest budget of the gate (faults, part C).
const minAdmissionMiB = 32

// Build makes the plan of a configuration. The findings, sorted by place, are the plan's too; with an error among
// them the plan cannot be run.
func Build(cfg *config.Config, traits Traits) (*Plan, []config.Finding) {
	b := &builder{cfg: cfg, traits: traits, said: map[string]bool{}}
	p := &Plan{}
	for i := range cfg.Service.Pipelines {
		if entry := b.pipeline(&cfg.Service.Pipelines[i]); entry != nil {
			p.Pipelines = append(p.Pipelines, *entry)
		}
	}
	b.checkUnfed()
	b.storages(p)
	b.checkDoubleDelivery(p)
	b.checkListeners(p)
	if n := cfg.Service.Admission.LimitMiB; n > 0 && n < minAdmissionMiB {
		b.note(config.Note, "", "service::admission::limit_mib", "",
			"service::admission: limit_mib is %d; the smallest budget is %d MiB, and that is used", n, minAdmissionMiB)
	}
	config.Sort(b.findings)
	p.Findings = b.findings
	return p, b.findings
}

// builder gathers findings; each is said once, however many pipelines lead to it.
type builder struct {
	cfg      *config.Config
	traits   Traits
	findings []config.Finding
	said     map[string]bool
}

// note adds a finding about a component at the place of path.
func (b *builder) note(severity config.Severity, component, path, hint, format string, args ...any) {
	f := config.Finding{
		Severity: severity, Position: b.cfg.Where(path), Component: component, Text: fmt.Sprintf(format, args...),
		Hint: hint,
	}
	if key := fmt.Sprint(f); !b.said[key] {
		b.said[key] = true
		b.findings = append(b.findings, f)
	}
}

func (b *builder) component(kind config.Kind, id string) *config.Component {
	return b.cfg.Components[kind][id]
}

// connector returns the failover connector of that ID.
func (b *builder) connector(id string) *config.Component {
	if c := b.component(config.Connectors, id); c != nil && c.Type == failoverType {
		return c
	}
	return nil
}

func pipelinePath(id string) string { return "service::pipelines::" + id }

// pipeline plans one pipeline, or returns nil for one that is fed by connectors only.
func (b *builder) pipeline(c *config.Pipeline) *Pipeline {
	p := &Pipeline{ID: c.ID, Signal: c.Signal, Processors: c.Processors}
	for _, id := range c.Receivers {
		if b.component(config.Connectors, id) == nil {
			p.Receivers = append(p.Receivers, id)
		}
	}
	if len(p.Receivers) == 0 && !(b.cfg.Fragment && len(c.Receivers) == 0) {
		return nil
	}
	b.processors(c, p)
	for _, id := range c.Exporters {
		switch {
		case b.connector(id) != nil:
			if d := b.route(p, b.connector(id)); d != nil {
				p.Destinations = append(p.Destinations, *d)
			}
		case b.component(config.Exporters, id) != nil:
			p.Destinations = append(p.Destinations, b.plain(p, b.component(config.Exporters, id)))
		}
	}
	b.finish(c, p)
	return p
}

// processors reads what the pipeline's processors ask for. Several batch processors in a row: the last one counts.
func (b *builder) processors(c *config.Pipeline, p *Pipeline) {
	for i, id := range c.Processors {
		proc := b.component(config.Processors, id)
		if proc == nil {
			continue
		}
		if proc.Type == memoryLimiterType {
			p.MemoryLimiters = append(p.MemoryLimiters, id)
		}
		asked, ok := proc.Config.(batcher)
		if !ok {
			continue
		}
		if p.Batch != nil {
			b.note(config.Note, "processors/"+p.Batch.Processor, fmt.Sprintf("%s::processors::%d", pipelinePath(c.ID), i),
				"", "%s comes after %s in %s; the last one counts", id, p.Batch.Processor, c.ID)
		}
		p.Batch = &Batch{Processor: id}
		p.Batch.Size, p.Batch.Max, p.Batch.Timeout, p.Batch.MetadataKeys = asked.Batching()
	}
}

// finish decides what needs all destinations: the storage, and what there is to say of it.
func (b *builder) finish(c *config.Pipeline, p *Pipeline) {
	for i := range p.Destinations {
		if d := &p.Destinations[i]; p.Storage == "" && !d.Wait {
			p.Storage = d.Storage
		}
	}
	if p.Storage != "" {
		b.share(p)
	}
	for i := range p.Destinations {
		d := &p.Destinations[i]
		if p.Storage != "" && !d.Wait && d.Storage == "" {
			kind := "exporters/"
			if d.Route != nil {
				kind = "connectors/"
			}
			path := fmt.Sprintf("%s::exporters::%d", pipelinePath(c.ID), slices.Index(c.Exporters, d.Label))
			b.note(config.Note, kind+d.Label, path, "",
				"%s shares the journal of %s; it gives way first when the disk is full", d.Label, p.ID)
		}
		if p.Storage != "" && d.Storage != "" && d.Storage != p.Storage {
			path := fmt.Sprintf("exporters::%s::sending_queue::storage", d.Label)
			b.note(config.Warning, "exporters/"+d.Label, path, "name one storage for one pipeline",
				"storage %s is not used in %s: its data is stored once, in %s", d.Storage, p.ID, p.Storage)
		}
	}
	if p.Batch == nil || len(p.Destinations) == 0 {
		return
	}
	path := fmt.Sprintf("%s::processors::%d", pipelinePath(c.ID), slices.Index(c.Processors, p.Batch.Processor))
	if p.Queued() {
		b.note(config.Note, "processors/"+p.Batch.Processor, path, "", "batches are made behind the queue of %s", p.ID)
	} else {
		b.note(config.Note, "processors/"+p.Batch.Processor, path, "",
			"%s has no queue: requests are delivered as they come, and no batches are made", p.ID)
	}
}

// Bounds of a batch in bytes (failover, section 4.4): backends refuse more than 4 MiB unless told otherwise; without
// batching, what waits together may travel together up to 1 MiB.
const (
	maxBatchBytes   = 4 << 20
	maxUnaskedBytes = 1 << 20
)

// want is the batch processor's wish.
func (a *Batch) want() queue.Want {
	w := queue.Want{Sizer: queue.Items, Min: int64(a.Size), Max: int64(a.Max), MaxBytes: maxBatchBytes, Linger: a.Timeout}
	if a.Timeout == 0 {
		w.Min = 0 // the Collector's: without a timeout nothing is waited for
	}
	return w
}
