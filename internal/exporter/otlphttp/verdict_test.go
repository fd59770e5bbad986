// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlphttp"
)

// Fault: B7, B9, B10.
func TestEveryStatusHasItsVerdict(t *testing.T) {
	b := newBackend(t, false)
	e := start(t, b.URL, nil)
	kinds := map[exporter.Verdict][]int{
		{Kind: exporter.Delivered}:  {200, 201, 202, 204},
		{Kind: exporter.Retry}:      {502, 503, 504, 421, 425},
		{Kind: exporter.RetryAfter}: {429},
		{Kind: exporter.Ambiguous}:  {408},
		{Kind: exporter.Misconfigured}: {
			401, 403, 404, 405, 407, 410, 415, 501, 505, 300, 301, 302, 303, 304, 307, 308,
		},
		{Kind: exporter.Rejected}:                 {400, 409, 422},
		{Kind: exporter.Rejected, TooLarge: true}: {413},
		{Kind: exporter.Retry, Unclear: true}:     {500, 402, 406, 411, 414, 418, 423, 431, 451, 506, 507, 511, 599},
	}
	for want, codes := range kinds {
		for _, code := range codes {
			b.reply(status(code, "Location", "http://127.0.0.1:1/elsewhere?token=secret"))
			v := send(t, e, request([]byte("x")))
			check(t, http.StatusText(code), v, want)
			if v.Err != nil && strings.Contains(v.Err.Error(), "secret") {
				t.Errorf("%d: %v", code, v.Err)
			}
		}
	}
}

// Fault: B6, B7.
func TestADelayTheBackendNamesIsObeyed(t *testing.T) {
	b := newBackend(t, false)
	e := start(t, b.URL, nil)
	after := func(d time.Duration) exporter.Verdict { return exporter.Verdict{Kind: exporter.RetryAfter, After: d} }
	for _, c := range []struct {
		code  int
		value string
		want  exporter.Verdict
	}{
		{503, "7", after(7 * time.Second)},
		{502, " 1 ", after(time.Second)},
		{504, "30", after(30 * time.Second)},
		{429, "2", after(2 * time.Second)},
		{429, "", after(0)},
		{429, "0", after(0)},
		{429, "soon", after(0)},
		{429, "-5", after(0)},
		{503, "0", exporter.Verdict{Kind: exporter.Retry}},
		{503, "-5", exporter.Verdict{Kind: exporter.Retry}},
		{503, "Mon, 01 Jan 2001 00:00:00 GMT", exporter.Verdict{Kind: exporter.Retry}},
		{503, "99999999999999999999999", after(math.MaxInt64)},
		{503, "9223372037", after(math.MaxInt64)},
		{500, "7", exporter.Verdict{Kind: exporter.Retry, Unclear: true}},
		{400, "7", exporter.Verdict{Kind: exporter.Rejected}},
	} {
		b.reply(status(c.code, "Retry-After", c.value))
		check(t, c.value, send(t, e, request([]byte("x"))), c.want)
	}
	b.reply(status(503, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)))
	if v := send(t, e, request([]byte("x"))); v.Kind != exporter.RetryAfter || v.After < 59*time.Minute || v.After > time.Hour {
		t.Errorf("a date in an hour: %+v", v)
	}
}

