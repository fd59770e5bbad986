// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package extension is the contract of what stands beside the path: health, status, debugging.
//
// An extension serves people and probes. It is handed a function that copies what there is to show, and never holds
// up the data path: it knows no pipeline, queue or exporter. What the snapshots mean for health is decided here,
// once, for every endpoint that shows it (compat, section 8).
package extension

import (
	"context"
	"net"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/status"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// SnapshotTime is how long an answer waits for a snapshot; it never takes longer than 1 s itself (compat, 8).
const SnapshotTime = 800 * time.Millisecond

// Extension is one configured instance.
type Extension interface {
	// Start binds and serves; after nil every listener is open. Extensions start before everything else.
	Start(ctx context.Context, host component.Host) error
	// Stop closes the listeners, lets running requests end until ctx does, cuts them, and waits for every goroutine.
	// It may be called more than once and without Start.
	Stop(ctx context.Context) error
}

// Settings are what an extension is given besides its configuration.
type Settings struct {
	ID        string // as written in the configuration
	Telemetry *telemetry.Telemetry
	// Status copies what is going on. It must return at once, whatever the data path does, and may be called from
	// any goroutine.
	Status func() Health
	// Show is how the process is, for people; it may take two seconds. Events are the last ones, newest first, and the
	// number of the last there was. Hosts are names under which pages for people may be asked for.
	Show   func(context.Context) status.Status
	Events func(most int) ([]status.Event, uint64)
	Hosts  []string
	// Listen opens the extension's listeners; nil = the network's.
	Listen ListenFunc
}

// ListenFunc opens a listener; a reload hands over one whose socket may be open already. Errors are those of
// net.Listen.
type ListenFunc func(ctx context.Context, network, address string) (net.Listener, error)

// Factory makes extensions of one type.
type Factory struct {
	Type    string
	Aliases []string
	Default func() any // a pointer to the configuration, defaults filled in
	New     func(set Settings, cfg any) (Extension, error)
	// Supplied says that a bare reference to an undefined extension of this type is filled in (compat, 4.2).
	Supplied bool
}
