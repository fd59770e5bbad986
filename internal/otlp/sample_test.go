// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
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

// firstTime is the timestamp of the first item of a sample, in nanoseconds since 1970.
const firstTime pcommon.Timestamp = 1_760_000_000_000_000_000

// sample returns a request such as a service sends: one resource, one scope, n items with ordinary attributes.
func sample(tb testing.TB, s otlp.Signal, n int) []byte {
	tb.Helper()
	var b []byte
	var err error
	switch s {
	case otlp.Traces:
		b, err = ptraceotlp.NewExportRequestFromTraces(sampleTraces(n)).MarshalProto()
	case otlp.Metrics:
		b, err = pmetricotlp.NewExportRequestFromMetrics(sampleMetrics(n)).MarshalProto()
	case otlp.Logs:
		b, err = plogotlp.NewExportRequestFromLogs(sampleLogs(n)).MarshalProto()
	case otlp.Profiles:
		b, err = pprofileotlp.NewExportRequestFromProfiles(sampleProfiles(n)).MarshalProto()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func sampleTraces(n int) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	describe(rs.Resource())
	rs.SetSchemaUrl("https://opentelemetry.io/schemas/1.30.0")
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp")
	ss.Scope().SetVersion("0.60.0")
	ss.SetSchemaUrl("https://opentelemetry.io/schemas/1.30.0")
	for i := range n {
		sp := ss.Spans().AppendEmpty()
		sp.SetTraceID([16]byte{1, 2, 3, byte(i >> 8), byte(i), 15: 9})
		sp.SetSpanID([8]byte{4, byte(i >> 8), byte(i), 7: 1})
		sp.SetParentSpanID([8]byte{5, byte(i >> 8), byte(i), 7: 1})
		sp.SetFlags(0x101)
		sp.SetName("GET /api/v1/orders/{order_id}")
		sp.SetKind(ptrace.SpanKindServer)
		sp.SetStartTimestamp(firstTime + pcommon.Timestamp(i*1000))
		sp.SetEndTimestamp(firstTime + pcommon.Timestamp(i*1000+750))
		sp.Status().SetCode(ptrace.StatusCodeOk)
		at := sp.Attributes()
		at.PutStr("http.request.method", "GET")
		at.PutStr("http.route", "/api/v1/orders/{order_id}")
		at.PutStr("url.path", fmt.Sprintf("/api/v1/orders/%08d", i))
		at.PutStr("url.scheme", "https")
		at.PutStr("server.address", "orders.internal.example.com")
		at.PutStr("client.address", "203.0.113.195")
		at.PutStr("network.protocol.version", "1.1")
		at.PutStr("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 checkout-frontend/4.17.2 (eu)")
		at.PutStr("http.request.header.x-request-id", fmt.Sprintf("3f2b8c1e-9d4a-4c56-8e7f-%012d", i))
		at.PutInt("http.response.status_code", 200)
	}
	return td
}

func sampleMetrics(n int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	describe(rm.Resource())
	sm := rm.ScopeMetrics().AppendEmpty()
	sm.Scope().SetName("orders/metrics")
	for i := 0; i < n; {
		m := sm.Metrics().AppendEmpty()
		m.SetName(fmt.Sprintf("http.server.active_requests.%d", i))
		m.SetUnit("{request}")
		m.SetDescription("Number of active HTTP server requests.")
		sum := m.SetEmptySum()
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for range 8 {
			if i++; i > n {
				break
			}
			dp := sum.DataPoints().AppendEmpty()
			dp.SetStartTimestamp(firstTime)
			dp.SetTimestamp(firstTime + pcommon.Timestamp(i))
			dp.SetIntValue(int64(i))
			dp.Attributes().PutStr("http.request.method", "GET")
			dp.Attributes().PutStr("http.route", "/api/v1/orders/{order_id}")
			dp.Attributes().PutStr("server.address", "orders.internal.example.com")
			dp.Attributes().PutInt("http.response.status_code", int64(200+i%5))
		}
	}
	return md
}

func sampleLogs(n int) plog.Logs {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	describe(rl.Resource())
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName("orders")
	for i := range n {
		lr := sl.LogRecords().AppendEmpty()
		lr.SetTimestamp(firstTime + pcommon.Timestamp(i))
		lr.SetObservedTimestamp(firstTime + pcommon.Timestamp(i+5))
		lr.SetSeverityNumber(plog.SeverityNumberInfo)
		lr.SetSeverityText("INFO")
		lr.Body().SetStr(fmt.Sprintf("order %08d accepted for delivery, three positions, paid by invoice", i))
		lr.SetTraceID([16]byte{1, 2, byte(i >> 8), byte(i), 15: 9})
		lr.SetSpanID([8]byte{4, byte(i >> 8), byte(i), 7: 1})
		lr.Attributes().PutStr("log.file.path", "/var/log/containers/orders-7d9c5b8f6-x2k4q.log")
		lr.Attributes().PutStr("log.iostream", "stdout")
		lr.Attributes().PutStr("code.function.name", "com.example.orders.Delivery.accept")
		lr.Attributes().PutInt("code.line.number", int64(i))
	}
	return ld
}

func sampleProfiles(n int) pprofile.Profiles {
	pd := pprofile.NewProfiles()
	dict := pd.Dictionary()
	dict.StringTable().Append("", "cpu", "nanoseconds")
	for i := range 50 {
		dict.StringTable().Append(fmt.Sprintf("example.com/orders.(*Server).handle%d", i))
		dict.FunctionTable().AppendEmpty().SetNameStrindex(int32(3 + i))
		loc := dict.LocationTable().AppendEmpty()
		loc.SetAddress(uint64(0x400000 + i*64))
		line := loc.Lines().AppendEmpty()
		line.SetFunctionIndex(int32(i))
		line.SetLine(int64(i * 10))
		stack := dict.StackTable().AppendEmpty()
		for j := range 20 {
			stack.LocationIndices().Append(int32((i + j) % 50))
		}
	}
	dict.LinkTable().AppendEmpty()
	dict.MappingTable().AppendEmpty().SetMemoryLimit(1 << 40)
	au := dict.AttributeTable().AppendEmpty()
	au.SetKeyStrindex(1)
	au.Value().SetStr("worker")
	rp := pd.ResourceProfiles().AppendEmpty()
	describe(rp.Resource())
	sp := rp.ScopeProfiles().AppendEmpty()
	sp.Scope().SetName("profiler")
	for i := 0; i < n; {
		p := sp.Profiles().AppendEmpty()
		p.SampleType().SetTypeStrindex(1)
		p.SampleType().SetUnitStrindex(2)
		p.SetTime(firstTime + pcommon.Timestamp(i))
		p.SetProfileID([16]byte{1, byte(i >> 8), byte(i), 15: 3})
		for range 16 {
			if i++; i > n {
				break
			}
			sm := p.Samples().AppendEmpty()
			sm.SetStackIndex(int32(i % 50))
			sm.Values().Append(int64(i), 10_000_000)
			sm.TimestampsUnixNano().Append(uint64(firstTime) + uint64(i))
			sm.AttributeIndices().Append(0)
		}
	}
	return pd
}

// describe fills in a resource such as a service in a cluster has.
func describe(r pcommon.Resource) {
	r.Attributes().PutStr("service.name", "orders")
	r.Attributes().PutStr("service.namespace", "shop")
	r.Attributes().PutStr("service.version", "2.41.0")
	r.Attributes().PutStr("service.instance.id", "627cc493-f310-47de-96bd-71410b7dec09")
	r.Attributes().PutStr("k8s.pod.name", "orders-7d9c5b8f6-x2k4q")
	r.Attributes().PutStr("k8s.namespace.name", "shop-production")
	r.Attributes().PutStr("telemetry.sdk.language", "go")
	args := r.Attributes().PutEmptySlice("process.command_args")
	args.AppendEmpty().SetStr("/usr/bin/orders")
	args.AppendEmpty().SetStr("--listen=:8080")
}
