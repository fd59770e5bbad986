// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/config/configgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

func withMetadata(c *configgrpc.ServerConfig) { c.IncludeMetadata = true }

func TestMetadataIsKeptByNameAndNeverCredentials(t *testing.T) {
	var info client.Info
	sink := &receivertest.Sink{
		Keys: []string{"X-Tenant", "x-scope", "authorization", "x-api-key", "cookie", "x-missing"},
		Answer: func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
			info = client.FromContext(ctx)
			return receiver.Result{}, nil
		},
	}
	r := start(t, sink, options{cfg: withMetadata})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "a", "x-tenant", "b", "x-scope", "s",
		"authorization", "Bearer secret", "x-api-key", "secret", "cookie", "secret", "x-other", "o")
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	var answer []byte
	if err := r.dial("").Invoke(ctx, export, body, &answer); err != nil {
		t.Fatal(err)
	}
	want := otlp.Metadata{{Key: "x-scope", Values: []string{"s"}}, {Key: "x-tenant", Values: []string{"a", "b"}}}
	if got := r.Sink.Payloads()[0].Metadata; !got.Equal(want) {
		t.Errorf("%v", got)
	}
	if got := info.Metadata.Get("x-other"); len(got) != 1 || got[0] != "o" {
		t.Errorf("the context has %v", got)
	}
	if _, ok := info.Addr.(*net.TCPAddr); !ok {
		t.Errorf("the context's address is %v", info.Addr)
	}
}

func TestMetadataIsNotKeptUnlessIncluded(t *testing.T) {
	r := start(t, &receivertest.Sink{Keys: []string{"x-tenant"}}, options{})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "a")
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	var answer []byte
	if err := r.dial("").Invoke(ctx, export, body, &answer); err != nil {
		t.Fatal(err)
	}
	if got := r.Sink.Payloads()[0].Metadata; got != nil {
		t.Errorf("%v", got)
	}
}

func TestMetadataBeyondItsBoundsIsDroppedAndCounted(t *testing.T) {
	r := start(t, &receivertest.Sink{Keys: []string{"x-many", "x-long"}}, options{cfg: withMetadata})
	ctx := t.Context()
	for i := range 40 {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-many", fmt.Sprint(i))
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "x-long", strings.Repeat("l", 8<<10))
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	var answer []byte
	if err := r.dial("").Invoke(ctx, export, body, &answer); err != nil {
		t.Fatal(err)
	}
	md := r.Sink.Payloads()[0].Metadata
	if len(md) != 1 || len(md.Get("x-many")) != 32 {
		t.Errorf("%d keys, %d values", len(md), len(md.Get("x-many")))
	}
	r.WantValue(9, "holdfast_door_metadata_dropped_total", "receiver", "otlp")
}

func TestHeadersAboveTheirLimitsAreRefused(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	ctx := t.Context()
	for i := range 100 {
		ctx = metadata.AppendToOutgoingContext(ctx, fmt.Sprint("x-", i), "v")
	}
	var answer []byte
	err := r.dial("").Invoke(ctx, export, body, &answer)
	wantCode(t, err, codes.ResourceExhausted)
	ctx = metadata.AppendToOutgoingContext(t.Context(), "x-long", strings.Repeat("l", 17<<10))
	if err := r.dial("").Invoke(ctx, export, body, &answer); err == nil {
		t.Error("17 KiB of headers were taken")
	}
	if _, err := send(r.dial(""), export, body); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestHealthFollowsReadiness(t *testing.T) {

	r := start(t, &receivertest.Sink{}, options{settings: func(s *receiver.Settings) {
		s.Ready = func() bool { return true }
		delete(s.Sinks, otlp.Profiles)
	}})
	cc, err := grpc.NewClient(r.Address().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	health := healthpb.NewHealthClient(cc)
	want := func(service string, state healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		answer, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || answer.Status != state {
			t.Errorf("%q: %v, %v", service, answer, err)
		}
	}
	want("", healthpb.HealthCheckResponse_SERVING)
	want("opentelemetry.proto.collector.logs.v1.LogsService", healthpb.HealthCheckResponse_SERVING)
	if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
	watch, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := watch.Recv(); err != nil || m.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("watched: %v, %v", m, err)
	}
	all, err := health.List(t.Context(), &healthpb.HealthListRequest{})
	if err != nil || len(all.Statuses) != 4 {
		t.Errorf("%v, %v", all, err)
	}
	r.stop()
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("watched while stopping: %v", err)
	}
}

func TestHealthIsNotServingWhileTheProcessIsNotReady(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{settings: func(s *receiver.Settings) { s.Ready = func() bool { return false } }})
	cc, err := grpc.NewClient(r.Address().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	answer, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || answer.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("%v, %v", answer, err)
	}
}
