// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
)

func fails(code codes.Code, text string) func(context.Context, got) ([]byte, error) {
	return func(context.Context, got) ([]byte, error) { return nil, status.Error(code, text) }
}

func failsWith(code codes.Code, text string, after *durationpb.Duration) func(context.Context, got) ([]byte, error) {
	st, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Reason: "x"}, &errdetails.RetryInfo{RetryDelay: after})
	if err != nil {
		panic(err)
	}
	return func(context.Context, got) ([]byte, error) { return nil, st.Err() }
}

// Fault: B7, B9, B10.
func TestEveryCodeHasItsVerdict(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	for want, all := range map[exporter.Verdict][]codes.Code{
		{Kind: exporter.Retry}:         {codes.Unavailable, codes.Aborted, codes.OutOfRange, codes.DataLoss},
		{Kind: exporter.RetryAfter}:    {codes.ResourceExhausted},
		{Kind: exporter.Ambiguous}:     {codes.DeadlineExceeded, codes.Canceled},
		{Kind: exporter.Misconfigured}: {codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.NotFound},
		{Kind: exporter.Rejected}:      {codes.InvalidArgument},
		{Kind: exporter.Retry, Unclear: true}: {
			codes.Unknown, codes.Internal, codes.AlreadyExists, codes.FailedPrecondition, codes.Code(99),
		},
	} {
		for _, code := range all {
			b.reply(fails(code, "because"))
			v := send(t, e, request([]byte("x")))
			check(t, code.String(), v, want)
			if v.Err == nil || !strings.Contains(v.Err.Error(), "because") {
				t.Errorf("%s: error %v", code, v.Err)
			}
		}
	}
}

// Fault: B6, B7.
func TestADelayTheBackendNamesIsObeyed(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	after := func(d time.Duration) exporter.Verdict { return exporter.Verdict{Kind: exporter.RetryAfter, After: d} }
	for _, c := range []struct {
		code  codes.Code
		delay *durationpb.Duration
		want  exporter.Verdict
	}{
		{codes.Unavailable, durationpb.New(7 * time.Second), after(7 * time.Second)},
		{codes.Unavailable, durationpb.New(0), exporter.Verdict{Kind: exporter.Retry}},
		{codes.Unavailable, nil, exporter.Verdict{Kind: exporter.Retry}},
		{codes.Unavailable, durationpb.New(-time.Hour), exporter.Verdict{Kind: exporter.Retry}},
		{codes.Unavailable, &durationpb.Duration{Seconds: math.MaxInt64}, after(math.MaxInt64)},
		{codes.Unavailable, &durationpb.Duration{Seconds: 1, Nanos: 500_000_000}, after(1500 * time.Millisecond)},
		{codes.ResourceExhausted, durationpb.New(time.Second), after(time.Second)},
		{codes.ResourceExhausted, durationpb.New(-1), after(0)},
		{codes.ResourceExhausted, nil, after(0)},
		{codes.InvalidArgument, durationpb.New(time.Second), exporter.Verdict{Kind: exporter.Rejected}},
	} {
		b.reply(failsWith(c.code, "later", c.delay))
		check(t, c.code.String(), send(t, e, request([]byte("x"))), c.want)
	}
}

func TestARequestThatIsTooLargeIsTold(t *testing.T) {
	large := exporter.Verdict{Kind: exporter.Rejected, TooLarge: true}
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	for text, want := range map[string]exporter.Verdict{
		"grpc: received message larger than max (5000000 vs. 4194304)":       large,
		"grpc: received message after decompression larger than max 4194304": large,
		"gRPC message exceeds maximum size 4194304: 5000000":                 large,
		"Received message exceeds the maximum configured message size.":      large,
		"SERVER: Received message larger than max (5000000 vs. 4194304)":     large,
		"quota exceeded":           {Kind: exporter.RetryAfter},
		"memory limit is exceeded": {Kind: exporter.RetryAfter},
	} {
		b.reply(fails(codes.ResourceExhausted, text))
		check(t, text, send(t, e, request([]byte("x"))), want)
	}
	// A hint says that it is not final, whatever the text says.
	b.reply(failsWith(codes.ResourceExhausted, "larger than max", durationpb.New(time.Second)))
	check(t, "with a hint", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.RetryAfter, After: time.Second})
	// And the real thing.
	check(t, "real", send(t, start(t, newLimited(t, 1000), nil), request(make([]byte, 2000))), large)
}

// newLimited is a stock server that takes messages up to max bytes.
func newLimited(t *testing.T, max int) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(max), grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		var b []byte
		return s.RecvMsg(&b)
	}))
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return lis.Addr().String()
}

