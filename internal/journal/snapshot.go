// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Level says how much an Event matters.
type Level uint8

// The levels: an alarm is worth waking somebody.
const (
	Info Level = iota
	Warn
	Alarm
)

// Event is something people should know. It is handed over outside all locks, from whatever goroutine met it.
type Event struct {
	At                    time.Time
	Level                 Level
	Kind                  Kind
	Pipeline, Destination string // may be empty
	Text                  string // one sentence, lower case
	Reason                string // of a drop: a word of section 7; of a dead letter: the backend's
	Records, Items        uint64 // of a drop, a dead letter, a loss
	First, Last           queue.Seq
	Err                   error
}

// Kind is what an Event is about.
type Kind string

// The kinds of events.
const (
	Opened    Kind = "opened"    // a journal was opened and recovered
	Changed   Kind = "state"     // a journal's state changed: ok, full, broken, detached
	Dropped   Kind = "drop"      // records were given up: a drop record was written
	SetAside  Kind = "dead"      // a record became a dead letter
	Evicted   Kind = "evicted"   // the oldest dead letters went to make room
	Damaged   Kind = "damage"    // bytes on disk do not hold
	Condemned Kind = "condemned" // a write or sync failed; the segment is not written any more
	Parked    Kind = "parked"    // a destination left the configuration and has a backlog
	Inherited Kind = "inherited" // a backlog got an heir
	Slow      Kind = "slow"      // a sync or a slot write runs long or fails
	Noted     Kind = "note"      // what recovery did, what the surroundings are
)

// Snapshot describes one journal. All counters start at 0 with the process, Counts excepted: these are the books.
type Snapshot struct {
	Pipeline string
	Head     bool
	State    string // ok, full, broken, detached, closed
	Err      error  // why it is not ok

	AppendedRecords, AppendedItems uint64
	RefusedItems                   map[string]uint64 // by limit, or disk, busy, closed
	Segments                       int
	SegmentBytes                   int64         // allocated
	Unsynced                       time.Duration // age of the oldest write that is not durable
	SyncAge                        time.Duration // age of the sync that runs
	Condemned                      uint64
	DamagedRanges                  uint64
	DeadEvictedItems               uint64
	DeadRecords, DeadItems         uint64 // there now
	CacheBytes                     int64
	CacheHits, CacheMisses         uint64 // records handed out from memory, from disk
	Recovery                       time.Duration
	RecoveryScannedBytes           int64
	Destinations                   []DestinationSnapshot
}

// DestinationSnapshot describes one cursor.
type DestinationSnapshot struct {
	Name        string
	Heir        string // who serves it while parked, "pipeline" or "pipeline:destination"; empty = nobody
	State       queue.State
	Fill        queue.Fill
	Counts      queue.Counts
	Imbalance   int64 // items of Counts that do not add up; must be 0
	Resolved    map[Resolution]Tally
	Redelivered uint64 // records handed out again, whatever ended their lease
}

// Resolution is how records were resolved since start.
type Resolution struct {
	Outcome string // delivered, rejected, dropped
	Reason  string // of dropped
}

// Tally counts records and their items.
type Tally struct{ Records, Items uint64 }

// StoreSnapshot describes a directory.
type StoreSnapshot struct {
	Directory        string
	DiskBytes        map[string]int64 // allocated, by kind: segments, cursors, dead, bad, reserve, foreign
	Limit, Free      int64            // bytes: the cap, what the volume has
	UntilFull        time.Duration    // at the rate of the last minutes; 0 = it does not grow
	CacheBytes       int64
	CacheLimit       int64
	MemoryBoundBytes int64 // what its journals may hold in memory at most, leases excepted
}

// Observer takes what becomes histograms; nil fields are not called. The functions are quick and do not block.
type Observer struct {
	Append       func(pipeline string, d time.Duration)
	Sync         func(pipeline string, d time.Duration)
	GroupRecords func(pipeline string, n int)
}
