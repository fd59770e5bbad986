// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

var grpcMethods = map[item.Signal]string{
	item.Traces:  "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	item.Logs:    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
	item.Metrics: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}

// grpcSender sends over one gRPC connection.
type grpcSender struct {
	packer
	conn    *grpc.ClientConn
	headers []string
}

func newGRPCSender(addr string, tlsConfig *tls.Config, p packer, o *Options) (*grpcSender, error) {
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = credentials.NewTLS(tlsConfig)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(4<<20)),
		grpc.WithStatsHandler(watcher{}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithInitialWindowSize(1 << 20),
		grpc.WithInitialConnWindowSize(1 << 20),
		grpc.WithWriteBufferSize(128 << 10),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second,
			Backoff: backoff.Config{BaseDelay: firstWait, Multiplier: 2, Jitter: 0.2, MaxDelay: maxWait}}),
	}
	if p.compression != "" {
		//lint:ignore SA1019 only this option sends a body as it is, which was compressed once, however often it is sent
		opts = append(opts, grpc.WithCompressor(asIs{p.compression}))
	}
	if o.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(o.Dial))
	} else {
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}))
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", addr, err)
	}
	s := &grpcSender{packer: p, conn: conn}
	for _, h := range o.Headers {
		s.headers = append(s.headers, strings.ToLower(h[0]), h[1])
	}
	return s, nil
}

// Send implements sender.
func (s *grpcSender) Send(ctx context.Context, signal item.Signal, sent []byte) answer {
	var seen watched
	ctx = context.WithValue(ctx, watchKey{}, &seen)
	if len(s.headers) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, s.headers...)
	}
	var text []byte
	err := s.conn.Invoke(ctx, grpcMethods[signal], &sent, &text)
	if err == nil {
		return success("OK", false, text)
	}
	st := status.Convert(err)
	code := codeName(st.Code())
	if !seen.began.Load() {
		return unsent(code, err)
	}
	out := answer{Result: ledger.Result{State: ledger.Unknown, Code: code, Text: st.Message()}}
	hinted := false
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.GetRetryDelay() != nil {
			out.retryAfter, hinted = max(0, info.GetRetryDelay().AsDuration()), true
		}
	}
	if !seen.ended.Load() {
		return out // the code is our own library's, not the server's
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		out.State, out.final = ledger.Refused, true
	case codes.ResourceExhausted:
		if !hinted {
			out.State, out.final = ledger.Refused, true
		}
	}
	return out
}

// Close implements sender.
func (s *grpcSender) Close() { _ = s.conn.Close() } // only says that it was closed before

// codeName writes a code as the specification does: UNAVAILABLE.
func codeName(c codes.Code) string {
	var b strings.Builder
	for i, r := range c.String() {
		if i > 0 && unicode.IsUpper(r) && c != codes.OK {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// watchKey finds what was seen of a call in its context.
type watchKey struct{}

// watched is what was seen of a call.
type watched struct {
	began atomic.Bool // bytes of it went to a connection
	ended atomic.Bool // the server sent its status
}

// watcher notes it. A call that ends without having begun never left: the address refused, did not resolve, or TLS
// failed. A code that comes without the server's status is the library's own, and says nothing about what happened.
type watcher struct{}

func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (watcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	w, ok := ctx.Value(watchKey{}).(*watched)
	if !ok {
		return
	}
	switch s.(type) {
	case *stats.OutHeader, *stats.OutPayload:
		w.began.Store(true)
	case *stats.InTrailer:
		w.ended.Store(true)
	}
}

func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (watcher) HandleConn(context.Context, stats.ConnStats)                       {}

// rawCodec puts bytes on the wire as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("marshal: %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal: %T", v)
	}
	*b = data.Materialize()
	return nil
}

// asIs stands where the library expects a compressor; the bytes are compressed already.
type asIs struct{ name string }

func (c asIs) Type() string { return c.name }

func (asIs) Do(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}
