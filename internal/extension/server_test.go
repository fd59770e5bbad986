// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package extension_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"

	"github.com/holdfast-telemetry/holdfast/internal/certtest"
	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func TestServerLeavesItsSettingsAsTheyWere(t *testing.T) {
	cfg := extension.ServerDefaults("127.0.0.1:0")
	before := cfg
	var s extension.Server
	if err := s.Start(t.Context(), cfg, nil, telemetry.Nop(), http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, before) {
		t.Errorf("settings became %+v", cfg)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if s.Addr() != nil {
		t.Errorf("listens on %v after stop", s.Addr())
	}
}

func TestServerListensOnWhatItIsHanded(t *testing.T) {
	authority := certtest.NewAuthority(t, "authority")
	issued := authority.Issue(t, time.Now().Add(time.Hour), "server", "127.0.0.1")
	for _, secure := range []bool{false, true} {
		handed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var asked string
		s := extension.Server{Listen: func(_ context.Context, network, address string) (net.Listener, error) {
			asked = network + " " + address
			return handed, nil
		}}
		cfg, scheme := extension.ServerDefaults("somewhere:1"), "http"
		if secure {
			dir, server := t.TempDir(), configtls.NewDefaultServerConfig()
			server.CertFile = certtest.Write(t, dir, "cert.pem", issued.Cert)
			server.KeyFile = certtest.Write(t, dir, "key.pem", issued.Key)
			cfg.TLS, scheme = configoptional.Some(server), "https"
		}
		if err := s.Start(t.Context(), cfg, nil, telemetry.Nop(), http.NotFoundHandler()); err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}
		resp, err := (&http.Client{Transport: transport}).Get(scheme + "://" + handed.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		if asked != "tcp somewhere:1" || resp.StatusCode != http.StatusNotFound || s.Addr().String() != handed.Addr().String() {
			t.Errorf("asked for %s, %s", asked, resp.Status)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestServerNamesATakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	var s extension.Server
	err = s.Start(t.Context(), extension.ServerDefaults(ln.Addr().String()), nil, telemetry.Nop(), http.NotFoundHandler())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), ln.Addr().String()) ||
		!strings.Contains(err.Error(), "taken") {
		t.Errorf("error is %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestServerRefusesAuthenticationNobodyProvides(t *testing.T) {
	cfg := extension.ServerDefaults("127.0.0.1:0")
	cfg.Auth.GetOrInsertDefault()
	cfg.Auth.Get().RequestParameters = nil
	var s extension.Server
	if err := s.Start(t.Context(), cfg, nil, telemetry.Nop(), http.NotFoundHandler()); err == nil {
		t.Error("serves without the authenticator that was asked for")
		_ = s.Stop(t.Context())
	}
}

func TestStopCutsWhatDoesNotEndInTime(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	var s extension.Server
	if err := s.Start(t.Context(), extension.ServerDefaults("127.0.0.1:0"), nil, telemetry.Nop(), handler); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	url := "http://" + s.Addr().String()
	go func() {
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := c.Get(url)
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop says %v", err)
	}
	if err := <-answered; err == nil {
		t.Error("the request was answered")
	}
}

func TestRequestsAreLimitedInNumberSizeAndTime(t *testing.T) {
	entered, release := make(chan struct{}, 16), make(chan struct{})
	var deadline time.Duration
	handler := extension.Limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d, ok := r.Context().Deadline(); ok && r.URL.Path == "/deadline" {
			deadline = time.Until(d)
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if r.URL.Path == "/wait" {
			entered <- struct{}{}
			<-release
		}
	}))
	ask := func(path string, body io.Reader) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("POST", path, body))
		return w.Code
	}
	ask("/deadline", nil)
	if deadline <= 9*time.Second || deadline > 10*time.Second {
		t.Errorf("deadline is %s away", deadline)
	}
	if code := ask("/", strings.NewReader(strings.Repeat("x", 1<<20))); code != 200 {
		t.Errorf("1 MiB: %d", code)
	}
	if code := ask("/", strings.NewReader(strings.Repeat("x", 1<<20+1))); code != 413 {
		t.Errorf("more with a length: %d", code)
	}
	if code := ask("/", struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1<<20+1))}); code != 413 {
		t.Errorf("more without a length: %d", code)
	}
	done := make(chan int, 8)
	for range 8 {
		go func() { done <- ask("/wait", nil) }()
	}
	for range 8 {
		<-entered
	}
	if code := ask("/", nil); code != 503 {
		t.Errorf("a ninth at once: %d", code)
	}
	close(release)
	for range 8 {
		if code := <-done; code != 200 {
			t.Errorf("one of eight: %d", code)
		}
	}
	if code := ask("/", nil); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}
