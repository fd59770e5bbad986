// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"errors"
	"io"
	"net"

	"go.opentelemetry.io/collector/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// crowded marks the context of a stream with too many header entries. The tap does not refuse it by itself: grpc-go
// would then keep the stream's context until the connection ends.
type crowded struct{}

// tap runs for every stream before it is created, on the connection's goroutine.
func tap(ctx context.Context, info *grpctap.Info) (context.Context, error) {
	if len(info.Header) > maxHeaderEntries {
		return context.WithValue(ctx, crowded{}, true), nil
	}
	return ctx, nil
}

// authenticate puts the client into the context if the settings ask for it, and asks the authenticator, if there is
// one. What it says is not passed on: it may name credentials.
func (s *Server) authenticate(ctx context.Context) (context.Context, error) {
	if s.cfg.IncludeMetadata {
		ctx = withClient(ctx)
	}
	if s.auth == nil {
		return ctx, nil
	}
	headers, _ := metadata.FromIncomingContext(ctx)
	authenticated, err := s.auth.Authenticate(ctx, headers)
	if err == nil {
		return authenticated, nil
	}
	if ctx.Err() != nil {
		return ctx, ctx.Err()
	}
	code := status.Code(err)
	if code == codes.Unavailable || code == codes.DeadlineExceeded {
		return ctx, door.AuthUnavailable()
	}
	s.door.Refused(receiver.ReasonAuth)
	if code == codes.PermissionDenied {
		return ctx, status.Error(code, "not allowed")
	}
	return ctx, status.Error(codes.Unauthenticated, "credentials missing or not accepted")
}

// withClient puts address and headers into the context, where the Collector's components look for them.
func withClient(ctx context.Context) context.Context {
	info := client.FromContext(ctx)
	if p, ok := peer.FromContext(ctx); ok {
		info.Addr = p.Addr
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok { // a copy
		if host := md[":authority"]; len(host) > 0 && len(md[client.MetadataHostName]) == 0 {
			md[client.MetadataHostName] = host
		}
		info.Metadata = client.NewMetadata(md)
	}
	return client.NewContext(ctx, info)
}

// metadata is what is kept with the payload of a request.
func (s *Server) metadata(ctx context.Context, lane *door.Lane) otlp.Metadata {
	if !s.cfg.IncludeMetadata || !lane.WantsMetadata() {
		return nil
	}
	return lane.Metadata(func(key string) []string { return metadata.ValueFromIncomingContext(ctx, key) })
}

// handshaker tells the door of handshakes that fail.
type handshaker struct {
	credentials.TransportCredentials
	door *door.Door
}

// ServerHandshake implements credentials.TransportCredentials.
func (h handshaker) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := h.TransportCredentials.ServerHandshake(raw)
	if err != nil && !errors.Is(err, io.EOF) { // a port probe sends nothing
		h.door.HandshakeFailed(raw.RemoteAddr().String(), err.Error())
	}
	if outer, ok := raw.(*conn); ok && err == nil {
		c = &secured{c, outer}
	}
	return c, info, err
}

// Clone implements credentials.TransportCredentials.
func (h handshaker) Clone() credentials.TransportCredentials {
	return handshaker{h.TransportCredentials.Clone(), h.door}
}
