// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import "time"

// EventKind is what happened.
type EventKind uint8

// The events. Those from EventLoaded to EventStored answer an action, each exactly one.
const (
	EventBoot      EventKind = 1 + iota // the process begins: Boot
	EventRequested                      // Request
	EventLoaded                         // to ActionLoad: Generation, Loaded, Err
	EventPrepared                       // to ActionPrepare: Generation, Probes, Err
	EventSwitched                       // to ActionSwitch: Generation, Before and Sample
	EventStored                         // to ActionStoreGood: Generation, Err
	EventSampled                        // Sample of what runs; nil = time has passed
	EventConfirmed                      // a person says that the trial went well: Request, of which ID and Expect count
	EventStop                           // the process ends
)

// Event is what the machine is told. Which fields count says the kind.
type Event struct {
	Kind       EventKind
	Generation Generation
	Request    Request
	Loaded     Loaded // also with Err, as far as it got
	Err        error
	Probes     []Probe
	Sample     *Sample // of what runs now
	Before     *Sample // of what ran until now; nil = nothing did
	Boot       *Boot
}

// Request asks for the configuration to be read again.
type Request struct {
	ID      uint64        // of whoever waits for a result; 0 = nobody does
	Source  string        // SIGHUP, reload, …
	Force   bool          // skips hold and preflight
	Confirm time.Duration // 0 = none: the trial lasts until confirmed, and is undone after so long
	Begun   bool          // who waits hears that it is on trial, and not how that ends
	Expect  string        // EventConfirmed: first digits of the hash that is meant; "" = whatever waits
	Back    bool          // offers a stored generation instead of what the sources say
	To      Generation    // with Back: which; 0 = the one before what runs
}

// Loaded is what is known of a configuration after it was read.
type Loaded struct {
	Hash        string // "" = nothing was read
	Fingerprint string
	Settings    Settings
	From        Generation // the stored one whose text it is; 0 = it is what the sources say
	Sources     string     // with From: the hash of what the sources say; "" = not known
}

// Boot is what the store knows when the process begins.
type Boot struct {
	Good       *Record              // last-known-good; nil = none
	Attempt    *Attempt             // one that never ended: the last process died in it
	Last       Generation           // highest number ever given
	Deliveries map[string]time.Time // last delivery per sender, before this process
	Forgets    bool                 // there is no store: the next process will know nothing
}

// Attempt is what is on disk from just before a switch, at boot from before building, until its commit, its rollback
// or a clean stop. Finding it at boot means an unclean end.
type Attempt struct {
	Generation Generation `json:"generation"`
	Hash       string     `json:"hash"`
	Unclean    int        `json:"unclean"` // ends of the process without a clean stop while this hash was on trial
	Held       bool       `json:"held"`    // it reached maxUnclean: not tried again before another text is offered
	// Confirm says that a person was to confirm it: undone by any end of the process. With Held nobody did in time.
	Confirm bool `json:"confirm,omitempty"`
}

// maxUnclean is how many unclean ends in a trial make a crash loop.
const maxUnclean = 2

// ActionKind is what is to be done.
type ActionKind uint8

// The actions, done in the order they come.
const (
	ActionLoad         ActionKind = 1 + iota // read and load the sources as Generation; Stored: the good texts; Back: those of Of
	ActionPrepare                            // prepare what was loaded as Generation; Preflight: and ask its senders
	ActionCancel                             // end the load or prepare under way; its answer still comes
	ActionUnwind                             // retire the prepared instance Generation, which never ran
	ActionSwitch                             // Generation takes over
	ActionCommit                             // tell the instance Generation that it stays
	ActionRetire                             // stop the instance Generation, which ran
	ActionRefresh                            // let the instance Generation read its files anew
	ActionWriteAttempt                       // Attempt to disk, best effort
	ActionClearAttempt                       //
	ActionStoreGood                          // Record to disk as good
	ActionAnswer                             // Request's result is Result; not for requests nobody waits for
	ActionTell                               // Record has become Result.Outcome: log line, metrics, history
	ActionGiveUp                             // nothing can be started: Err
)

// Action is what the machine wants done. Which fields count says the kind.
type Action struct {
	Kind       ActionKind
	Generation Generation
	Stored     bool
	Back       bool // load the stored texts of Of, 0 = of the last one that says something else than what runs
	Preflight  bool
	Of         Generation // ActionPrepare: prepare what was loaded under this number, if not 0
	Attempt    Attempt
	Record     Record
	Request    uint64
	Result     Result
	Err        error
}
