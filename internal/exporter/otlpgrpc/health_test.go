// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"net"
	"testing"

	"go.opentelemetry.io/collector/config/configcompression"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// ask asks an exporter's backend how a service is.
func ask(t *testing.T, e exporter.Exporter, service string) exporter.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return e.(exporter.HealthProber).ProbeHealth(ctx, service, otlp.Traces)
}

func TestAHealthServiceSaysWhetherItsBackendIsWell(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, state := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, state)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	for _, compression := range []configcompression.Type{"none", "gzip"} { // data is compressed, checks are not
		e := start(t, lis.Addr().String(), func(c *otlpgrpc.Config) { c.Client.Compression = compression })
		state.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
		state.SetServingStatus("otlp", healthpb.HealthCheckResponse_NOT_SERVING)
		for service, want := range map[string]exporter.Kind{
			"": exporter.Delivered, "otlp": exporter.Retry, "unheard of": exporter.Misconfigured,
		} {
			if v := ask(t, e, service); v.Kind != want || (v.Err == nil) != (want == exporter.Delivered) {
				t.Errorf("compression %s, service %q: %s (%v), want %s", compression, service, v.Kind, v.Err, want)
			}
		}
	}
}

func TestABackendWithoutAHealthServiceIsAskedByAnEmptyExport(t *testing.T) {
	b := newBackend(t, "")
	b.reply(func(_ context.Context, g got) ([]byte, error) {
		if g.method == "/grpc.health.v1.Health/Check" {
			return nil, status.Error(codes.Unimplemented, "unknown service")
		}
		return nil, nil
	})
	e := start(t, b.addr, nil)
	if v := ask(t, e, "otlp"); v.Kind != exporter.Delivered {
		t.Errorf("%s (%v)", v.Kind, v.Err)
	}
	if check, export := <-b.requests, <-b.requests; check.method != "/grpc.health.v1.Health/Check" || len(export.body) != 0 {
		t.Errorf("%s, then %s with %d bytes", check.method, export.method, len(export.body))
	}
}

func TestAHealthCheckOfADeadBackendFailsAtOnce(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	_ = lis.Close()
	if v := ask(t, start(t, addr, nil), ""); v.Kind != exporter.Retry || v.Err == nil {
		t.Errorf("%s (%v), want retry", v.Kind, v.Err)
	}
}
