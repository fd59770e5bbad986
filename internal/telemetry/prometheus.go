// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxScrapes bounds the scrapes served at once; one more is answered 503 (faults, part C).
const maxScrapes = 8

// scopeName is the value of otel_scope_name.
const scopeName = "github.com/holdfast-telemetry/holdfast"

// Options say how a registry is shown to Prometheus. The zero value shows the bare names (compat, 6).
type Options struct {
	WithTypeSuffix bool // counters end in _total
	WithUnits      bool // names end in their unit: _seconds, _bytes
	WithScopeInfo  bool // series carry otel_scope_name, otel_scope_version, otel_scope_schema_url
	// Detailed also shows what only the level `detailed` shows.
	Detailed bool
	// Resource are the attributes of target_info; nil = no such series.
	Resource map[string]string
	// Constant are labels of every series, by attribute name.
	Constant map[string]string
	// Version is the value of otel_scope_version.
	Version string
	// Log hears of scrapes that went wrong; nil = nobody.
	Log *zap.Logger
}

// detailedOnly are the families that cost more than they tell below the level `detailed` (compat, 6).
var detailedOnly = map[string]bool{
	"otelcol_processor_batch_batch_send_size_bytes": true,
	"otelcol_exporter_queue_batch_send_size":        true,
	"otelcol_exporter_queue_batch_send_size_bytes":  true,
	"otelcol_exporter_enqueue_size":                 true,
	"otelcol_exporter_enqueue_size_bytes":           true,
}

// NewHandler serves a registry in Prometheus's exposition formats. It may be served from any number of goroutines;
// scrapes that come while one is being collected share its result.
func NewHandler(reg *Registry, opts Options) http.Handler {
	inner := prometheus.NewRegistry()
	inner.MustRegister(NewCollector(reg, opts))
	ho := promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError, // one bad series must not hide the others
		MaxRequestsInFlight: maxScrapes,
		CoalesceGather:      true,
	}
	if opts.Log != nil {
		if std, err := zap.NewStdLogAt(opts.Log, zapcore.ErrorLevel); err == nil {
			ho.ErrorLog = std
		}
	}
	return promhttp.HandlerFor(inner, ho)
}

// Collector shows a registry to client_golang.
type Collector struct {
	reg    *Registry
	opts   Options
	labels prometheus.Labels // constant ones, scope included
}

// NewCollector returns a collector of reg. It describes nothing in advance, since series come and go with reloads.
func NewCollector(reg *Registry, opts Options) *Collector {
	c := &Collector{reg: reg, opts: opts, labels: prometheus.Labels{}}
	for name, value := range opts.Constant {
		c.labels[labelName(name)] = value
	}
	if opts.WithScopeInfo {
		c.labels["otel_scope_name"] = scopeName
		c.labels["otel_scope_version"] = opts.Version
		c.labels["otel_scope_schema_url"] = ""
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. The registry's lock is not held while series are read.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	if len(c.opts.Resource) > 0 {
		ch <- c.targetInfo()
	}
	for _, f := range c.reg.families() {
		if detailedOnly[f.name] && !c.opts.Detailed {
			continue
		}
		name := c.shownName(&f)
		for i := range f.series {
			ch <- c.metric(name, &f, &f.series[i])
		}
	}
}

func (c *Collector) metric(name string, f *familyView, s *series) prometheus.Metric {
	names, values := make([]string, 0, len(s.labels)/2), make([]string, 0, len(s.labels)/2)
	for i := 0; i < len(s.labels); i += 2 {
		names, values = append(names, labelName(s.labels[i])), append(values, s.labels[i+1])
	}
	desc := prometheus.NewDesc(name, f.help, names, c.labels)
	var m prometheus.Metric
	var err error
	switch f.kind {
	case KindCounter:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.value(), values...)
	case KindHistogram:
		count, sum, buckets := s.histogram.cumulative()
		m, err = prometheus.NewConstHistogram(desc, count, sum, buckets, values...)
	default:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.value(), values...)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}

func (c *Collector) targetInfo() prometheus.Metric {
	labels := prometheus.Labels{}
	for _, name := range slices.Sorted(maps.Keys(c.opts.Resource)) {
		labels[labelName(name)] = c.opts.Resource[name]
	}
	desc := prometheus.NewDesc("target_info", "Target metadata.", nil, labels)
	m, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, 1)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}

var unitWords = map[string]string{"s": "seconds", "ms": "milliseconds", "By": "bytes"}

// shownName appends unit and type where they are asked for and the name does not have them. Our own names have both
// and read the same everywhere.
func (c *Collector) shownName(f *familyView) string {
	name := f.name
	if c.opts.WithUnits {
		if word := unitWords[f.unit]; word != "" && !strings.HasSuffix(name, "_"+word) {
			name += "_" + word
		}
	}
	if c.opts.WithTypeSuffix && f.kind == KindCounter && !strings.HasSuffix(name, "_total") {
		name += "_total"
	}
	return name
}

// labelName makes a Prometheus label of an attribute name: whatever is no letter, digit or underscore becomes an
// underscore.
func labelName(attribute string) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, attribute)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return "key_" + name
	}
	return name
}

var _ prometheus.Collector = (*Collector)(nil)
