// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package receiver is the contract of the front door: what a receiver is given and what it hands on.
//
// A receiver checks what comes in, in the order of cost (connection, TLS, header limits, authentication, admission,
// size, bounded decode, scan), hands payloads to a Sink, and turns the Sink's answer into the protocol's. It knows
// no queue and no exporter.
package receiver

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/admission"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Receiver listens. A receiver serves every signal it has a sink for, and answers "unimplemented" for the others.
type Receiver interface {
	// Start binds and serves; after nil every listener is open.
	Start(ctx context.Context, host component.Host) error
	// Stop closes the listeners, lets running requests end until ctx does, and then cuts them.
	Stop(ctx context.Context) error
}

// Retirer is a receiver that can be switched out without refusing anybody. It is optional.
type Retirer interface {
	// Retire asks the clients of the existing connections to leave, each in the way of its protocol, and serves them
	// on until they have, into whatever its sinks say. It returns when they have left, or when ctx is done, having cut
	// who was left; an error says what could not be ended. Whoever took the listeners over gets the new connections;
	// the receiver itself stays able to serve, should it get some again, and may be retired again. Stop ends it, and
	// may run beside Retire, which then ends with it. Before Start and after Stop it does nothing.
	Retire(ctx context.Context) error
}

// ListenFunc opens a listener; a reload hands over one whose socket may be open already. Errors are those of
// net.Listen.
type ListenFunc func(ctx context.Context, network, address string) (net.Listener, error)

// Sink is the next step of one signal. Every method may be called from any goroutine.
type Sink interface {
	// Admit asks for n bytes of memory before a body is read; the grant grows with what is read and decoded, and is
	// released when the request is answered. An error is a *Refusal.
	Admit(n int64) (*admission.Grant, error)
	// Accept hands p over. After nil the payload is as safe as the configuration asks for and its bytes are the
	// sink's; after an error (a *Refusal, or ctx's) they are the caller's again. Payloads without items are
	// answered by the receiver and never get here.
	Accept(ctx context.Context, p *otlp.Payload) (Result, error)
	// MetadataKeys names, in lower case, the request metadata to keep with payloads; nil = none. It is asked once per
	// request: who returns the same slice again, which nobody changes, saves the work of looking at it.
	MetadataKeys() []string
}

// Result is what there is to say of an accepted payload.
type Result struct {
	Rejected uint32 // items the backend refused; only where no queue stands between
	Message  string // the backend's text
}

// Code says what a refusal means to a client.
type Code uint8

// The codes; the doors map them to status codes (compat, section 10).
const (
	Malformed   Code = 1 + iota // InvalidArgument, 400: final
	TooLarge                    // ResourceExhausted without hint, 413: final
	Unavailable                 // Unavailable with RetryInfo, 503 with Retry-After
	Unsupported                 // Unimplemented, 415
	Denied                      // a backend without a queue in between refused the data: InvalidArgument, 400
)

// The words of holdfast_door_refused_total's label reason.
const (
	ReasonAdmission   = "admission"
	ReasonTooLarge    = "too_large"
	ReasonMalformed   = "malformed"
	ReasonDepth       = "depth"
	ReasonItems       = "items"
	ReasonEncoding    = "encoding"
	ReasonContentType = "content_type"
	ReasonAuth        = "auth"
	ReasonTimeout     = "timeout"
	ReasonQueueFull   = "queue_full"
	ReasonDisk        = "disk"
	ReasonStopping    = "stopping"
	ReasonConnections = "connections"
)

// Reasons lists every reason once, for counters that must exist before they count.
var Reasons = [...]string{
	ReasonAdmission, ReasonTooLarge, ReasonMalformed, ReasonDepth, ReasonItems, ReasonEncoding, ReasonContentType,
	ReasonAuth, ReasonTimeout, ReasonQueueFull, ReasonDisk, ReasonStopping, ReasonConnections,
}

// Refusal is the error of a door or a sink that did not take a request.
type Refusal struct {
	Code   Code
	Reason string        // one of Reasons
	After  time.Duration // Unavailable: when to come back, jittered already
	Text   string        // for the client: offset and cause, never payload
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.Text) }

// Settings are what a receiver is given besides its configuration.
type Settings struct {
	ID        string // as written in the configuration; the label of its metrics
	Telemetry *telemetry.Telemetry
	Sinks     map[otlp.Signal]Sink
	Admission *admission.Gate
	// Listen opens the receiver's listeners; nil = the network's.
	Listen ListenFunc
	// Ready reports whether the process accepts data, for health answers of the protocol.
	Ready func() bool
	// Panicked is told of every panic of a request, which was refused; nil = nobody is. It must not wait.
	Panicked func(text string)
}

// Factory makes receivers of one type.
type Factory struct {
	Type    string
	Aliases []string
	Default func() any // a pointer to the configuration, defaults filled in
	New     func(set Settings, cfg any) (Receiver, error)
}
