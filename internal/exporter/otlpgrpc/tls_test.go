// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
)

// secure is a backend whose certificate can be changed while it runs.
func secure(t *testing.T, cert certtest.Pair, change func(*tls.Config)) (*backend, *atomic.Pointer[tls.Certificate]) {
	t.Helper()
	now := &atomic.Pointer[tls.Certificate]{}
	c := cert.TLS(t)
	now.Store(&c)
	cfg := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return now.Load(), nil },
	}
	if change != nil {
		change(cfg)
	}
	return newBackend(t, "", grpc.Creds(credentials.NewTLS(cfg))), now
}

// Fault: B13.
func TestTLSFailuresAreRetriedAndSayWhatIsWrong(t *testing.T) {
	ca, other := certtest.NewAuthority(t, "our authority"), certtest.NewAuthority(t, "another authority")
	dir := t.TempDir()
	caFile := certtest.Write(t, dir, "ca.pem", ca.PEM)
	trust := func(c *otlpgrpc.Config) { c.Client.TLS.Insecure, c.Client.TLS.CAFile = false, caFile }
	good := ca.Issue(t, time.Now().Add(time.Hour), "127.0.0.1")

	b, _ := secure(t, good, nil)
	check(t, "good", send(t, start(t, b.addr, trust), request([]byte("x"))), exporter.Deliver())
	check(t, "plaintext to a TLS port", send(t, start(t, b.addr, nil), request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})

	wantsClient, _ := secure(t, good, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool() })
	wants12, _ := secure(t, good, func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, ca.Pool(), tls.VersionTLS12
	})
	expired, _ := secure(t, ca.Issue(t, time.Now().Add(-3*time.Hour), "127.0.0.1"), nil)
	wrongName, _ := secure(t, ca.Issue(t, time.Now().Add(time.Hour), "backend.example.com"), nil)
	unknown, _ := secure(t, other.Issue(t, time.Now().Add(time.Hour), "127.0.0.1"), nil)
	for what, c := range map[string]struct {
		addr string
		want []string
	}{
		"expired":             {expired.addr, []string{`certificate of "127.0.0.1" expired at 20`, "3h0m"}},
		"wrong name":          {wrongName.addr, []string{`is for backend.example.com, not for "127.0.0.1"`}},
		"unknown authority":   {unknown.addr, []string{"unknown authority", "another authority", "ca_file"}},
		"client certificate":  {wantsClient.addr, []string{"client certificate", "cert_file"}},
		"client, TLS 1.2":     {wants12.addr, []string{"handshake failure", "client certificate"}},
		"server without TLS":  {newBackend(t, "").addr, []string{"does not speak TLS"}},
		"a name, not trusted": {wrongName.addr, []string{"backend.example.com"}},
	} {
		v := send(t, start(t, c.addr, trust), request([]byte("x")))
		check(t, what, v, exporter.Verdict{Kind: exporter.Retry})
		for _, want := range c.want {
			if v.Err == nil || !strings.Contains(v.Err.Error(), want) {
				t.Errorf("%s: no %q in %v", what, want, v.Err)
			}
		}
	}
	named := func(c *otlpgrpc.Config) { trust(c); c.Client.TLS.ServerName = "backend.example.com" }
	check(t, "named", send(t, start(t, wrongName.addr, named), request([]byte("x"))), exporter.Deliver())
	skip := func(c *otlpgrpc.Config) { c.Client.TLS.Insecure, c.Client.TLS.InsecureSkipVerify = false, true }
	check(t, "not verified", send(t, start(t, expired.addr, skip), request([]byte("x"))), exporter.Deliver())
	pair := ca.Issue(t, time.Now().Add(time.Hour), "client")
	client := func(c *otlpgrpc.Config) {
		trust(c)
		c.Client.TLS.CertFile = certtest.Write(t, dir, "cert.pem", pair.Cert)
		c.Client.TLS.KeyFile = certtest.Write(t, dir, "key.pem", pair.Key)
	}
	check(t, "with a client certificate", send(t, start(t, wantsClient.addr, client), request([]byte("x"))), exporter.Deliver())
	prefixed := func(c *otlpgrpc.Config) { trust(c); c.Client.Endpoint = "https://" + b.addr }
	check(t, "https", send(t, start(t, b.addr, prefixed), request([]byte("x"))), exporter.Deliver())
}

// Fault: B13.
func TestChangedCertificateFilesHealItWithoutARestart(t *testing.T) {
	ca, old := certtest.NewAuthority(t, "new authority"), certtest.NewAuthority(t, "old authority")
	dir := t.TempDir()
	stale, fresh := old.Issue(t, time.Now().Add(time.Hour), "client"), ca.Issue(t, time.Now().Add(time.Hour), "client")
	files := func(c *otlpgrpc.Config) {
		c.Client.TLS.Insecure = false
		c.Client.TLS.CAFile = certtest.Write(t, dir, "ca.pem", old.PEM)
		c.Client.TLS.CertFile = certtest.Write(t, dir, "cert.pem", stale.Cert)
		c.Client.TLS.KeyFile = certtest.Write(t, dir, "key.pem", stale.Key)
	}
	b, _ := secure(t, ca.Issue(t, time.Now().Add(time.Hour), "127.0.0.1"), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	})
	e := start(t, b.addr, files)
	v := send(t, e, request([]byte("x")))
	check(t, "unknown authority", v, exporter.Verdict{Kind: exporter.Retry})
	certtest.Write(t, dir, "ca.pem", []byte("half a fi")) // what cannot be read changes nothing
	check(t, "unreadable", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	certtest.Write(t, dir, "ca.pem", ca.PEM)
	certtest.Write(t, dir, "cert.pem", fresh.Cert)
	certtest.Write(t, dir, "key.pem", fresh.Key)
	eventually(t, e, exporter.Delivered)
}

func TestUnreadableCertificatesFailTheStart(t *testing.T) {
	cfg := otlpgrpc.Default()
	cfg.Client.Endpoint = "localhost:4317"
	cfg.Client.TLS.CAFile = t.TempDir() + "/missing"
	if err := tryStart(t, cfg); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("start: %v", err)
	}
}

func TestABackendThatComesBackIsReachedAtOnce(t *testing.T) {
	addr := freeAddr(t)
	e := start(t, addr, nil)
	for range 3 {
		check(t, "away", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skip("the port is taken by now")
	}
	serve(t, lis, "")
	began := time.Now()
	eventually(t, e, exporter.Delivered)
	t.Logf("reached after %v", time.Since(began))
}
