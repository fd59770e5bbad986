// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

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

// authenticate asks the authenticator, if there is one. What it says is not passed on: it may name credentials.
func (s *Server) authenticate(ctx context.Context) (context.Context, error) {
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
