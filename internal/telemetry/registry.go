// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Kind tells how a family of series is to be read.
type Kind uint8

// The kinds of families.
const (
	KindCounter Kind = 1 + iota
	KindGauge
	KindHistogram
)

// Registry holds every series of the process. Asking twice for one series gives the same one, so that it goes on
// counting over reloads. Its methods may be called from any goroutine.
type Registry struct {
	mu struct {
		sync.Mutex
		families map[string]*family
	}
}

type family struct {
	name, help string
	kind       Kind
	series     map[string]*series
}

type series struct {
	labels    []string // name, value, name, value …
	counter   *Counter
	gauge     *Gauge
	read      func() float64
	histogram *Histogram
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	r := &Registry{}
	r.mu.families = map[string]*family{}
	return r
}

// Counter counts upwards. The zero value counts, unseen.
type Counter struct{ n atomic.Int64 }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int64) { c.n.Add(n) }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Value is the sum so far.
func (c *Counter) Value() int64 { return c.n.Load() }

// Gauge holds a value that goes up and down. The zero value works, unseen.
type Gauge struct{ n atomic.Int64 }

// Set replaces the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Add changes the value by n.
func (g *Gauge) Add(n int64) { g.n.Add(n) }

// Value is the present value.
func (g *Gauge) Value() int64 { return g.n.Load() }

// Histogram counts values in fixed buckets.
type Histogram struct {
	bounds []float64
	counts []atomic.Int64 // one more than bounds
	sum    atomic.Int64   // in thousandths, enough for seconds, items and bytes
}

// Observe counts v.
func (h *Histogram) Observe(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(1)
	h.sum.Add(int64(v * 1000))
}

// Counter returns the series name{labels}; labels alternate name and value.
func (r *Registry) Counter(name, help string, labels ...string) *Counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seriesLocked(name, help, KindCounter, labels)
	if s.counter == nil {
		s.counter = &Counter{}
	}
	return s.counter
}

// Gauge returns the series name{labels}.
func (r *Registry) Gauge(name, help string, labels ...string) *Gauge {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seriesLocked(name, help, KindGauge, labels)
	if s.gauge == nil {
		s.gauge = &Gauge{}
	}
	return s.gauge
}

// GaugeFunc makes the series name{labels} show what read returns at each collection. A later call replaces read.
// read must not block.
func (r *Registry) GaugeFunc(name, help string, read func() float64, labels ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seriesLocked(name, help, KindGauge, labels).read = read
}

// CounterFunc is GaugeFunc for a value that only rises.
func (r *Registry) CounterFunc(name, help string, read func() float64, labels ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seriesLocked(name, help, KindCounter, labels).read = read
}

// Histogram returns the series name{labels} with the given upper bounds, ascending.
func (r *Registry) Histogram(name, help string, bounds []float64, labels ...string) *Histogram {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seriesLocked(name, help, KindHistogram, labels)
	if s.histogram == nil {
		s.histogram = &Histogram{bounds: bounds, counts: make([]atomic.Int64, len(bounds)+1)}
	}
	return s.histogram
}

func (r *Registry) seriesLocked(name, help string, kind Kind, labels []string) *series {
	if len(labels)%2 != 0 {
		panic("telemetry: labels of " + name + " do not alternate name and value")
	}
	f := r.mu.families[name]
	if f == nil {
		f = &family{name: name, help: help, kind: kind, series: map[string]*series{}}
		r.mu.families[name] = f
	}
	if f.kind != kind {
		panic(fmt.Sprintf("telemetry: %s is asked for as two kinds", name))
	}
	key := strings.Join(labels, "\xff")
	s := f.series[key]
	if s == nil {
		s = &series{labels: slices.Clone(labels)}
		f.series[key] = s
	}
	return s
}

// Sample is one value of a snapshot; histograms are left out.
type Sample struct {
	Name   string
	Labels []string // alternate name and value
	Kind   Kind
	Value  float64
}

// Snapshot reads every counter and gauge, sorted by name and labels.
func (r *Registry) Snapshot() []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Sample
	for _, name := range slices.Sorted(maps.Keys(r.mu.families)) {
		f := r.mu.families[name]
		if f.kind == KindHistogram {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(f.series)) {
			s := f.series[key]
			out = append(out, Sample{Name: name, Labels: s.labels, Kind: f.kind, Value: s.value()})
		}
	}
	return out
}

func (s *series) value() float64 {
	switch {
	case s.read != nil:
		return s.read()
	case s.counter != nil:
		return float64(s.counter.Value())
	case s.gauge != nil:
		return float64(s.gauge.Value())
	}
	return 0
}
