// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package sink is the backend of the benchmark: it takes OTLP over gRPC, counts what really arrived, and answers
// success. It stores nothing and knows no collector.
package sink

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/bench/rawgrpc"
)

const (
	maxRequestBytes = 256 << 20
	// window is as the producer's: never what is measured.
	window = 8 << 20
)

// Sink is one backend.
type Sink struct {
	listener net.Listener
	server   *grpc.Server
	served   chan struct{}
	buffers  sync.Pool

	items, requests, bytes atomic.Int64
}

// Start listens on a free loopback port and serves until Stop.
func Start() (*Sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{listener: ln, served: make(chan struct{})}
	s.buffers.New = func() any { return new(buffers) }
	s.server = grpc.NewServer(grpc.ForceServerCodecV2(rawgrpc.Codec{}), grpc.UnknownServiceHandler(s.export),
		grpc.MaxRecvMsgSize(maxRequestBytes), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window))
	go func() {
		defer close(s.served)
		_ = s.server.Serve(ln) // ends with Stop; a listener that breaks shows as items that never arrive
	}()
	return s, nil
}

// buffers are what one request needs; they are used again.
type buffers struct{ wire, raw []byte }

func (s *Sink) export(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	if !strings.HasSuffix(name, ".TraceService/Export") && !strings.HasSuffix(name, ".LogsService/Export") {
		return status.Errorf(codes.Unimplemented, "%s is not counted here", name)
	}
	b := s.buffers.Get().(*buffers)
	defer s.buffers.Put(b)
	if err := stream.RecvMsg(&b.wire); err != nil {
		return err
	}
	var err error
	raw := b.wire
	if encoding := encodingOf(b.wire); encoding != rawgrpc.Identity {
		if b.raw, err = inflate(b.raw[:0], b.wire, encoding); err != nil {
			return status.Errorf(codes.InvalidArgument, "%s: %v", encoding, err)
		}
		raw = b.raw
	}
	n, err := Count(raw)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "%v", err)
	}
	s.requests.Add(1)
	s.bytes.Add(int64(len(b.wire)))
	s.items.Add(int64(n))
	return stream.SendMsg(&[]byte{})
}

// Addr is where the sink listens, host:port.
func (s *Sink) Addr() string { return s.listener.Addr().String() }

// Items, Requests and Bytes are what arrived and was answered with success; bytes as on the wire.
func (s *Sink) Items() int64 { return s.items.Load() }

// Requests counts requests.
func (s *Sink) Requests() int64 { return s.requests.Load() }

// Bytes counts bytes of requests as they came.
func (s *Sink) Bytes() int64 { return s.bytes.Load() }

// Stop cuts all connections.
func (s *Sink) Stop() {
	s.server.Stop()
	<-s.served
}
