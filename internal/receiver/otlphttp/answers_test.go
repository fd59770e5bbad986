// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

func TestEverySignalIsTakenInBothForms(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	for _, s := range otlp.Signals {
		wire, text := receivertest.Request(s, 7, 20)
		for contentType, body := range map[string][]byte{
			protobufType: wire, jsonType: text, "application/json; charset=utf-8": text,
		} {
			a := r.mustPost(paths[s], body, "Content-Type", contentType)
			wantBody, wantType := "", protobufType
			if contentType != protobufType {
				wantBody, wantType = "{}", jsonType
			}
			if a.status != http.StatusOK || string(a.body) != wantBody || a.header.Get("Content-Type") != wantType {
				t.Errorf("%s as %s: %d, %q, %v", s, contentType, a.status, a.body, a.header)
			}
			p := r.Sink.Payloads()[len(r.Sink.Payloads())-1]
			if p.Signal != s || p.Encoding != otlp.Identity || p.Items != 7 || int(p.Size) != len(wire) || !bytes.Equal(p.Body, wire) {
				t.Errorf("%s as %s: payload of %s, %s, %d items, %d bytes", s, contentType, p.Signal, p.Encoding, p.Items, p.Size)
			}
		}
		r.WantValue(21, "otelcol_receiver_accepted_"+s.ItemName(), "receiver", "otlp", "transport", "http")
	}
	r.WantValue(12, "otelcol_receiver_requests", "transport", "http", "outcome", "success")
}

func TestEveryEncodingIsUnderstoodAndKeptWhereItCanTravelOn(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	wire, text := receivertest.Request(otlp.Traces, 300, 50)
	for _, name := range []string{"gzip", "zstd", "snappy", "x-snappy-framed", "deflate", "zlib", "identity", "GZIP"} {
		for contentType, body := range map[string][]byte{protobufType: wire, jsonType: text} {
			sent := body
			if name != "identity" {
				sent = encoded(t, strings.ToLower(name), body)
			}
			a := r.mustPost(traces, sent, "Content-Type", contentType, "Content-Encoding", name)
			if a.status != http.StatusOK {
				t.Errorf("%s, %s: %d, %q", name, contentType, a.status, a.body)
				continue
			}
			p := r.Sink.Payloads()[len(r.Sink.Payloads())-1]
			want, wantBody := otlp.Identity, wire
			if contentType == protobufType && (name == "gzip" || name == "GZIP") {
				want, wantBody = otlp.Gzip, sent
			} else if contentType == protobufType && name == "zstd" {
				want, wantBody = otlp.Zstd, sent
			}
			if p.Encoding != want || !bytes.Equal(p.Body, wantBody) || int(p.Size) != len(wire) || p.Items != 300 {
				t.Errorf("%s, %s: %s, %d bytes for %d, %d items", name, contentType, p.Encoding, len(p.Body), p.Size, p.Items)
			}
		}
	}
}

func TestABodyOfUnknownLengthIsTaken(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	wire, _ := receivertest.Request(otlp.Traces, 3000, 500)
	a, err := r.post(traces, io.MultiReader(bytes.NewReader(wire)), "Content-Type", protobufType)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("%d, %v", a.status, err)
	}
	if p := r.Sink.Payloads()[0]; !bytes.Equal(p.Body, wire) {
		t.Errorf("%d bytes of %d", len(p.Body), len(wire))
	}
}

func TestAnEmptyRequestIsAnsweredAndNotHandedOn(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	for name, c := range map[string]struct {
		contentType string
		body        string
	}{
		"no bytes": {protobufType, ""}, "no items": {protobufType, "\x0a\x00"}, "no items in JSON": {jsonType, "{}"},
		"no items in JSON, with space": {jsonType, " {\"resourceSpans\":[]} \n"},
	} {
		if a := r.mustPost(traces, []byte(c.body), "Content-Type", c.contentType); a.status != http.StatusOK {
			t.Errorf("%s: %d, %q", name, a.status, a.body)
		}
	}
	if n := len(r.Sink.Payloads()); n != 0 {
		t.Errorf("%d payloads", n)
	}
}

