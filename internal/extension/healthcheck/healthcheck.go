// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package healthcheck answers probes over HTTP: is the process alive, should it be sent data, do its destinations
// take what they are sent.
//
// The three questions are kept apart (compat, section 8), because their answers are acted upon differently: a
// restart heals only a stuck loop, and nothing here restarts a process because a backend is down. Beside them stands
// the Collector's own answer at `path`. An answer is made from a snapshot, takes less than a second and never waits
// for the data path. The package knows no pipeline, queue or exporter.
package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"net"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/snapshot"
)

// Check serves the health paths.
type Check struct {
	set       extension.Settings
	cfg       *Config
	implicit  bool // nobody configured it: no names, no errors in the bodies
	snapshots *snapshot.Desk[extension.Health]
	readiness extension.Readiness
	server    extension.Server
}

// Factory makes health_check extensions.
func Factory() extension.Factory {
	return extension.Factory{
		Type: "health_check", Default: Default, Supplied: true,
		New: func(set extension.Settings, cfg any) (extension.Extension, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T", cfg)
			}
			return New(set, c), nil
		},
	}
}

// New returns a check that does not listen yet. cfg is not changed.
func New(set extension.Settings, cfg *Config) *Check {
	c := &Check{set: set, cfg: cfg, snapshots: snapshot.NewDesk(extension.Health{}, set.Status)}
	c.server.Listen = set.Listen
	return c
}

// NewImplicit returns the check that is served where none is configured: the same paths on addr, without names or
// errors in the bodies. The caller turns an error of Start into a warning.
func NewImplicit(addr string, set extension.Settings) *Check {
	cfg := Default().(*Config)
	cfg.ServerConfig.NetAddr.Endpoint = addr
	c := New(set, cfg)
	c.implicit = true
	return c
}

// Start implements extension.Extension.
func (c *Check) Start(ctx context.Context, host component.Host) error {
	return c.server.Start(ctx, c.cfg.ServerConfig, host, c.set.Telemetry, extension.Limit(extension.ReadOnly(c)))
}

// Stop implements extension.Extension.
func (c *Check) Stop(ctx context.Context) error {
	return errors.Join(c.server.Stop(ctx), c.snapshots.Wait(ctx))
}

// Addr is where the check listens, nil if it does not.
func (c *Check) Addr() net.Addr { return c.server.Addr() }

func (c *Check) failing() extension.Failing {
	p := c.cfg.CheckCollectorPipeline
	return extension.Failing{Threshold: p.ExporterFailureThreshold, Interval: p.Interval}
}

var _ extension.Extension = (*Check)(nil)
