// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"time"
)

// Reader reads the sources a process was started with.
type Reader interface {
	// Read reads every source once, in order. A source that can be read only once (standard input) answers with what
	// it said the first time. It is called again and again until two readings agree, and never from two goroutines
	// at the same time but by requests that expect a hash.
	Read(ctx context.Context) ([]Text, error)
}

// Still is a Reader that can tell by other means than a second reading that nobody is writing to its sources. It is
// optional, and asked at the start of the process, where a second reading costs most of the time until it listens.
type Still interface {
	// Still reports whether for so long nothing was done to any source, as the system knows it. It is not asked about
	// times that are copied along with a file. False = it is not so, or cannot be told.
	Still(d time.Duration) bool
}

// Builder makes generations. Its methods are called from a goroutine of the driver, one call at a time; a panic in one
// is an error of that generation.
type Builder interface {
	// Load expands, decodes and checks texts that were read. It has no side effect: nothing is opened, bound or made,
	// so a Candidate that is dropped leaves nothing behind. Errors name file and line; they are shown as they are.
	Load(ctx context.Context, texts []Text) (Candidate, error)
	// Prepare does everything that can fail, beside what runs: it opens and locks new directories, binds additional
	// addresses, prepares new cursors, starts what is new from the back door to the front. After an error nothing has
	// changed. It gets prepareLimit; what it makes after that is retired as soon as it returns.
	Prepare(ctx context.Context, c Candidate) (Instance, error)
}

// Candidate is a configuration that was loaded. It is read by one goroutine at a time.
type Candidate interface {
	// Expanded is the document with every variable and file in place, the same bytes for the same meaning. It is
	// hashed with the store's key and not kept.
	Expanded() []byte
	// Settings are its wishes for reloads.
	Settings() Settings
	// Storages are the directories of the storages in use, in the order of service::extensions: the state directory
	// may have to lie in one.
	Storages() []string
}

// Instance is a generation that was prepared. Switch, Commit and Sample are called by the driver's goroutine, one at a
// time. Of the instances that exist, one runs, at most one is warm (it ran, and a rollback leads to it), at most one
// is being prepared; others are being retired.
//
// What the calls mean for the queues (package queue; the journal's and the memory queue's Roster):
//
//	                  destination only in the new      in both                          only in the old
//	Prepare           Roster.Prepare(d)                nothing: Prepare of a name that  nothing
//	                                                   exists takes over its limits at
//	                                                   once, so it belongs into Switch,
//	                                                   where it cannot fail
//	unwound           Forget(name)                     nothing                          nothing
//	Switch            Attach(name): owed from now on,  a second handle by Attach, the   handles closed, so that
//	                  no older backlog                 old one closed once its exports  their leases return; the
//	                                                   are settled: same cursor, its    cursor stays live and is
//	                                                   backlog goes to the new sender   owed everything
//	Commit            nothing                          nothing                          Detach(name): parks; then
//	                                                                                    Inherit(name, heir) where
//	                                                                                    the plan names an heir
//	Switch back       handles closed                   handles of the old one again     Attach(name): a handle
//	Retire after that Forget(name): not owed; in a     nothing                          nothing
//	                  pipeline that goes too: Detach
//
// A queue that moved (memory to journal, another directory, a renamed pipeline) is a head in one generation and a tail
// in the other: both stay open while both generations are alive, the tail only drains, and is closed and unlocked when
// its List shows nothing unresolved. During a trial the verdict "rejected" of a sender that is new or changed does not
// resolve a record: it is released, until Commit or the switch back decides who says so.
type Instance interface {
	// Preflight makes an empty export for every new or changed sender over its real path, at most three each within
	// five seconds, and for its twin if that was idle for five minutes, and says how they went. It is called after
	// Prepare and before Switch, if at all. Senders that cannot be asked are left out.
	Preflight(ctx context.Context) []Probe
	// Switch takes over from the running instance, which is warm when it returns. It returns nothing because nothing
	// in it can fail, and ends within a second. It is called a second time when a trial of the next one is undone.
	Switch()
	// Sample is a copy of the evidence, taken once a second on trial and every ten seconds otherwise. It does not
	// block: connect checks are made by the instance's own goroutine.
	Sample() Sample
	// Commit says that this generation stays: removed addresses are closed, cursors of removed destinations park,
	// verdicts are final. Called once per instance, while it runs and before the warm one is retired.
	Commit()
	// Refresh reads certificates, tokens and other files anew; the text did not change. What cannot be read keeps its
	// old value, and the error says so.
	Refresh(ctx context.Context) error
	// Retire stops what is left of an instance that does not run: one that never switched is unwound, one that ran
	// and never had its Commit takes back what it was given. It is called once. Its error is logged by the driver,
	// nobody else hears of it. It gets retireLimit.
	Retire(ctx context.Context) error
}

// Limits of the calls (section 5; section 6 gives connections of a changed server 60 s).
const (
	loadLimit      = 30 * time.Second // after the reading, which has readLimit
	prepareLimit   = 30 * time.Second
	preflightLimit = 10 * time.Second
	refreshLimit   = 10 * time.Second
	retireLimit    = 70 * time.Second
	callGrace      = 5 * time.Second // for a call to notice that its limit is over
)

// Text is one source as it was read, unexpanded.
type Text struct {
	URI  string `json:"uri"`
	Text string `json:"text"`
}
