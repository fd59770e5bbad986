// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"io"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// What both doors' tests use.
const patience = receivertest.Patience

var eventually = receivertest.Eventually

type host = receivertest.Host

const export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

var methods = map[otlp.Signal]string{
	otlp.Traces:   export,
	otlp.Metrics:  "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
	otlp.Logs:     "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
	otlp.Profiles: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
}

// rig is a door on a real socket.
type rig struct {
	*otlpgrpc.Server
	receivertest.Rig
}

// options change what a rig is made of.
type options struct {
	cfg      func(*configgrpc.ServerConfig)
	settings func(*receiver.Settings)
	server   func(*otlpgrpc.Server)
	host     component.Host
}

func start(t testing.TB, sink *receivertest.Sink, o options) *rig {
	t.Helper()
	r := prepare(t, sink, o)
	if err := r.Start(context.Background(), o.host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// prepare makes a rig that is not started.
func prepare(t testing.TB, sink *receivertest.Sink, o options) *rig {
	cfg := otlpgrpc.DefaultConfig()
	cfg.NetAddr.Endpoint = "127.0.0.1:0"
	if o.cfg != nil {
		o.cfg(&cfg)
	}
	base := receivertest.NewRig(t, sink, o.settings)
	s := otlpgrpc.New(door.New(base.Set), cfg)
	if o.server != nil {
		o.server(s)
	}
	return &rig{Server: s, Rig: base}
}

func (r *rig) stop() {
	r.Ends(r.Stop)
}

// dial connects; the connection sends byte slices as they are, marked with the given compression.
func (r *rig) dial(compression string, opts ...grpc.DialOption) *grpc.ClientConn {
	r.T.Helper()
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})),
	}, opts...)
	if compression != "" {
		//lint:ignore SA1019 the only way to send bytes that are compressed already
		opts = append(opts, grpc.WithCompressor(passCompressor(compression)))
	}
	cc, err := grpc.NewClient(r.Address().String(), opts...)
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() { cc.Close() })
	return cc
}

// send makes one request and returns the answer's bytes.
func send(cc *grpc.ClientConn, method string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var answer []byte
	err := cc.Invoke(ctx, method, body, &answer)
	return answer, err
}

// wantCode checks a status' code, and that a hint to come back is there exactly where it must be.
func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%v, want %v", err, want)
		return
	}
	after, hinted := hint(err)
	if must := want == codes.Unavailable; hinted != must || hinted && (after < time.Second || after > 30*time.Second) {
		t.Errorf("%v with hint %v, %s", err, hinted, after)
	}
}

func hint(err error) (time.Duration, bool) {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.RetryDelay.AsDuration(), true
		}
	}
	return 0, false
}

// rawCodec sends and receives byte slices as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "proto" }

// passCompressor names a compression and passes bytes that are compressed already.
type passCompressor string

func (p passCompressor) Do(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

func (p passCompressor) Type() string { return string(p) }

// encoded compresses b as a client would.
func encoded(t testing.TB, name string, b []byte) []byte {
	t.Helper()
	if name == "snappy" {
		name = "x-snappy-framed"
	}
	return receivertest.Encoded(t, name, b)
}
