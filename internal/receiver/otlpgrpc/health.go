// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/holdfast-telemetry/holdfast/internal/receiver/door"
)

// healthInterval is how often a watched health is looked at.
const healthInterval = time.Second

// healthService is grpc.health.v1 (compat, section 8).
var healthService = healthpb.Health_ServiceDesc

// healthServer answers for the process as a whole and for the export services: SERVING while the process accepts
// data.
type healthServer struct {
	s *Server
	a *act
}

func (h healthServer) state(service string) (healthpb.HealthCheckResponse_ServingStatus, bool) {
	known := service == ""
	for _, l := range h.s.lanes {
		known = known || services[l.Signal] == service
	}
	switch {
	case !known:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN, false
	case h.s.stopping.Load() || !h.s.door.Ready():
		return healthpb.HealthCheckResponse_NOT_SERVING, true
	}
	return healthpb.HealthCheckResponse_SERVING, true
}

// Check implements grpc_health_v1.HealthServer.
func (h healthServer) Check(_ context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	state, known := h.state(in.GetService())
	if !known {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &healthpb.HealthCheckResponse{Status: state}, nil
}

// List implements grpc_health_v1.HealthServer.
func (h healthServer) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	all := map[string]*healthpb.HealthCheckResponse{}
	add := func(name string) {
		state, _ := h.state(name)
		all[name] = &healthpb.HealthCheckResponse{Status: state}
	}
	add("")
	for _, l := range h.s.lanes {
		add(services[l.Signal])
	}
	return &healthpb.HealthListResponse{Statuses: all}, nil
}

// Watch implements grpc_health_v1.HealthServer. It ends with the client's stream or when clients are asked to leave.
func (h healthServer) Watch(in *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	last := healthpb.HealthCheckResponse_UNKNOWN
	for {
		state, _ := h.state(in.GetService())
		if state != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: state}); err != nil {
				return err
			}
			last = state
		}
		select {
		case <-h.a.leaving:
			return unavailable("shutting down", door.Stopping().After).Err()
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-tick.C:
		}
	}
}

var _ healthpb.HealthServer = healthServer{}
