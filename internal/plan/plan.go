// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package plan says what a configuration will do: which queue stands where, who owns a cursor, how batches are made,
// which levels a connector has, where the answer to a client is given.
//
// A plan is pure data made from a configuration. The pipelines are built from it, and `explain` prints it, so that
// what is shown is what runs.
package plan

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/failover"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Plan is what a configuration will do.
type Plan struct {
	Pipelines []Pipeline // those that accept data; pipelines fed by a connector are levels of its routes
	Storages  []Storage  // one for each directory of the enabled storages
	Listeners []Listener // every port that is opened, but the health endpoint nobody asked for
	Findings  []config.Finding
}

// Pipeline is one pipeline with a queue, or without one where Destinations all wait.
type Pipeline struct {
	ID             string
	Signal         otlp.Signal
	Receivers      []string // component IDs as written
	Processors     []string // all of them, as written
	MemoryLimiters []string // processor IDs as written, in order
	Batch          *Batch   // nil = no batch processor
	Destinations   []Destination
	Storage        string // ID of the storage that makes the queue durable; empty = memory
	Directory      string // of the storage
	Synced         bool   // the storage answers after the sync, not after the write
}

// Storage is one directory that holds journals. Extensions that name the same one share it, and of their settings the
// stricter ones hold.
type Storage struct {
	IDs       []string // of the extensions, as written, in the order in which the service names them
	Directory string
	MaxBytes  int64    // cap on everything below the directory; 0 = by the volume
	Synced    bool     // an answer waits for the sync
	Heads     []string // pipelines whose appends go there
}

// Queued reports whether any destination stands behind a queue.
func (p *Pipeline) Queued() bool {
	for i := range p.Destinations {
		if !p.Destinations[i].Wait {
			return true
		}
	}
	return false
}

// Batch is what the last batch processor of a pipeline asks for.
type Batch struct {
	Processor    string // ID as written
	MetadataKeys []string
	Size, Max    uint32 // items; Max 0 = no bound
	Timeout      time.Duration
}

// Destination is one owner of a cursor: a plain exporter, or a connector with its levels.
type Destination struct {
	queue.Destination
	Label   string // the exporter's or connector's ID as written; the label of metrics
	Storage string // the storage its own queue names; empty = none
	// Wait says that the client's answer waits for this destination's verdict.
	Wait    bool
	Want    queue.Want // without Joins, which the delivery loop owns
	Levels  []Level    // one for a plain exporter
	Route   *Route     // nil for a plain exporter
	Workers int        // batches in flight at most; 0 where it waits = as many as there are requests
}

// Level is one step of a destination: its exporters must all deliver.
type Level struct {
	Pipelines []string // those that serve the level; none for a plain exporter
	Exporters []string // IDs as written
	Workers   int
	Retry     exporter.RetryConfig
	Timeout   time.Duration // of one attempt, the longest of the exporters'; 0 = none of its own
	Emergency bool          // a last level of file exporters
	MaxItems  uint32        // largest request, from a batch processor inside the level; 0 = no bound
}

// Route is what a failover connector adds to a destination.
type Route struct {
	Connector     string
	RetryInterval time.Duration
	RetryGap      time.Duration // effective
	MaxRetries    int
	Lifted        []string // exporters whose queue and retry settings are the connector's now
	// Config is the connector's whole block, for what is not resolved here. It is not to be changed.
	Config *failover.Config
}

// Traits is what a plan must know of an exporter type.
type Traits func(canonicalType string) (exporter.QueueMode, bool)