func TestFinalRefusalsAreFinal(t *testing.T) {
	good, text := receivertest.Request(otlp.Traces, 10, 20)
	deepJSON := []byte(`{"resourceSpans":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `}`)
	const limit = 1 << 20
	for name, c := range map[string]struct {
		contentType, encoding string
		body                  []byte
		status                int
		reason                string
		text                  string // must be in the answer
	}{
		"malformed bytes":        {protobufType, "", []byte{0x0a, 0x05, 0x01}, 400, "malformed", "at byte"},
		"gzip that is none":      {protobufType, "gzip", good, 400, "malformed", "gzip"},
		"zstd that is none":      {protobufType, "zstd", good, 400, "malformed", "zstd"},
		"snappy that is none":    {protobufType, "snappy", []byte{0xff, 0xff, 0xff}, 400, "malformed", "snappy"},
		"deflate that is none":   {protobufType, "deflate", good, 400, "malformed", "zlib"},
		"gzip without bytes":     {protobufType, "gzip", nil, 400, "malformed", "truncated"},
		"gzip cut off":           {protobufType, "gzip", encoded(t, "gzip", good)[:40], 400, "malformed", "truncated"},
		"bytes behind gzip":      {jsonType, "gzip", append(encoded(t, "gzip", text), "tail"...), 400, "malformed", "after the last member"},
		"bad JSON":               {jsonType, "", []byte(`{"resourceSpans":[{]}`), 400, "malformed", "json at byte 19: unexpected end"},
		"a syntax error":         {jsonType, "", []byte(`{"resourceSpans":[,]}`), 400, "malformed", "json at byte 18: syntax error"},
		"JSON of something else": {jsonType, "", []byte(`{"resourceSpans":"secret"}`), 400, "malformed", "no export request of traces"},
		"JSON cut off":           {jsonType, "", text[:len(text)/2], 400, "malformed", "truncated"},
		"JSON without bytes":     {jsonType, "", nil, 400, "malformed", "truncated"},
		"bytes behind JSON":      {jsonType, "", []byte(`{} {}`), 400, "malformed", "json at byte 3: bytes after the end"},
		"no object":              {jsonType, "", []byte(`17`), 400, "malformed", "an object is expected"},
		"bad IDs":                {jsonType, "", []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}`), 400, "malformed", "no export request"},
		"depth of JSON":          {jsonType, "", deepJSON, 400, "depth", "nested deeper than 100"},
		"depth":                  {protobufType, "", deep(101), 400, "depth", "deep"},
		"too large on the wire":  {protobufType, "", bytes.Repeat([]byte{0x12, 0x00}, limit/2+1), 413, "too_large", "larger than max"},
		"too large decoded":      {protobufType, "gzip", encoded(t, "gzip", make([]byte, 64<<20)), 413, "too_large", "larger than max"},
		"too large in JSON":      {jsonType, "zstd", encoded(t, "zstd", make([]byte, 64<<20)), 413, "too_large", "larger than max"},
		"an encoding unknown":    {protobufType, "br", good, 415, "encoding", "content encoding"},
		"two encodings":          {protobufType, "gzip, gzip", good, 415, "encoding", "content encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, &receivertest.Sink{}, options{cfg: func(c *otlphttp.Config) { c.ServerConfig.MaxRequestBodySize = limit }})
			headers := []string{"Content-Type", c.contentType}
			if c.encoding != "" {
				headers = append(headers, "Content-Encoding", c.encoding)
			}
			text, _ := r.wantError(r.mustPost(traces, c.body, headers...), c.status, c.contentType)
			if !strings.Contains(text, c.text) || strings.Contains(text, "secret") {
				t.Errorf("%q does not say %q", text, c.text)
			}
			r.WantValue(1, "holdfast_door_refused_total", "receiver", "otlp", "reason", c.reason)
			r.WantValue(1, "otelcol_receiver_refused_spans", "transport", "http")
			r.WantValue(1, "otelcol_receiver_requests", "transport", "http", "outcome", "refused")
			if n := len(r.Sink.Payloads()); n != 0 {
				t.Errorf("%d payloads were handed on", n)
			}
			if a := r.mustPost(traces, good, "Content-Type", protobufType); a.status != http.StatusOK {
				t.Errorf("a good request afterwards: %d", a.status)
			}
		})
	}
}

