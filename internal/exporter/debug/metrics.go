// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package debug

import (
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
)

func (t *text) metrics(d pmetric.Metrics) {
	for _, r := range d.ResourceMetrics().All() {
		t.resource(r.Resource(), r.SchemaUrl())
		for _, s := range r.ScopeMetrics().All() {
			t.in(func() {
				t.scope(s.Scope())
				t.in(func() {
					for _, m := range s.Metrics().All() {
						t.metric(m)
					}
				})
			})
		}
	}
}

func (t *text) metric(m pmetric.Metric) {
	words := []string{"metric", quote(m.Name()), m.Type().String()}
	if m.Unit() != "" {
		words = append(words, "unit="+wire.Clip(m.Unit()))
	}
	switch m.Type() {
	case pmetric.MetricTypeSum:
		words = append(words, m.Sum().AggregationTemporality().String(), "monotonic="+strconv.FormatBool(m.Sum().IsMonotonic()))
	case pmetric.MetricTypeHistogram:
		words = append(words, m.Histogram().AggregationTemporality().String())
	case pmetric.MetricTypeExponentialHistogram:
		words = append(words, m.ExponentialHistogram().AggregationTemporality().String())
	}
	t.line(pcommon.NewMap(), words...)
	if t.all && m.Description() != "" {
		t.note(quote(m.Description()))
	}
	t.in(func() { t.points(m) })
}

func (t *text) points(m pmetric.Metric) {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		t.numbers(m.Gauge().DataPoints())
	case pmetric.MetricTypeSum:
		t.numbers(m.Sum().DataPoints())
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			words := []string{"point", stamp(p.Timestamp()), "count=" + count(p.Count())}
			if p.HasSum() {
				words = append(words, "sum="+float(p.Sum()))
			}
			t.line(p.Attributes(), words...)
			if t.all {
				t.note("buckets", buckets(p.ExplicitBounds(), p.BucketCounts()))
			}
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			words := []string{"point", stamp(p.Timestamp()), "count=" + count(p.Count()), "scale=" + strconv.Itoa(int(p.Scale()))}
			if p.HasSum() {
				words = append(words, "sum="+float(p.Sum()))
			}
			t.line(p.Attributes(), words...)
			if t.all {
				t.note("zero", count(p.ZeroCount()),
					"positive from", strconv.Itoa(int(p.Positive().Offset())), list(p.Positive().BucketCounts()),
					"negative from", strconv.Itoa(int(p.Negative().Offset())), list(p.Negative().BucketCounts()))
			}
		}
	case pmetric.MetricTypeSummary:
		for _, p := range m.Summary().DataPoints().All() {
			words := []string{"point", stamp(p.Timestamp()), "count=" + count(p.Count()), "sum=" + float(p.Sum())}
			for _, q := range p.QuantileValues().All() {
				words = append(words, "q"+float(q.Quantile())+"="+float(q.Value()))
			}
			t.line(p.Attributes(), words...)
		}
	}
}

func (t *text) numbers(points pmetric.NumberDataPointSlice) {
	for _, p := range points.All() {
		words := []string{"point", stamp(p.Timestamp())}
		switch p.ValueType() {
		case pmetric.NumberDataPointValueTypeInt:
			words = append(words, strconv.FormatInt(p.IntValue(), 10))
		case pmetric.NumberDataPointValueTypeDouble:
			words = append(words, float(p.DoubleValue()))
		default:
			words = append(words, "no value")
		}
		t.line(p.Attributes(), words...)
		if t.all && p.StartTimestamp() != 0 {
			t.note("since", stamp(p.StartTimestamp()))
		}
	}
}

// buckets is "≤1: 3, ≤5: 0, more: 2". Bounds and counts are the sender's and need not match.
func buckets(bounds pcommon.Float64Slice, counts pcommon.UInt64Slice) string {
	var out []string
	for i := range counts.Len() {
		bound := "more"
		if i < bounds.Len() {
			bound = "≤" + float(bounds.At(i))
		}
		out = append(out, bound+": "+count(counts.At(i)))
	}
	return strings.Join(out, ", ")
}

func list(counts pcommon.UInt64Slice) string {
	out := make([]string, counts.Len())
	for i := range out {
		out[i] = count(counts.At(i))
	}
	return "[" + strings.Join(out, " ") + "]"
}
