// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// tenant is an authentication extension that sends the tenant found in a request's metadata.
type tenant struct {
	component.StartFunc
	component.ShutdownFunc
	err error
}

func (a tenant) RoundTripper(base http.RoundTripper) (http.RoundTripper, error) {
	return trip(func(r *http.Request) (*http.Response, error) {
		if a.err != nil {
			return nil, a.err
		}
		r = r.Clone(r.Context())
		r.Header.Set("x-tenant", strings.Join(client.FromContext(r.Context()).Metadata.Get("Tenant"), ","))
		return base.RoundTrip(r)
	}), nil
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

func TestAnAuthenticationExtensionSeesTheMetadataOfARequest(t *testing.T) {
	id := component.MustNewID("tenant")
	b := newBackend(t, false)
	startAs := func(h host) (exporter.Exporter, error) {
		cfg := otlphttp.Default()
		cfg.Client.Endpoint = b.URL
		cfg.Client.Auth = configoptional.Some(configauth.Config{AuthenticatorID: id})
		e, err := otlphttp.New(exporter.Settings{ID: "otlp_http", Telemetry: telemetry.Nop()}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Stop(context.Background()) })
		return e, e.Start(context.Background(), h)
	}
	extensions := host{id: tenant{}}
	e, err := startAs(extensions)
	if err != nil {
		t.Fatal(err)
	}
	if len(extensions) != 1 {
		t.Error("the host's extensions were changed")
	}
	r := request([]byte("x"))
	r.Metadata = otlp.Metadata{{Key: "tenant", Values: []string{"blue", "green"}}}
	check(t, "tenant", send(t, e, r), exporter.Deliver())
	if got := (<-b.requests).header.Get("x-tenant"); got != "blue,green" {
		t.Errorf("tenant %q", got)
	}
	if e, err = startAs(host{id: tenant{err: errors.New("no token today")}}); err != nil {
		t.Fatal(err)
	}
	v := send(t, e, r)
	check(t, "no token", v, exporter.Verdict{Kind: exporter.Retry})
	if v.Err == nil || !strings.Contains(v.Err.Error(), "no token today") {
		t.Errorf("error %v", v.Err)
	}
	if _, err := startAs(host{}); err == nil {
		t.Error("started without its extension")
	}
}

func TestAProxyIsUsed(t *testing.T) {
	b := newBackend(t, false)
	asked := make(chan string, 1)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { asked <- r.In.URL.String() }})
	t.Cleanup(proxy.Close)
	transport := &http.Transport{}
	proxy.Config.Handler.(*httputil.ReverseProxy).Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	e := start(t, b.URL, func(c *otlphttp.Config) { c.Client.ProxyURL = proxy.URL })
	check(t, "by proxy", send(t, e, request([]byte("x"))), exporter.Deliver())
	if got := <-asked; got != b.URL+"/v1/traces" {
		t.Errorf("the proxy was asked for %q", got)
	}
}
