// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"testing"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// flatten decodes a request with the reference decoder and returns, for each item in order, a request that holds this
// item alone with everything that stands around it. For profiles an item is a profile here.
func flatten(t *testing.T, s otlp.Signal, b []byte) []string {
	t.Helper()
	var out []string
	add := func(b []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	switch s {
	case otlp.Traces:
		r := ptraceotlp.NewExportRequest()
		must(t, r.UnmarshalProto(b))
		for _, rs := range r.Traces().ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, sp := range ss.Spans().All() {
					one := ptrace.NewTraces()
					to := one.ResourceSpans().AppendEmpty()
					rs.Resource().CopyTo(to.Resource())
					to.SetSchemaUrl(rs.SchemaUrl())
					scope := to.ScopeSpans().AppendEmpty()
					ss.Scope().CopyTo(scope.Scope())
					scope.SetSchemaUrl(ss.SchemaUrl())
					sp.CopyTo(scope.Spans().AppendEmpty())
					add(ptraceotlp.NewExportRequestFromTraces(one).MarshalProto())
				}
			}
		}
	case otlp.Metrics:
		r := pmetricotlp.NewExportRequest()
		must(t, r.UnmarshalProto(b))
		for _, rm := range r.Metrics().ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					for i := range points(m) {
						one := pmetric.NewMetrics()
						to := one.ResourceMetrics().AppendEmpty()
						rm.Resource().CopyTo(to.Resource())
						to.SetSchemaUrl(rm.SchemaUrl())
						scope := to.ScopeMetrics().AppendEmpty()
						sm.Scope().CopyTo(scope.Scope())
						scope.SetSchemaUrl(sm.SchemaUrl())
						only := scope.Metrics().AppendEmpty()
						m.CopyTo(only)
						keepPoint(only, i)
						add(pmetricotlp.NewExportRequestFromMetrics(one).MarshalProto())
					}
				}
			}
		}
	case otlp.Logs:
		r := plogotlp.NewExportRequest()
		must(t, r.UnmarshalProto(b))
		for _, rl := range r.Logs().ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, lr := range sl.LogRecords().All() {
					one := plog.NewLogs()
					to := one.ResourceLogs().AppendEmpty()
					rl.Resource().CopyTo(to.Resource())
					to.SetSchemaUrl(rl.SchemaUrl())
					scope := to.ScopeLogs().AppendEmpty()
					sl.Scope().CopyTo(scope.Scope())
					scope.SetSchemaUrl(sl.SchemaUrl())
					lr.CopyTo(scope.LogRecords().AppendEmpty())
					add(plogotlp.NewExportRequestFromLogs(one).MarshalProto())
				}
			}
		}
	case otlp.Profiles:
		r := pprofileotlp.NewExportRequest()
		must(t, r.UnmarshalProto(b))
		for _, rp := range r.Profiles().ResourceProfiles().All() {
			for _, sp := range rp.ScopeProfiles().All() {
				for _, p := range sp.Profiles().All() {
					one := pprofile.NewProfiles()
					r.Profiles().Dictionary().CopyTo(one.Dictionary())
					to := one.ResourceProfiles().AppendEmpty()
					rp.Resource().CopyTo(to.Resource())
					to.SetSchemaUrl(rp.SchemaUrl())
					scope := to.ScopeProfiles().AppendEmpty()
					sp.Scope().CopyTo(scope.Scope())
					scope.SetSchemaUrl(sp.SchemaUrl())
					p.CopyTo(scope.Profiles().AppendEmpty())
					add(pprofileotlp.NewExportRequestFromProfiles(one).MarshalProto())
				}
			}
		}
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func points(m pmetric.Metric) int {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return m.Gauge().DataPoints().Len()
	case pmetric.MetricTypeSum:
		return m.Sum().DataPoints().Len()
	case pmetric.MetricTypeHistogram:
		return m.Histogram().DataPoints().Len()
	case pmetric.MetricTypeExponentialHistogram:
		return m.ExponentialHistogram().DataPoints().Len()
	case pmetric.MetricTypeSummary:
		return m.Summary().DataPoints().Len()
	}
	return 0
}

// keepPoint removes every data point of m but the i-th.
func keepPoint(m pmetric.Metric, i int) {
	at := -1
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		m.Gauge().DataPoints().RemoveIf(func(pmetric.NumberDataPoint) bool { at++; return at != i })
	case pmetric.MetricTypeSum:
		m.Sum().DataPoints().RemoveIf(func(pmetric.NumberDataPoint) bool { at++; return at != i })
	case pmetric.MetricTypeHistogram:
		m.Histogram().DataPoints().RemoveIf(func(pmetric.HistogramDataPoint) bool { at++; return at != i })
	case pmetric.MetricTypeExponentialHistogram:
		m.ExponentialHistogram().DataPoints().RemoveIf(func(pmetric.ExponentialHistogramDataPoint) bool { at++; return at != i })
	case pmetric.MetricTypeSummary:
		m.Summary().DataPoints().RemoveIf(func(pmetric.SummaryDataPoint) bool { at++; return at != i })
	}
}
