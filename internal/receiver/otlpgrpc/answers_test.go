// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

func TestEverySignalIsTakenWithItsItemsCounted(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	cc := r.dial("")
	for _, s := range otlp.Signals {
		body, _ := receivertest.Request(s, 7, 20)
		answer, err := send(cc, methods[s], body)
		if err != nil || len(answer) != 0 {
			t.Errorf("%s: %x, %v", s, answer, err)
		}
		r.WantValue(7, "otelcol_receiver_accepted_"+s.ItemName(), "receiver", "otlp", "transport", "grpc")
		p := r.Sink.Payloads()[len(r.Sink.Payloads())-1]
		if p.Signal != s || p.Encoding != otlp.Identity || p.Items != 7 || int(p.Size) != len(body) || !bytes.Equal(p.Body, body) {
			t.Errorf("%s: payload of %s, %s, %d items, %d bytes", s, p.Signal, p.Encoding, p.Items, p.Size)
		}
	}
	r.WantValue(4, "otelcol_receiver_requests", "transport", "grpc", "outcome", "success")
}

func TestThePublishedClientIsUnderstood(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	cc, err := grpc.NewClient(r.Address().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	request := ptraceotlp.NewExportRequestFromTraces(receivertest.Traces(100, 50))
	for _, opts := range [][]grpc.CallOption{nil, {grpc.UseCompressor("gzip")}, {grpc.UseCompressor("zstd")}, {grpc.UseCompressor("snappy")}} {
		answer, err := ptraceotlp.NewGRPCClient(cc).Export(t.Context(), request, opts...)
		if err != nil || answer.PartialSuccess().RejectedSpans() != 0 {
			t.Errorf("%v: %v", opts, err)
		}
	}
	if got := len(r.Sink.Payloads()); got != 4 {
		t.Errorf("%d payloads", got)
	}
}

func TestCompressionIsKeptWhereItCanTravelOn(t *testing.T) {
	body, _ := receivertest.Request(otlp.Traces, 512, 200)
	for name, want := range map[string]otlp.Encoding{"gzip": otlp.Gzip, "zstd": otlp.Zstd, "snappy": otlp.Identity} {
		r := start(t, &receivertest.Sink{}, options{})
		wire := encoded(t, name, body)
		if _, err := send(r.dial(name), export, wire); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := r.Sink.Payloads()[0]
		if p.Encoding != want || p.Items != 512 || int(p.Size) != len(body) {
			t.Errorf("%s: %s, %d items, %d bytes", name, p.Encoding, p.Items, p.Size)
		}
		if kept := want != otlp.Identity; kept && !bytes.Equal(p.Body, wire) || !kept && !bytes.Equal(p.Body, body) {
			t.Errorf("%s: %d bytes arrived", name, len(p.Body))
		}
	}
}

func TestAnEmptyRequestIsAnsweredAndNotHandedOn(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	empties := map[string][]byte{"no bytes": {}, "a resource without items": {0x0a, 0x00}}
	for name, body := range empties {
		if answer, err := send(r.dial(""), export, body); err != nil || len(answer) != 0 {
			t.Errorf("%s: %x, %v", name, answer, err)
		}
	}
	if _, err := send(r.dial("gzip"), export, encoded(t, "gzip", []byte{0x0a, 0x00})); err != nil {
		t.Errorf("compressed: %v", err)
	}
	if n := len(r.Sink.Payloads()); n != 0 {
		t.Errorf("%d payloads", n)
	}
	r.WantValue(3, "otelcol_receiver_requests", "outcome", "success", "transport", "grpc")
}

// deep is a span whose attribute has a value nested n times.
func deep(n int) []byte {
	value := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "x")
	for range n - 1 {
		list := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), value)
		value = protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), list)
	}
	wrap := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	attribute := append(wrap(1, []byte("k")), wrap(2, value)...)
	return wrap(1, wrap(2, wrap(2, wrap(9, attribute))))
}

// spans is a request of n empty spans.
func spans(n int) []byte {
	scope := bytes.Repeat([]byte{0x12, 0x00}, n)
	wrap := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	return wrap(1, wrap(2, scope))
}

