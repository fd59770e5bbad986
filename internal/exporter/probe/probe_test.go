// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/probe"
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestOnlyExpectedCodesAreGood(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values("Authorization")) > 0 {
			t.Error("credentials were sent")
		}
		switch r.URL.Path {
		case "/ok":
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}
	}))
	defer s.Close()
	for path, want := range map[string]exporter.Kind{
		"/ok": exporter.Delivered, "/teapot": exporter.Retry, "/moved": exporter.Retry, "/endless": exporter.Delivered,
	} {
		if v := probe.HTTP(within(t, 10*time.Second), s.URL+path, []int{200}, nil); v.Kind != want {
			t.Errorf("%s: %s, %v", path, v.Kind, v.Err)
		}
	}
	if v := probe.HTTP(within(t, 10*time.Second), s.URL+"/teapot", []int{204, 418}, nil); v.Kind != exporter.Delivered {
		t.Errorf("an expected code: %s", v.Kind)
	}
	if v := probe.HTTP(within(t, time.Second), "http://\x7f", nil, nil); v.Kind != exporter.Misconfigured {
		t.Errorf("no URL: %s", v.Kind)
	}
}

func TestAProbeEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts and says nothing
	began := time.Now()
	v := probe.HTTP(within(t, 50*time.Millisecond), "http://"+l.Addr().String(), []int{200}, nil)
	w := probe.TCP(within(t, 50*time.Millisecond), l.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS12})
	if v.Kind != exporter.Retry || w.Kind != exporter.Retry || time.Since(began) > 10*time.Second {
		t.Errorf("%v, %v after %s", v, w, time.Since(began))
	}
}

func TestAConnectionIsEnoughForTCP(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "https://")
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	known := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for name, c := range map[string]struct {
		config *tls.Config
		want   exporter.Kind
	}{
		"plain": {nil, exporter.Delivered}, "known": {known, exporter.Delivered},
		"unknown": {&tls.Config{MinVersion: tls.VersionTLS12}, exporter.Retry},
	} {
		if v := probe.TCP(within(t, 10*time.Second), addr, c.config); v.Kind != c.want {
			t.Errorf("%s: %s, %v", name, v.Kind, v.Err)
		}
	}
	if v := probe.HTTP(within(t, 10*time.Second), s.URL, []int{404}, known); v.Kind != exporter.Delivered {
		t.Errorf("https: %s, %v", v.Kind, v.Err)
	}
	s.Close()
	if v := probe.TCP(within(t, 10*time.Second), addr, nil); v.Kind != exporter.Retry {
		t.Errorf("nobody listens: %s", v.Kind)
	}
}
