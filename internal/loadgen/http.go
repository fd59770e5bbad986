// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// httpSender sends over connections of its own, one per request in flight.
type httpSender struct {
	packer
	base    string
	client  *http.Client
	headers [][2]string
}

func newHTTPSender(u *url.URL, tlsConfig *tls.Config, p packer, o *Options) *httpSender {
	t := &http.Transport{
		TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableCompression: true,
		MaxIdleConnsPerHost: o.Inflight, MaxConnsPerHost: o.Inflight, IdleConnTimeout: time.Minute,
		WriteBufferSize: 64 << 10,
	}
	if o.Dial != nil {
		t.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return o.Dial(ctx, addr) }
	}
	return &httpSender{packer: p, base: strings.TrimSuffix(u.String(), "/"), headers: o.Headers, client: &http.Client{
		Transport: t,
		// A redirect is an answer, and not one that acknowledges.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (s *httpSender) contentType() string {
	if s.json {
		return "application/json"
	}
	return "application/x-protobuf"
}

// Send implements sender.
func (s *httpSender) Send(ctx context.Context, signal item.Signal, sent []byte) answer {
	var began atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { began.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/"+signal.String(), bytes.NewReader(sent))
	if err != nil {
		return unsent("-", err)
	}
	req.Header.Set("Content-Type", s.contentType())
	if s.compression != "" {
		req.Header.Set("Content-Encoding", s.compression)
	}
	for _, h := range s.headers {
		req.Header.Set(h[0], h[1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		code := "-"
		if errors.Is(err, context.DeadlineExceeded) {
			code = "TIMEOUT"
		}
		if !began.Load() {
			return unsent(code, err)
		}
		return answer{Result: ledger.Result{State: ledger.Unknown, Code: code, Text: err.Error()}}
	}
	defer resp.Body.Close() // read to its end below
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return s.read(resp, text, err)
}

func (s *httpSender) read(resp *http.Response, text []byte, err error) answer {
	code := strconv.Itoa(resp.StatusCode)
	out := answer{Result: ledger.Result{State: ledger.Unknown, Code: code}}
	switch {
	case err != nil:
		out.Text = fmt.Sprintf("answer broke off: %v", err)
		return out
	case resp.StatusCode == http.StatusOK:
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if len(text) > 0 && kind != s.contentType() {
			out.Text = fmt.Sprintf("success of type %q is no OTLP answer", kind)
			return out
		}
		return success(code, s.json, text)
	}
	out.Text = string(text[:min(len(text), 1<<10)])
	out.retryAfter = retryAfter(resp.Header.Get("Retry-After"))
	switch resp.StatusCode {
	case 400, 401, 403, 404, 405, 413, 415:
		out.State, out.final = ledger.Refused, true
	}
	return out
}

// retryAfter reads the header: seconds or a date.
func retryAfter(text string) time.Duration {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// Close implements sender.
func (s *httpSender) Close() { s.client.CloseIdleConnections() }