func TestFinalRefusalsAreFinal(t *testing.T) {
	good, _ := receivertest.Request(otlp.Traces, 10, 20)
	for name, c := range map[string]struct {
		compression string
		body        []byte
		code        codes.Code
		reason      string
		text        string // must be in the answer
	}{
		"malformed bytes":             {"", []byte{0x0a, 0x05, 0x01}, codes.InvalidArgument, "malformed", "at byte"},
		"gzip that is none":           {"gzip", good, codes.InvalidArgument, "malformed", "gzip"},
		"zstd that is none":           {"zstd", good, codes.InvalidArgument, "malformed", "zstd"},
		"snappy that is none":         {"snappy", []byte{0xff, 0xff, 0xff}, codes.InvalidArgument, "malformed", "snappy"},
		"gzip cut off":                {"gzip", encoded(t, "gzip", good)[:40], codes.InvalidArgument, "malformed", "truncated"},
		"bytes behind gzip":           {"gzip", append(encoded(t, "gzip", good), "tail"...), codes.InvalidArgument, "malformed", "after the last member"},
		"malformed bytes in gzip":     {"gzip", encoded(t, "gzip", []byte{0x0a, 0x05, 0x01}), codes.InvalidArgument, "malformed", "at byte"},
		"depth":                       {"", deep(101), codes.InvalidArgument, "depth", "deep"},
		"depth without end":           {"gzip", encoded(t, "gzip", deep(20_000)), codes.InvalidArgument, "depth", "deep"},
		"too large on the wire":       {"", bytes.Repeat([]byte{0x12, 0x00}, 1<<19+1), codes.ResourceExhausted, "too_large", "larger than max"},
		"too large decoded from gzip": {"gzip", encoded(t, "gzip", make([]byte, 64<<20)), codes.ResourceExhausted, "too_large", "larger than max"},
		"too large decoded from zstd": {"zstd", encoded(t, "zstd", make([]byte, 64<<20)), codes.ResourceExhausted, "too_large", "larger than max"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, &receivertest.Sink{}, options{cfg: func(c *configgrpc.ServerConfig) { c.MaxRecvMsgSizeMiB = 1 }})
			_, err := send(r.dial(c.compression), export, c.body)
			wantCode(t, err, c.code)
			if !strings.Contains(status.Convert(err).Message(), c.text) {
				t.Errorf("%v does not say %q", err, c.text)
			}
			r.WantValue(1, "holdfast_door_refused_total", "receiver", "otlp", "reason", c.reason)
			r.WantValue(1, "otelcol_receiver_refused_spans", "transport", "grpc")
			r.WantValue(1, "otelcol_receiver_requests", "transport", "grpc", "outcome", "refused")
			if n := len(r.Sink.Payloads()); n != 0 {
				t.Errorf("%d payloads were handed on", n)
			}
			if _, err := send(r.dial(""), export, good); err != nil {
				t.Errorf("a good request afterwards: %v", err)
			}
		})
	}
}

func TestTooManyItemsAreRefusedForGood(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{})
	_, err := send(r.dial("gzip"), export, encoded(t, "gzip", spans(1_000_001)))
	wantCode(t, err, codes.ResourceExhausted)
	r.WantValue(1, "holdfast_door_refused_total", "reason", "items")
	if _, err := send(r.dial("gzip"), export, encoded(t, "gzip", spans(1_000_000))); err != nil {
		t.Errorf("a million: %v", err)
	}
}

func TestWhatIsNotServedIsUnimplemented(t *testing.T) {
	r := start(t, &receivertest.Sink{}, options{settings: func(s *receiver.Settings) { delete(s.Sinks, otlp.Logs) }})
	body, _ := receivertest.Request(otlp.Logs, 1, 1)
	_, err := send(r.dial(""), methods[otlp.Logs], body)
	wantCode(t, err, codes.Unimplemented)
	_, err = send(r.dial(""), "/opentelemetry.proto.collector.trace.v1.TraceService/Import", body)
	wantCode(t, err, codes.Unimplemented)
	_, err = send(r.dial("br"), export, body)
	wantCode(t, err, codes.Unimplemented)
	if r.Value("otelcol_receiver_accepted_log_records", "transport", "grpc") != -1 {
		t.Error("a signal without a sink has a counter")
	}
}

