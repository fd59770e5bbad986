// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// secured is a directory with the files of a TLS server.
type secured struct {
	t         testing.TB
	dir       string
	authority *certtest.Authority
}

func newSecured(t testing.TB) *secured {
	s := &secured{t: t, dir: t.TempDir(), authority: certtest.NewAuthority(t, "authority")}
	s.write("server", time.Now().Add(time.Hour))
	return s
}

// write puts a new certificate and its key into place.
func (s *secured) write(name string, notAfter time.Time) {
	issued := s.authority.Issue(s.t, notAfter, name, "127.0.0.1")
	certtest.Write(s.t, s.dir, "cert.pem", issued.Cert)
	certtest.Write(s.t, s.dir, "key.pem", issued.Key)
}

// configure turns TLS on; with clients, their certificates are asked for.
func (s *secured) configure(clients bool) func(*configgrpc.ServerConfig) {
	return func(c *configgrpc.ServerConfig) {
		cfg := configtls.NewDefaultServerConfig()
		cfg.CertFile, cfg.KeyFile = s.dir+"/cert.pem", s.dir+"/key.pem"
		if clients {
			cfg.ClientCAFile = certtest.Write(s.t, s.dir, "clients.pem", s.authority.PEM)
		}
		c.TLS = configoptional.Some(cfg)
	}
}

// client are the settings of a client that trusts the authority.
func (s *secured) client(pairs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: s.authority.Pool(), Certificates: pairs}
}

func (r *rig) sendTLS(cfg *tls.Config) error {
	r.T.Helper()
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	cc := r.dial("", grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	defer cc.Close()
	_, err := send(cc, export, body)
	return err
}

// logged gives a rig a logger whose lines can be read.
func logged(o options) (options, *observer.ObservedLogs) {
	logs := receivertest.Logged(&o.settings)
	return o, logs
}

func TestTLSIsServed(t *testing.T) {
	s := newSecured(t)
	o, logs := logged(options{cfg: s.configure(false)})
	r := start(t, &receivertest.Sink{}, o)
	if err := r.sendTLS(s.client()); err != nil {
		t.Error(err)
	}
	if left := r.Value("holdfast_certificate_expiry_seconds", "component", "otlp", "file", s.dir+"/cert.pem"); left < 3500 || left > 3600 {
		t.Errorf("expiry in %v s", left)
	}
	if logs.FilterMessage("Certificate expires soon").Len() != 1 {
		t.Error("an hour before the end there is no warning")
	}
	stranger := certtest.NewAuthority(t, "stranger")
	err := r.sendTLS(&tls.Config{RootCAs: stranger.Pool()})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an unknown authority: %v", err)
	}
	eventually(t, "the failed handshake is logged", func() bool { return logs.FilterMessage("TLS handshake failed").Len() == 1 })
}

func TestClientCertificatesAreVerifiedAndTheCauseIsLogged(t *testing.T) {
	s := newSecured(t)
	later := time.Now().Add(time.Hour)
	stranger := certtest.NewAuthority(t, "stranger")
	for name, c := range map[string]struct {
		pairs []tls.Certificate
		cause string // in the server's log; empty = taken
	}{
		"good":          {[]tls.Certificate{s.authority.Issue(t, later, "client").TLS(t)}, ""},
		"none":          {nil, "client didn't provide a certificate"},
		"of a stranger": {[]tls.Certificate{stranger.Issue(t, later, "client").TLS(t)}, "client didn't provide a certificate"},
		"expired":       {[]tls.Certificate{s.authority.Issue(t, time.Now().Add(-time.Hour), "client").TLS(t)}, "certificate has expired"},
	} {
		o, logs := logged(options{cfg: s.configure(true)})
		r := start(t, &receivertest.Sink{}, o)
		err := r.sendTLS(s.client(c.pairs...))
		if c.cause == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: taken", name)
		}
		eventually(t, name+": the failed handshake is logged", func() bool {
			for _, line := range logs.FilterMessage("TLS handshake failed").All() {
				if strings.Contains(line.ContextMap()["error"].(string), c.cause) {
					return true
				}
			}
			return false
		})
	}
	// A client that shows its certificate unasked for: the authority is named.
	o, logs := logged(options{cfg: s.configure(true)})
	r := start(t, &receivertest.Sink{}, o)
	pair := stranger.Issue(t, later, "client").TLS(t)
	cfg := s.client()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	if err := r.sendTLS(cfg); err == nil {
		t.Error("a stranger was taken")
	}
	eventually(t, "the stranger's certificate is named", func() bool {
		for _, line := range logs.FilterMessage("TLS handshake failed").All() {
			if strings.Contains(line.ContextMap()["error"].(string), "unknown authority") {
				return true
			}
		}
		return false
	})
}

