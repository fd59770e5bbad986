// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRequestsLeaveWithTheBytesTheyArrivedWith(t *testing.T) {
	big := make([]byte, 700<<10)
	_, _ = rand.Read(big)
	for _, secure := range []bool{false, true} {
		b := newBackend(t, secure)
		e := start(t, b.URL, func(c *otlphttp.Config) { c.Client.TLS.InsecureSkipVerify = true })
		for name, parts := range map[string][][]byte{
			"one part":      {[]byte("one")},
			"several parts": {[]byte("one"), {}, []byte("two")},
			"large":         {big[:300<<10], big[300<<10:]},
			"nothing":       nil,
		} {
			check(t, name, send(t, e, request(parts...)), exporter.Deliver())
			g := <-b.requests
			if !bytes.Equal(g.body, bytes.Join(parts, nil)) {
				t.Errorf("%s: %d bytes arrived, not those sent", name, len(g.body))
			}
			if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[secure]; g.proto != want {
				t.Errorf("%s went by %s", name, g.proto)
			}
		}
	}
}

func TestEverySignalGoesToItsPath(t *testing.T) {
	b := newBackend(t, false)
	e := start(t, b.URL+"/base/", func(c *otlphttp.Config) {
		c.LogsEndpoint = b.URL + "/own/place"
		c.Client.Headers = configopaque.MapList{{Name: "x-tenant", Value: "blue"}, {Name: "user-agent", Value: "mine"}}
	})
	for s, want := range map[otlp.Signal]string{
		otlp.Traces: "/base/v1/traces", otlp.Metrics: "/base/v1/metrics",
		otlp.Logs: "/own/place", otlp.Profiles: "/base/v1development/profiles",
	} {
		check(t, s.String(), send(t, e, &exporter.Request{Signal: s, Parts: [][]byte{{1}}, Size: 1}), exporter.Deliver())
		g := <-b.requests
		if g.path != want || g.header.Get("x-tenant") != "blue" || g.header.Get("user-agent") != "mine" ||
			g.header.Get("content-type") != "application/x-protobuf" || g.header.Get("content-encoding") != "" {
			t.Errorf("%s went to %s with %v", s, g.path, g.header)
		}
	}
	only := start(t, "", func(c *otlphttp.Config) { c.TracesEndpoint = b.URL + "/t" })
	check(t, "its own", send(t, only, request([]byte("x"))), exporter.Deliver())
	check(t, "no endpoint", send(t, only, &exporter.Request{Signal: otlp.Logs}), exporter.Verdict{Kind: exporter.Misconfigured})
}

func zip(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal("gzip")
	}
	return out.Bytes()
}

func encoded(e otlp.Encoding, size int, parts ...[]byte) *exporter.Request {
	r := request(parts...)
	r.Encoding, r.Size = e, int64(size)
	return r
}

func TestWhatArrivedInTheSameEncodingIsHandedOnUntouched(t *testing.T) {
	b := newBackend(t, false)
	one, two := bytes.Repeat([]byte("span "), 20000), []byte("and another")
	parts := [][]byte{zip(t, one), zip(t, two)}
	e, tel := startCounted(t, b.URL, func(c *otlphttp.Config) { c.Client.Compression = "gzip" })
	check(t, "gzip", send(t, e, encoded(otlp.Gzip, len(one)+len(two), parts...)), exporter.Deliver())
	g := <-b.requests
	if !bytes.Equal(g.body, bytes.Join(parts, nil)) || g.header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the bytes were touched: %v", g.header)
	}
	if n := tel.Metrics.Counter("holdfast_exporter_recompressed_total", "", "exporter", "otlp_http/test").Value(); n != 0 {
		t.Errorf("%d requests counted as recompressed", n)
	}
}

