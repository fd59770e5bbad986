// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package nop is a back door that leads nowhere: every request counts as delivered and is gone.
//
// It stands where an exporter must be named and none is wanted: in tests of receivers, and for signals nobody keeps. It
// promises nothing, refuses nothing and knows nothing.
package nop

import (
	"context"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// Factory makes exporters of type nop.
func Factory() exporter.Factory {
	return exporter.Factory{
		Type:    "nop",
		Signals: otlp.Signals[:],
		Queue:   exporter.QueueIfWritten,
		Default: func() any { return Default() },
		New:     func(exporter.Settings, any) (exporter.Exporter, error) { return Exporter{}, nil },
	}
}

// Exporter delivers to nobody.
type Exporter struct{}

// Start implements exporter.Exporter.
func (Exporter) Start(context.Context, component.Host) error { return nil }

// Send implements exporter.Exporter.
func (Exporter) Send(context.Context, *exporter.Request) exporter.Verdict { return exporter.Deliver() }

// Stop implements exporter.Exporter.
func (Exporter) Stop(context.Context) error { return nil }

var _ exporter.Exporter = Exporter{}
