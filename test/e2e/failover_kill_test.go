// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// Fault: P1, B1, B16. Both seeds' failover configurations are killed while they switch, while all levels are down, while
// they return, and (A) while what is in the emergency file is repaid. HOLDFAST_KILLS says how often each, HOLDFAST_SEED makes the moments those of another run.
func TestKilledDuringFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	kills, seed := int(env(t, "HOLDFAST_KILLS", 8)), env(t, "HOLDFAST_SEED", uint64(os.Getpid()))
	t.Logf("%d kills each; again: HOLDFAST_KILLS=%d HOLDFAST_SEED=%d", kills, kills, seed)
	for _, s := range []seedbed.Seed{seedbed.A, seedbed.B} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			killDuringFailover(t, s, kills, rand.New(rand.NewPCG(seed, uint64(s[0])))) //nolint:gosec // moments, not secrets
		})
	}
}

// killRate is the load of these runs in items per second.
const killRate = 1500

// killed is a run that is killed again and again.
type killed struct {
	*testing.T
	*seedbed.Bed
	random *rand.Rand
	bound  float64 // of duplicates
}

func killDuringFailover(t *testing.T, seed seedbed.Seed, kills int, random *rand.Rand) {
	t.Helper()
	o := seedbed.Options{Seed: seed, Sets: quickSeed(seed)}
	if seed == seedbed.A {
		o.Sets = append(o.Sets, "connectors::failover/traces::backfill::after=1s")
	}
	good := goodRun(t, o)
	k := &killed{T: t, Bed: startedBed(t, o), random: random}
	load := k.Load(loadgen.Options{Run: "kills", Producers: 2, Items: 50, ItemBytes: 120, Rate: killRate, Timeout: 5 * time.Second})
	for n := range kills {
		switch n % 4 {
		case 0: // on the way to the second level
			k.reaches(0)
			k.fails(k.Primary)
			k.kill(4 * time.Second)
		case 1: // with no level left
			k.fails(k.Primary)
			k.fails(k.Secondary)
			until(t, k.Bed, "all levels are down", func(s seedbed.Series) bool {
				v, found := s.Sum("holdfast_failover_all_down")
				return found && v == 3
			})
			k.kill(2 * time.Second)
		case 2: // on the way home, on which the restart from the case before is the first step
			k.heal()
			k.kill(3 * time.Second)
		case 3: // at home, where seed A repays
			k.reaches(0)
			k.kill(4 * time.Second)
		}
	}
	k.reaches(0)
	if seed == seedbed.A {
		until(t, k.Bed, "the emergency file is repaid", func(s seedbed.Series) bool {
			owed, found := s.Sum("holdfast_failover_emergency_items")
			return found && owed == 0
		})
	}
	if _, err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	must(t, k.Drained(limited(t)))
	k.note()
	bound := int64(k.bound)
	v, _, err := k.Judge(limited(t), ledger.Options{Control: good, MaxDuplicates: &bound})
	must(t, err)
	t.Logf("%d lives of the process\n%s", k.Lives, v.Text())
	for _, f := range append(v.Failures, v.Doubts...) {
		if f.Quantity != "fault" { // one that a kill was quicker than has no hits
			t.Errorf("%s: %s", f.Quantity, f.Text)
		}
	}
	d := v.Duplicates
	t.Logf("%d items acknowledged over %d lives, %d duplicates of ours, %d across, bound %d", v.Totals.Acked, k.Lives, d.Ours,
		d.Across, bound)
	if d.Ours+d.Across > uint64(bound) {
		t.Errorf("%d items came twice, the bound is %d", d.Ours+d.Across, bound)
	}
	if v.Totals.Acked < uint64(kills)*500 {
		t.Errorf("%d items were acknowledged over %d lives: this test shows nothing", v.Totals.Acked, k.Lives)
	}
}

// fails gives a backend one of several faults, if it has none.
func (k *killed) fails(b *mockbackend.Backend) {
	k.Helper()
	faults := []string{"refuse", "hang", "status:UNAVAILABLE", "blackhole", "reset:answer,store=true"}
	must(k.T, b.SetFaults(faults[k.random.IntN(len(faults))]))
}

func (k *killed) heal() {
	k.Helper()
	must(k.T, k.Primary.SetFaults())
	must(k.T, k.Secondary.SetFaults())
}

func (k *killed) reaches(level float64) {
	k.Helper()
	if level == 0 {
		k.heal()
	}
	levelAt(k.T, k.Bed, level)
}

// kill ends the process at some moment within d, and starts the next one.
func (k *killed) kill(d time.Duration) {
	k.Helper()
	if !after(k.Bed, time.Duration(k.random.Int64N(int64(d)))) {
		k.Fatalf("the process ended by itself:\n%s", k.Process().Output())
	}
	k.note()
	k.Process().Kill()
	must(k.T, k.Start(limited(k.T)))
}

// note adds to the bound what may come twice if the process dies now: what is owed, for that may be in flight; what is parked, for
// it may be on its way back; what was delivered in the last moments, for its cursor may not be written; and what the collector counts itself (journal, G9).
func (k *killed) note() {
	k.Helper()
	const moments = 0.3 // seconds: the cursor's 100 ms, and this function's own time
	s := booksOf(k.T, k.Bed)
	counted, _ := s.Sum("holdfast_failover_possible_duplicate_items_total")
	parked, _ := s.Sum("holdfast_ledger_parked_items")
	k.bound += sum(k.T, s, "holdfast_ledger_queued_items") + parked + counted + moments*killRate
}
