// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// limit is how long a test waits for what must happen.
const limit = 20 * time.Second

// got is one request as a backend saw it.
type got struct {
	path   string
	header http.Header
	body   []byte
	proto  string
}

// backend notes what it gets and answers what it is told to.
type backend struct {
	*httptest.Server
	requests chan got
	mu       sync.Mutex
	answer   http.HandlerFunc
}

func newBackend(t testing.TB, secure bool) *backend {
	t.Helper()
	b := &backend{requests: make(chan got, 1024)}
	b.answer = func(http.ResponseWriter, *http.Request) {}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(b.serve))
	b.EnableHTTP2 = secure
	if secure {
		b.StartTLS()
	} else {
		b.Start()
	}
	t.Cleanup(b.Close)
	return b
}

func (b *backend) reply(answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	answer := b.answer
	b.mu.Unlock()
	select {
	case b.requests <- got{r.URL.Path, r.Header, body, r.Proto}:
	default:
	}
	answer(w, r)
}

func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

func says(code int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{contentType}
		if contentType == "" {
			w.Header()["Content-Type"] = nil
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// start makes an exporter for the URL; change may be nil.
func start(t testing.TB, url string, change func(*otlphttp.Config)) exporter.Exporter {
	t.Helper()
	e, _ := startCounted(t, url, change)
	return e
}

func startCounted(t testing.TB, url string, change func(*otlphttp.Config)) (exporter.Exporter, *telemetry.Telemetry) {
	t.Helper()
	cfg := otlphttp.Default()
	cfg.Client.Endpoint = url
	cfg.Client.Compression = "none"
	if change != nil {
		change(cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	tel := telemetry.Nop()
	e, err := otlphttp.Factory().New(exporter.Settings{ID: "otlp_http/test", Telemetry: tel, Version: "0.1.0"}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return e, tel
}

func request(parts ...[]byte) *exporter.Request {
	r := &exporter.Request{Signal: otlp.Traces, Items: 10, Parts: parts}
	for _, p := range parts {
		r.Size += int64(len(p))
	}
	return r
}

func send(t testing.TB, e exporter.Exporter, r *exporter.Request) exporter.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return e.Send(ctx, r)
}

// check compares a verdict without its error, and that there is an error exactly when there should be.
func check(t *testing.T, what string, v, want exporter.Verdict) {
	t.Helper()
	err := v.Err
	v.Err = nil
	if v != want {
		t.Errorf("%s: verdict %s %+v (%v), want %s %+v", what, v.Kind, v, err, want.Kind, want)
	}
	if (err == nil) != (want.Kind == exporter.Delivered) {
		t.Errorf("%s: verdict %s with error %v", what, v.Kind, err)
	}
}

// acceptor serves raw connections with what the test wants.
func acceptor(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + lis.Addr().String()
}

// reset makes the peer of c see a reset.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}
