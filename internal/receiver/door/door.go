// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package door is what the OTLP doors, gRPC and HTTP, do alike: it stands between their servers and the sinks.
//
// A door pays for a request's bytes from the admission budget before they are read, keeps them in one pooled slice,
// decodes them with a cap, scans them, hands the payload to the sink of its signal, and counts what happened. It
// promises that a request never holds memory it was not granted, that its memory goes back exactly once, and that
// every request ends in exactly one outcome. It refuses to know status codes: those are the protocols'.
package door

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// The transports, as the label of metrics.
const (
	GRPC = "grpc"
	HTTP = "http"
)

// maxRequestBytes is the limit of a request where none is set, unless half the admission budget is less (faults,
// part C).
const maxRequestBytes = 64 << 20

// Door is one receiver. Its methods may be called from any goroutine.
type Door struct {
	set             receiver.Settings
	listen          receiver.ListenFunc
	refused         map[string]*telemetry.Counter
	connections     *telemetry.Gauge
	metadataDropped *telemetry.Counter
	panicked        sync.Once
	handshakes      thinned
	accepts         thinned // that failed
}

// New returns the door of one receiver, its counters made.
func New(set receiver.Settings) *Door {
	m := set.Telemetry.Metrics
	d := &Door{set: set, listen: set.Listen, refused: map[string]*telemetry.Counter{}}
	if d.listen == nil {
		d.listen = listenNet
	}
	for _, reason := range receiver.Reasons {
		d.refused[reason] = m.Counter("holdfast_door_refused_total", "Requests refused at the door, by reason.",
			"receiver", set.ID, "reason", reason)
	}
	d.connections = m.Gauge("holdfast_door_connections", "Open connections.", "receiver", set.ID)
	d.metadataDropped = m.Counter("holdfast_door_metadata_dropped_total",
		"Metadata values that were asked for and exceeded what is kept with a payload.", "receiver", set.ID)
	return d
}

// Log is the receiver's logger.
func (d *Door) Log() *zap.Logger { return d.set.Telemetry.Logger }

// Ready reports whether the process accepts data.
func (d *Door) Ready() bool { return d.set.Ready == nil || d.set.Ready() }

// MaxRequest is the limit of a request in bytes, on the wire and decoded, given what is set; 0 = nothing is set.
func (d *Door) MaxRequest(set int64) int {
	if set > 0 {
		return int(set)
	}
	return int(min(maxRequestBytes, d.set.Admission.Limit()/2))
}

// Refused counts a request that was refused before it had a lane.
func (d *Door) Refused(reason string) {
	if c := d.refused[reason]; c != nil {
		c.Inc()
	}
}

// Panicked logs a panic with its stack, the first time it is told of one, and tells whoever wants to know.
func (d *Door) Panicked(r any) {
	if d.set.Panicked != nil {
		d.set.Panicked(fmt.Sprint(r))
	}
	d.panicked.Do(func() {
		d.Log().Error("Panic in a request; it was refused. Further ones are only counted.",
			zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
	})
}

// Lane is the way of one signal over one transport. Its methods may be called from any goroutine.
type Lane struct {
	Signal otlp.Signal

	door     *Door
	sink     receiver.Sink
	maxBytes int
	keys     atomic.Pointer[metadataChoice]

	accepted, refused, failed       *telemetry.Counter // items
	succeededRequests               *telemetry.Counter
	refusedRequests, failedRequests *telemetry.Counter
	seconds                         *telemetry.Histogram
}

// secondsBounds are the buckets of holdfast_door_request_seconds.
var secondsBounds = []float64{
	0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
}

// Lanes returns a lane for every signal that has a sink, its counters made. maxBytes is the limit of a request, on
// the wire and decoded.
func (d *Door) Lanes(transport string, maxBytes int) []*Lane {
	m := d.set.Telemetry.Metrics
	var lanes []*Lane
	for _, s := range otlp.Signals {
		sink := d.set.Sinks[s]
		if sink == nil {
			continue
		}
		l := &Lane{Signal: s, door: d, sink: sink, maxBytes: maxBytes}
		items := func(what, help string) *telemetry.Counter {
			return m.Counter("otelcol_receiver_"+what+"_"+s.ItemName(), help, "receiver", d.set.ID, "transport", transport)
		}
		l.accepted = items("accepted", "Items acknowledged.")
		l.refused = items("refused", "Items answered with an error; 1 per request that was refused before its scan.")
		l.failed = items("failed", "Items lost to an error of our own.")
		requests := func(outcome string) *telemetry.Counter {
			return m.Counter("otelcol_receiver_requests", "Requests, by outcome.",
				"receiver", d.set.ID, "transport", transport, "outcome", outcome)
		}
		l.succeededRequests, l.refusedRequests = requests("success"), requests("refused")
		l.failedRequests = requests("failure")
		l.seconds = m.Histogram("holdfast_door_request_seconds", "Time from the headers of a request to its answer.",
			secondsBounds, "receiver", d.set.ID, "transport", transport)
		lanes = append(lanes, l)
	}
	return lanes
}

// MaxBytes is the limit of a request.
func (l *Lane) MaxBytes() int { return l.maxBytes }
