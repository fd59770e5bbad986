// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/metadata"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// A field that is not in this list has no effect until dial, link or the encoder reads it.
func TestEveryKeyOfTheSettingsIsKnown(t *testing.T) {
	known := []string{"auth", "authority", "balancer_name", "compression", "endpoint", "headers", "keepalive", "middlewares",
		"read_buffer_size", "tls", "user_agent", "wait_for_ready", "write_buffer_size"}
	var keys []string
	for f := range reflect.TypeFor[configgrpc.ClientConfig]().Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("mapstructure"), ","); f.IsExported() {
			keys = append(keys, key)
		}
	}
	if slices.Sort(keys); !slices.Equal(keys, known) {
		t.Errorf("the keys are now %q", keys)
	}
}

func TestAuthorityAgentAndHeadersAreSentAsWritten(t *testing.T) {
	b := newBackend(t, "")
	headers := configopaque.MapList{
		{Name: "X-Tenant", Value: "blue"}, {Name: "x-twice", Value: "1"}, {Name: "x-twice", Value: "2"}, {Name: "x-bin", Value: "\x00\xff"},
	}
	e := start(t, b.addr, func(c *otlpgrpc.Config) {
		c.Client.Authority, c.Client.UserAgent, c.Client.Headers = "backend.example.com", "ours/7", headers
	})
	for range 2 {
		check(t, "send", send(t, e, request([]byte("x"))), exporter.Deliver())
		g := <-b.requests
		for name, want := range map[string][]string{
			":authority": {"backend.example.com"}, "x-tenant": {"blue"}, "x-twice": {"1", "2"}, "x-bin": {"\x00\xff"},
		} {
			if got := g.header.Get(name); !slices.Equal(got, want) {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if got := g.header.Get("user-agent"); len(got) != 1 || !strings.HasPrefix(got[0], "ours/7 grpc-go/") {
			t.Errorf("user agent %q", got)
		}
	}
	check(t, "plain", send(t, start(t, b.addr, nil), request([]byte("x"))), exporter.Deliver())
	if got := (<-b.requests).header.Get(":authority"); len(got) != 1 || got[0] != b.addr {
		t.Errorf("authority %q of %s", got, b.addr)
	}
}

func TestWaitForReadyDoesNotHoldAVerdictBack(t *testing.T) {
	e := start(t, freeAddr(t), func(c *otlpgrpc.Config) { c.Client.WaitForReady, c.Timeout = true, limit })
	began := time.Now()
	check(t, "away", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	if took := time.Since(began); took > limit/4 {
		t.Errorf("known after %v", took)
	}
}

// counting is a balancing policy that notes that it was chosen.
type counting struct {
	balancer.Builder
	built *atomic.Int32
}

func (c counting) Name() string { return "holdfast_counting" }

func (c counting) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	c.built.Add(1)
	return c.Builder.Build(cc, opts)
}

var balanced atomic.Int32

func init() { balancer.Register(counting{balancer.Get(pickfirst.Name), &balanced}) }

func TestTheBalancerIsTheOneWritten(t *testing.T) {
	b := newBackend(t, "")
	for name, want := range map[string]int32{"holdfast_counting": 1, "pick_first": 0, "round_robin": 0, "": 0} {
		before := balanced.Load()
		e := start(t, b.addr, func(c *otlpgrpc.Config) { c.Client.BalancerName = name })
		check(t, name, send(t, e, request([]byte("x"))), exporter.Deliver())
		if got := balanced.Load() - before; got != want {
			t.Errorf("balancer_name %q: ours was made %d times", name, got)
		}
	}
}

func TestTheConnectionIsOpenedBeforeTheFirstRequest(t *testing.T) {
	connected := make(chan struct{}, 8)
	addr := acceptor(t, func(net.Conn) { connected <- struct{}{} })
	start(t, addr, nil)
	select {
	case <-connected:
	case <-time.After(limit):
		t.Error("nobody connected")
	}
}

// tagger is a middleware extension that adds a header.
type tagger struct {
	component.StartFunc
	component.ShutdownFunc
}

func (tagger) GetGRPCClientOptions(context.Context) ([]grpc.DialOption, error) {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any,
		cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoker(metadata.AppendToOutgoingContext(ctx, "x-tagged", "yes"), method, req, reply, cc, opts...)
	})}, nil
}

func TestMiddlewareStandsInTheWay(t *testing.T) {
	id := component.MustNewID("tagger")
	b := newBackend(t, "")
	cfg := otlpgrpc.Default()
	cfg.Client.Endpoint, cfg.Client.TLS.Insecure = b.addr, true
	cfg.Client.Headers = configopaque.MapList{{Name: "x-tenant", Value: "blue"}}
	cfg.Client.Middlewares = []configmiddleware.Config{{ID: id}}
	e, err := otlpgrpc.New(exporter.Settings{ID: "otlp_grpc", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), host{id: tagger{}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop(context.Background()) })
	for range 2 {
		check(t, "tagged", send(t, e, request([]byte("x"))), exporter.Deliver())
		g := <-b.requests
		if len(g.header.Get("x-tagged")) != 1 || len(g.header.Get("x-tenant")) != 1 {
			t.Errorf("headers %v", g.header)
		}
	}
}

func TestExtensionsThatAreNotThereAreNamed(t *testing.T) {
	for what, change := range map[string]func(*otlpgrpc.Config){
		"auth": func(c *otlpgrpc.Config) {
			c.Client.Auth = configoptional.Some(configauth.Config{AuthenticatorID: component.MustNewID("nobody")})
		},
		"middleware": func(c *otlpgrpc.Config) {
			c.Client.Middlewares = []configmiddleware.Config{{ID: component.MustNewID("nobody")}}
		},
	} {
		cfg := otlpgrpc.Default()
		cfg.Client.Endpoint, cfg.Client.TLS.Insecure = "127.0.0.1:4317", true
		change(cfg)
		if err := tryStart(t, cfg); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
