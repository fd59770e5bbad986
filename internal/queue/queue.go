// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package queue is the contract of the queue in front of the destinations of one pipeline: append, take, resolve.
//
// A pipeline appends a record once; every attached destination owns a cursor over the records and resolves each of
// them in its own time. queue/memory keeps records in memory, the journal keeps them on disk; queue/queuetest is the
// suite both pass. The contract is section 3 of the journal's specification. Standard library only.
package queue

import (
	"context"
	"time"
)

// Seq numbers the records of one queue from 1, ascending in the order of acceptance.
type Seq uint64

// Record is what a queue stores: opaque bytes and the numbers the books and the batches count.
type Record struct {
	Tag   uint8  // opaque; the pipeline keeps the signal here
	Items uint32 // what the books count
	Size  uint32 // uncompressed bytes, which limits and batches count
	Meta  []byte // request metadata, opaque, immutable
	Body  []byte // payload, opaque, immutable
	Free  func() // called once when the queue and all leases let go of Meta and Body; may be nil
	// Keep may be called by a lease's holder before it resolves: Body may be read later still, so Free must not lead
	// to its memory being used again. nil = unknown, a holder copies what may be read later.
	Keep func()
}

// Sizer is the unit of a limit or a batch.
type Sizer uint8

// The sizers. Requests is not a unit of batches.
const (
	Requests Sizer = iota
	Items
	Bytes
)

// String is the sizer's word in the configuration.
func (s Sizer) String() string {
	switch s {
	case Items:
		return "items"
	case Bytes:
		return "bytes"
	}
	return "requests"
}

// Queue takes records and hands them to cursors. Every method may be called from any goroutine.
type Queue interface {
	// Append stores r and owes it to every destination attached at that moment. After nil the bytes belong to the
	// queue until Free; after an error they stay the caller's and the record is not acknowledged. Final:
	// ErrTooLarge. Retryable: *FullError, ErrBusy, ErrDisk, ErrClosed. ctx is heeded until the record has joined a
	// commit; from then on Append waits for the outcome, so the answer is exact.
	Append(ctx context.Context, r Record) error
	// Attach returns one more handle of the named destination's cursor. The first handle makes a prepared, parked
	// or done name live. It cannot fail.
	Attach(name string) Cursor
	// Close refuses appends, finishes what is being committed, returns all leases, and frees what is in memory
	// only. It resolves nothing and waits for no backend.
	Close(ctx context.Context) error
}

// Roster says who is owed what; it serves start and reload.
type Roster interface {
	// Prepare does all that can fail for a name without a cursor; nothing is owed to it yet.
	Prepare(d Destination) error
	// Detach says that the destination left the configuration: its cursor parks.
	Detach(name string)
	// Inherit lets heir serve the parked cursor name.
	Inherit(name, heir string) (Cursor, error)
	// Disinherit ends the service of the heir of the parked cursor name: it may have another one. Without an heir it does
	// nothing. The heir's handles get nothing more.
	Disinherit(name string)
	// Forget undoes a destination: what is unresolved is no longer owed. It returns what was delivered.
	Forget(name string) Counts
	// List describes every cursor found.
	List() []Info
}

// Cursor is one handle of a destination's place in the queue. Leases belong to the handle that took them; all
// handles of a cursor share its window. Every method may be called from any goroutine.
type Cursor interface {
	// Take leases at least one record, ascending by Seq, and waits until a batch that satisfies w is ripe, or ctx
	// ends. The bytes stay valid until the record is resolved by this handle, also after Close.
	Take(ctx context.Context, w Want) ([]Delivered, error)
	// Resolve ends leases of this handle. It fails only for Dead, and then the records are nacked.
	Resolve(o Outcome, seqs ...Seq) error
	// Wake forgets all delays.
	Wake()
	// Fill describes the backlog; it never blocks.
	Fill() Fill
	// Close returns this handle's leases, uncounted. An Ack that comes later still counts if the record is
	// unresolved; any other outcome only lets go of the bytes.
	Close()
}