func TestRefusalsOfTheSinkComeThrough(t *testing.T) {
	for name, c := range map[string]struct {
		refusal receiver.Refusal
		code    codes.Code
	}{
		"queue full":            {receiver.Refusal{Code: receiver.Unavailable, Reason: "queue_full", After: 7 * time.Second, Text: "full"}, codes.Unavailable},
		"disk":                  {receiver.Refusal{Code: receiver.Unavailable, Reason: "disk", After: 30 * time.Second, Text: "no space"}, codes.Unavailable},
		"rejected by a backend": {receiver.Refusal{Code: receiver.Denied, Reason: "malformed", Text: "the backend's text"}, codes.InvalidArgument},
	} {
		sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
			ref := c.refusal
			return receiver.Result{}, &ref
		}}
		r := start(t, sink, options{})
		body, _ := receivertest.Request(otlp.Traces, 5, 5)
		_, err := send(r.dial(""), export, body)
		wantCode(t, err, c.code)
		if got := status.Convert(err).Message(); got != c.refusal.Text {
			t.Errorf("%s: %q", name, got)
		}
		if after, _ := hint(err); after != c.refusal.After {
			t.Errorf("%s: come back after %s, want %s", name, after, c.refusal.After)
		}
		r.WantValue(5, "otelcol_receiver_refused_spans", "transport", "grpc")
		r.WantValue(0, "otelcol_receiver_failed_spans", "transport", "grpc")
		r.WantValue(1, "holdfast_door_refused_total", "reason", c.refusal.Reason)
	}
}

func TestAnErrorThatIsNoRefusalIsOursAndRetryable(t *testing.T) {
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		return receiver.Result{}, errors.New("a bug with details")
	}}
	r := start(t, sink, options{})
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	_, err := send(r.dial(""), export, body)
	wantCode(t, err, codes.Unavailable)
	r.WantValue(5, "otelcol_receiver_failed_spans", "transport", "grpc")
	r.WantValue(1, "otelcol_receiver_requests", "transport", "grpc", "outcome", "failure")
}

func TestAPanicInARequestFailsThatRequestOnly(t *testing.T) {
	first := true
	sink := &receivertest.Sink{}
	sink.Answer = func(context.Context, *otlp.Payload) (receiver.Result, error) {
		if first {
			first = false
			panic("broken")
		}
		return receiver.Result{}, nil
	}
	r := start(t, sink, options{})
	cc := r.dial("")
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	_, err := send(cc, export, body)
	wantCode(t, err, codes.Unavailable)
	if strings.Contains(err.Error(), "broken") {
		t.Errorf("%v tells of the panic", err)
	}
	if _, err := send(cc, export, body); err != nil {
		t.Errorf("the next request: %v", err)
	}
	r.WantValue(5, "otelcol_receiver_failed_spans", "transport", "grpc")
	r.WantValue(5, "otelcol_receiver_accepted_spans", "transport", "grpc")
}

func TestAPartialSuccessIsPassedOn(t *testing.T) {
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		return receiver.Result{Rejected: 3, Message: "three were\x1b[31m too old"}, nil
	}}
	r := start(t, sink, options{})
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	answer, err := send(r.dial(""), export, body)
	if err != nil {
		t.Fatal(err)
	}
	m := ptraceotlp.NewExportResponse()
	if err := m.UnmarshalProto(answer); err != nil {
		t.Fatal(err)
	}
	if p := m.PartialSuccess(); p.RejectedSpans() != 3 || p.ErrorMessage() != "three were [31m too old" {
		t.Errorf("%d, %q", p.RejectedSpans(), p.ErrorMessage())
	}
}

func TestWithoutMemoryARequestIsRefusedAtItsHeaders(t *testing.T) {
	sink := &receivertest.Sink{Gate: admission.New(32 << 20)}
	r := start(t, sink, options{})
	all, err := sink.Gate.Admit(32 << 20)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	_, err = send(r.dial(""), export, body)
	wantCode(t, err, codes.Unavailable)
	if after, _ := hint(err); after > 3*time.Second {
		t.Errorf("come back after %s", after)
	}
	r.WantValue(1, "holdfast_door_refused_total", "reason", "admission")
	all.Release()
	if _, err := send(r.dial(""), export, body); err != nil {
		t.Errorf("with memory: %v", err)
	}
}

func TestAClientThatLeavesEndsTheWaitOfItsRequest(t *testing.T) {
	sink := &receivertest.Sink{Answer: func(ctx context.Context, _ *otlp.Payload) (receiver.Result, error) {
		<-ctx.Done()
		return receiver.Result{}, ctx.Err()
	}}
	r := start(t, sink, options{})
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	cc := r.dial("")
	go func() {
		var answer []byte
		answered <- cc.Invoke(ctx, export, body, &answer)
	}()
	eventually(t, "the payload is handed on", func() bool { return len(r.Sink.Payloads()) == 1 })
	cancel()
	if err := <-answered; status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	eventually(t, "the request is counted as refused", func() bool {
		return r.Value("otelcol_receiver_refused_spans", "transport", "grpc") == 5
	})
}