func TestAnExpiredCertificateFailsTheStart(t *testing.T) {
	s := newSecured(t)
	s.write("old", time.Now().Add(-time.Hour))
	r := prepare(t, &receivertest.Sink{}, options{cfg: s.configure(false)})
	err := r.Start(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "cert.pem expired on ") {
		t.Errorf("%v", err)
	}
}

func TestFilesThatDoNotFitFailTheStartWithTheCause(t *testing.T) {
	s := newSecured(t)
	for name, c := range map[string]struct {
		change func(*configtls.ServerConfig)
		cause  string
	}{
		"missing key":    {func(c *configtls.ServerConfig) { c.KeyFile = s.dir + "/none.pem" }, "none.pem"},
		"no certificate": {func(c *configtls.ServerConfig) { c.CertFile = certtest.Write(t, s.dir, "junk.pem", []byte("junk")) }, "failed to find any PEM data"},
		"another's key": {func(c *configtls.ServerConfig) {
			issued := s.authority.Issue(t, time.Now().Add(time.Hour), "x", "127.0.0.1")
			c.KeyFile = ""
			c.KeyPem = configopaque.String(issued.Key)
		}, "private key does not match"},
		"missing clients": {func(c *configtls.ServerConfig) { c.ClientCAFile = s.dir + "/nobody.pem" }, "nobody.pem"},
	} {
		r := prepare(t, &receivertest.Sink{}, options{cfg: func(g *configgrpc.ServerConfig) {
			s.configure(false)(g)
			c.change(g.TLS.Get())
		}})
		if err := r.Start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// serverName is the name in the certificate that the door shows.
func (r *rig) serverName(cfg *tls.Config) string {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	c, err := tls.Dial("tcp", r.Address().String(), cfg)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestAChangedCertificateServesNewHandshakesAndABrokenOneDoesNot(t *testing.T) {
	s := newSecured(t)
	o, logs := logged(options{cfg: s.configure(false)})
	r := start(t, &receivertest.Sink{}, o)
	held := r.dial("", grpc.WithTransportCredentials(credentials.NewTLS(s.client())))
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	if _, err := send(held, export, body); err != nil {
		t.Fatal(err)
	}
	s.write("renewed", time.Now().Add(30*24*time.Hour))
	eventually(t, "the new certificate is shown", func() bool { return r.serverName(s.client()) == "renewed" })
	if left := r.Value("holdfast_certificate_expiry_seconds", "component", "otlp"); left < 29*86400 {
		t.Errorf("expiry in %v s", left)
	}

	certtest.Write(t, s.dir, "cert.pem", []byte("half writ"))
	eventually(t, "the broken file is warned of", func() bool {
		r.serverName(s.client())
		return logs.FilterMessage("Changed certificate cannot be used, the old one stays").Len() == 1
	})
	if got := r.serverName(s.client()); got != "renewed" {
		t.Errorf("with a broken file %q is shown", got)
	}
	s.write("mended", time.Now().Add(time.Hour))
	eventually(t, "the mended certificate is shown", func() bool { return r.serverName(s.client()) == "mended" })
	if _, err := send(held, export, body); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
}

func TestAChangedClientAuthorityServesNewHandshakes(t *testing.T) {
	s := newSecured(t)
	r := start(t, &receivertest.Sink{}, options{cfg: s.configure(true)})
	next := certtest.NewAuthority(t, "next")
	pair := next.Issue(t, time.Now().Add(time.Hour), "client").TLS(t)
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	cfg.RootCAs = s.authority.Pool()
	if err := r.sendTLS(cfg); err == nil {
		t.Fatal("taken before its authority was")
	}
	certtest.Write(t, s.dir, "clients.pem", next.PEM)
	eventually(t, "the new authority counts", func() bool { return r.sendTLS(cfg) == nil })
	if err := r.sendTLS(s.client(s.authority.Issue(t, time.Now().Add(time.Hour), "client").TLS(t))); err == nil {
		t.Error("the old authority still counts")
	}
}

func TestNoPlaintextIsServedBesideTLS(t *testing.T) {
	s := newSecured(t)
	r := start(t, &receivertest.Sink{}, options{cfg: s.configure(false)})
	body, _ := receivertest.Request(otlp.Traces, 1, 1)
	if _, err := send(r.dial(""), export, body); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if n := len(r.Sink.Payloads()); n != 0 {
		t.Errorf("%d payloads", n)
	}
}