// Destination names one owner of a cursor and its limits.
type Destination struct {
	Name      string   // canonical component ID: "otlp" and "otlp_grpc" are one name
	Exporters []string // exporter IDs behind it, levels in order
	Stored    bool     // its queue names a storage
	Limit     Limit
}

// Limit bounds what one cursor may hold.
type Limit struct {
	Sizer      Sizer
	Max        int64  // 0 = none
	BatchItems uint32 // items of a batch made behind this queue; 0 = plain records. Read for Requests only
	Block      bool   // appends wait instead of being refused
}

// Want describes the batch a Take asks for.
//
// From is a second place to read at: while a backlog is drained, what is appended since may go beside it. Zero is the
// queue's order. Above all that a Take of the cursor asked for before, it splits what the cursor is owed into what is
// below it and the rest, each with a window of its own; no batch has records of both. A Take with From gets a ripe batch
// of the rest, or else one of what is below, and one without the other way round; each part is handed out in order.
// When nothing below is left to hand out, the parts are one again. After a few splits (window.MaxParts) at one time, or
// at or below an earlier one, From is only a preference for the part that is there. It lives as long as the process: what
// is resolved is known by number, whatever the order, and a cursor that may not know more gaps hands out no new record
// until some are closed.
type Want struct {
	Sizer    Sizer         // unit of Min and Max: Items or Bytes
	Min      int64         // enough to go at once; 0 = what is there
	Max      int64         // never more; 0 = no bound
	MaxBytes int64         // bound on the sum of Size, whatever the Sizer; 0 = no bound
	Linger   time.Duration // how long the oldest record may wait for Min
	// Joins says whether next may travel with first; nil = nothing joins.
	Joins func(first, next *Record) bool
	From  Seq // zero = the queue's order, else records from this number on go first
}

// Delivered is one leased record.
type Delivered struct {
	Record
	Seq      Seq
	Attempt  int // nacks since start
	Accepted time.Time
}

// Kind is what became of a leased record.
type Kind uint8

// The outcomes of Resolve.
const (
	Ack     Kind = 1 + iota // final: delivered
	Nack                    // lease ends, Attempt + 1, offered again after Delay
	Release                 // lease ends, nothing counted
	Dead                    // final, rejected, set aside with Reason
	Drop                    // final, counted and listed under Reason
)

// Outcome is the argument of Resolve.
type Outcome struct {
	Kind  Kind
	Delay time.Duration // Nack: at most one hour, larger values are cut
	// Rejected, of one record: so many of its items were refused by the backend, the others were delivered. Ack: 0 =
	// none; Dead: 0 = all. The record is set aside whole, and its Reason says which items.
	Rejected uint32
	Reason   string // Dead, Drop
}

// Fill is a snapshot of one cursor's backlog.
type Fill struct {
	Records  int64
	Items    int64
	Bytes    int64         // uncompressed
	Size     int64         // in the limit's sizer
	Capacity int64         // the limit, 0 = none
	Oldest   time.Duration // age of the oldest unresolved record, 0 = none
	Leased   int64         // records handed out
	Last     Seq           // the youngest number appended to the queue, whoever is owed it; 0 = none
}

// Counts are a cursor's books, in items.
type Counts struct {
	Accepted, Delivered, Rejected, Queued, Parked uint64
	Dropped                                       map[string]uint64 // by reason
}

// Imbalance is what the books lack: accepted minus all that became of it. It must be 0.
func (c Counts) Imbalance() int64 {
	sum := c.Delivered + c.Rejected + c.Queued + c.Parked
	for _, n := range c.Dropped {
		sum += n
	}
	return int64(c.Accepted - sum)
}

// State is where a cursor stands in the roster.
type State uint8

// The states of a cursor.
const (
	Prepared State = 1 + iota
	Live
	Parked
	Done
)

// Info describes one cursor for people and for reload.
type Info struct {
	Name      string
	Exporters []string
	State     State
	Heir      string // who serves it while parked; empty = nobody
	Counts    Counts
	Oldest    time.Duration
}