// deep is a span whose attribute has a value nested n times.
func deep(n int) []byte {
	wrap := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	value := wrap(1, []byte("x"))
	for range n - 1 {
		value = wrap(5, wrap(1, value))
	}
	return wrap(1, wrap(2, wrap(2, wrap(9, append(wrap(1, []byte("k")), wrap(2, value)...)))))
}

func TestTooManyItemsAreRefusedForGood(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	wrap := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	body := wrap(1, wrap(2, bytes.Repeat([]byte{0x12, 0x00}, 1_000_001)))
	a := r.mustPost(traces, encoded(t, "gzip", body), "Content-Type", protobufType, "Content-Encoding", "gzip")
	r.wantError(a, http.StatusRequestEntityTooLarge, protobufType)
	r.WantValue(1, "holdfast_door_refused_total", "reason", "items")
}

func TestABodyOfUnknownLengthIsCutAtTheLimit(t *testing.T) {
	const limit = 1 << 20
	r := start(t, &receivertest.Sink{}, options{cfg: func(c *otlphttp.Config) { c.ServerConfig.MaxRequestBodySize = limit }})
	for _, size := range []int{limit, limit + 1, 8 << 20} {
		// A string field of the request itself, unknown to the schema: valid at any length.
		body := protowire.AppendTag(nil, 100, protowire.BytesType)
		body = protowire.AppendBytes(body, make([]byte, size-5))
		body = append(body[:2], body[2:]...)
		a, err := r.post(traces, io.MultiReader(bytes.NewReader(body[:size])), "Content-Type", protobufType)
		switch {
		case size <= limit && (err != nil || a.status == http.StatusRequestEntityTooLarge):
			t.Errorf("%d bytes: %d, %v", size, a.status, err)
		case size > limit && err == nil:
			r.wantError(a, http.StatusRequestEntityTooLarge, protobufType)
		}
	}
}

func TestPathsMethodsAndContentTypes(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{
		cfg:      func(c *otlphttp.Config) { c.TracesURLPath = "custom/traces" },
		settings: func(s *receiver.Settings) { delete(s.Sinks, otlp.Logs) },
	})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	if a := r.mustPost("/custom/traces", wire, "Content-Type", protobufType); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
	for _, path := range []string{"/v1/traces", "/v1/logs", "/", "/v1/metrics/"} {
		r.wantError(r.mustPost(path, wire, "Content-Type", protobufType), http.StatusNotFound, protobufType)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+r.Address().String()+"/v1/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.do(req)
	if err != nil {
		t.Fatal(err)
	}
	r.wantError(a, http.StatusMethodNotAllowed, jsonType)
	if a.header.Get("Allow") != http.MethodPost {
		t.Errorf("%v", a.header)
	}
	for _, contentType := range []string{"", "text/plain", "application/x-protobuf/x", "application/grpc"} {
		a := r.mustPost("/v1/metrics", wire, "Content-Type", contentType)
		r.wantError(a, http.StatusUnsupportedMediaType, jsonType)
	}
	r.WantValue(4, "holdfast_door_refused_total", "reason", "content_type")
}

func TestOnlyEnabledEncodingsAreTaken(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{cfg: func(c *otlphttp.Config) { c.ServerConfig.CompressionAlgorithms = []string{"zstd"} }})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	a := r.mustPost(traces, encoded(t, "gzip", wire), "Content-Type", protobufType, "Content-Encoding", "gzip")
	r.wantError(a, http.StatusUnsupportedMediaType, protobufType)
	a = r.mustPost(traces, encoded(t, "zstd", wire), "Content-Type", protobufType, "Content-Encoding", "zstd")
	if a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
}

