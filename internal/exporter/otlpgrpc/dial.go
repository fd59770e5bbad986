// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// dial opens the connection the settings describe and begins to connect. The settings' own ToClientConn is not used:
// it puts an instrumentation of every request in the way that is paid for even where nothing is shown.
//
// What the settings say of TLS is in link, of headers in headersOf. Two keys have no effect here: `compression`, since
// bodies are in their encoding before they come to the library, and `wait_for_ready`, since a backend that is away is
// a verdict, and waiting is the queue's work.
func (e *Exporter) dial(ctx context.Context, host component.Host, l *link) (*grpc.ClientConn, error) {
	cc := &e.cfg.Client
	var extensions map[component.ID]component.Component
	if host != nil {
		extensions = host.GetExtensions()
	}
	opts := append(settingsOptions(cc), l.options()...)
	opts = append(opts,
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(answerLimit)),
		grpc.WithDisableRetry(),
		grpc.WithStatsHandler(watcher{}),
	)
	if name := e.encoder.Name(); name != "" {
		//lint:ignore SA1019 the registry that replaces it is the whole process's, where gzip must go on meaning gzip
		opts = append(opts, grpc.WithCompressor(passer{name}))
	}
	if auth := cc.Auth.Get(); auth != nil {
		client, err := auth.GetGRPCClientAuthenticator(ctx, extensions)
		if err != nil {
			return nil, err
		}
		credentials, err := client.PerRPCCredentials()
		if err != nil {
			return nil, fmt.Errorf("authenticator %q: %w", auth.AuthenticatorID, err)
		}
		opts = append(opts, grpc.WithPerRPCCredentials(credentials))
	}
	for _, m := range cc.Middlewares {
		more, err := m.GetGRPCClientOptions(ctx, extensions)
		if err != nil {
			return nil, fmt.Errorf("middleware %q: %w", m.ID, err)
		}
		opts = append(opts, more...)
	}
	agent := cc.UserAgent
	if agent == "" {
		agent = "holdfast/" + e.set.Version
	}
	conn, err := grpc.NewClient(dialTarget(cc.Endpoint), append(opts, grpc.WithUserAgent(agent))...)
	if err != nil {
		return nil, err
	}
	if !e.set.Offline {
		conn.Connect() // else the first request would pay for it
	}
	return conn, nil
}

// settingsOptions are the settings that need nothing but themselves. An absent one leaves the library its default.
func settingsOptions(cc *configgrpc.ClientConfig) (opts []grpc.DialOption) {
	if n := cc.ReadBufferSize; n > 0 {
		opts = append(opts, grpc.WithReadBufferSize(n))
	}
	if n := cc.WriteBufferSize; n > 0 {
		opts = append(opts, grpc.WithWriteBufferSize(n))
	}
	if k := cc.Keepalive.Get(); k != nil {
		opts = append(opts, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: k.Time, Timeout: k.Timeout, PermitWithoutStream: k.PermitWithoutStream,
		}))
	}
	if cc.BalancerName != "" {
		opts = append(opts, grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingPolicy": %q}`, cc.BalancerName)))
	}
	if cc.Authority != "" {
		opts = append(opts, grpc.WithAuthority(cc.Authority))
	}
	return opts
}

// dialTarget is the endpoint as the library takes it: http and https are no schemes of its resolvers, everything else is.
func dialTarget(endpoint string) string {
	for _, scheme := range []string{"http://", "https://"} {
		if rest, ok := strings.CutPrefix(endpoint, scheme); ok {
			return rest
		}
	}
	return endpoint
}

// headersOf are the headers every request carries, nil without any. A name written twice is sent twice.
func headersOf(cc *configgrpc.ClientConfig) metadata.MD {
	var md metadata.MD
	for name, value := range cc.Headers.Iter {
		if md == nil {
			md = metadata.MD{}
		}
		md.Append(name, string(value))
	}
	return md
}
