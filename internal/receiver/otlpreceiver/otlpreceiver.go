// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlpreceiver is the component otlp: its configuration, and the gRPC and HTTP doors it opens together.
//
// It promises that after Start every configured listener is open or none is. It knows nothing of requests.
package otlpreceiver

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/otlphttp"
)

// Factory makes otlp receivers.
func Factory() receiver.Factory {
	return receiver.Factory{
		Type: "otlp", Default: Default,
		New: func(set receiver.Settings, cfg any) (receiver.Receiver, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("otlp: configuration is a %T", cfg)
			}
			return New(set, c), nil
		},
	}
}

// Receiver is one otlp receiver.
type Receiver struct {
	GRPC *otlpgrpc.Server // nil = not configured
	HTTP *otlphttp.Server // nil = not configured
}

// New returns a receiver that is closed; its counters exist. cfg is copied as far as it is changed.
func New(set receiver.Settings, cfg *Config) *Receiver {
	d := door.New(set)
	r := &Receiver{}
	if grpc := cfg.Protocols.GRPC.Get(); grpc != nil {
		r.GRPC = otlpgrpc.New(d, *grpc)
	}
	if http := cfg.Protocols.HTTP.Get(); http != nil {
		r.HTTP = otlphttp.New(d, *http)
	}
	return r
}

// Start implements receiver.Receiver.
func (r *Receiver) Start(ctx context.Context, host component.Host) error {
	if r.GRPC != nil {
		if err := r.GRPC.Start(ctx, host); err != nil {
			return err
		}
	}
	if r.HTTP != nil {
		if err := r.HTTP.Start(ctx, host); err != nil {
			return errors.Join(err, r.Stop(ctx))
		}
	}
	return nil
}

// Retire implements receiver.Retirer. Both doors' clients leave at the same time.
func (r *Receiver) Retire(ctx context.Context) error {
	return r.both(func(s server) error { return s.Retire(ctx) })
}

// Stop implements receiver.Receiver. Both doors close at the same time.
func (r *Receiver) Stop(ctx context.Context) error {
	return r.both(func(s server) error { return s.Stop(ctx) })
}

// server is what the doors have in common.
type server interface {
	Retire(ctx context.Context) error
	Stop(ctx context.Context) error
}

// both does something with the doors there are, at the same time.
func (r *Receiver) both(do func(server) error) error {
	var both sync.WaitGroup
	var grpcErr, httpErr error
	if r.GRPC != nil {
		both.Go(func() { grpcErr = do(r.GRPC) })
	}
	if r.HTTP != nil {
		both.Go(func() { httpErr = do(r.HTTP) })
	}
	both.Wait()
	return errors.Join(grpcErr, httpErr)
}

var (
	_ receiver.Receiver = (*Receiver)(nil)
	_ receiver.Retirer  = (*Receiver)(nil)
)
