// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"maps"
	"net/http"
	"strings"

	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// authenticate asks the authenticator, if there is one. What it says is not passed on: it may name credentials.
func (s *Server) authenticate(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	if s.auth == nil {
		return ctx, nil
	}
	sources := map[string][]string(r.Header)
	if names := s.cfg.ServerConfig.Auth.Get().RequestParameters; len(names) > 0 {
		query := r.URL.Query()
		sources = maps.Clone(sources)
		for _, name := range names {
			if values, ok := query[name]; ok {
				sources[name] = values
			}
		}
	}
	authenticated, err := s.auth.Authenticate(ctx, sources)
	if err == nil {
		return authenticated, nil
	}
	if ctx.Err() != nil {
		return ctx, ctx.Err()
	}
	// Authenticators speak gRPC's statuses, which this door does not know: their text begins with the code's name.
	switch text := err.Error(); {
	case strings.HasPrefix(text, "rpc error: code = Unavailable "), strings.HasPrefix(text, "rpc error: code = DeadlineExceeded "):
		return ctx, door.AuthUnavailable()
	default:
		s.door.Refused(receiver.ReasonAuth)
		return ctx, &authError{known: strings.HasPrefix(text, "rpc error: code = PermissionDenied ")}
	}
}
