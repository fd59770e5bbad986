// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configoptional"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// tenant is an authentication extension that sends the tenant found in a request's metadata.
type tenant struct {
	component.StartFunc
	component.ShutdownFunc
	err error
}

func (a tenant) PerRPCCredentials() (credentials.PerRPCCredentials, error) { return a, nil }

func (a tenant) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	return map[string]string{"x-tenant": strings.Join(client.FromContext(ctx).Metadata.Get("Tenant"), ",")}, a.err
}

func (tenant) RequireTransportSecurity() bool { return false }

type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

func TestAnAuthenticationExtensionSeesTheMetadataOfARequest(t *testing.T) {
	id := component.MustNewID("tenant")
	b := newBackend(t, "")
	startAs := func(ext component.Component) exporter.Exporter {
		cfg := otlpgrpc.Default()
		cfg.Client.Endpoint, cfg.Client.TLS.Insecure = b.addr, true
		cfg.Client.Auth = configoptional.Some(configauth.Config{AuthenticatorID: id})
		e, err := otlpgrpc.New(exporter.Settings{ID: "otlp_grpc", Telemetry: telemetry.Nop()}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(context.Background(), host{id: ext}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Stop(context.Background()) })
		return e
	}
	r := request([]byte("x"))
	r.Metadata = otlp.Metadata{{Key: "tenant", Values: []string{"blue", "green"}}}
	check(t, "tenant", send(t, startAs(tenant{}), r), exporter.Deliver())
	if got := (<-b.requests).header.Get("x-tenant"); len(got) != 1 || got[0] != "blue,green" {
		t.Errorf("tenant %q", got)
	}
	v := send(t, startAs(tenant{err: errors.New("no token today")}), r)
	check(t, "no token", v, exporter.Verdict{Kind: exporter.Misconfigured})
	if v.Err == nil || !strings.Contains(v.Err.Error(), "no token today") {
		t.Errorf("error %v", v.Err)
	}

	cfg := otlpgrpc.Default()
	cfg.Client.Endpoint, cfg.Client.TLS.Insecure = b.addr, true
	cfg.Client.Auth = configoptional.Some(configauth.Config{AuthenticatorID: id})
	if err := tryStart(t, cfg); err == nil {
		t.Error("started without its extension")
	}
}

// Fault: B1, B4.
func TestABackendThatDiesIsNoticedAtOnce(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, func(c *otlpgrpc.Config) { c.Timeout = limit })
	check(t, "alive", send(t, e, request([]byte("x"))), exporter.Deliver())
	b.reply(func(ctx context.Context, _ got) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
	verdict := make(chan exporter.Verdict, 1)
	<-b.requests
	go func() { verdict <- e.Send(context.Background(), request([]byte("y"))) }()
	<-b.requests // the request is there
	b.server.Stop()
	check(t, "in flight", <-verdict, exporter.Verdict{Kind: exporter.Ambiguous})
	began := time.Now()
	check(t, "after", send(t, e, request([]byte("z"))), exporter.Verdict{Kind: exporter.Retry})
	if took := time.Since(began); took > limit/4 {
		t.Errorf("known after %v", took)
	}
}

func TestAMessageWithoutASignalOrAfterAnUnknownCodeNeverPanics(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	check(t, "signal 200", send(t, e, &exporter.Request{Signal: 200, Parts: [][]byte{{1}}}), exporter.Verdict{Kind: exporter.Rejected})
	b.reply(fails(codes.Code(1<<31), ""))
	if v := send(t, e, request([]byte("x"))); v.Kind == exporter.Delivered {
		t.Errorf("verdict %+v", v)
	}
}