func TestRefusalsOfTheSinkComeThrough(t *testing.T) {
	for name, c := range map[string]struct {
		refusal receiver.Refusal
		status  int
	}{
		"queue full":            {receiver.Refusal{Code: receiver.Unavailable, Reason: "queue_full", After: 6500 * time.Millisecond, Text: "full"}, 503},
		"disk":                  {receiver.Refusal{Code: receiver.Unavailable, Reason: "disk", After: 30 * time.Second, Text: "no space"}, 503},
		"rejected by a backend": {receiver.Refusal{Code: receiver.Denied, Reason: "malformed", Text: "the backend's text"}, 400},
	} {
		sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
			ref := c.refusal
			return receiver.Result{}, &ref
		}}
		r := start(t, sink, options{})
		wire, jsonText := receivertest.Request(otlp.Traces, 5, 5)
		for contentType, body := range map[string][]byte{protobufType: wire, jsonType: jsonText} {
			text, after := r.wantError(r.mustPost(traces, body, "Content-Type", contentType), c.status, contentType)
			if text != c.refusal.Text || after != c.refusal.After {
				t.Errorf("%s: %q after %s", name, text, after)
			}
		}
		r.WantValue(10, "otelcol_receiver_refused_spans", "transport", "http")
		r.WantValue(2, "holdfast_door_refused_total", "reason", c.refusal.Reason)
	}
}

func TestErrorsAndPanicsOfOursAreRetryable(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("a bug with details") },
		"panic": func() error { panic("a bug with details") },
	} {
		sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
			return receiver.Result{}, fail()
		}}
		o, logs := logged(options{})
		r := start(t, sink, o)
		wire, _ := receivertest.Request(otlp.Traces, 5, 5)
		for range 2 {
			text, _ := r.wantError(r.mustPost(traces, wire, "Content-Type", protobufType), 503, protobufType)
			if strings.Contains(text, "details") {
				t.Errorf("%s: %q", name, text)
			}
		}
		r.WantValue(10, "otelcol_receiver_failed_spans", "transport", "http")
		r.WantValue(2, "otelcol_receiver_requests", "transport", "http", "outcome", "failure")
		stacks := 0
		for _, line := range logs.All() {
			if _, ok := line.ContextMap()["stack"]; ok {
				stacks++
			}
		}
		if want := map[string]int{"error": 0, "panic": 1}[name]; stacks != want {
			t.Errorf("%s: %d stacks in the log", name, stacks)
		}
	}
}

func TestAPartialSuccessIsPassedOn(t *testing.T) {
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		return receiver.Result{Rejected: 3, Message: "three were too old"}, nil
	}}
	r := start(t, sink, options{})
	wire, text := receivertest.Request(otlp.Traces, 5, 5)
	for contentType, body := range map[string][]byte{protobufType: wire, jsonType: text} {
		a := r.mustPost(traces, body, "Content-Type", contentType)
		m := ptraceotlp.NewExportResponse()
		err := m.UnmarshalProto(a.body)
		if contentType == jsonType {
			err = m.UnmarshalJSON(a.body)
		}
		if p := m.PartialSuccess(); err != nil || p.RejectedSpans() != 3 || p.ErrorMessage() != "three were too old" {
			t.Errorf("%s: %q, %v", contentType, a.body, err)
		}
	}
}

// counting counts what is read of it.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestWithoutMemoryARequestIsRefusedBeforeItsBody(t *testing.T) {
	sink := &receivertest.Sink{Gate: admission.New(32 << 20)}
	r := start(t, sink, options{})
	all, err := sink.Gate.Admit(32 << 20)
	if err != nil {
		t.Fatal(err)
	}
	r.client.Transport.(*http.Transport).ExpectContinueTimeout = patience
	body := &counting{r: io.LimitReader(zeros{}, 64<<20)}
	for _, expect := range []string{"100-continue", ""} {
		a, err := r.post(traces, body, "Content-Type", protobufType, "Expect", expect)
		if err != nil {
			t.Fatalf("expect %q: %v", expect, err)
		}
		if _, after := r.wantError(a, http.StatusServiceUnavailable, protobufType); after > 3*time.Second {
			t.Errorf("come back after %s", after)
		}
		if expect != "" && body.n > 64<<10 {
			t.Errorf("%d bytes of the body were sent", body.n)
		}
	}
	r.WantValue(2, "holdfast_door_refused_total", "reason", "admission")
	all.Release()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHeadersAboveTheirLimitsAreRefused(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	wire, _ := receivertest.Request(otlp.Traces, 1, 1)
	headers := []string{"Content-Type", protobufType}
	for i := range 100 {
		headers = append(headers, fmt.Sprint("X-", i), "v")
	}
	r.wantError(r.mustPost(traces, wire, headers...), http.StatusRequestHeaderFieldsTooLarge, protobufType)
	// The server closes without reading on, so that the end of its answer may be lost.
	a, err := r.post(traces, bytes.NewReader(wire), "Content-Type", protobufType, "X-Long", strings.Repeat("l", 24<<10))
	if a.status != http.StatusRequestHeaderFieldsTooLarge && err == nil {
		t.Errorf("24 KiB: %d, %v", a.status, err)
	}
}