func TestEveryCompressionDecodesToTheRequest(t *testing.T) {
	plain := bytes.Repeat([]byte("span "), 50000)
	unzlib := func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }
	for name, decode := range map[configcompression.Type]func(io.Reader) (io.Reader, error){
		"none":    func(r io.Reader) (io.Reader, error) { return r, nil },
		"gzip":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zlib":    unzlib,
		"deflate": unzlib,
		"snappy": func(r io.Reader) (io.Reader, error) {
			b, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			out, err := snappy.Decode(nil, b)
			return bytes.NewReader(out), err
		},
		"x-snappy-framed": func(r io.Reader) (io.Reader, error) { return snappy.NewReader(r), nil },
		"zstd":            func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) },
		"lz4":             func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil },
	} {
		b := newBackend(t, false)
		e, tel := startCounted(t, b.URL, func(c *otlphttp.Config) { c.Client.Compression = name })
		for want, r := range []*exporter.Request{
			request(plain[:1000], plain[1000:]),
			encoded(otlp.Gzip, len(plain), zip(t, plain)),
		} {
			check(t, string(name), send(t, e, r), exporter.Deliver())
			g := <-b.requests
			if want := strings.ReplaceAll(string(name), "none", ""); g.header.Get("Content-Encoding") != want {
				t.Errorf("content encoding %q, want %q", g.header.Get("Content-Encoding"), want)
			}
			in, err := decode(bytes.NewReader(g.body))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if out, err := io.ReadAll(in); err != nil || !bytes.Equal(out, plain) {
				t.Errorf("%s: decodes to %d bytes, %v", name, len(out), err)
			}
			if name == "gzip" {
				want = 0
			}
			if n := tel.Metrics.Counter("holdfast_exporter_recompressed_total", "", "exporter", "otlp_http/test").Value(); n != int64(want) {
				t.Errorf("%s: %d requests counted as recompressed, want %d", name, n, want)
			}
		}
	}
}

func TestABackendThatWantsJSONGetsIt(t *testing.T) {
	b := newBackend(t, false)
	d := ptrace.NewTraces()
	d.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName("a span")
	wireBytes, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(d)
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, b.URL, func(c *otlphttp.Config) { c.Encoding, c.Client.Compression = "json", "gzip" })
	b.reply(says(200, "application/json", `{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no\n"}}`))
	for _, r := range []*exporter.Request{
		request(wireBytes, wireBytes),
		encoded(otlp.Gzip, 2*len(wireBytes), zip(t, wireBytes), zip(t, wireBytes)),
	} {
		check(t, "json", send(t, e, r), exporter.Verdict{Kind: exporter.Delivered, Rejected: 1, Message: `no\n`})
		g := <-b.requests
		in, err := gzip.NewReader(bytes.NewReader(g.body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(text)
		if err != nil || got.SpanCount() != 2 || g.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d spans, %v, %v", text, got.SpanCount(), err, g.header)
		}
	}
	check(t, "no protobuf", send(t, e, request([]byte("\x0a\xff"))), exporter.Verdict{Kind: exporter.Rejected})
}

func TestSendsRunBesideEachOther(t *testing.T) {
	for _, secure := range []bool{false, true} {
		b := newBackend(t, secure)
		var mu sync.Mutex
		seen := map[string]int{}
		b.reply(func(http.ResponseWriter, *http.Request) {
			g := <-b.requests
			mu.Lock()
			defer mu.Unlock()
			seen[string(g.body)]++
		})
		e := start(t, b.URL, func(c *otlphttp.Config) { c.Client.TLS.InsecureSkipVerify = true })
		const senders, each = 8, 50
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				buf := make([]byte, 0, 64)
				for j := range each {
					buf = fmt.Appendf(buf[:0], "request %d", i*each+j) // the memory is ours again after each Send
					check(t, "send", send(t, e, request(buf)), exporter.Deliver())
				}
			})
		}
		wg.Wait()
		for i := range senders * each {
			if seen[fmt.Sprintf("request %d", i)] != 1 {
				t.Errorf("request %d arrived %d times", i, seen[fmt.Sprintf("request %d", i)])
			}
		}
	}
}

// Fault: B20.
func TestConnectionsThatEndAfterEachAnswerLoseNothing(t *testing.T) {
	for _, secure := range []bool{false, true} { // Connection: close, and GOAWAY
		b := newBackend(t, secure)
		b.Config.SetKeepAlivesEnabled(false)
		e := start(t, b.URL, func(c *otlphttp.Config) { c.Client.TLS.InsecureSkipVerify = true })
		for range 20 {
			check(t, "closing", send(t, e, request([]byte("x"))), exporter.Deliver())
		}
		if n := len(b.requests); n != 20 {
			t.Errorf("%d arrived", n)
		}
	}
}

func TestTheBytesAreTheCallersAgainAfterADeadline(t *testing.T) {
	b := newBackend(t, false)
	hold := make(chan struct{})
	b.reply(func(http.ResponseWriter, *http.Request) { <-hold })
	e := start(t, b.URL, nil)
	buf := make([]byte, 8<<20) // more than the sockets buffer
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if v := e.Send(ctx, request(buf)); v.Kind == exporter.Delivered {
			t.Errorf("verdict %+v", v)
		}
		cancel()
		clear(buf) // the race detector sees a transport that still reads
	}
	close(hold)
}