// Fault: B11, B12.
func TestOnlyAnOTLPAnswerOrNoneIsASuccess(t *testing.T) {
	b := newBackend(t, false)
	e := start(t, b.URL, nil)
	ok := exporter.Deliver()
	wrong := exporter.Verdict{Kind: exporter.Misconfigured}
	partial := func(n uint32, text string) exporter.Verdict {
		return exporter.Verdict{Kind: exporter.Delivered, Rejected: n, Message: text}
	}
	const proto, js = "application/x-protobuf", "application/json; charset=utf-8"
	for _, c := range []struct {
		what, media, body string
		want              exporter.Verdict
	}{
		{"empty", proto, "", ok},
		{"empty html", "text/html", "", ok},
		{"blank text", "text/plain", " \r\n", ok},
		{"partial", proto, "\x0a\x09\x08\x03\x12\x05quota", partial(3, "quota")},
		{"partial of all and more", proto, "\x0a\x02\x08\x7f", partial(10, "")},
		{"negative", proto, "\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ok},
		{"warning", proto, "\x0a\x06\x12\x04slow", partial(0, "slow")},
		{"unknown fields", proto, "\x10\x01\x1a\x01x", ok},
		{"control characters", proto, "\x0a\x07\x12\x05a\x1b[0m", partial(0, `a\x1b[0m`)},
		{"octets", "application/octet-stream", "\x0a\x02\x08\x03", partial(3, "")},
		{"no type", "", "\x0a\x02\x08\x03", partial(3, "")},
		{"json", js, "{}", ok},
		{"json string number", js, `{"partialSuccess":{"rejectedLogRecords":"4","errorMessage":"x"}}`, partial(4, "x")},
		{"json number", js, ` {"partial_success":{"rejected_spans":4}}`, partial(4, "")},
		{"json null", js, `{"partialSuccess":null}`, ok},
		{"json of others", js, `{"status":"success"}`, ok},
		{"json as text", "text/plain", `{}`, ok},
		{"a login page", "text/html; charset=utf-8", "<!DOCTYPE html><html>", wrong},
		{"html without a type", "", "<!DOCTYPE html><html>", wrong},
		{"text", "text/plain", "OK", wrong},
		{"json list", js, "[]", wrong},
		{"json cut", js, `{"partialSuccess":`, wrong},
		{"json nonsense", js, `{"partialSuccess":{"rejectedSpans":"many"}}`, wrong},
		{"garbage", proto, "\xff\xff\xff\xff", wrong},
		{"cut", proto, "\x0a\x09\x08", wrong},
	} {
		b.reply(says(200, c.media, c.body))
		check(t, c.what, send(t, e, request([]byte("x"))), c.want)
	}
}

// Fault: B12.
func TestAnAnswerIsReadInPartOnly(t *testing.T) {
	b := newBackend(t, false)
	e := start(t, b.URL, nil)
	endless := func(code int, media string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", media)
			w.WriteHeader(code)
			block := make([]byte, 64<<10)
			for i := 0; ; i++ {
				if _, err := w.Write(block); err != nil {
					return
				}
				if i > 1000 {
					t.Error("64 MiB were read")
					return
				}
			}
		}
	}
	b.reply(endless(200, "application/x-protobuf"))
	check(t, "endless success", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Misconfigured})
	b.reply(endless(503, "text/plain"))
	check(t, "endless refusal", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	b.reply(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		block := make([]byte, 1<<20)
		for range 256 { // 256 KiB on the wire
			if _, err := z.Write(block); err != nil {
				return
			}
		}
		_ = z.Close()
	})
	check(t, "bomb", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Misconfigured})
	b.reply(says(400, "text/plain", strings.Repeat("\x1b", 5000)))
	v := send(t, e, request([]byte("x")))
	check(t, "long text", v, exporter.Verdict{Kind: exporter.Rejected})
	if text := v.Err.Error(); len(text) > 1500 || strings.Contains(text, "\x1b") {
		t.Errorf("%d bytes of it are kept", len(text))
	}
}

func TestTheBackendsReasonIsShown(t *testing.T) {
	b := newBackend(t, false)
	e := start(t, b.URL, nil)
	for _, c := range []struct{ media, body, want string }{
		{"application/x-protobuf", "\x08\x03\x12\x09bad spans", "bad spans"},
		{"application/json", `{"code":3,"message":"bad json"}`, "bad json"},
		{"text/plain", "bad text\n", "bad text"},
		{"", "", "no reason given"},
	} {
		b.reply(says(400, c.media, c.body))
		if v := send(t, e, request([]byte("x"))); v.Err == nil || !strings.HasSuffix(v.Err.Error(), c.want) {
			t.Errorf("%q: %v", c.want, v.Err)
		}
	}
}

// Fault: B12.
func TestRedirectsAreNotFollowed(t *testing.T) {
	b, other := newBackend(t, false), newBackend(t, false)
	e := start(t, b.URL, nil)
	for _, code := range []int{301, 302, 307, 308} {
		b.reply(status(code, "Location", other.URL+"/v1/traces"))
		check(t, http.StatusText(code), send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Misconfigured})
	}
	select {
	case <-other.requests:
		t.Error("a redirect was followed")
	default:
	}
}