// guard is an authenticator that knows one token.
type guard struct {
	component.StartFunc
	component.ShutdownFunc
	extensionauth.Server
}

// rpcError looks like a status of gRPC.
type rpcError struct{ code, text string }

func (e rpcError) Error() string { return "rpc error: code = " + e.code + " desc = " + e.text }

func newGuard() guard {
	return guard{Server: extensionauth.ServerAuthenticateFunc(func(ctx context.Context, h map[string][]string) (context.Context, error) {
		token := ""
		for _, name := range []string{"Authorization", "token"} {
			if v := h[name]; len(v) > 0 {
				token = v[0]
			}
		}
		switch token {
		case "good":
			return ctx, nil
		case "known":
			return ctx, rpcError{"PermissionDenied", "token known may not write"}
		case "down":
			return ctx, rpcError{"Unavailable", "identity provider at 10.0.0.1 is down"}
		}
		return ctx, errors.New("wrong token " + token)
	})}
}

func TestCredentialsAreCheckedBeforeTheBodyIsRead(t *testing.T) {
	asked := 0
	sink := &receivertest.Sink{AdmitErr: func() error { asked++; return nil }}
	r := start(t, sink, options{
		cfg: func(c *otlphttp.Config) {
			auth := confighttp.AuthConfig{RequestParameters: []string{"token"}}
			auth.Config = configauth.Config{AuthenticatorID: component.MustNewID("guard")}
			c.ServerConfig.Auth = configoptional.Some(auth)
		},
		host: host{component.MustNewID("guard"): newGuard()},
	})
	wire, _ := receivertest.Request(otlp.Traces, 5, 5)
	for token, status := range map[string]int{"": 401, "secret": 401, "known": 403, "down": 503} {
		for _, path := range []string{traces, "/unknown"} {
			text, _ := r.wantError(r.mustPost(path, wire, "Content-Type", protobufType, "Authorization", token), status, protobufType)
			if strings.Contains(text, "secret") || strings.Contains(text, "10.0.0.1") || strings.Contains(text, "token") {
				t.Errorf("%q tells what the authenticator said", text)
			}
		}
	}
	if asked != 0 {
		t.Errorf("%d requests without credentials asked for memory", asked)
	}
	if a := r.mustPost(traces, wire, "Content-Type", protobufType, "Authorization", "good"); a.status != 200 {
		t.Errorf("with credentials: %d", a.status)
	}
	if a := r.mustPost(traces+"?token=good", wire, "Content-Type", protobufType); a.status != 200 {
		t.Errorf("with a parameter: %d", a.status)
	}
}

func TestEveryCounterExistsBeforeItCounts(t *testing.T) {
	r := prepare(t, &receivertest.Sink{}, options{})
	for _, s := range otlp.Signals {
		for _, what := range []string{"accepted", "refused", "failed"} {
			r.WantValue(0, "otelcol_receiver_"+what+"_"+s.ItemName(), "receiver", "otlp", "transport", "http")
		}
	}
	for _, outcome := range []string{"success", "refused", "failure"} {
		r.WantValue(0, "otelcol_receiver_requests", "receiver", "otlp", "transport", "http", "outcome", outcome)
	}
	for _, reason := range receiver.Reasons {
		r.WantValue(0, "holdfast_door_refused_total", "receiver", "otlp", "reason", reason)
	}
}
