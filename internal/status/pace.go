// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"sync"
	"time"
)

const (
	// paceSamples is a minute at one look a second: what growth is measured over.
	paceSamples = 60
	// rateSamples is what rates are measured over.
	rateSamples = 10
	// flowSamples is what the rates of levels are measured over: where data goes changes from one second to the next.
	flowSamples = 3
	// maxPaces bounds the destinations that are followed; further ones have no rates.
	maxPaces = 4096
)

// Count is what is looked at once a second.
type Count struct {
	Pipeline, Name string
	In, Out        uint64 // items since start: accepted; delivered, rejected and dropped
	Size, Capacity int64  // of the queue, in its sizer
}

// Flow is how much a level of a route took.
type Flow struct {
	Connector, Signal string
	Level             int
	Items             uint64 // since start
}

// Pace follows destinations and levels and knows their rates. Its methods may be called from any goroutine.
type Pace struct {
	mu struct {
		sync.Mutex
		of map[key]*series
	}
}

// key names a destination of a pipeline, or a level of a route.
type key struct {
	pipeline, name string
	level          int // -1 = a destination
}

// series are the last looks at one destination, a ring.
type series struct {
	looks [paceSamples]look
	n     int // so far
	seen  time.Time
}

type look struct {
	at      time.Time
	in, out uint64
	size    int64
}

// NewPace returns a Pace that has seen nothing.
func NewPace() *Pace {
	p := &Pace{}
	p.mu.of = map[key]*series{}
	return p
}

// Look notes the counts of all destinations and levels at now. Those that are not there any more are forgotten.
func (p *Pace) Look(now time.Time, counts []Count, flows []Flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range counts {
		c := &counts[i]
		p.note(key{c.Pipeline, c.Name, -1}, look{now, c.In, c.Out, c.Size})
	}
	for i := range flows {
		f := &flows[i]
		p.note(key{f.Connector, f.Signal, f.Level}, look{at: now, out: f.Items})
	}
	for k, s := range p.mu.of {
		if !s.seen.Equal(now) {
			delete(p.mu.of, k)
		}
	}
}

// note needs the lock.
func (p *Pace) note(k key, l look) {
	s := p.mu.of[k]
	if s == nil {
		if len(p.mu.of) >= maxPaces {
			return
		}
		s = &series{}
		p.mu.of[k] = s
	}
	s.looks[s.n%paceSamples] = l
	s.n++
	s.seen = l.at
}

// Fill gives everything that flows its rate, and destinations the time until their queue is full or empty.
func (p *Pace) Fill(to *Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range to.Destinations {
		d := &to.Destinations[i]
		if s := p.mu.of[key{d.Pipeline, d.Name, -1}]; s != nil {
			s.fill(d)
		}
		for k := range to.Pipelines { // every destination is given everything: none has less than its pipeline
			if in := &to.Pipelines[k]; in.ID == d.Pipeline {
				in.InPerSecond = max(in.InPerSecond, d.InPerSecond)
			}
		}
	}
	for i := range to.Failover {
		r := &to.Failover[i]
		for k := range r.Levels {
			if s := p.mu.of[key{r.Connector, r.Signal, k}]; s != nil {
				_, r.Levels[k].OutPerSecond = s.rates(flowSamples)
			}
		}
	}
}

// back is the look n before the last one, or the first there is.
func (s *series) back(n int) look {
	n = min(n, s.n-1, paceSamples-1)
	return s.looks[(s.n-1-n)%paceSamples]
}

func (s *series) fill(d *Destination) {
	d.InPerSecond, d.OutPerSecond = s.rates(rateSamples)
	last, first := s.back(0), s.back(paceSamples)
	took := last.at.Sub(first.at).Seconds()
	if d.Queue == nil || took <= 0 {
		return
	}
	switch grown := float64(last.size-first.size) / took; {
	case grown > 0 && d.Queue.Capacity > 0:
		in := float64(max(d.Queue.Capacity-last.size, 0)) / grown
		d.FullIn = &in
	case grown < 0 && last.size > 0:
		in := float64(last.size) / -grown
		d.EmptyIn = &in
	}
}

func (s *series) rates(samples int) (in, out float64) {
	last, first := s.back(0), s.back(samples)
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 {
		return 0, 0
	}
	return rate(first.in, last.in, took), rate(first.out, last.out, took)
}

// rate is per second; books that a restart or a repair set back have none.
func rate(first, last uint64, took float64) float64 {
	if last < first {
		return 0
	}
	return float64(last-first) / took
}
