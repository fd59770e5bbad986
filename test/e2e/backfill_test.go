// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// quickBackfill is quickSeed with a backfill that begins a second after the return.
func quickBackfill() []string {
	return append(quickSeed(seedbed.A), "connectors::failover/traces::backfill::after=1s")
}

// Fault: B16, P1. Seed A's gateway loses both backends under load, so that the emergency file fills; it is killed while it
// fills, and again while it is being paid. When the backends are back the queue drains, the file is paid to the last item
// and deleted, and nothing is lost; what a crash repeats is counted and bounded.
func TestWhatTheEmergencyFileTookIsRepaidOverKills(t *testing.T) {
	o := seedbed.Options{Seed: seedbed.A, Sets: quickBackfill()}
	good := goodRun(t, o)
	b := startedBed(t, o)
	load := b.Load(loadgen.Options{
		Run: "backfill", Producers: 2, Items: 50, ItemBytes: 300, Rate: 4 * killRate, Timeout: 5 * time.Second,
	})
	levelAt(t, b, 0)
	must(t, b.Primary.SetFaults("refuse"))
	must(t, b.Secondary.SetFaults("refuse"))
	parked := func(least float64) func(seedbed.Series) bool {
		return func(s seedbed.Series) bool {
			items, found := s.Sum("holdfast_failover_emergency_items")
			shown, _ := s.Sum("holdfast_ledger_parked_items")
			return found && items >= least && shown >= least
		}
	}
	for n := range 3 {
		until(t, b, "the emergency file fills", parked(float64(n+1)*8000))
		b.Process().Kill()
		must(t, b.Start(limited(t)))
	}
	until(t, b, "what was parked is parked after a kill, and more", parked(32000))
	if _, err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	owed, _ := booksOf(t, b).Sum("holdfast_failover_emergency_items")

	// One backend takes what it is given slowly, so that the kills come while the file is being paid.
	must(t, b.Primary.SetFaults("slow:100ms"))
	must(t, b.Secondary.SetFaults())
	paid := func(s seedbed.Series) bool {
		v, found := s.Sum("holdfast_failover_backfilled_items_total")
		return found && v > 0
	}
	bound := 0.0 // of what may come twice
	for range 3 {
		until(t, b, "the file is being paid", paid)
		s := booksOf(t, b)
		// What the process counted, and what is queued: nothing else can come twice, for the load has ended.
		counted, _ := s.Sum("holdfast_failover_possible_duplicate_items_total")
		queued, _ := s.Sum("holdfast_ledger_queued_items")
		bound += counted + queued
		b.Process().Kill()
		must(t, b.Start(limited(t)))
	}
	must(t, b.Primary.SetFaults())
	until(t, b, "nothing is owed any more", func(s seedbed.Series) bool {
		items, found := s.Sum("holdfast_failover_emergency_items")
		return found && items == 0
	})
	must(t, b.Drained(limited(t)))
	s := booksOf(t, b)
	counted, _ := s.Sum("holdfast_failover_possible_duplicate_items_total")
	again, found := s.Sum("holdfast_failover_possible_duplicate_items_total", "cause", "backfill")
	bound += counted
	if !found {
		t.Error("no series counts what backfill may have sent twice")
	}
	if imbalance := sum(t, s, "holdfast_ledger_imbalance_items"); imbalance != 0 {
		t.Errorf("imbalance %g", imbalance)
	}
	if got := sum(t, s, "holdfast_ledger_parked_items"); got != 0 {
		t.Errorf("%g items are parked at the end", got)
	}
	for _, line := range []string{"Failover: backfill begins", "Failover: backfill ends", "Emergency file: opened"} {
		if !strings.Contains(b.Process().Output(), line) {
			t.Errorf("the log does not say %q", line)
		}
	}
	until(t, b, "files that are paid are gone", func(seedbed.Series) bool {
		for _, f := range b.EmergencyFiles() {
			if info, err := os.Stat(f); err == nil && info.Size() > 1<<20 {
				return len(b.EmergencyFiles()) <= 4 // the present one stays, with receipts and lock
			}
		}
		return true
	})
	most := int64(bound)
	v := passes(t, b, ledger.Options{Control: good, MaxDuplicates: &most})
	t.Logf("%d items were owed over %d lives; %d came twice (%d across), %g counted by backfill, bound %d", int64(owed),
		b.Lives, v.Duplicates.Ours, v.Duplicates.Across, again, most)
	if owed < 32000 {
		t.Errorf("%g items were owed: this test shows nothing", owed)
	}
}
