// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package exporter is the contract of the back door: send one request and say the verdict.
//
// An exporter does not retry, queue or batch, and does not know whether it is first or second. It turns whatever a
// backend says into one of six verdicts (design, section 4); nobody above it reads status codes.
package exporter

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

// Exporter sends requests to one place.
type Exporter interface {
	// Start opens what can fail (certificates, files); it does not wait for a backend to be reachable.
	Start(ctx context.Context, host component.Host) error
	// Send delivers r or says why not. It returns when the verdict is known or ctx ends, whichever is first, and
	// may be called from any number of goroutines. The bytes of r stay the caller's and are not changed, nor
	// kept but by Request.Keep.
	Send(ctx context.Context, r *Request) Verdict
	// Stop ends what Start began. No Send runs beside or after it.
	Stop(ctx context.Context) error
}

// Request is one export request: the concatenation of Parts, each of them a whole request in the same encoding.
type Request struct {
	Signal   otlp.Signal
	Encoding otlp.Encoding
	Items    uint32
	Size     int64 // bytes of all parts without their encoding
	Parts    [][]byte
	Metadata otlp.Metadata
	// Keep, if set, may be called before Send returns by an exporter that cannot rule out that something below it goes
	// on reading Parts: their memory is then not used again. Where it is nil such an exporter copies.
	Keep func()
	// Receipt is set where the request goes to an emergency level: the exporter is its last holder, and keeps books of
	// what it owes (failover, section 12). Exporters that keep none need not look at it.
	Receipt *Receipt
}

// Receipt says who owes a request's data to whom.
type Receipt struct {
	Pipeline, Connector string // IDs as written
	// Records are those of the journal that the request consists of; nil where they are not to be known again.
	Records []ReceiptRecord
}

// ReceiptRecord names a record of a journal.
type ReceiptRecord struct {
	Seq      uint64
	Accepted time.Time
}

// Kind is one of the six verdicts.
type Kind uint8

// The verdicts.
const (
	Delivered     Kind = 1 + iota // resolve; Rejected items of it were refused
	Retry                         // not taken: here again, or at the next level
	RetryAfter                    // not before After
	Ambiguous                     // may have been taken; sending again may duplicate
	Misconfigured                 // endpoint, credentials or protocol are wrong; keep the data
	Rejected                      // this data will never be taken here
)

var kindWords = [...]string{"none", "delivered", "retry", "retry_after", "ambiguous", "misconfigured", "rejected"}

// String is the verdict's word in metrics and logs.
func (k Kind) String() string {
	if int(k) < len(kindWords) {
		return kindWords[k]
	}
	return "none"
}

// Verdict is an exporter's answer.
type Verdict struct {
	Kind     Kind
	After    time.Duration // RetryAfter: the delay asked for; 0 = none was named
	Rejected uint32        // Delivered: items the backend refused (partial success)
	TooLarge bool          // Rejected because of its size: smaller pieces may pass
	Unclear  bool          // Retry by an answer that does not tell payload trouble from endpoint trouble
	Message  string        // Delivered: the backend's warning; at most 1 KiB
	Err      error         // cause, nil when delivered
}

// Deliver is the verdict of an untroubled delivery.
func Deliver() Verdict { return Verdict{Kind: Delivered} }

// Settings are what an exporter is given besides its configuration.
type Settings struct {
	ID        string // as written in the configuration; the label of its metrics
	Telemetry *telemetry.Telemetry
	Version   string // of this program, for user agents
	// Offline says that nobody is to be connected to, or asked where he is, before the first Send.
	Offline bool
}

// Factory makes exporters of one type.
type Factory struct {
	Type    string   // canonical type
	Aliases []string // other spellings of it
	Signals []otlp.Signal
	Queue   QueueMode
	Default func() any // a pointer to the configuration, defaults filled in
	New     func(set Settings, cfg any) (Exporter, error)
}

// QueueMode says how deliveries of an exporter without a written sending_queue are made.
type QueueMode uint8

const (
	// QueueByDefault: a memory queue with the default settings stands in front (OTLP exporters).
	QueueByDefault QueueMode = iota
	// QueueImplied: the type has no sending_queue key, and stands behind a memory queue all the same (file).
	QueueImplied
	// QueueIfWritten: no queue unless sending_queue is written; the answer waits for the delivery (debug, nop).
	QueueIfWritten
)
