// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package components lists every implementation there is: receivers, processors, exporters, connectors, extensions.
//
// It stands between the contracts, which name nobody, and app, which builds what a configuration asks for from this list.
// It makes nothing: a type that a configuration may name has one entry here, and one place to look for it.
package components

import (
	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/debug"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/nop"
	exportergrpc "github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	exporterhttp "github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/extension/healthcheck"
	"github.com/holdfast-telemetry/holdfast/internal/extension/pprof"
	"github.com/holdfast-telemetry/holdfast/internal/extension/statuspage"
	"github.com/holdfast-telemetry/holdfast/internal/extension/zpages"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/processor/batch"
	"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	nopreceiver "github.com/holdfast-telemetry/holdfast/internal/receiver/nop"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpreceiver"
)

// Every implementation there is. This is the only file that names them.
var (
	receivers = []receiver.Factory{otlpreceiver.Factory(), nopreceiver.Factory()}
	exporters = []exporter.Factory{
		exportergrpc.Factory(), exporterhttp.Factory(), file.Factory(), debug.Factory(), nop.Factory(),
	}
	extensions = []extension.Factory{healthcheck.Factory(), pprof.Factory(), statuspage.Factory(), zpages.Factory()}
)

const (
	module = "github.com/holdfast-telemetry/holdfast"
	stable = "beta"
)

// Registry describes every type to the configuration loader and to `components`.
func Registry() *config.Registry {
	reg := &config.Registry{}
	add := func(t config.Type) {
		t.Module, t.Stability = module, stable
		reg.Types = append(reg.Types, t)
	}
	for _, f := range receivers {
		add(config.Type{Kind: config.Receivers, Name: f.Type, Aliases: f.Aliases, Default: f.Default,
			Supplied: f.Type == "otlp"})
	}
	add(config.Type{Kind: config.Processors, Name: "memory_limiter", Default: memorylimiter.Default, Supplied: true})
	add(config.Type{Kind: config.Processors, Name: "batch", Default: batch.Default, Supplied: true})
	for _, f := range exporters {
		add(config.Type{Kind: config.Exporters, Name: f.Type, Aliases: f.Aliases, Default: f.Default,
			Supplied: f.Type == "debug" || f.Type == "nop"})
	}
	add(config.Type{Kind: config.Connectors, Name: "failover", Default: failover.Default})
	for _, f := range extensions {
		add(config.Type{Kind: config.Extensions, Name: f.Type, Aliases: f.Aliases, Default: f.Default, Supplied: true})
	}
	add(config.Type{Kind: config.Extensions, Name: "file_storage", Default: journal.Default})
	return reg
}

// ExporterQueue tells a plan how deliveries of an exporter type are queued.
func ExporterQueue(canonicalType string) (exporter.QueueMode, bool) {
	for _, f := range exporters {
		if f.Type == canonicalType {
			return f.Queue, true
		}
	}
	return 0, false
}

// Receiver is the factory of a canonical type.
func Receiver(canonicalType string) (receiver.Factory, bool) {
	return find(receivers, func(f receiver.Factory) string { return f.Type }, canonicalType)
}

// Exporter is the factory of a canonical type.
func Exporter(canonicalType string) (exporter.Factory, bool) {
	return find(exporters, func(f exporter.Factory) string { return f.Type }, canonicalType)
}

// Extension is the factory of a canonical type; file_storage, which has no process of its own, has none.
func Extension(canonicalType string) (extension.Factory, bool) {
	return find(extensions, func(f extension.Factory) string { return f.Type }, canonicalType)
}

func find[F any](factories []F, typeOf func(F) string, name string) (F, bool) {
	for _, f := range factories {
		if typeOf(f) == name {
			return f, true
		}
	}
	var none F
	return none, false
}

// Host is the Collector's view of us for its client and server settings. There are no extensions of the Collector's
// kind, so authenticators are not found, and the settings say so.
type Host struct{}

// GetExtensions implements component.Host.
func (Host) GetExtensions() map[component.ID]component.Component { return nil }

var _ component.Host = Host{}
