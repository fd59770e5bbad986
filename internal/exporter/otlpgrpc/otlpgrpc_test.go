// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"io"
	"sync"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRequestsLeaveWithTheBytesTheyArrivedWith(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	big := make([]byte, 300<<10)
	_, _ = rand.Read(big)
	for name, parts := range map[string][][]byte{
		"one part":         {[]byte("one")},
		"several parts":    {[]byte("one"), {}, []byte("two"), []byte("three")},
		"large":            {big},
		"odd pieces":       {big[:65535], big[65535:65537], big[65537:]},
		"nothing":          nil,
		"block boundaries": {big[:64<<10], big[64<<10 : 128<<10]},
	} {
		check(t, name, send(t, e, request(parts...)), exporter.Deliver())
		if g := <-b.requests; !bytes.Equal(g.body, bytes.Join(parts, nil)) {
			t.Errorf("%s: %d bytes arrived, not those sent", name, len(g.body))
		}
	}
}

func TestEverySignalGoesToItsService(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, func(c *otlpgrpc.Config) {
		c.Client.Headers = configopaque.MapList{{Name: "x-tenant", Value: "blue"}}
	})
	want := map[otlp.Signal]string{
		otlp.Traces:   "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
		otlp.Metrics:  "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
		otlp.Logs:     "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
		otlp.Profiles: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
	}
	for _, s := range otlp.Signals {
		check(t, s.String(), send(t, e, &exporter.Request{Signal: s, Parts: [][]byte{{1}}, Size: 1}), exporter.Deliver())
		g := <-b.requests
		if g.method != want[s] {
			t.Errorf("%s went to %s", s, g.method)
		}
		if h := g.header.Get("x-tenant"); len(h) != 1 || h[0] != "blue" {
			t.Errorf("header x-tenant is %q", h)
		}
		if h := g.header.Get("user-agent"); len(h) != 1 || !bytes.HasPrefix([]byte(h[0]), []byte("holdfast/0.1.0")) {
			t.Errorf("user agent is %q", h)
		}
	}
	check(t, "no signal", send(t, e, &exporter.Request{}), exporter.Verdict{Kind: exporter.Rejected})
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
	one, two := bytes.Repeat([]byte("span "), 20000), []byte("and another")
	enc, _ := zstd.NewWriter(nil)
	for name, c := range map[string]struct {
		encoding otlp.Encoding
		parts    [][]byte
	}{
		"gzip":               {otlp.Gzip, [][]byte{zip(t, one)}},
		"gzip, two requests": {otlp.Gzip, [][]byte{zip(t, one), zip(t, two)}},
		"zstd":               {otlp.Zstd, [][]byte{enc.EncodeAll(one, nil), enc.EncodeAll(two, nil)}},
	} {
		b := newBackend(t, c.encoding.String())
		e, tel := startCounted(t, b.addr, func(cfg *otlpgrpc.Config) {
			cfg.Client.Compression = configcompression.Type(c.encoding.String())
		})
		check(t, name, send(t, e, encoded(c.encoding, len(one)+len(two), c.parts...)), exporter.Deliver())
		g := <-b.requests
		if !bytes.Equal(g.body, bytes.Join(c.parts, nil)) {
			t.Errorf("%s: the bytes were touched", name)
		}
		if n := tel.Metrics.Counter("holdfast_exporter_recompressed_total", "", "exporter", "otlp_grpc/test").Value(); n != 0 {
			t.Errorf("%s: %d requests counted as recompressed", name, n)
		}
	}
	_ = enc.Close()
}

