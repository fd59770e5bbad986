// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package mockbackend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // registers gzip
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
)

// grpcServices are OTLP's services and the signals they take.
var grpcServices = map[string]item.Signal{
	"opentelemetry.proto.collector.trace.v1.TraceService":     item.Traces,
	"opentelemetry.proto.collector.logs.v1.LogsService":       item.Logs,
	"opentelemetry.proto.collector.metrics.v1.MetricsService": item.Metrics,
}

// signalOfMethod is the signal of an RPC's full name.
func signalOfMethod(name string) (item.Signal, bool) {
	for service, s := range grpcServices {
		if name == "/"+service+"/Export" {
			return s, true
		}
	}
	return 0, false
}

func (b *Backend) newGRPCServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.InitialWindowSize(4<<20),
		grpc.InitialConnWindowSize(8<<20),
		grpc.ReadBufferSize(256<<10),
		grpc.ConnectionTimeout(time.Hour), // faults hold handshakes up; nobody else is here to be protected from
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.InTapHandle(b.tap),
	)
	for name, signal := range grpcServices {
		s.RegisterService(&grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
			MethodName: "Export",
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var body []byte
				if err := decode(&body); err != nil {
					return nil, err
				}
				return b.export(ctx, signal, body)
			},
		}}}, b)
	}
	return s
}

// tap sees a request's headers before its body is read.
func (b *Backend) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	c := connOf(ctx)
	signal, known := signalOfMethod(info.FullMethodName)
	if c == nil || !known {
		return ctx, nil
	}
	for _, r := range b.rules.all() {
		f := r.what()
		if f.Kind != "reset" || f.Value != "headers" && f.Value != "body" {
			continue
		}
		// There is no body yet to draw the share from: the connection and the number of its request stand for it.
		hash := func() float64 { return share01(b.o.Seed, fmt.Append(nil, c.id, c.requests.Load())) }
		if active, _ := r.active(time.Now()); !active || !r.for1(signal, hash) {
			continue
		}
		if f.Value == "body" {
			// What was read with the headers is read; the next byte never is. A body that was read with them is reset when it
			// is handled.
			c.doomed.Store(r)
			continue
		}
		if r.hit() {
			c.reset()
		}
	}
	return ctx, nil
}

func connOf(ctx context.Context) *conn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	a, ok := p.Addr.(connAddr)
	if !ok {
		return nil
	}
	return a.c
}

func (b *Backend) export(ctx context.Context, signal item.Signal, body []byte) (any, error) {
	conn := connOf(ctx)
	if conn == nil {
		return nil, status.Error(codes.Internal, "request without a connection")
	}
	c := &call{conn: conn, protocol: "grpc", signal: signal, wire: len(body), body: body, compression: compressionOf(ctx)}
	c.headers = func() map[string]string {
		md, _ := metadata.FromIncomingContext(ctx)
		return mask(md)
	}
	o, err := b.handle(ctx, c)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if o.release != nil {
		defer o.release()
	}
	switch {
	case o.hang:
		// The deadline travels with the call and may be noticed here first: the code is the client's own then.
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, status.Error(codes.DeadlineExceeded, "nobody waits any more")
		}
		return nil, status.Error(codes.Canceled, "nobody waits any more")
	case o.reset || o.odd != "": // an odd answer needs the other server; connections opened before are cut
		conn.reset()
		return nil, status.Error(codes.Unavailable, "reset")
	case o.code == codes.OK:
		out := partialSuccess(o)
		return &out, nil
	}
	st := status.New(o.code, o.message)
	if o.hint != "" {
		delay, _, _ := retryAfter(o.hint, time.Now()) // it was read when the fault was set
		if with, err := st.WithDetails(protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})); err == nil {
			st = with
		}
	}
	return nil, st.Err()
}

// compressionOf is the encoding of a request; the library decodes it before a handler sees it.
func compressionOf(ctx context.Context) string {
	if s, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ RecvCompress() string }); ok {
		if name := s.RecvCompress(); name != encoding.Identity {
			return name
		}
	}
	return ""
}

// partialSuccess is an ExportXxxServiceResponse, the same for every signal: field 1 holds the number rejected (1) and a
// message (2). Nothing in it is a full success.
func partialSuccess(o *outcome) []byte {
	if !o.partial {
		return nil
	}
	var in []byte
	if o.rejected > 0 {
		in = protowire.AppendVarint(protowire.AppendTag(in, 1, protowire.VarintType), uint64(o.rejected))
	}
	in = protowire.AppendString(protowire.AppendTag(in, 2, protowire.BytesType), o.message)
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), in)
}

// rawCodec takes requests as bytes and gives answers as bytes.
type rawCodec struct{}

// Name makes it the codec of application/grpc+proto.
func (rawCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("marshal: %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*p)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal: %T", v)
	}
	*p = data.Materialize()
	return nil
}

// Whoever else in the process has registered these keeps its own: the product may be linked into the same binary.
func init() {
	for _, c := range []encoding.Compressor{&zstdCompressor{}, &snappyCompressor{}} {
		if encoding.GetCompressor(c.Name()) == nil {
			encoding.RegisterCompressor(c)
		}
	}
}

type zstdCompressor struct{}

func (zstdCompressor) Name() string { return "zstd" }

func (zstdCompressor) Compress(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
}

func (zstdCompressor) Decompress(r io.Reader) (io.Reader, error) { return newZstdReader(r) }

type snappyCompressor struct{}

func (snappyCompressor) Name() string { return "snappy" }

func (snappyCompressor) Compress(w io.Writer) (io.WriteCloser, error) {
	return snappy.NewBufferedWriter(w), nil
}

func (snappyCompressor) Decompress(r io.Reader) (io.Reader, error) { return snappy.NewReader(r), nil }

var zstdDecoders = sync.Pool{New: func() any {
	d, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRequest)) // known options
	return d
}}

// zstdReader gives its decoder back at the end.
type zstdReader struct{ d *zstd.Decoder }

func newZstdReader(r io.Reader) (io.Reader, error) {
	d := zstdDecoders.Get().(*zstd.Decoder)
	if err := d.Reset(r); err != nil {
		return nil, err
	}
	return &zstdReader{d}, nil
}

func (z *zstdReader) Read(p []byte) (int, error) {
	if z.d == nil {
		return 0, io.EOF
	}
	n, err := z.d.Read(p)
	if err != nil {
		_ = z.d.Reset(nil)
		zstdDecoders.Put(z.d)
		z.d = nil
	}
	return n, err
}

// decompress undoes an HTTP content encoding or a gRPC one; snappy is a block there and a stream here.
func decompress(name string, block bool, in []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch name {
	case "", "identity":
		return in, nil
	case "gzip":
		r, err = gzip.NewReader(newReader(in))
	case "zstd":
		r, err = newZstdReader(newReader(in))
	case "snappy":
		if block {
			if n, err := snappy.DecodedLen(in); err != nil || n > maxRequest {
				return nil, fmt.Errorf("snappy block of %d bytes: %w", n, err)
			}
			return snappy.Decode(nil, in)
		}
		r = snappy.NewReader(newReader(in))
	default:
		return nil, errEncoding
	}
	if err != nil {
		return nil, err
	}
	return readAll(r)
}
