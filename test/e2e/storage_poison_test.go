// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
)

// Fault: B8. What a backend refuses for good is found in its batch and kept as a dead letter, over a kill too; its
// neighbours are delivered, and the backlog behind it moves.
func TestPoisonIsKeptAsDeadLettersAndItsNeighboursAreDelivered(t *testing.T) {
	t.Parallel()
	s := newStage(t, quickRetries...)
	s.start()
	s.faulty("reject_marked:whole")
	sum := s.load(loadgen.Options{Run: "poison", Signals: []item.Signal{item.Traces}, Requests: 50, Producers: 1, Items: 20,
		ItemBytes: 100, PoisonEvery: 100})()
	if sum.Acked != 1000 {
		t.Fatalf("acknowledged %+v", sum)
	}
	const poisoned = 10 * 20 // every hundredth item takes its request with it
	for range 2 {
		s.drained() // and the cursor is written since
		m := s.books()
		for name, want := range map[string]float64{
			"holdfast_ledger_rejected_items_total": poisoned, "holdfast_ledger_delivered_items_total": 1000 - poisoned,
			"holdfast_journal_dead_items": poisoned, "holdfast_journal_dead_records": poisoned / 20,
			"holdfast_ledger_imbalance_items": 0, "holdfast_journal_imbalance_items": 0,
		} {
			if v := value(t, m, name); v != want {
				t.Errorf("life %d: %s is %v, want %v", s.lives, name, v, want)
			}
		}
		s.kill()
		s.start()
	}
	s.p.await("Queue: opened")
	s.drained()
	v := s.judge(ledger.Options{AllowDrop: []string{ledger.ReasonRejected}})
	if v.Totals.Acked != 1000 || v.Places[0].Items != 1000-poisoned || v.Phantom+v.Corrupted+v.Undead != 0 {
		t.Errorf("%s", v.Text())
	}
}