func TestOtherEncodingsAreDecodedOnceAndEncoded(t *testing.T) {
	plain := bytes.Repeat([]byte("span "), 20000)
	enc, _ := zstd.NewWriter(nil)
	zstandard := enc.EncodeAll(plain, nil)
	_ = enc.Close()
	decode := map[configcompression.Type]func(io.Reader) (io.Reader, error){
		"none":   func(r io.Reader) (io.Reader, error) { return r, nil },
		"gzip":   func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"snappy": func(r io.Reader) (io.Reader, error) { return snappy.NewReader(r), nil },
		"zstd": func(r io.Reader) (io.Reader, error) {
			d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
			return d, err
		},
	}
	for name, c := range map[string]struct {
		r    *exporter.Request
		to   configcompression.Type
		want int64 // counted as recompressed
	}{
		"identity to gzip":   {request(plain[:100], plain[100:]), "gzip", 0},
		"identity to zstd":   {request(plain), "zstd", 0},
		"identity to snappy": {request(plain), "snappy", 0},
		"gzip to none":       {encoded(otlp.Gzip, len(plain), zip(t, plain[:7]), zip(t, plain[7:])), "none", 1},
		"gzip to zstd":       {encoded(otlp.Gzip, len(plain), zip(t, plain)), "zstd", 1},
		"zstd to gzip":       {encoded(otlp.Zstd, len(plain), zstandard), "gzip", 1},
		"zstd to snappy":     {encoded(otlp.Zstd, len(plain), zstandard), "snappy", 1},
	} {
		asSent := string(c.to)
		if c.to == "none" {
			asSent = ""
		}
		b := newBackend(t, asSent)
		e, tel := startCounted(t, b.addr, func(cfg *otlpgrpc.Config) { cfg.Client.Compression = c.to })
		check(t, name, send(t, e, c.r), exporter.Deliver())
		r, err := decode[c.to](bytes.NewReader((<-b.requests).body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out, err := io.ReadAll(r); err != nil || !bytes.Equal(out, plain) {
			t.Errorf("%s: decodes to %d bytes, %v", name, len(out), err)
		}
		if n := tel.Metrics.Counter("holdfast_exporter_recompressed_total", "", "exporter", "otlp_grpc/test").Value(); n != c.want {
			t.Errorf("%s: %d requests counted as recompressed, want %d", name, n, c.want)
		}
	}
}

func TestDamagedBytesAreRejectedAndNotSent(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	plain := bytes.Repeat([]byte("span "), 2000)
	whole := zip(t, plain)
	for name, r := range map[string]*exporter.Request{
		"cut":           encoded(otlp.Gzip, len(plain), whole[:len(whole)/2]),
		"no gzip":       encoded(otlp.Gzip, 3, []byte("abc")),
		"a bomb":        encoded(otlp.Gzip, 100, whole),
		"less than due": encoded(otlp.Gzip, len(plain)+1, whole),
		"no zstd":       encoded(otlp.Zstd, 3, []byte("abc")),
	} {
		check(t, name, send(t, e, r), exporter.Verdict{Kind: exporter.Rejected})
	}
	select {
	case g := <-b.requests:
		t.Errorf("%d bytes were sent", len(g.body))
	default:
	}
}

func TestSendsRunBesideEachOther(t *testing.T) {
	b := newBackend(t, "gzip")
	var mu sync.Mutex
	seen := map[string]int{}
	b.reply(func(_ context.Context, g got) ([]byte, error) {
		r, err := gzip.NewReader(bytes.NewReader(g.body))
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(r)
		mu.Lock()
		defer mu.Unlock()
		seen[string(body)]++
		return nil, err
	})
	e := start(t, b.addr, func(c *otlpgrpc.Config) { c.Client.Compression = "gzip" })
	const senders, each = 8, 50
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			buf := make([]byte, 0, 64)
			for j := range each {
				buf = append(buf[:0], numbered(i*each+j)...) // the memory is ours again after each Send
				check(t, "send", send(t, e, request(buf)), exporter.Deliver())
			}
		})
	}
	wg.Wait()
	for i := range senders * each {
		if seen[string(numbered(i))] != 1 {
			t.Errorf("request %d arrived %d times", i, seen[string(numbered(i))])
		}
	}
}
