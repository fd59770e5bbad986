// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

import "time"

// ChangeKind says what a change is about.
type ChangeKind uint8

// The kinds.
const (
	Moved     ChangeKind = 1 + iota // the state changed
	Struck                          // a strike that did not change it
	Confirmed                       // a good recovery probe, or one live batch of several
	Refuted                         // a failed probe of the emergency file
	PutOff                          // the endpoint asked for silence
	Warned                          // the reason says of what; the state did not change
)

// Change is what a method reports: a line in the log, a step of a counter, evidence in the status.
type Change struct {
	Kind       ChangeKind
	From, To   State
	Reason     Reason
	By         Purpose   // what brought it
	Strike, Of int       // strikes of the run and how many trip, where a strike brought it
	Silent     bool      // it became silent
	Confirmed  int       // good probes so far
	Needed     int       // good probes before the canary
	Failed     int       // recovery probes and canaries failed in a row
	Until      time.Time // PutOff: silence until then
	Generation uint64
	Next       time.Time // next recovery probe; zero while it carries
	Evidence   Evidence
}

// Evidence is what a decision stood on.
type Evidence struct {
	Strikes   int    // of the run
	Failed    int    // attempts and probes in the window
	Delivered int    // in the window
	Slow      int    // attempts in the window that took too long
	Error     string // the last cause
}

// Purpose is why a probe was sent, and where an outcome comes from.
type Purpose uint8

// The purposes.
const (
	ByTraffic  Purpose = iota
	ByEvidence         // evidence probe
	ByCheck            // check while it carries
	ByRecovery         // recovery probe
	ByCanary           // live batch as the last proof
)

var purposeWords = [...]string{"traffic", "evidence", "check", "recovery", "canary"}

// String is the purpose's word in metrics and logs.
func (p Purpose) String() string {
	if int(p) < len(purposeWords) {
		return purposeWords[p]
	}
	return "none"
}

// Reason is why a breaker changed.
type Reason uint8

// The reasons: of trips first, then of the other moves.
const (
	NoReason          Reason = iota
	Consecutive              // strikes without a delivery
	Startup                  // the same before the first delivery
	SiblingDown              // a strike after a sibling's trip
	Ratio                    // failed share of the window
	Standing                 // misconfigured
	Checks                   // checks failed in a row
	Throttled                // asked for silence for too long
	WriteFailed              // the emergency file
	Failure                  // a strike
	SiblingTrip              // a sibling tripped
	Quiet                    // no strike for a window
	ProbeIsDue               //
	ProbeGood                // a confirmation
	StillGood                // the same, while the canary waits for a batch
	ProbeFailed              // recovery probe
	CanaryFailed             //
	ProofComplete            // canary delivered
	WritesAgain              // the emergency file
	ProbeIsNotTrusted        // an external probe that was never good proves nothing
	Slow                     // a trip: deliveries took too long
	Relapse                  // a trip: a failure while ramping
	Ramped                   // the share has grown to all
	ByOperator               // held
	HoldEnded                // its time is over
	Released                 // an operator ended the hold
	FromBefore               // was down before a restart
)

var reasonWords = [...]string{
	"none", "consecutive", "startup", "sibling", "ratio", "misconfigured", "probe", "throttled", "write", "failure",
	"sibling_trip", "quiet", "due", "good", "still_good", "probe_failed", "canary_failed", "canary", "write", "untrusted",
	"slow", "relapse", "ramped", "hold", "hold_expired", "release", "remembered",
}

// String is the reason's word in metrics and logs.
func (r Reason) String() string {
	if int(r) < len(reasonWords) {
		return reasonWords[r]
	}
	return "none"
}

// ReasonOf is the reason with this word; NoReason = there is none.
func ReasonOf(word string) Reason {
	for i, w := range reasonWords {
		if w == word {
			return Reason(i)
		}
	}
	return NoReason
}
