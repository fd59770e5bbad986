// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // health checks are messages, not bytes that were received
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// ProbeHealth implements exporter.HealthProber: the check goes over the connection, with the TLS, authentication and
// headers of data (gRPC Health Checking Protocol).
func (e *Exporter) ProbeHealth(ctx context.Context, service string, s otlp.Signal) exporter.Verdict {
	call := ctx
	if e.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		call, cancel = context.WithTimeout(ctx, e.cfg.Timeout)
		defer cancel()
	}
	if e.headers != nil {
		call = metadata.NewOutgoingContext(call, e.headers)
	}
	e.link.revive(call, e.conn)
	w := &watch{}
	answer, err := healthpb.NewHealthClient(e.conn).Check(context.WithValue(call, watchKey{}, w),
		&healthpb.HealthCheckRequest{Service: service},
		grpc.ForceCodecV2(encoding.GetCodecV2("proto")), grpc.UseCompressor(encoding.Identity))
	switch code := status.Code(err); {
	case code == codes.Unimplemented && w.answered.Load(): // there is none
		return e.Probe(ctx, s)
	case code == codes.NotFound && w.answered.Load():
		return exporter.Verdict{Kind: exporter.Misconfigured,
			Err: fmt.Errorf("health of %q: it knows no service %q", e.cfg.Client.Endpoint, service)}
	case err != nil:
		return e.fail(call, w, err)
	case answer.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return exporter.Verdict{Kind: exporter.Retry,
			Err: fmt.Errorf("health of %q: service %q is %s", e.cfg.Client.Endpoint, service, answer.GetStatus())}
	}
	return exporter.Deliver()
}

var _ exporter.HealthProber = (*Exporter)(nil)
