// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// tlsDoors has a door with TLS and one that wants client certificates too.
const tlsDoors = `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "$HOST:4317", tls: {cert_file: "$CERT", key_file: "$KEY"}}
      http: {endpoint: "$HOST:4318", tls: {cert_file: "$CERT", key_file: "$KEY"}}
  otlp/mutual:
    protocols:
      grpc: {endpoint: "$HOST:5317", tls: {cert_file: "$CERT", key_file: "$KEY", client_ca_file: "$CA"}}
      http: {endpoint: "$HOST:5318", tls: {cert_file: "$CERT", key_file: "$KEY", client_ca_file: "$CA"}}
exporters: {otlp_http: {endpoint: "http://$HOST:14318"}}
service:
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: "$HOST", port: 8888}}}}]}}
  pipelines: {traces: {receivers: [otlp, otlp/mutual], exporters: [otlp_http]}}
`

// secured is a running process with the files its doors use.
type secured struct {
	*process
	host, dir string
	ca        *authority // of servers and clients
	backend   *backend
	files     keyFiles
	clientCA  string
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{host: ownHost(t), dir: t.TempDir(), ca: newAuthority(t, "test")}
	s.backend = startBackend(t, s.host+":14318", nil)
	s.files = s.ca.issue(t, identity{names: []string{s.host}}).write(t, s.dir, "server")
	s.clientCA = s.ca.write(t, s.dir, "client-ca")
	s.process = collector(t, tlsDoors, map[string]string{
		"HOST": s.host, "CERT": s.files.cert, "KEY": s.files.key, "CA": s.clientCA,
	})
	return s
}

// client trusts the process; pair is its certificate, if it has one.
func (s *secured) client(t *testing.T, pair *keyPair) *tls.Config {
	t.Helper()
	c := &tls.Config{RootCAs: s.ca.Pool(), MinVersion: tls.VersionTLS12}
	if pair != nil {
		own := pair.tls(t)
		// Not Certificates: the client would look whether the server asks for its authority, and stay silent if not.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	return c
}

// sends is one attempt over either protocol.
func (s *secured) sends(t *testing.T, protocol, port string, c *tls.Config, names []string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if protocol == "gRPC" {
		conn := dial(t, s.host+":"+port, c)
		defer conn.Close()
		return export(ctx, conn, names)
	}
	a, err := post(ctx, c, "https://"+s.host+":"+port+"/v1/traces", protobufType, bytes.NewReader(wire(t, spans(names))))
	if err == nil && a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	return err
}

// refuses checks that a client is told why. The reason may be overtaken by the end of the connection; then the client
// tries again, as clients do.
func (s *secured) refuses(t *testing.T, protocol, port string, c *tls.Config, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	eventually(t, "the client is told "+pattern, func() bool {
		err := s.sends(t, protocol, port, c, numbered("intruder", 1))
		if err == nil {
			t.Fatal("accepted")
		}
		return re.MatchString(err.Error())
	})
}

func TestTLSDoorTellsClientsExactlyWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	stranger := newAuthority(t, "stranger")
	good := s.ca.issue(t, identity{names: []string{"client"}})
	foreign := stranger.issue(t, identity{names: []string{"client"}})
	expired := s.ca.issue(t, identity{names: []string{"client"}, expired: true})
	distrusting := &tls.Config{RootCAs: stranger.Pool(), MinVersion: tls.VersionTLS12}
	old := &tls.Config{RootCAs: s.ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	for _, protocol := range []string{"gRPC", "HTTP"} {
		plainPort, mutual := "4317", "5317"
		if protocol == "HTTP" {
			plainPort, mutual = "4318", "5318"
		}
		names := numbered("honest "+protocol, 10)
		for _, c := range []struct {
			name, port string
			config     *tls.Config
			want       string // "" = accepted
		}{
			{"client without certificate where none is wanted", plainPort, s.client(t, nil), ""},
			{"client without certificate", mutual, s.client(t, nil), `remote error: tls: certificate required`},
			{"client of an unknown authority", mutual, s.client(t, &foreign), `remote error: tls: unknown certificate authority`},
			{"client with an expired certificate", mutual, s.client(t, &expired), `remote error: tls: expired certificate`},
			{"client that does not trust the door", plainPort, distrusting, `certificate signed by unknown authority`},
			{"client that speaks TLS 1.1", plainPort, old, `protocol version`},
			{"client with its certificate", mutual, s.client(t, &good), ""},
		} {
			t.Run(protocol+", "+c.name, func(t *testing.T) {
				if c.want != "" {
					s.refuses(t, protocol, c.port, c.config, c.want)
					return
				}
				if err := s.sends(t, protocol, c.port, c.config, names); err != nil {
					t.Fatal(err)
				}
				s.backend.await(t, names)
			})
		}
	}
	t.Run("plaintext HTTP is answered with a sentence", func(t *testing.T) {
		a, err := post(t.Context(), nil, "http://"+s.host+":4318/v1/traces", protobufType, strings.NewReader(""))
		if err != nil || a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "HTTPS") {
			t.Errorf("%v %d %s, want 400 with a word of HTTPS", err, a.status, a.body)
		}
	})
	t.Run("plaintext gRPC gets nothing", func(t *testing.T) {
		if err := export(t.Context(), dial(t, s.host+":4317", nil), numbered("intruder", 1)); err == nil {
			t.Error("accepted")
		}
	})
	s.await(`TLS handshake failed\t.*"error": "`)
	if missing := s.backend.missing([]string{"intruder-0"}); len(missing) != 1 {
		t.Error("data of a refused client reached the backend")
	}
	if code := s.stop(); code != 0 || strings.Contains(s.output(), "goroutine ") {
		t.Errorf("exit code %d", code)
	}
}

