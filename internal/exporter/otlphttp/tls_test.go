// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// secure is a backend with a certificate of the test's choice.
func secure(t *testing.T, cert certtest.Pair, change func(*tls.Config)) *backend {
	t.Helper()
	b := &backend{requests: make(chan got, 64)}
	b.answer = func(http.ResponseWriter, *http.Request) {}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(b.serve))
	b.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.EnableHTTP2 = true
	b.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert.TLS(t)}}
	if change != nil {
		change(b.TLS)
	}
	b.StartTLS()
	t.Cleanup(b.Close)
	return b
}

// Fault: B13.
func TestTLSFailuresAreRetriedAndSayWhatIsWrong(t *testing.T) {
	ca, other := certtest.NewAuthority(t, "our authority"), certtest.NewAuthority(t, "another authority")
	dir := t.TempDir()
	caFile := certtest.Write(t, dir, "ca.pem", ca.PEM)
	trust := func(c *otlphttp.Config) { c.Client.TLS.CAFile = caFile }
	good := ca.Issue(t, time.Now().Add(time.Hour), "127.0.0.1")

	b := secure(t, good, nil)
	check(t, "good", send(t, start(t, b.URL, trust), request([]byte("x"))), exporter.Deliver())

	wantsClient := secure(t, good, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool() })
	wants12 := secure(t, good, func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, ca.Pool(), tls.VersionTLS12
	})
	expired := secure(t, ca.Issue(t, time.Now().Add(-3*time.Hour), "127.0.0.1"), nil)
	wrongName := secure(t, ca.Issue(t, time.Now().Add(time.Hour), "backend.example.com"), nil)
	unknown := secure(t, other.Issue(t, time.Now().Add(time.Hour), "127.0.0.1"), nil)
	for what, c := range map[string]struct {
		addr string
		want []string
	}{
		"expired":             {expired.URL, []string{`certificate of "127.0.0.1" expired at 20`, "3h0m"}},
		"wrong name":          {wrongName.URL, []string{`is for backend.example.com, not for "127.0.0.1"`}},
		"unknown authority":   {unknown.URL, []string{"unknown authority", "another authority", "ca_file"}},
		"client certificate":  {wantsClient.URL, []string{"client certificate", "cert_file"}},
		"client, TLS 1.2":     {wants12.URL, []string{"handshake failure", "client certificate"}},
		"server without TLS":  {strings.Replace(newBackend(t, false).URL, "http:", "https:", 1), []string{"HTTP response to HTTPS client"}},
		"a name, not trusted": {wrongName.URL, []string{"backend.example.com"}},
	} {
		v := send(t, start(t, c.addr, trust), request([]byte("x")))
		check(t, what, v, exporter.Verdict{Kind: exporter.Retry})
		for _, want := range c.want {
			if v.Err == nil || !strings.Contains(v.Err.Error(), want) {
				t.Errorf("%s: no %q in %v", what, want, v.Err)
			}
		}
	}
	named := func(c *otlphttp.Config) { trust(c); c.Client.TLS.ServerName = "backend.example.com" }
	check(t, "named", send(t, start(t, wrongName.URL, named), request([]byte("x"))), exporter.Deliver())
	skip := func(c *otlphttp.Config) { c.Client.TLS.InsecureSkipVerify = true }
	check(t, "not verified", send(t, start(t, expired.URL, skip), request([]byte("x"))), exporter.Deliver())
	pair := ca.Issue(t, time.Now().Add(time.Hour), "client")
	client := func(c *otlphttp.Config) {
		trust(c)
		c.Client.TLS.CertFile = certtest.Write(t, dir, "cert.pem", pair.Cert)
		c.Client.TLS.KeyFile = certtest.Write(t, dir, "key.pem", pair.Key)
	}
	check(t, "with a client certificate", send(t, start(t, wantsClient.URL, client), request([]byte("x"))), exporter.Deliver())
}

// Fault: B13.
func TestChangedCertificateFilesHealItWithoutARestart(t *testing.T) {
	ca, old := certtest.NewAuthority(t, "new authority"), certtest.NewAuthority(t, "old authority")
	dir := t.TempDir()
	stale, fresh := old.Issue(t, time.Now().Add(time.Hour), "client"), ca.Issue(t, time.Now().Add(time.Hour), "client")
	files := func(c *otlphttp.Config) {
		c.Client.TLS.CAFile = certtest.Write(t, dir, "ca.pem", old.PEM)
		c.Client.TLS.CertFile = certtest.Write(t, dir, "cert.pem", stale.Cert)
		c.Client.TLS.KeyFile = certtest.Write(t, dir, "key.pem", stale.Key)
	}
	b := secure(t, ca.Issue(t, time.Now().Add(time.Hour), "127.0.0.1"), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	})
	e := start(t, b.URL, files)
	v := send(t, e, request([]byte("x")))
	check(t, "unknown authority", v, exporter.Verdict{Kind: exporter.Retry})
	certtest.Write(t, dir, "ca.pem", []byte("half a fi")) // what cannot be read changes nothing
	check(t, "unreadable", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	certtest.Write(t, dir, "ca.pem", ca.PEM)
	certtest.Write(t, dir, "cert.pem", fresh.Cert)
	certtest.Write(t, dir, "key.pem", fresh.Key)
	check(t, "renewed", send(t, e, request([]byte("x"))), exporter.Deliver())
}

// Fault: B13. In TLS 1.3 the reason comes after the handshake, when the request is on its way: it must not depend on who
// is faster.
func TestARefusedClientCertificateIsNamedEveryTime(t *testing.T) {
	ca, stranger := certtest.NewAuthority(t, "authority"), certtest.NewAuthority(t, "stranger")
	dir := t.TempDir()
	pair := stranger.Issue(t, time.Now().Add(time.Hour), "client")
	b := secure(t, ca.Issue(t, time.Now().Add(time.Hour), "127.0.0.1"), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	})
	e := start(t, b.URL, func(c *otlphttp.Config) {
		c.Client.TLS.CAFile = certtest.Write(t, dir, "ca.pem", ca.PEM)
		c.Client.TLS.CertFile = certtest.Write(t, dir, "cert.pem", pair.Cert)
		c.Client.TLS.KeyFile = certtest.Write(t, dir, "key.pem", pair.Key)
	})
	for range 50 {
		v := send(t, e, request(make([]byte, 100_000)))
		check(t, "refused", v, exporter.Verdict{Kind: exporter.Retry})
		if v.Err == nil || !strings.Contains(v.Err.Error(), "unknown certificate authority") {
			t.Fatalf("no reason in %v", v.Err)
		}
	}
}

func TestUnreadableCertificatesFailTheStart(t *testing.T) {
	cfg := otlphttp.Default()
	cfg.Client.Endpoint = "https://localhost:4318"
	cfg.Client.TLS.CAFile = t.TempDir() + "/missing"
	e, err := otlphttp.Factory().New(exporter.Settings{ID: "otlp_http", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("start: %v", err)
	}
}
