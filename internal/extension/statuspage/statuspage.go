// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package statuspage serves the status of the process to people: a page, its JSON, and both as a stream.
//
// It is off unless configured and listens on loopback unless told otherwise. What is shown, to whom and within which
// bounds is the page's (internal/status/page); this package gives it a port that a reload hands on. It knows no
// pipeline, queue or exporter, and nothing of the configuration's values.
package statuspage

import (
	"context"
	"fmt"
	"net"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confignet"

	"github.com/holdfast-telemetry/holdfast/internal/extension"
	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/status/page"
)

// Page serves one status page.
type Page struct {
	set    extension.Settings
	cfg    *Config
	page   *page.Page
	server extension.Server
}

// Factory makes status extensions.
func Factory() extension.Factory {
	return extension.Factory{
		Type: "status", Default: Default, Supplied: true,
		New: func(set extension.Settings, cfg any) (extension.Extension, error) {
			c, ok := cfg.(*Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T", cfg)
			}
			return New(set, c), nil
		},
	}
}

// New returns a page that does not listen yet. cfg is not changed.
func New(set extension.Settings, cfg *Config) *Page {
	p := &Page{set: set, cfg: cfg}
	p.server.Listen = set.Listen
	endpoint := cfg.ServerConfig.NetAddr.Endpoint
	if cfg.ServerConfig.NetAddr.Transport == confignet.TransportTypeUnix {
		endpoint = "localhost" // who opens a socket file has no name to ask by
	}
	p.page = page.New(page.Settings{
		Status: func(ctx context.Context) (status.Status, error) { return set.Show(ctx), nil },
		Events: set.Events, History: cfg.History, Endpoint: endpoint,
		Hosts: append(append([]string{}, cfg.Hosts...), set.Hosts...),
	})
	return p
}

// Start implements extension.Extension.
func (p *Page) Start(ctx context.Context, host component.Host) error {
	return p.server.Start(ctx, p.cfg.ServerConfig, host, p.set.Telemetry, p.page)
}

// Stop implements extension.Extension. Streams end at once; browsers come back by themselves.
func (p *Page) Stop(ctx context.Context) error {
	p.page.Close()
	return p.server.Stop(ctx)
}

// Addr is where the page is served, nil if it is not.
func (p *Page) Addr() net.Addr { return p.server.Addr() }

var _ extension.Extension = (*Page)(nil)
