// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package telemetry is Holdfast's own logger and metrics.
//
// Counters on the data path are plain atomics that a reader collects; every series exists from the moment it is
// made, with 0, so that rates and alerts work from the first scrape. Labels come from the configuration and fixed
// words only, never from telemetry or error texts.
package telemetry

import (
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/pcommon"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
)

// Telemetry is handed to every component: where to log and where to count.
type Telemetry struct {
	Logger  *zap.Logger
	Metrics *Registry
	// Resource is what NewResource made; it is shown beside metrics and never changed. May be nil.
	Resource map[string]string
}

// Nop logs nothing and counts into a registry nobody reads.
func Nop() *Telemetry { return &Telemetry{Logger: zap.NewNop(), Metrics: NewRegistry()} }

// For returns a copy whose log lines carry the component's id and kind (receiver, exporter, …).
func (t *Telemetry) For(kind, id string) *Telemetry {
	return &Telemetry{
		Logger:  t.Logger.With(zap.String("otelcol.component.id", id), zap.String("otelcol.component.kind", kind)),
		Metrics: t.Metrics, Resource: t.Resource,
	}
}

// Component is what the Collector's client and server settings want. Its tracer and meter do nothing: what is not
// shown is not paid for.
func (t *Telemetry) Component() component.TelemetrySettings {
	return component.TelemetrySettings{
		Logger:         t.Logger,
		TracerProvider: tracenoop.NewTracerProvider(),
		MeterProvider:  metricnoop.NewMeterProvider(),
		Resource:       pcommon.NewResource(),
	}
}
