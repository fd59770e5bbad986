// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package evidence gathers what a change of the configuration is judged by and no pipeline counts: whether its listeners are
// there, probes that failed, requests that panicked, the memory in use (reload, section 8).
//
// It stands beside the path, between what runs and the samples that a reload decides from. It judges nothing, knows no
// configuration, and whoever tells it something waits for a mutex at most.
package evidence

import (
	"runtime/metrics"
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/pipeline"
)

// Probes are the probes that failed. While a breaker is open nothing else is tried, so they belong to what a change of
// the configuration is judged by; a good one says nothing of data.
type Probes struct {
	mu struct {
		sync.Mutex
		by map[string]*pipeline.Evidence // exporter
	}
}

// Note counts one that failed; others are not counted.
func (p *Probes) Note(exporterID string, k exporter.Kind, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.mu.by[exporterID]
	if e == nil {
		e = &pipeline.Evidence{Exporter: exporterID}
		if p.mu.by == nil {
			p.mu.by = map[string]*pipeline.Evidence{}
		}
		p.mu.by[exporterID] = e
	}
	switch k {
	case exporter.Retry:
		e.Retry++
	case exporter.Ambiguous:
		e.Ambiguous++
	case exporter.Misconfigured:
		e.Misconfigured++
	default:
		return
	}
	e.LastFailure = now
}

// AddTo adds the probes of e's exporter.
func (p *Probes) AddTo(e *pipeline.Evidence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if more := p.mu.by[e.Exporter]; more != nil {
		e.Add(more)
	}
}

// Panics are those of requests while a generation ran: in a receiver, or in the pipelines behind it. One elsewhere ends the
// process, and the attempt on disk counts it.
type Panics struct {
	mu struct {
		sync.Mutex
		text string // of the last one
	}
}

// Note keeps the text of one, which names where it was.
func (p *Panics) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.text = text
}

// Last is the text of the last one; empty = there was none.
func (p *Panics) Last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.text
}

// MemoryInUse is what a memory limiter looks at, in bytes.
func MemoryInUse() uint64 {
	sample := [1]metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample[:])
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