// Fault: B11.
func TestPartialSuccessIsADelivery(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	partial := func(n uint32, text string) exporter.Verdict {
		return exporter.Verdict{Kind: exporter.Delivered, Rejected: n, Message: text}
	}
	r := request([]byte("x"))
	r.Items = 10
	for _, c := range []struct {
		what, answer string
		want         exporter.Verdict
	}{
		{"none", "", exporter.Deliver()},
		{"three of ten", "\x0a\x09\x08\x03\x12\x05quota", partial(3, "quota")},
		{"more than there are", "\x0a\x02\x08\x7f", partial(10, "")},
		{"a warning", "\x0a\x06\x12\x04slow", partial(0, "slow")},
		{"negative", "\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", exporter.Deliver()},
		{"terminal codes", "\x0a\x07\x12\x05a\x1b[0m", partial(0, `a\x1b[0m`)},
		{"unknown fields", "\x10\x01\x1a\x01x", exporter.Deliver()},
		{"garbage", "\xff\xff\xff\xff\xff", exporter.Verdict{Kind: exporter.Misconfigured}},
		{"html", "<!DOCTYPE html><html>", exporter.Verdict{Kind: exporter.Misconfigured}},
	} {
		b.reply(func(context.Context, got) ([]byte, error) { return []byte(c.answer), nil })
		check(t, c.what, send(t, e, r), c.want)
	}
}

// Fault: B12.
func TestAnAnswerOfMoreThan4MiBIsNoAnswer(t *testing.T) {
	b := newBackend(t, "")
	e := start(t, b.addr, nil)
	b.reply(func(context.Context, got) ([]byte, error) { return make([]byte, 5<<20), nil })
	check(t, "5 MiB", send(t, e, request([]byte("x"))), exporter.Verdict{Kind: exporter.Misconfigured})
	b.reply(fails(codes.InvalidArgument, strings.Repeat("\x07", 5000)))
	v := send(t, e, request([]byte("x")))
	check(t, "long text", v, exporter.Verdict{Kind: exporter.Rejected})
	if text := v.Err.Error(); len(text) > 1500 || strings.Contains(text, "\x07") {
		t.Errorf("%d bytes of it are kept", len(text))
	}
}

// Fault: B12.
func TestABombInTheAnswerIsNotUnpacked(t *testing.T) {
	bomb := zip(t, make([]byte, 10<<20)) // 46 KiB, within the window
	addr := h2server(t, func(s *h2stream) {
		s.readRequest()
		s.headers(":status", "200", "content-type", "application/grpc", "grpc-encoding", "gzip")
		msg := []byte{1, byte(len(bomb) >> 24), byte(len(bomb) >> 16), byte(len(bomb) >> 8), byte(len(bomb))}
		s.data(append(msg, bomb...))
		s.trailers("grpc-status", "0")
	})
	check(t, "bomb", send(t, start(t, addr, nil), request([]byte("x"))), exporter.Verdict{Kind: exporter.Misconfigured})
}

// Fault: B1, B14, B20.
func TestWhatNeverLeftIsRetriedAndKnownSoon(t *testing.T) {
	retry := exporter.Verdict{Kind: exporter.Retry}
	for what, addr := range map[string]string{
		"refused": freeAddr(t),
		"reset at once": acceptor(t, func(c net.Conn) {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}),
		"closed at once": acceptor(t, func(c net.Conn) { _ = c.Close() }),
		"HTTP/1.1 only": acceptor(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			_ = c.Close()
		}),
		"no such name": "holdfast.invalid:4317",
	} {
		e := start(t, addr, nil)
		for range 3 {
			began := time.Now()
			check(t, what, send(t, e, request([]byte("x"))), retry)
			if took := time.Since(began); took > limit/4 {
				t.Errorf("%s: it took %v to find out", what, took)
			}
		}
	}
}

// Fault: B2, B3.
func TestAPeerThatTakesConnectionsAndNeverSpeaksIsGivenUp(t *testing.T) {
	// Like a stopped process: the kernel accepts for it. Neither the dial limit nor the timeout is waited out twice.
	hold := make(chan struct{})
	addr := acceptor(t, func(net.Conn) { <-hold })
	t.Cleanup(func() { close(hold) })
	e := start(t, addr, func(c *otlpgrpc.Config) { c.Timeout = limit })
	v := send(t, e, request([]byte("x")))
	check(t, "silent", v, exporter.Verdict{Kind: exporter.Retry})
	if errors.Is(v.Err, context.DeadlineExceeded) {
		t.Errorf("ended by the timeout: %v", v.Err)
	}
}

