// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package load is the producer of the benchmark: it sends requests that were serialised beforehand, over OTLP gRPC, as
// fast as they are acknowledged or at a fixed rate, and keeps count of what it was told.
//
// It costs next to nothing per request, so that the collector is what is measured. It knows no collector.
package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/bench/rawgrpc"
)

// The encodings a request can be sent in.
const (
	Identity = rawgrpc.Identity
	Gzip     = rawgrpc.Gzip
	Zstd     = rawgrpc.Zstd
)

const (
	method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	// variety is how many different requests take turns.
	variety = 32
	// answerTimeout bounds one request; what is not answered by then is unknown.
	answerTimeout = 30 * time.Second
	// refusalPause is how long a refused request rests before it is sent again.
	refusalPause = 20 * time.Millisecond
	// window is the connection's and a stream's flow control window: large, so that it is never what is measured.
	window = 8 << 20
)

// Options say what is sent.
type Options struct {
	Spans    int    // per request
	InFlight int    // requests at once
	Conns    int    // connections they share
	Encoding string // identity, gzip, zstd
	Rate     int    // spans per second; 0 = closed loop
}

// Counts is what the producer was told, in spans except for Refused.
type Counts struct {
	Acked   int64 // success
	Unknown int64 // no definite answer: may arrive, or not
	Refused int64 // requests sent again because they were refused
}

// Loader sends to one place.
type Loader struct {
	opts     Options
	requests [][]byte
	conns    []*grpc.ClientConn
	next     atomic.Int64

	acked, unknown, refused atomic.Int64
	failure                 atomic.Pointer[error]
}

// New serialises the requests and makes the connections; nothing is sent yet.
func New(target string, o Options) (*Loader, error) {
	l := &Loader{opts: o}
	var err error
	if l.requests, err = Requests(variety, o.Spans, o.Encoding); err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawgrpc.Codec{})),
	}
	if o.Encoding != "" && o.Encoding != Identity {
		opts = append(opts, grpc.WithDefaultCallOptions(grpc.UseCompressor(o.Encoding)))
	}
	for range max(1, o.Conns) {
		c, err := grpc.NewClient("passthrough:///"+target, opts...)
		if err != nil {
			l.Close()
			return nil, err
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

// RequestBytes is the mean size of a request on the wire.
func (l *Loader) RequestBytes() int {
	sum := 0
	for _, r := range l.requests {
		sum += len(r)
	}
	return sum / len(l.requests)
}

// Run sends until ctx ends, then waits for the answers of what is in flight. It may be called again.
func (l *Loader) Run(ctx context.Context) error {
	var slots chan struct{} // one for each request that is due
	var wg sync.WaitGroup
	if l.opts.Rate > 0 {
		slots = make(chan struct{}, l.opts.InFlight) // full: the collector is slower than the rate, which then falls
		wg.Go(func() { l.pace(ctx, slots) })
	}
	for i := range l.opts.InFlight {
		wg.Go(func() { l.produce(ctx, l.conns[i%len(l.conns)], slots) })
	}
	wg.Wait()
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// pace hands out slots so that the spans sent follow the rate, whatever the timer's grain.
func (l *Loader) pace(ctx context.Context, slots chan<- struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	began, sent := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due := int(now.Sub(began).Seconds() * float64(l.opts.Rate) / float64(l.opts.Spans))
			for ; sent < due; sent++ {
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

func (l *Loader) produce(ctx context.Context, c *grpc.ClientConn, slots <-chan struct{}) {
	for {
		if slots != nil {
			select {
			case <-ctx.Done():
				return
			case <-slots:
			}
		}
		if ctx.Err() != nil || l.failure.Load() != nil {
			return
		}
		l.send(ctx, c)
	}
}

// send sends one request until it is acknowledged. A request that was begun is waited for, also when ctx has ended.
func (l *Loader) send(ctx context.Context, c *grpc.ClientConn) {
	body := l.requests[l.next.Add(1)%int64(len(l.requests))]
	for {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		err := c.Invoke(call, method, &body, &[]byte{})
		cancel()
		switch code := status.Code(err); code {
		case codes.OK:
			l.acked.Add(int64(l.opts.Spans))
			return
		case codes.Unavailable, codes.ResourceExhausted:
			l.refused.Add(1)
		case codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
			l.unknown.Add(int64(l.opts.Spans))
			return
		default:
			err = fmt.Errorf("request refused for good: %w", err)
			l.failure.CompareAndSwap(nil, &err)
			return
		}
		select {
		case <-ctx.Done():
			return // refused and not sent again: it counts nowhere
		case <-time.After(refusalPause):
		}
	}
}

// Counts is what was answered so far.
func (l *Loader) Counts() Counts {
	return Counts{Acked: l.acked.Load(), Unknown: l.unknown.Load(), Refused: l.refused.Load()}
}

// Close ends the connections.
func (l *Loader) Close() {
	for _, c := range l.conns {
		c.Close()
	}
}
