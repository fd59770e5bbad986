// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package reload changes what a running process does, and takes a change back that does no good.
//
// It stands above the path, not on it: no data passes here. One configuration that is offered is a generation. It is
// read and checked (loading), built beside the running one (preparing), switched to, watched (trial), and then kept
// (committed) or undone (rolled back). Every decision is in Step, a pure function of a state, an event and the time;
// Driver is the one goroutine that asks it and does what it says, through the interfaces of builder.go, which app
// implements. Store keeps what a restart must know: the last-known-good configuration, the attempt under way, the
// last deliveries, and the history.
//
//	       request            loaded              prepared            switched
//	idle ──────────► loading ────────► preparing ──────────► switching ────────► trial ──► idle, committed
//	  ▲                 │ unchanged, rejected │ rejected                           │
//	  └─────────────────┴─────────────────────┘                                    ▼ symptom
//	  └──────────────────────────────────────────────────────────────────── rolling back
//
// It promises that a configuration which cannot be read, checked or built changes nothing; that nothing which can fail
// follows a switch; that going back to a generation that is still warm builds, binds and opens nothing; that the good
// configuration on disk changes only when a trial has ended well; and that every request gets exactly one result.
// It knows neither YAML nor components nor queues. The specification's words are in docs/reload.md.
package reload

import (
	"errors"
	"fmt"
	"time"
)

// Generation numbers the configurations offered to this process; numbers only rise, over restarts too as far as the
// store remembers. 0 = none.
type Generation uint64

// Outcome is where a generation stands; all but the first six are final.
type Outcome string

// The outcomes.
const (
	Received  Outcome = "received"
	Validated Outcome = "validated"
	Prepared  Outcome = "prepared"
	OnTrial   Outcome = "trial"
	// Unconfirmed is on trial, and somebody has to confirm it.
	Unconfirmed Outcome = "unconfirmed"
	Committed   Outcome = "committed"

	Retired    Outcome = "retired"     // was good, and replaced
	Unchanged  Outcome = "unchanged"   // what runs already
	Rejected   Outcome = "rejected"    // nothing was changed
	RolledBack Outcome = "rolled_back" // it was on trial, and what ran before runs again
	Superseded Outcome = "superseded"  // a newer request, or the end of the process, came before its own end
	Stuck      Outcome = "stuck"       // its trial failed and there is no way back: it runs on
)

// Reason is one fixed word on why a generation ended as it did; a label of metrics.
type Reason string

// Why a generation was rejected, rolled back or superseded.
const (
	NoReason Reason = "none"

	ReasonUnstable  Reason = "unstable"  // two readings did not agree in time
	ReasonUnread    Reason = "unread"    // a source cannot be read
	ReasonTooLarge  Reason = "too_large" // or no text at all
	ReasonEmpty     Reason = "empty"
	ReasonInvalid   Reason = "invalid"   // it was read, and is wrong
	ReasonPrepare   Reason = "prepare"   // it cannot be built here
	ReasonTimeout   Reason = "timeout"   // loading or preparing took too long
	ReasonPanic     Reason = "panic"     // loading or preparing it panicked
	ReasonPreflight Reason = "preflight" // a sender cannot deliver, and the one it replaces can
	ReasonHeld      Reason = "held"      // it was rolled back not long ago
	ReasonExpected  Reason = "expected"  // the text is not the one the request expects

	ReasonNoWayBack Reason = "no_way_back" // it was to be confirmed, and there is nothing to go back to
	ReasonNotStored Reason = "not_stored"  // the store has no such configuration to go back to

	ReasonFatal         Reason = "fatal"         // S1
	ReasonListener      Reason = "listener"      // S2
	ReasonAppend        Reason = "append"        // S3
	ReasonMemory        Reason = "memory"        // S4
	ReasonMisconfigured Reason = "misconfigured" // S5
	ReasonUndelivered   Reason = "undelivered"   // S6
	ReasonRefusedData   Reason = "refused_data"  // S7
	ReasonRefusesAll    Reason = "refuses_all"   // S8
	ReasonCrashLoop     Reason = "crash_loop"    // the process ended twice while it was on trial
	ReasonNotConfirmed  Reason = "not_confirmed" // nobody confirmed it in time
	ReasonUnasked       Reason = "unasked"       // a confirmation nobody waits for; no label
	ReasonNewer         Reason = "newer"         // superseded by a newer request
	ReasonWayBack       Reason = "way_back"      // superseded by a request for what ran before
	ReasonStopping      Reason = "stopping"      // the process ends
)

