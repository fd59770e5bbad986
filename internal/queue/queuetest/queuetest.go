// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package queuetest is the suite that every implementation of the queue contract passes: each rule of section 3 of the
// journal's specification is a sub-test whose name says the rule.
//
// The rules run in virtual time (testing/synctest): a queue under test may start goroutines and timers, all of which
// end with Close. Every record of the suite has a Free that overwrites its bytes, so whoever reads them too late is
// found out, and each test ends with Close and the count of those calls. The package knows contracts only; what only
// one implementation does is stated in Capabilities.
package queuetest

import (
	"testing"
	"testing/synctest"

	"github.com/holdfast-telemetry/holdfast/internal/queue"
)

// Bounds of the contract (journal specification, section 2).
const (
	maxRecordBytes = 128 << 20
	maxHeld        = 16384
	windowRecords  = 1024
	windowBytes    = 8 << 20
	maxWindowBytes = 32 << 20
	maxOpenBatches = 64
)

// Capabilities say in which of the ways that the contract leaves open an implementation works.
type Capabilities struct {
	// DropsOverflow: a destination at its limit drops its oldest unleased records, reason overflow, while another is
	// not at its limit. Else it grows on.
	DropsOverflow bool
	// ShutdownDrops: Close books what is unresolved as dropped, reason shutdown. Else it stays queued.
	ShutdownDrops bool
	// FreesAtOnce: the call that resolves a record for the last destination calls Free before it returns. Else it may
	// come later, or earlier if the queue has bytes of its own.
	FreesAtOnce bool
	// BreakDeadLetters makes every later Dead fail; nil = it cannot fail.
	BreakDeadLetters func(t *testing.T, q queue.Queue)
}

// rule is one promise of the contract.
type rule struct {
	name string
	keep func(r *rig)
}

// Run runs the suite. open returns an empty queue without destinations that implements queue.Roster too, uses time.Now
// for its clock, and whose files, if any, are gone with t. It is called once per rule, inside the rule's bubble.
func Run(t *testing.T, open func(t *testing.T) queue.Queue, can Capabilities) {
	for _, group := range []struct {
		name  string
		rules []rule
	}{
		{"append", appendRules}, {"size", sizeRules}, {"block", blockRules}, {"take", takeRules}, {"batch", batchRules},
		{"window", windowRules}, {"resolve", resolveRules}, {"nack", nackRules}, {"handle", handleRules},
		{"fan-out", fanOutRules}, {"roster", rosterRules}, {"close", closeRules}, {"walk", walkRules},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, rule := range group.rules {
				t.Run(rule.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t, open(t), can)
						rule.keep(r)
						r.finish()
					})
				})
			}
		})
	}
	t.Run("many goroutines at once lose nothing and get nothing twice", func(t *testing.T) {
		crowd(t, open(t), can)
	})
}
