// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package commit is the write side of one journal: what it answered with nil is on disk, as safely as configured.
//
// It stands between the journal's Append and the segments. Records wait in one line; the flusher takes as many of them
// as fit one write, gives them numbers, writes and syncs them as one group, hands them to the journal above (Host) and
// answers them all at once. What arrived during the last sync is the next group, so that appenders share syncs without
// anybody waiting for company.
//
//	Append ─► lobby ─► line ─► group ─► active segment ─► sync ─► Publish ─► answer      (flusher)
//	        no room   32 MiB   8 MiB      │        └─ unsynced mode: after the answer    (syncer)
//	                                      └─ full: the prepared one is next, this one is sealed   (Tend)
//
//	state   ok ──no space──► full ──┐
//	         │ ◄──space, a rescue───┤     in full and broken appends fail at once; Tend tries to get out
//	         └──a write fails──► broken
//	        any ──Close──► closed
//
// It promises G1, G2, G6 and the write side of G7 and G14 of the journal's specification (sections 8 and 11): a number
// is given out once and never again; nil means written, and in synced mode durable; after a failed write or sync a file
// is never written or synced again, and what was in it and not known durable goes to another file before it is
// answered. A refused record is void on disk as soon as the next segment begins.
//
// It refuses to know cursors, limits and deletion: the Host says who is owed what and what may be allocated. It reads
// nothing back.
package commit

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/queue/window"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Bounds (section 2 of the journal's specification).
const (
	maxGroupBytes   = 8 << 20 // frames of one group; one larger record alone
	maxGroupRecords = 1024
	maxLineBytes    = 32 << 20        // frames that wait for the flusher; one larger record alone
	maxWait         = 5 * time.Second // for room in the line, then ErrBusy

	syncBytes        = 8 << 20                // unsynced frames at which a sync starts
	maxUnsyncedBytes = 32 << 20               // and at which the next group waits
	syncAfter        = 100 * time.Millisecond // after the oldest unsynced write
)

// Position is where the records of an earlier process end: what recovery found.
type Position struct {
	Seq   queue.Seq // last number given out
	Items uint64    // accepted up to it
	ID    uint64    // highest segment id seen
	// What the next segment's header says of the one before it (section 5).
	PrevID      uint64
	PrevLastSeq queue.Seq
	PrevDurable segment.Offset
}

// Settings are what the program passes to a Log.
type Settings struct {
	Disk         vfs.FS
	Dir          string // of the segments; it exists and is durable
	Journal      [16]byte
	Tag          uint8            // of its records, for headers
	Synced       bool             // answer after the sync, not before; see SetSynced
	SegmentBytes int64            // size of a segment; one for a larger record has the size that takes
	Now          func() time.Time // wall clock, for people; nil = time.Now
	At           Position
	Host         Host
	// Observe, which may be nil, is told how long each step took. It is called from the goroutine that did it and
	// must not block.
	Observe func(Step, time.Duration)
}

// Step is a part of the work that takes time.
type Step uint8

// The steps that Observe is told of.
const (
	Wrote    Step = iota // one group to the active segment
	Synced               // one sync of a segment
	Prepared             // allocation of a segment, also one that failed
	Sealed               // seal of a segment
	Rescued              // a rescue, also one that failed
)

// String is the step in a word.
func (s Step) String() string {
	return [...]string{"write", "sync", "prepare", "seal", "rescue", "unknown"}[min(s, Rescued+1)]
}

// Host is the journal above. Every call comes without any lock of the Log held. Roster, Publish, Void, Owed and Durable
// come from the flusher alone, one after the other; Room, Gave, Squeeze, Sealed and Condemned also from the goroutines of
// Tend and Close, beside them. None of them may call Append, Tend or Close of the Log.
type Host interface {
	// Roster is asked when a group is about to be made: after nil the numbers up to upTo are given out, whatever
	// becomes of the group, and who attaches from now on is not owed them. It returns a version that changes with the
	// set of live cursors, and their hashes for the next header, which are not changed afterwards. An error fails the
	// group before anything is written or given out, say because a slot that makes a cursor live could not be made
	// durable; it should be a queue.ErrDisk.
	Roster(upTo queue.Seq) (version uint64, cursors []uint64, err error)
	// Publish hands over a committed group, in order, before its appenders are answered. seg is the segment it is in,
	// sum what that segment holds now (its index may be kept); seg is not changed afterwards. entries may be empty: a
	// rescue took over what was published before. Entries carry Seq and Accepted; the slice is only lent. items:
	// accepted by the journal up to the last entry, or so far if there is none.
	Publish(seg *segment.Header, path string, sum segment.Summary, entries []*window.Entry, items uint64)
	// Void: the group Roster was asked for last is about to be refused. Nothing is being written now, and the numbers
	// above the last one published are nobody's.
	Void()
	// Owed says whether anybody may still need one of these published records, now or after a crash. No is for good.
	Owed(first, last queue.Seq) bool
	// Durable: everything up to seq (items accepted up to it) is durable now, and can be read from the segments as
	// published, but for what is owed to nobody. Meta and Body of entries above it must not be freed or changed: they may have to be written again. In
	// synced mode it follows each Publish, before the answer.
	Durable(seq queue.Seq, items uint64)
	// Sealed: the segment is complete; sum is its seal.
	Sealed(id uint64, sum segment.Summary)
	// Condemned: a write or sync of the segment failed; it is never written again, still read. It may be one that was
	// never published; its file is removed by the Log.
	Condemned(id uint64, cause error)
	// Room asks to allocate n bytes; *queue.FullError or another error denies. They are given back by Gave when a file
	// is cut or removed by the Log. Room may do work (giving up old data). Squeeze cuts the RESERVE after a rescue
	// found no space, and says whether that freed any.
	Room(n int64) error
	Gave(n int64)
	Squeeze() bool
}