// serialAt is the serial number of the certificate a new connection gets to see.
func (s *secured) serialAt(t *testing.T, port string) *big.Int {
	t.Helper()
	d := tls.Dialer{Config: s.client(t, nil)}
	conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(s.host, port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber
}

func TestReplacedCertificateIsUsedWithoutARestart(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	held := dial(t, s.host+":4317", s.client(t, nil))
	if err := export(t.Context(), held, numbered("before", 1)); err != nil {
		t.Fatal(err)
	}

	before := s.serialAt(t, "4317")
	s.ca.issue(t, identity{names: []string{s.host}}).write(t, s.dir, "server")
	for _, port := range []string{"4317", "4318"} {
		eventually(t, "new connections to "+port+" see the new certificate", func() bool {
			return s.serialAt(t, port).Cmp(before) != 0
		})
	}
	if err := export(t.Context(), held, numbered("held", 1)); err != nil {
		t.Errorf("a connection from before: %v", err)
	}

	now := s.serialAt(t, "4317")
	replace(t, s.files.cert, []byte("-----BEGIN CERTIFICATE-----\nhalf"))
	eventually(t, "a certificate that cannot be used is told of", func() bool {
		if s.serialAt(t, "4317").Cmp(now) != 0 {
			t.Fatal("another certificate is served")
		}
		return strings.Contains(s.output(), "Changed certificate cannot be used, the old one stays")
	})

	other := newAuthority(t, "other")
	pair := other.issue(t, identity{names: []string{"client"}})
	s.ca.issue(t, identity{names: []string{s.host}}).write(t, s.dir, "server")
	s.refuses(t, "gRPC", "5317", s.client(t, &pair), `unknown certificate authority`)
	other.write(t, s.dir, "client-ca")
	for _, door := range [][2]string{{"gRPC", "5317"}, {"HTTP", "5318"}} {
		eventually(t, "clients of the new authority are let in over "+door[0], func() bool {
			return s.sends(t, door[0], door[1], s.client(t, &pair), numbered("new "+door[0], 1)) == nil
		})
	}
	s.backend.await(t, []string{"before-0", "held-0", "new gRPC-0", "new HTTP-0"})
	m := scrapeAt(t, s.host+":8888")
	if v := value(t, m, "holdfast_certificate_expiry_seconds", "component", "otlp", "file", s.files.cert); v <= 0 {
		t.Errorf("holdfast_certificate_expiry_seconds is %v", v)
	}
}

// tlsExporter sends to a backend with TLS; $CLIENT is what it shows of itself.
const tlsExporter = `
receivers: {otlp: {protocols: {http: {endpoint: "$HOST:4318"}}}}
exporters:
  $TYPE:
    endpoint: "$ENDPOINT"
    tls: {ca_file: "$CA" $CLIENT}
    retry_on_failure: {initial_interval: 100ms, max_interval: 200ms}
extensions: {health_check: {endpoint: "$HOST:13133", path: /health, check_collector_pipeline: {enabled: true, interval: 30s, exporter_failure_threshold: 3}}}
service:
  extensions: [health_check]
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: "$HOST", port: 8888}}}}]}}
  pipelines: {traces: {receivers: [otlp], exporters: [$TYPE]}}
`

// pipelines is the body of /pipelines.
type pipelines struct {
	Status       string
	Reasons      []string
	Destinations []struct {
		Name, State string
		LastError   string `json:"last_error"`
	}
}

// Fault: B13.
func TestTLSFailureOfABackendIsNamedAndHealsWithoutLoss(t *testing.T) {
	t.Parallel()
	for _, exporter := range []string{"otlp_grpc", "otlp_http"} {
		for _, c := range []struct {
			name string
			bad  func(t *testing.T, host string, ca *authority) *tls.Config
			// client is what the exporter's own certificate is made out for; mending replaces its files by a good one.
			client *identity
			want   string
		}{
			{"expired", func(t *testing.T, host string, ca *authority) *tls.Config {
				return serverOf(ca.issue(t, identity{names: []string{host}, expired: true}).tls(t))
			}, nil, `certificate of .* expired at `},
			{"wrong name", func(t *testing.T, _ string, ca *authority) *tls.Config {
				return serverOf(ca.issue(t, identity{names: []string{"backend.example"}}).tls(t))
			}, nil, `certificate is for backend\.example, not for \\?"$HOST`},
			{"unknown authority", func(t *testing.T, host string, _ *authority) *tls.Config {
				return serverOf(newAuthority(t, "stranger").issue(t, identity{names: []string{host}}).tls(t))
			}, nil, `unknown authority \(CN=stranger authority\)`},
			{"client certificate missing", func(t *testing.T, host string, ca *authority) *tls.Config {
				return demanding(serverOf(ca.issue(t, identity{names: []string{host}}).tls(t)), ca)
			}, nil, `certificate required|asked for a client certificate`},
			{"client certificate of an unknown authority", func(t *testing.T, host string, ca *authority) *tls.Config {
				return demanding(serverOf(ca.issue(t, identity{names: []string{host}}).tls(t)), ca)
			}, &identity{names: []string{"client"}}, `unknown certificate authority`},
		} {
			t.Run(exporter+", "+c.name, func(t *testing.T) {
				host, dir, ca := ownHost(t), t.TempDir(), newAuthority(t, "test")
				b := startBackend(t, host+":14317", c.bad(t, host, ca))
				values := map[string]string{
					"HOST": host, "TYPE": exporter, "ENDPOINT": host + ":14317", "CA": ca.write(t, dir, "ca"), "CLIENT": "",
				}
				if exporter == "otlp_http" {
					values["ENDPOINT"] = "https://" + values["ENDPOINT"]
				}
				if c.client != nil {
					own := newAuthority(t, "stranger").issue(t, *c.client).write(t, dir, "client")
					values["CLIENT"] = `, cert_file: "` + own.cert + `", key_file: "` + own.key + `"`
				}
				p := collector(t, tlsExporter, values)
				names := numbered("kept", 25)
				mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(names)))
				want := regexp.MustCompile(strings.ReplaceAll(c.want, "$HOST", regexp.QuoteMeta(host)))

				p.await(`Exporting failed\. Will retry.*(` + want.String() + `)`)
				var seen pipelines
				eventually(t, "the health body says why", func() bool {
					a := get(t, "http://"+host+":13133/pipelines")
					if err := json.Unmarshal(a.body, &seen); err != nil {
						t.Fatalf("%s: %v", a.body, err)
					}
					return a.status == http.StatusServiceUnavailable && len(seen.Destinations) == 1 &&
						want.MatchString(seen.Destinations[0].LastError)
				})
				if got := getStatus(t, "http://"+host+":13133/health"); got != http.StatusServiceUnavailable {
					t.Errorf("/health is %d, want 503", got)
				}
				m := scrapeAt(t, host+":8888")
				if got := value(t, m, "holdfast_ledger_queued_items", "destination", exporter); got != 25 {
					t.Errorf("%v items are queued, want 25", got)
				}
				if b.items("spans") != 0 || b.plaintext.Load() != 0 {
					t.Errorf("%d spans and %d plaintext connections came", b.items("spans"), b.plaintext.Load())
				}

				mended := serverOf(ca.issue(t, identity{names: []string{host}}).tls(t))
				if c.client != nil {
					ca.issue(t, *c.client).write(t, dir, "client")
					mended = demanding(mended, ca)
				}
				b.setTLS(mended)
				b.await(t, names)
				eventually(t, "healthy again", func() bool {
					return getStatus(t, "http://"+host+":13133/health") == http.StatusOK
				})
				if code := p.stop(); code != 0 {
					t.Errorf("exit code %d", code)
				}
				if l := lastLine(t, p); l.Accepted != 25 || l.Delivered != 25 {
					t.Errorf("%+v, want 25 accepted and delivered", l)
				}
				if b.plaintext.Load() != 0 {
					t.Errorf("%d plaintext connections", b.plaintext.Load())
				}
			})
		}
	}
}

func serverOf(c tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}
}

// demanding makes a server ask for certificates of ca.
func demanding(c *tls.Config, ca *authority) *tls.Config {
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	return c
}
