// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlpgrpc is the back door over gRPC: it sends OTLP export requests as wire bytes and says the verdict.
//
// It stands behind the delivery loop. A request leaves with the bytes it arrived with; only where a backend wants
// another compression is it encoded again. The package promises an answer within `timeout`: a refused connection at
// once, a silent one at the deadline, and it tells what was never sent from what may have arrived. It does not retry,
// queue or batch, and does not know whether it is the first choice or the last.
package otlpgrpc

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/wire"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Factory makes exporters of type otlp_grpc.
func Factory() exporter.Factory {
	return exporter.Factory{
		Type:    "otlp_grpc",
		Aliases: []string{"otlp"},
		Signals: otlp.Signals[:],
		Queue:   exporter.QueueByDefault,
		Default: func() any { return Default() },
		New: func(set exporter.Settings, cfg any) (exporter.Exporter, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("otlp_grpc: configuration is a %T", cfg)
			}
			return New(set, c)
		},
	}
}

// methods are the export methods by signal.
var methods = [...]string{
	otlp.Traces:   "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	otlp.Metrics:  "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
	otlp.Logs:     "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
	otlp.Profiles: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
}

// Exporter sends to one endpoint.
type Exporter struct {
	cfg        Config
	set        exporter.Settings
	encoder    *wire.Encoder
	headers    metadata.MD // of every request; read only, nil = none
	recompress *telemetry.Counter
	link       *link
	conn       *grpc.ClientConn
}

// New makes an exporter; nothing is opened before Start.
func New(set exporter.Settings, cfg *Config) (*Exporter, error) {
	encoder, err := wire.NewEncoder(cfg.Client.Compression, 0, false)
	if err != nil {
		return nil, err
	}
	return &Exporter{
		cfg:     *cfg,
		set:     set,
		encoder: encoder,
		headers: headersOf(&cfg.Client),
		recompress: set.Telemetry.Metrics.Counter("holdfast_exporter_recompressed_total",
			"Requests that arrived in another encoding than they were sent in.", "exporter", set.ID),
	}, nil
}

// Start loads certificates and begins to connect in the background.
func (e *Exporter) Start(ctx context.Context, host component.Host) error {
	link, err := newLink(&e.cfg.Client)
	if err != nil {
		return err
	}
	conn, err := e.dial(ctx, host, link)
	if err != nil {
		return fmt.Errorf("connect to %q: %w", e.cfg.Client.Endpoint, err)
	}
	e.link, e.conn = link, conn
	return nil
}

// Send implements exporter.Exporter.
func (e *Exporter) Send(ctx context.Context, r *exporter.Request) exporter.Verdict {
	if int(r.Signal) >= len(methods) || methods[r.Signal] == "" {
		return exporter.Verdict{Kind: exporter.Rejected, Err: fmt.Errorf("send %s: no such method", r.Signal)}
	}
	body, err := e.encoder.Encode(r)
	if err != nil {
		return exporter.Verdict{Kind: exporter.Rejected, Err: err}
	}
	defer body.Release()
	if body.Recoded {
		e.recompress.Inc()
	}
	if e.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.cfg.Timeout)
		defer cancel()
	}
	if len(r.Metadata) > 0 && e.cfg.Client.Auth.HasValue() {
		ctx = withMetadata(ctx, r.Metadata)
	}
	if e.headers != nil {
		ctx = metadata.NewOutgoingContext(ctx, e.headers)
	}
	e.link.revive(ctx, e.conn)
	w := &watch{}
	var answer reply
	var message any = &body
	if l := lend(&body, r.Keep); l != nil {
		message = l
		defer func() {
			if !l.settle() {
				r.Keep()
			}
		}()
	}
	err = e.conn.Invoke(context.WithValue(ctx, watchKey{}, w), methods[r.Signal], message, &answer)
	if err != nil {
		return e.fail(ctx, w, err)
	}
	if answer.err != nil {
		return exporter.Verdict{Kind: exporter.Misconfigured,
			Err: fmt.Errorf("export to %q: the answer is no OTLP answer: %w", e.cfg.Client.Endpoint, answer.err)}
	}
	return exporter.Verdict{Kind: exporter.Delivered, Rejected: min(answer.Rejected, r.Items), Message: answer.Message}
}

// withMetadata shows a request's metadata to an authentication extension that asks for it.
func withMetadata(ctx context.Context, m otlp.Metadata) context.Context {
	values := make(map[string][]string, len(m))
	for i := range m {
		values[m[i].Key] = m[i].Values
	}
	return client.NewContext(ctx, client.Info{Metadata: client.NewMetadata(values)})
}

// Stop closes the connections.
func (e *Exporter) Stop(context.Context) error {
	if e.conn == nil {
		return nil
	}
	err := e.conn.Close()
	e.conn = nil
	if err != nil && status.Code(err) != codes.Canceled { // closed already
		return fmt.Errorf("close connection to %q: %w", e.cfg.Client.Endpoint, err)
	}
	return nil
}

var (
	_ exporter.Exporter = (*Exporter)(nil)
	_ encoding.CodecV2  = codec{}
)