// Fault: B1, B14.
func TestWhatNeverLeftIsRetried(t *testing.T) {
	refused := func() string {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lis.Close() }()
		return "http://" + lis.Addr().String()
	}()
	retry := exporter.Verdict{Kind: exporter.Retry}
	began := time.Now()
	check(t, "refused", send(t, start(t, refused, nil), request([]byte("x"))), retry)
	check(t, "no such name", send(t, start(t, "http://holdfast.invalid:4318", nil), request([]byte("x"))), retry)
	check(t, "plaintext where TLS is due", send(t, start(t, strings.Replace(newBackend(t, false).URL, "http:", "https:", 1), nil),
		request([]byte("x"))), retry)
	if took := time.Since(began); took > limit/2 {
		t.Errorf("it took %v to find out", took)
	}
}

// Fault: B4.
func TestWhatMayHaveLeftIsAmbiguous(t *testing.T) {
	ambiguous := exporter.Verdict{Kind: exporter.Ambiguous}
	readAll := func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}
	check(t, "reset after reading all", send(t, start(t, acceptor(t, func(c net.Conn) { readAll(c); reset(c) }), nil),
		request([]byte("x"))), ambiguous)
	check(t, "closed after reading all", send(t, start(t, acceptor(t, func(c net.Conn) { readAll(c); _ = c.Close() }), nil),
		request([]byte("x"))), ambiguous)
	check(t, "no HTTP", send(t, start(t, acceptor(t, func(c net.Conn) { readAll(c); _, _ = c.Write([]byte("hello\r\n\r\n")); _ = c.Close() }), nil),
		request([]byte("x"))), ambiguous)
	check(t, "success cut short", send(t, start(t, acceptor(t, func(c net.Conn) {
		readAll(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\x0a")
		_ = c.Close()
	}), nil), request([]byte("x"))), ambiguous)
	check(t, "refusal cut short", send(t, start(t, acceptor(t, func(c net.Conn) {
		readAll(c)
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\nno")
		_ = c.Close()
	}), nil), request([]byte("x"))), exporter.Verdict{Kind: exporter.Rejected})
}

// Fault: B3, B5.
func TestTheExportersTimeoutEndsASend(t *testing.T) {
	hold := make(chan struct{})
	silent := acceptor(t, func(net.Conn) { <-hold })
	t.Cleanup(func() { close(hold) })
	e := start(t, silent, func(c *otlphttp.Config) { c.Client.Timeout = 50 * time.Millisecond })
	v := send(t, e, request([]byte("x")))
	check(t, "silent", v, exporter.Verdict{Kind: exporter.Ambiguous})
	if !errors.Is(v.Err, context.DeadlineExceeded) {
		t.Errorf("error %v", v.Err)
	}
	tls := start(t, strings.Replace(silent, "http:", "https:", 1), func(c *otlphttp.Config) { c.Client.Timeout = 50 * time.Millisecond })
	check(t, "silent in the handshake", send(t, tls, request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v = e.Send(ctx, request([]byte("x")))
	check(t, "cancelled before", v, exporter.Verdict{Kind: exporter.Retry})
	if !errors.Is(v.Err, context.Canceled) {
		t.Errorf("error %v", v.Err)
	}
}

func TestABackendThatComesBackIsReachedAtOnce(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	_ = lis.Close()
	e := start(t, "http://"+addr, nil)
	check(t, "away", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	if lis, err = net.Listen("tcp", addr); err != nil {
		t.Skip("the port is taken by now")
	}
	s := &http.Server{Handler: status(200), ReadHeaderTimeout: limit}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(lis) }()
	check(t, "back", send(t, e, request([]byte("x"))), exporter.Deliver())
	_ = s.Close()
	<-done
}

func TestNoErrorHoldsACredential(t *testing.T) {
	const canary = "c4n4ry"
	b := newBackend(t, false)
	host := strings.TrimPrefix(b.URL, "http://")
	for _, url := range []string{"http://user:" + canary + "@" + host + "/?key=" + canary, "http://u:" + canary + "@127.0.0.1:1/?key=" + canary} {
		e := start(t, url, func(c *otlphttp.Config) {
			c.Client.Headers = configopaque.MapList{{Name: "authorization", Value: "Bearer " + canary}}
		})
		for _, answer := range []http.HandlerFunc{status(401), status(503), status(302, "Location", "/x"), says(200, "text/html", "<p>")} {
			b.reply(answer)
			v := send(t, e, request([]byte("x")))
			if v.Err == nil || strings.Contains(v.Err.Error(), canary) {
				t.Errorf("error %v", v.Err)
			}
		}
	}
	cfg := otlphttp.Default()
	cfg.Client.Endpoint = "http://user:" + canary + "@host:%%/"
	if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
}