func TestWhatWasTakenCountsEvenIfTheClientLeft(t *testing.T) {
	finish := make(chan struct{})
	sink := &receivertest.Sink{Answer: func(context.Context, *otlp.Payload) (receiver.Result, error) {
		<-finish
		return receiver.Result{}, nil
	}}
	r := start(t, sink, options{})
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	h := r.raw().hello()
	h.headers(1, false)
	if err := h.WriteData(1, true, message(0, len(body), body)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the payload is handed on", func() bool { return len(r.Sink.Payloads()) == 1 })
	h.Close()
	eventually(t, "the connection is gone", func() bool { return r.Value("holdfast_door_connections") == 0 })
	close(finish)
	eventually(t, "the request is counted as accepted", func() bool {
		return r.Value("otelcol_receiver_accepted_spans", "transport", "grpc") == 5
	})
	r.WantValue(0, "otelcol_receiver_refused_spans", "transport", "grpc")
}

// guard is an authenticator that knows one token.
type guard struct {
	component.StartFunc
	component.ShutdownFunc
	extensionauth.Server
}

func newGuard() guard {
	return guard{Server: extensionauth.ServerAuthenticateFunc(func(ctx context.Context, h map[string][]string) (context.Context, error) {
		token := ""
		for _, name := range []string{"authorization", "Authorization"} {
			if v := h[name]; len(v) > 0 {
				token = v[0]
			}
		}
		switch token {
		case "good":
			return ctx, nil
		case "known":
			return ctx, status.Error(codes.PermissionDenied, "token known may not write")
		case "down":
			return ctx, status.Error(codes.Unavailable, "identity provider at 10.0.0.1 is down")
		}
		return ctx, errors.New("wrong token " + token)
	})}
}

func guarded(c *configgrpc.ServerConfig) {
	c.Auth = configoptional.Some(configauth.Config{AuthenticatorID: component.MustNewID("guard")})
}

func TestCredentialsAreCheckedBeforeTheBodyIsRead(t *testing.T) {
	asked := 0
	sink := &receivertest.Sink{AdmitErr: func() error { asked++; return nil }}
	r := start(t, sink, options{cfg: guarded, host: host{component.MustNewID("guard"): newGuard()}})
	cc := r.dial("")
	body, _ := receivertest.Request(otlp.Traces, 5, 5)
	for token, want := range map[string]codes.Code{
		"": codes.Unauthenticated, "secret-wrong": codes.Unauthenticated, "known": codes.PermissionDenied,
		"down": codes.Unavailable,
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", token)
		var answer []byte
		err := cc.Invoke(ctx, export, body, &answer)
		wantCode(t, err, want)
		if strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "10.0.0.1") {
			t.Errorf("%q: %v tells what the authenticator said", token, err)
		}
	}
	r.WantValue(4, "holdfast_door_refused_total", "reason", "auth")
	if asked != 0 {
		t.Errorf("%d requests without credentials asked for memory", asked)
	}
	var answer []byte
	if err := cc.Invoke(metadata.AppendToOutgoingContext(t.Context(), "authorization", "good"), export, body, &answer); err != nil {
		t.Errorf("with credentials: %v", err)
	}
}

func TestAMissingAuthenticatorFailsTheStart(t *testing.T) {
	r := prepare(t, &receivertest.Sink{}, options{cfg: guarded})
	if err := r.Start(t.Context(), host{}); err == nil || !strings.Contains(err.Error(), `"guard"`) {
		t.Errorf("%v", err)
	}
}

func TestEveryCounterExistsBeforeItCounts(t *testing.T) {
	r := prepare(t, &receivertest.Sink{}, options{})
	for _, s := range otlp.Signals {
		for _, what := range []string{"accepted", "refused", "failed"} {
			r.WantValue(0, "otelcol_receiver_"+what+"_"+s.ItemName(), "receiver", "otlp", "transport", "grpc")
		}
	}
	for _, outcome := range []string{"success", "refused", "failure"} {
		r.WantValue(0, "otelcol_receiver_requests", "receiver", "otlp", "transport", "grpc", "outcome", outcome)
	}
	for _, reason := range receiver.Reasons {
		r.WantValue(0, "holdfast_door_refused_total", "receiver", "otlp", "reason", reason)
	}
	r.WantValue(0, "holdfast_door_connections", "receiver", "otlp")
}
