// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// limit is how long a test waits for what must happen.
const limit = 20 * time.Second

// got is one request as a backend saw it.
type got struct {
	method string
	body   []byte
	header metadata.MD
}

// backend is a gRPC server that knows no protobuf: it notes the bytes and answers what it is told to.
type backend struct {
	addr     string
	server   *grpc.Server
	requests chan got
	mu       sync.Mutex
	answer   func(ctx context.Context, g got) ([]byte, error)
}

// raw hands bytes through.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// asSent leaves compressed messages compressed.
type asSent struct{ name string }

func (d asSent) Do(r io.Reader) ([]byte, error) { return io.ReadAll(r) }
func (d asSent) Type() string                   { return d.name }

func newBackend(t testing.TB, encoding string, opts ...grpc.ServerOption) *backend {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, lis, encoding, opts...)
}

func serve(t testing.TB, lis net.Listener, encoding string, opts ...grpc.ServerOption) *backend {
	b := &backend{addr: lis.Addr().String(), requests: make(chan got, 1024)}
	b.answer = func(context.Context, got) ([]byte, error) { return nil, nil }
	opts = append(opts, grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(b.handle), grpc.MaxRecvMsgSize(64<<20))
	if encoding != "" {
		//lint:ignore SA1019 the test wants the bytes as they were sent
		opts = append(opts, grpc.RPCDecompressor(asSent{encoding}))
	}
	b.server = grpc.NewServer(opts...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.server.Serve(lis)
	}()
	t.Cleanup(func() {
		b.server.Stop()
		<-done
	})
	return b
}

func (b *backend) reply(answer func(ctx context.Context, g got) ([]byte, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) handle(_ any, s grpc.ServerStream) error {
	var body []byte
	if err := s.RecvMsg(&body); err != nil {
		return err
	}
	g := got{body: body}
	g.method, _ = grpc.MethodFromServerStream(s)
	g.header, _ = metadata.FromIncomingContext(s.Context())
	b.mu.Lock()
	answer := b.answer
	b.mu.Unlock()
	select {
	case b.requests <- g:
	default:
	}
	out, err := answer(s.Context(), g)
	if err != nil {
		return err
	}
	return s.SendMsg(&out)
}

// start makes an exporter for addr; change may be nil.
func start(t testing.TB, addr string, change func(*otlpgrpc.Config)) exporter.Exporter {
	t.Helper()
	e, _ := startCounted(t, addr, change)
	return e
}

func startCounted(t testing.TB, addr string, change func(*otlpgrpc.Config)) (exporter.Exporter, *telemetry.Telemetry) {
	t.Helper()
	cfg := otlpgrpc.Default()
	cfg.Client.Endpoint = addr
	cfg.Client.TLS.Insecure = true
	cfg.Client.Compression = "none"
	if change != nil {
		change(cfg)
	}
	tel := telemetry.Nop()
	e, err := otlpgrpc.Factory().New(exporter.Settings{ID: "otlp_grpc/test", Telemetry: tel, Version: "0.1.0"}, cfg)
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
	r := &exporter.Request{Signal: otlp.Traces, Items: uint32(len(parts)), Parts: parts}
	for _, p := range parts {
		r.Size += int64(len(p))
	}
	return r
}

// send sends with a deadline far away, so that only the exporter's own limits count.
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

// eventually sends until the verdict is kind.
func eventually(t *testing.T, e exporter.Exporter, kind exporter.Kind) {
	t.Helper()
	end := time.Now().Add(limit)
	var v exporter.Verdict
	for time.Now().Before(end) {
		if v = send(t, e, request([]byte("x"))); v.Kind == kind {
			return
		}
	}
	t.Fatalf("verdict is still %s: %v", v.Kind, v.Err)
}

// freeAddr is an address nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	_ = lis.Close()
	return addr
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
	return lis.Addr().String()
}

func numbered(i int) []byte { return fmt.Appendf(nil, "request %d", i) }

// tryStart starts an exporter that should not start.
func tryStart(t *testing.T, cfg *otlpgrpc.Config) error {
	t.Helper()
	e, err := otlpgrpc.Factory().New(exporter.Settings{ID: "otlp_grpc", Telemetry: telemetry.Nop()}, cfg)
	if err != nil {
		return err
	}
	err = e.Start(context.Background(), componenttest.NewNopHost())
	if serr := e.Stop(context.Background()); serr != nil {
		t.Error(serr)
	}
	return err
}
