// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"maps"
	"math"
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
	unit       string // s, By; empty = none
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
	sum    atomic.Uint64  // bits of a float64
}

// Observe counts v.
func (h *Histogram) Observe(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
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

// SetUnit names the unit of a family in UCUM's words (s, By): readers that show units append it to the name where
// the name does not say it already. A family that nobody asked for is left alone.
func (r *Registry) SetUnit(name, unit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.mu.families[name]; f != nil {
		f.unit = unit
	}
}

// Forget removes every series that match reports true for, and returns how many there were. Whoever still counts
// into one of them counts unseen; asking again makes a new one. match must not call the registry.
//
// It is meant for reloads: what left the configuration must not stay on the page, and its read functions must not
// keep what they close over.
func (r *Registry) Forget(match func(name string, labels []string) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for name, f := range r.mu.families {
		for key, s := range f.series {
			if match(name, s.labels) {
				delete(f.series, key)
				n++
			}
		}
		if len(f.series) == 0 {
			delete(r.mu.families, name)
		}
	}
	return n
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
	labels = sortLabels(labels)
	key := strings.Join(labels, "\xff")
	s := f.series[key]
	if s == nil {
		s = &series{labels: labels}
		f.series[key] = s
	}
	return s
}

// sortLabels returns a copy ordered by name, so that one series has one key.
func sortLabels(labels []string) []string {
	out := make([]string, 0, len(labels))
	for pair := range slices.Chunk(labels, 2) {
		at := len(out)
		for at > 0 && out[at-2] > pair[0] {
			at -= 2
		}
		out = slices.Insert(out, at, pair...)
	}
	return out
}

// Sample is one value of a snapshot; histograms are left out.
type Sample struct {
	Name   string
	Labels []string // alternate name and value
	Kind   Kind
	Value  float64
}

// Snapshot reads every counter and gauge, sorted by name and labels. The read functions are called without the
// registry's lock.
func (r *Registry) Snapshot() []Sample {
	var out []Sample
	for _, f := range r.families() {
		if f.kind == KindHistogram {
			continue
		}
		for i := range f.series {
			s := &f.series[i]
			out = append(out, Sample{Name: f.name, Labels: s.labels, Kind: f.kind, Value: s.value()})
		}
	}
	return out
}

// Sum adds up the series of one family whose labels match, 0 where there is none. It is for those who look again and
// again: a Snapshot reads everything there is. match must not call the registry.
func (r *Registry) Sum(name string, match func(labels []string) bool) float64 {
	var found []*series
	r.mu.Lock()
	if f := r.mu.families[name]; f != nil && f.kind != KindHistogram {
		for _, s := range f.series {
			if match(s.labels) {
				c := *s
				found = append(found, &c)
			}
		}
	}
	r.mu.Unlock()
	sum := 0.0
	for _, s := range found {
		sum += s.value()
	}
	return sum
}

// familyView is a copy of a family that can be read without the registry's lock.
type familyView struct {
	name, help, unit string
	kind             Kind
	series           []series // sorted by labels
}

// families copies all there is, sorted by name.
func (r *Registry) families() []familyView {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]familyView, 0, len(r.mu.families))
	for _, name := range slices.Sorted(maps.Keys(r.mu.families)) {
		f := r.mu.families[name]
		v := familyView{name: f.name, help: f.help, unit: f.unit, kind: f.kind}
		for _, key := range slices.Sorted(maps.Keys(f.series)) {
			v.series = append(v.series, *f.series[key])
		}
		out = append(out, v)
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

// cumulative returns the count and sum of all observations and the counts at or below each bound.
func (h *Histogram) cumulative() (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(h.bounds))
	for i := range h.counts {
		count += uint64(h.counts[i].Load())
		if i < len(h.bounds) {
			buckets[h.bounds[i]] = count
		}
	}
	return count, math.Float64frombits(h.sum.Load()), buckets
}
