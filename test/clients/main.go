// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Command clients sends traces, metrics and logs with the OpenTelemetry Go SDK's own exporters, over gRPC and HTTP, to
// an OTLP endpoint, and prints how many items of each it handed over. It stands in for the applications people run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/log"
	apimetric "go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
)

func main() {
	grpcAddr := flag.String("grpc", "127.0.0.1:4317", "OTLP gRPC address")
	httpAddr := flag.String("http", "127.0.0.1:4318", "OTLP HTTP address")
	count := flag.Int("n", 100, "spans, data points and log records per transport")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := send(ctx, *grpcAddr, *httpAddr, *count); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
	fmt.Printf(`{"spans":%d,"metric_points":%d,"log_records":%d}`+"\n", 2**count, 2**count, 2**count)
}

func send(ctx context.Context, grpcAddr, httpAddr string, n int) error {
	tg, err1 := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(grpcAddr), otlptracegrpc.WithInsecure(),
		otlptracegrpc.WithCompressor("gzip"))
	th, err2 := otlptracehttp.New(ctx, otlptracehttp.WithEndpoint(httpAddr), otlptracehttp.WithInsecure(),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	mg, err3 := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(grpcAddr), otlpmetricgrpc.WithInsecure())
	mh, err4 := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpoint(httpAddr), otlpmetrichttp.WithInsecure())
	lg, err5 := otlploggrpc.New(ctx, otlploggrpc.WithEndpoint(grpcAddr), otlploggrpc.WithInsecure())
	lh, err6 := otlploghttp.New(ctx, otlploghttp.WithEndpoint(httpAddr), otlploghttp.WithInsecure(),
		otlploghttp.WithCompression(otlploghttp.GzipCompression))
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	return errors.Join(
		spans(ctx, tg, n), spans(ctx, th, n),
		points(ctx, mg, n), points(ctx, mh, n),
		records(ctx, lg, n), records(ctx, lh, n))
}

func spans(ctx context.Context, e trace.SpanExporter, n int) error {
	p := trace.NewTracerProvider(trace.WithBatcher(e, trace.WithMaxQueueSize(n)))
	tracer := p.Tracer("clients")
	for i := range n {
		_, s := tracer.Start(ctx, "work")
		s.SetAttributes(attribute.Int("i", i), attribute.String("text", "a café"))
		s.AddEvent("step")
		s.End()
	}
	return errors.Join(p.ForceFlush(ctx), p.Shutdown(ctx))
}

// points makes one data point per attribute value.
func points(ctx context.Context, e metric.Exporter, n int) error {
	p := metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(e, metric.WithInterval(time.Hour))),
		metric.WithCardinalityLimit(2*n))
	counter, err := p.Meter("clients").Int64Counter("work.done")
	if err != nil {
		return err
	}
	for i := range n {
		counter.Add(ctx, 1, metricAttribute(i))
	}
	return p.Shutdown(ctx) // exports once
}

func records(ctx context.Context, e sdklog.Exporter, n int) error {
	p := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(e, sdklog.WithMaxQueueSize(n))))
	logger := p.Logger("clients")
	for i := range n {
		var r log.Record
		r.SetTimestamp(time.Now())
		r.SetBody(attribute.StringValue(fmt.Sprintf("record %d", i)))
		logger.Emit(ctx, r)
	}
	return errors.Join(p.ForceFlush(ctx), p.Shutdown(ctx))
}

func metricAttribute(i int) apimetric.AddOption {
	return apimetric.WithAttributes(attribute.Int("i", i))
}
