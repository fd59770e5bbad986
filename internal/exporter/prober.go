// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package exporter

import (
	"context"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// ProbeKind says how an exporter is asked whether it would take data.
type ProbeKind string

// The kinds that need the exporter itself; others knock at another door.
const (
	ProbeEmpty ProbeKind = "empty" // an export of nothing, over the connection, with the credentials of data
	ProbeWrite ProbeKind = "write" // a small file where the data would be
	// ProbeHealth asks the backend's gRPC health service.
	ProbeHealth ProbeKind = "grpc_health"
)

// HealthProber is implemented by exporters whose backend may have a gRPC health service.
type HealthProber interface {
	Prober
	// ProbeHealth asks how the named service is; "" = the whole backend. A backend without a health service is asked as
	// Probe does, for s. It may run beside everything that Probe may.
	ProbeHealth(ctx context.Context, service string, s otlp.Signal) Verdict
}

// Prober is implemented by exporters that can be asked without data. One that is none is asked by live batches.
type Prober interface {
	// ProbeKind is what `probe.kind: auto` means for it.
	ProbeKind() ProbeKind
	// Probe asks, and returns when the answer is known or ctx ends. Delivered and Rejected are good answers. It may run
	// beside any number of Sends, between Start and Stop; nothing is counted as sent.
	Probe(ctx context.Context, s otlp.Signal) Verdict
}
