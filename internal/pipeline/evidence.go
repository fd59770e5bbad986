// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"sync"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
)

// Evidence is how attempts at one exporter ended since its pipeline was built: what a change of the configuration is
// judged by. Attempts at all places of the pipeline where the exporter stands are counted together.
type Evidence struct {
	Exporter string // ID as written
	// Attempts, by verdict. One batch that is tried again counts again, but for a batch of several records that is
	// rejected: it is taken apart, and those of its records count that are.
	Delivered, Retry, RetryAfter, Ambiguous, Misconfigured, Rejected uint64

	LastDelivery, LastFailure, LastRejected time.Time // zero = none
}

// witness counts the attempts of one sender.
type witness struct {
	sync.Mutex
	seen Evidence
}

// note counts an attempt with so many records.
func (w *witness) note(k exporter.Kind, records int, now time.Time) {
	w.Lock()
	defer w.Unlock()
	e := &w.seen
	switch k {
	case exporter.Delivered:
		e.Delivered++
		e.LastDelivery = now
		return
	case exporter.Rejected:
		if records > 1 {
			return
		}
		e.Rejected++
		e.LastRejected = now
		return
	case exporter.RetryAfter:
		e.RetryAfter++
		return
	case exporter.Retry:
		e.Retry++
	case exporter.Ambiguous:
		e.Ambiguous++
	case exporter.Misconfigured:
		e.Misconfigured++
	default: // no verdict: nothing was learnt
		return
	}
	e.LastFailure = now
}

// Appends is how the queue takes data.
type Appends struct {
	Records, Failed uint64    // Failed: appends that a queue with room would have taken, had its disk
	Last            time.Time // when a record was last seen to have come; zero = none was
}

// Appends copies how the queue takes data. It never blocks.
func (p *Pipeline) Appends() Appends {
	e := p.entry
	a := Appends{Records: e.appended.records.Load(), Failed: e.appended.failed.Load()}
	p.looked.Lock()
	defer p.looked.Unlock()
	if a.Records > p.looked.records {
		p.looked.records, p.looked.last = a.Records, time.Now()
	}
	a.Last = p.looked.last
	return a
}

// Evidence copies how the exporters of the pipeline fare, one entry each. It never blocks.
func (p *Pipeline) Evidence() []Evidence {
	var out []Evidence
	at := map[string]int{}
	for _, d := range p.all() {
		for i, level := range d.senders {
			for k, s := range level {
				id := d.dest.Levels[i].Exporters[k]
				n, ok := at[id]
				if !ok {
					n = len(out)
					at[id], out = n, append(out, Evidence{Exporter: id})
				}
				s.witness.Lock()
				out[n].Add(&s.witness.seen)
				s.witness.Unlock()
			}
		}
	}
	return out
}

// Add counts what more counted, too.
func (e *Evidence) Add(more *Evidence) {
	e.Delivered, e.Retry, e.RetryAfter = e.Delivered+more.Delivered, e.Retry+more.Retry, e.RetryAfter+more.RetryAfter
	e.Ambiguous, e.Misconfigured = e.Ambiguous+more.Ambiguous, e.Misconfigured+more.Misconfigured
	e.Rejected += more.Rejected
	e.LastDelivery = later(e.LastDelivery, more.LastDelivery)
	e.LastFailure = later(e.LastFailure, more.LastFailure)
	e.LastRejected = later(e.LastRejected, more.LastRejected)
}

// Attempts is how many had a verdict.
func (e *Evidence) Attempts() uint64 {
	return e.Delivered + e.Retry + e.RetryAfter + e.Ambiguous + e.Misconfigured + e.Rejected
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
