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
	// maxPaces bounds the destinations that are followed; further ones have no rates.
	maxPaces = 4096
)

// Count is what is looked at once a second.
type Count struct {
	Pipeline, Name string
	In, Out        uint64 // items since start: accepted; delivered, rejected and dropped
	Size, Capacity int64  // of the queue, in its sizer
}

// Pace follows destinations and knows their rates. Its methods may be called from any goroutine.
type Pace struct {
	mu struct {
		sync.Mutex
		of map[key]*series
	}
}

type key struct{ pipeline, name string }

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

// Look notes the counts of all destinations at now. Those that are not there any more are forgotten.
func (p *Pace) Look(now time.Time, counts []Count) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range counts {
		c := &counts[i]
		k := key{c.Pipeline, c.Name}
		s := p.mu.of[k]
		if s == nil {
			if len(p.mu.of) >= maxPaces {
				continue
			}
			s = &series{}
			p.mu.of[k] = s
		}
		s.looks[s.n%paceSamples] = look{now, c.In, c.Out, c.Size}
		s.n++
		s.seen = now
	}
	for k, s := range p.mu.of {
		if !s.seen.Equal(now) {
			delete(p.mu.of, k)
		}
	}
}

// Fill gives the destinations their rates, and the time until their queue is full or empty.
func (p *Pace) Fill(destinations []Destination) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range destinations {
		d := &destinations[i]
		if s := p.mu.of[key{d.Pipeline, d.Name}]; s != nil {
			s.fill(d)
		}
	}
}

// back is the look n before the last one, or the first there is.
func (s *series) back(n int) look {
	n = min(n, s.n-1, paceSamples-1)
	return s.looks[(s.n-1-n)%paceSamples]
}

func (s *series) fill(d *Destination) {
	last := s.back(0)
	first := s.back(rateSamples)
	if took := last.at.Sub(first.at).Seconds(); took > 0 {
		d.InPerSecond = rate(first.in, last.in, took)
		d.OutPerSecond = rate(first.out, last.out, took)
	}
	first = s.back(paceSamples)
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

// rate is per second; books that a restart or a repair set back have none.
func rate(first, last uint64, took float64) float64 {
	if last < first {
		return 0
	}
	return float64(last-first) / took
}