// rejectedReasons, rolledBackReasons and supersededReasons are the label sets of the metrics.
var (
	rejectedReasons = []Reason{ReasonUnstable, ReasonUnread, ReasonTooLarge, ReasonEmpty, ReasonInvalid, ReasonPrepare,
		ReasonTimeout, ReasonPanic, ReasonPreflight, ReasonHeld, ReasonExpected, ReasonNoWayBack,
		ReasonNotStored, ReasonStopping}
	rolledBackReasons = []Reason{ReasonFatal, ReasonListener, ReasonAppend, ReasonMemory, ReasonMisconfigured,
		ReasonUndelivered, ReasonRefusedData, ReasonRefusesAll, ReasonCrashLoop, ReasonNotConfirmed}
	supersededReasons = []Reason{ReasonNewer, ReasonWayBack, ReasonStopping}
)

// Evidence is what a commit was based on.
type Evidence string

// The evidence, best first.
const (
	EvidenceDelivered Evidence = "delivered" // every new or changed sender delivered
	EvidenceProbe     Evidence = "probe"     // those that did not at least answered an empty export
	EvidenceNone      Evidence = "none"
)

// Result is the answer to a request, exactly one for each.
type Result struct {
	Outcome    Outcome    // Committed, Unchanged, Rejected, RolledBack, Superseded or Stuck; OnTrial if that was asked for
	Generation Generation // what became of the request; 0 = it never got as far
	Hash       string     // "" = nothing was read
	Evidence   Evidence   // of a commit
	Reason     Reason
	Text       string    // for people, with file:line where that is known; several lines are possible
	Until      time.Time // OnTrial: it is undone then, unless somebody confirms it; zero = nobody has to
}

// Refusal is an error with the word the metrics count it under. Builders may return one; errors of other kinds count
// as ReasonInvalid from Load and ReasonPrepare from Prepare.
type Refusal struct {
	Reason Reason
	Err    error
}

// Error implements error.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap implements errors.Unwrap.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// reasonOf is the word for err, or other if it brings none.
func reasonOf(err error, other Reason) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return other
}

// Settings are a generation's own wishes for reloads (service::reload). Those of the generation that runs govern the
// trial of the next, so a bad file cannot cut its own net.
type Settings struct {
	Trial     time.Duration `json:"trial"`     // 0 = committed at once
	Preflight bool          `json:"preflight"` // ask senders for an empty export before the switch
	// BadBootFails ends a start whose configuration is refused, instead of starting the good one.
	BadBootFails bool `json:"bad_boot_fails"`
	Watch        bool `json:"watch,omitempty"` // ask for a reload when a file that was named says something else
}

// Record describes one generation.
type Record struct {
	Generation  Generation
	Source      string     // who asked: start, SIGHUP, reload, …
	From        Generation // whose text it has, where it was gone back to that one; 0 = what the sources said
	Hash        string     // SHA-256 of the text, as sha256sum prints it (see HashOf)
	Fingerprint string     // HMAC of the expanded document; never shown, it depends on secrets
	Settings    Settings
	Evidence    Evidence  // once committed
	At          time.Time // committed, or else offered
}

func (r *Record) same(hash, fingerprint string) bool {
	return r != nil && r.Hash == hash && r.Fingerprint == fingerprint
}