// Fault: B4.
func TestWhatMayHaveLeftIsAmbiguous(t *testing.T) {
	ambiguous := exporter.Verdict{Kind: exporter.Ambiguous}
	for what, serve := range map[string]func(*h2stream){
		"reset after reading all": func(s *h2stream) {
			s.readRequest()
			_ = s.conn.(*net.TCPConn).SetLinger(0)
			_ = s.conn.Close()
		},
		"closed after reading all": func(s *h2stream) {
			s.readRequest()
			_ = s.conn.Close()
		},
		"stream cancelled": func(s *h2stream) {
			s.readRequest()
			s.reset(http2.ErrCodeCancel)
		},
		"stream broken": func(s *h2stream) {
			s.readRequest()
			s.reset(http2.ErrCodeInternal)
		},
		"half an answer": func(s *h2stream) {
			s.readRequest()
			s.headers(":status", "200", "content-type", "application/grpc")
			_ = s.conn.Close()
		},
	} {
		check(t, what, send(t, start(t, h2server(t, serve), nil), request([]byte("x"))), ambiguous)
	}
}

// Fault: B9, B12.
func TestWhatIsNotGRPCIsJudgedByItsHTTPStatus(t *testing.T) {
	for code, want := range map[string]exporter.Verdict{
		"200": {Kind: exporter.Misconfigured}, // a login page
		"302": {Kind: exporter.Misconfigured},
		"401": {Kind: exporter.Misconfigured},
		"404": {Kind: exporter.Misconfigured},
		"400": {Kind: exporter.Rejected},
		"413": {Kind: exporter.Rejected, TooLarge: true},
		"429": {Kind: exporter.RetryAfter},
		"500": {Kind: exporter.Retry, Unclear: true},
		"502": {Kind: exporter.Retry},
		"503": {Kind: exporter.Retry},
	} {
		for _, body := range []bool{false, true} {
			addr := h2server(t, func(s *h2stream) {
				s.readRequest()
				if !body {
					s.trailers(":status", code, "content-type", "text/html")
					return
				}
				s.headers(":status", code, "content-type", "text/html")
				s.data([]byte("<html>"))
				s.trailers("x", "y")
			})
			check(t, code, send(t, start(t, addr, nil), request([]byte("x"))), want)
		}
	}
}

// Fault: B20.
func TestARefusedStreamIsSentAgainByTheLibraryOnce(t *testing.T) {
	var n atomic.Int32
	addr := h2server(t, func(s *h2stream) {
		s.readRequest()
		if n.Add(1) == 1 {
			s.reset(http2.ErrCodeRefusedStream)
			return
		}
		s.ok()
	})
	check(t, "refused once", send(t, start(t, addr, nil), request([]byte("x"))), exporter.Deliver())
	addr = h2server(t, func(s *h2stream) {
		s.readRequest()
		s.reset(http2.ErrCodeRefusedStream)
	})
	check(t, "refused always", send(t, start(t, addr, nil), request([]byte("x"))), exporter.Verdict{Kind: exporter.Retry})
	addr = h2server(t, func(s *h2stream) {
		s.readRequest()
		s.reset(http2.ErrCodeHTTP11Required)
	})
	check(t, "wants HTTP/1.1", send(t, start(t, addr, nil), request([]byte("x"))), exporter.Verdict{Kind: exporter.Misconfigured})
}

// Fault: B20.
func TestGoAwayAndConnectionAgeLoseNothing(t *testing.T) {
	b := newBackend(t, "", grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: limit, // no request is cut, however busy the machine
	}))
	e := start(t, b.addr, nil)
	end := time.Now().Add(time.Second)
	sent := 0
	for time.Now().Before(end) {
		check(t, "aged", send(t, e, request([]byte("x"))), exporter.Deliver())
		sent++
	}
	if got := len(b.requests); got != min(sent, cap(b.requests)) {
		t.Errorf("%d sent, %d arrived", sent, got)
	}
	// A GOAWAY that disowns the request: it goes over a new connection, unseen.
	var n atomic.Int32
	addr := h2server(t, func(s *h2stream) {
		if n.Add(1) == 1 {
			s.readRequest()
			s.goAway(0)
			return
		}
		s.readRequest()
		s.ok()
	})
	check(t, "disowned", send(t, start(t, addr, nil), request([]byte("x"))), exporter.Deliver())
}

// Fault: B3, B5.
func TestTheExportersTimeoutEndsASend(t *testing.T) {
	b := newBackend(t, "")
	b.reply(func(ctx context.Context, _ got) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
	e := start(t, b.addr, func(c *otlpgrpc.Config) { c.Timeout = 50 * time.Millisecond })
	v := send(t, e, request([]byte("x")))
	check(t, "silent", v, exporter.Verdict{Kind: exporter.Ambiguous})
	if !errors.Is(v.Err, context.DeadlineExceeded) {
		t.Errorf("error %v", v.Err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v = e.Send(ctx, request([]byte("x")))
	check(t, "cancelled before", v, exporter.Verdict{Kind: exporter.Retry})
	if !errors.Is(v.Err, context.Canceled) {
		t.Errorf("error %v", v.Err)
	}
}
