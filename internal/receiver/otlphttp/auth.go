// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"go.opentelemetry.io/collector/client"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// authenticate puts the client into the context if the settings ask for it, and asks the authenticator, if there is
// one. What it says is not passed on: it may name credentials.
func (s *Server) authenticate(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	if s.cfg.ServerConfig.IncludeMetadata {
		ctx = withClient(ctx, r)
	}
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

// withClient puts address and headers into the context, where the Collector's components look for them.
func withClient(ctx context.Context, r *http.Request) context.Context {
	info := client.FromContext(ctx)
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		info.Addr = &net.IPAddr{IP: addr.Addr().AsSlice(), Zone: addr.Addr().Zone()}
	}
	headers := r.Header.Clone()
	if r.Host != "" && headers.Get(client.MetadataHostName) == "" {
		headers.Set(client.MetadataHostName, r.Host)
	}
	info.Metadata = client.NewMetadata(headers)
	return client.NewContext(ctx, info)
}

// metadata is what is kept with the payload of a request.
func (s *Server) metadata(r *http.Request, lane *door.Lane) otlp.Metadata {
	if !s.cfg.ServerConfig.IncludeMetadata || !lane.WantsMetadata() {
		return nil
	}
	return lane.Metadata(r.Header.Values)
}