// State is whether a Log takes records.
type State uint8

// The states of section 11 that a Log knows.
const (
	OK     State = iota
	Full         // no space to be had; the cause is a *queue.FullError
	Broken       // writing fails; the cause is a queue.ErrDisk
	Closed
)

// String is the state in a word.
func (s State) String() string { return [...]string{"ok", "full", "broken", "closed"}[min(s, Closed)] }

// Stats is a copy of a Log's counters since Open.
type Stats struct {
	Records, Items, Bytes uint64        // committed; Bytes is Meta and Body
	Groups, Syncs         uint64        // Syncs: of groups, not of files being made or sealed
	Condemned, Rescues    uint64        // Rescues that went well
	Waiting               int64         // bytes of frames that wait for the flusher
	UnsyncedBytes         int64         // bytes of frames answered and not known durable
	Unsynced              time.Duration // age of the oldest of them
	SyncAge               time.Duration // of the running sync, 0 = none runs
}

// Log appends records to the segments of one journal. Append, State, Stats, Wanted, Roll, SetSynced and
// SetSegmentBytes may be called from any goroutine.
type Log struct {
	set      Settings
	wanted   chan struct{} // for Tend; room for one
	wake     chan struct{} // for the flusher; room for one
	syncWake chan struct{} // for the syncer; room for one, closed when there will be no more
	flushed  chan struct{} // closed when the flusher has ended, and the syncer
	making   chan struct{} // holds a token while somebody allocates a segment
	tending  chan struct{} // holds a token while somebody tends or cleans up
	waiters  sync.Pool     // *waiter; a field, so that channels never cross test bubbles
	followed atomic.Bool   // see Followed
	segment  atomic.Int64  // bytes of the segments that are made

	f  flusher // the flusher's own
	mu struct {
		sync.Mutex
		state   State
		cause   error // what Append answers in all states but OK
		closing bool
		cleaned bool  // Close has tidied up
		lost    error // what Close could not make durable

		line    list    // records that wait for the flusher
		lobby   list    // records that wait for room in the line
		waiting int64   // bytes of frames in the line
		next    *answer // of the group that is made next
		idle    bool    // the flusher sleeps until it is woken
		roll    bool    // the next group is to begin a new segment
		synced  bool    // the mode asked for
		retry   bool    // Tend asks for another rescue

		id       uint64    // highest given out
		blanks   []*blank  // prepared
		wanting  bool      // one more is wanted
		usable   bool      // there is an active segment that can be written
		stranded bool      // published records wait for a rescue
		retired  []*seg    // to be sealed
		litter   []remains // names that could not be removed yet

		jobs      []job
		results   []result
		syncSince time.Time // start of the running sync, zero = none
		oldest    time.Time // unsynced write, zero = none
		stats     Stats
	}
}

// Open starts a Log. It writes nothing yet: the first Tend prepares a segment.
func Open(set Settings) *Log {
	if set.Now == nil {
		set.Now = time.Now
	}
	l := &Log{
		set: set, wanted: make(chan struct{}, 1), wake: make(chan struct{}, 1), syncWake: make(chan struct{}, 1),
		flushed: make(chan struct{}), making: make(chan struct{}, 1), tending: make(chan struct{}, 1),
	}
	l.SetSegmentBytes(set.SegmentBytes)
	l.waiters.New = func() any { return new(waiter) }
	l.mu.next = newAnswer()
	l.mu.id, l.mu.synced, l.mu.wanting = set.At.ID, set.Synced, true
	l.f = newFlusher(set.At)
	l.want()
	go l.flush()
	return l
}

// Wanted receives when Tend has something to do.
func (l *Log) Wanted() <-chan struct{} { return l.wanted }

func (l *Log) want() {
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// Roll makes the next group begin a new segment, if one can be had.
func (l *Log) Roll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.roll = true
}

// SetSynced changes the mode with the next segment, which the next group begins, if one can be had.
func (l *Log) SetSynced(synced bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.synced = synced
}

// SetSegmentBytes changes the size of the segments that are made from now on.
func (l *Log) SetSegmentBytes(bytes int64) {
	bytes = max(bytes, segment.FileBytes(segment.BlockBytes))
	l.segment.Store(bytes + -bytes&(segment.BlockBytes-1))
}

// State is whether the Log takes records, and if not why: the error that Append returns.
func (l *Log) State() (State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.state, l.mu.cause
}

// Stats is a copy of the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.stats
	s.Waiting = l.mu.waiting
	if !l.mu.oldest.IsZero() {
		s.Unsynced = time.Since(l.mu.oldest)
	}
	if !l.mu.syncSince.IsZero() {
		s.SyncAge = time.Since(l.mu.syncSince)
	}
	return s
}

func (l *Log) observe(step Step, since time.Time) {
	if l.set.Observe != nil {
		l.set.Observe(step, time.Since(since))
	}
}
