// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// ProbeKind implements exporter.Prober.
func (e *Exporter) ProbeKind() exporter.ProbeKind { return exporter.ProbeEmpty }

// Probe implements exporter.Prober: it sends a request of no bytes, which is a valid one without items, the way every
// request goes.
func (e *Exporter) Probe(ctx context.Context, s otlp.Signal) exporter.Verdict {
	return e.Send(ctx, &exporter.Request{Signal: s, Encoding: otlp.Identity, Parts: [][]byte{{}}})
}

var _ exporter.Prober = (*Exporter)(nil)
