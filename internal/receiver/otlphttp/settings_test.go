// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

func TestMetadataIsKeptByNameAndNeverCredentials(t *testing.T) {
	var info client.Info
	sink := &receivertest.Sink{
		Keys: []string{"X-Tenant", "authorization", "proxy-authorization", "x-api-key", "cookie", "set-cookie"},
		Answer: func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
			info = client.FromContext(ctx)
			return receiver.Result{}, nil
		},
	}
	r := start(t, sink, options{cfg: func(c *otlphttp.Config) { c.ServerConfig.IncludeMetadata = true }})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	r.mustPost(traces, wire, "Content-Type", protobufType, "X-Tenant", "a", "X-Tenant", "b", "Authorization", "secret",
		"Proxy-Authorization", "secret", "X-Api-Key", "secret", "Cookie", "secret", "Set-Cookie", "secret", "X-Other", "o")
	want := otlp.Metadata{{Key: "x-tenant", Values: []string{"a", "b"}}}
	if got := r.Sink.Payloads()[0].Metadata; !got.Equal(want) {
		t.Errorf("%v", got)
	}
	if got := info.Metadata.Get("x-other"); len(got) != 1 || got[0] != "o" {
		t.Errorf("the context has %v", got)
	}
	if info.Addr == nil || info.Addr.String() != "127.0.0.1" {
		t.Errorf("the context's address is %v", info.Addr)
	}
}

func TestResponseHeadersAndCORSAreAsConfigured(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{cfg: func(c *otlphttp.Config) {
		c.ServerConfig.ResponseHeaders = configopaque.MapList{{Name: "X-Served-By", Value: "holdfast"}}
		cors := confighttp.NewDefaultCORSConfig()
		cors.AllowedOrigins, cors.AllowedHeaders = []string{"http://*.example.com"}, []string{"X-Custom"}
		c.ServerConfig.CORS = configoptional.Some(cors)
	}})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	a := r.mustPost(traces, wire, "Content-Type", protobufType, "Origin", "http://page.example.com")
	if a.status != http.StatusOK || a.header.Get("X-Served-By") != "holdfast" ||
		a.header.Get("Access-Control-Allow-Origin") != "http://page.example.com" {
		t.Errorf("%d, %v", a.status, a.header)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "http://"+r.Address().String()+traces, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "http://page.example.com")
	req.Header.Set("Access-Control-Request-Method", "POST")
	req.Header.Set("Access-Control-Request-Headers", "x-custom")
	if a, err = r.do(req); err != nil || a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Headers") != "x-custom" {
		t.Errorf("preflight: %d, %v, %v", a.status, a.header, err)
	}
}

func TestTLSServesBothVersionsOfHTTP(t *testing.T) {
	authority := certtest.NewAuthority(t, "authority")
	dir := t.TempDir()
	issued := authority.Issue(t, time.Now().Add(time.Hour), "server", "127.0.0.1")
	o, logs := logged(options{cfg: func(c *otlphttp.Config) {
		cfg := configtls.NewDefaultServerConfig()
		cfg.CertFile = certtest.Write(t, dir, "cert.pem", issued.Cert)
		cfg.KeyFile = certtest.Write(t, dir, "key.pem", issued.Key)
		cfg.ClientCAFile = certtest.Write(t, dir, "clients.pem", authority.PEM)
		c.ServerConfig.TLS = configoptional.Some(cfg)
	}})
	r := start(t, &receivertest.Sink{}, o)
	r.scheme = "https"
	wire, _ := receivertest.Request(otlp.Traces, 1000, 500)
	pair := authority.Issue(t, time.Now().Add(time.Hour), "client").TLS(t)
	for _, http2 := range []bool{true, false} {
		transport := &http.Transport{
			ForceAttemptHTTP2: http2, TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{pair}},
		}
		r.client = &http.Client{Transport: transport}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+r.Address().String()+traces, bytes.NewReader(wire))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", protobufType)
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != map[bool]int{true: 2, false: 1}[http2] {
			t.Errorf("%s, %s", resp.Proto, resp.Status)
		}
		transport.CloseIdleConnections()
	}
	if p := r.Sink.Payloads(); len(p) != 2 || !bytes.Equal(p[1].Body, wire) {
		t.Errorf("%d payloads", len(p))
	}
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}}
	if _, err := r.post(traces, bytes.NewReader(wire), "Content-Type", protobufType); err == nil {
		t.Error("a client without a certificate was taken")
	}
	eventually(t, "the failed handshake is logged", func() bool {
		for _, line := range logs.FilterMessage("TLS handshake failed").All() {
			if strings.Contains(line.ContextMap()["error"].(string), "client didn't provide a certificate") {
				return true
			}
		}
		return false
	})
	r.scheme = "http"
	r.client = &http.Client{Transport: &http.Transport{}}
	if a, err := r.post(traces, bytes.NewReader(wire), "Content-Type", protobufType); err == nil && a.status == http.StatusOK {
		t.Error("plaintext was taken")
	}
}

func TestKeepAlivesCanBeTurnedOff(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{cfg: func(c *otlphttp.Config) {
		c.ServerConfig.Keepalive = configoptional.None[confighttp.KeepaliveServerConfig]()
	}})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	resp := r.raw(head(len(wire)) + string(wire)).answer()
	if resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("%s, close %v", resp.Status, resp.Close)
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*otlphttp.Config)
		text   string
	}{
		"no endpoint":         {func(c *otlphttp.Config) { c.ServerConfig.NetAddr.Endpoint = "" }, "`endpoint`"},
		"a size below zero":   {func(c *otlphttp.Config) { c.ServerConfig.MaxRequestBodySize = -1 }, "`max_request_body_size` -1"},
		"an unknown encoding": {func(c *otlphttp.Config) { c.ServerConfig.CompressionAlgorithms = []string{"br"} }, "`compression_algorithms`: \"br\""},
		"no path":             {func(c *otlphttp.Config) { c.TracesURLPath = "" }, "`traces_url_path`"},
		"one path twice":      {func(c *otlphttp.Config) { c.LogsURLPath = "/v1/metrics" }, "`metrics_url_path` and `logs_url_path` are both \"/v1/metrics\""},
	} {
		cfg := otlphttp.DefaultConfig()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := otlphttp.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}
