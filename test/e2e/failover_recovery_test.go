// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// Fault: B18. A backlog meets a primary that takes only so much a second and asks for time, while a fifth as much goes on
// arriving. Nothing is lost. From the first time it asked on the primary is offered at most 110 % of its capacity in any
// ten seconds; the backlog is gone after at most 1.3 times the time that capacity, less what is live, needs for it; and
// what is live is delivered beside it, 95 % of it while there is a backlog yet, 99 % within five seconds.
// HOLDFAST_BACKLOG_MIB says how large the backlog is: of the default most is over before the pace is known.
func TestABacklogDoesNotKnockThePrimaryDownAgain(t *testing.T) {
	t.Parallel()
	mib := env(t, "HOLDFAST_BACKLOG_MIB", 64)
	const capacity, live = 10_000, 2_000
	b := newBed(t, seedbed.Options{Seed: seedbed.B, Sets: seedbed.Batches(1000)})
	r, err := b.Recover(t.Context(), seedbed.RecoveryOptions{Backlog: int64(mib) << 20, Capacity: capacity, Live: live,
		Signals: []item.Signal{item.Traces}, Limit: 2*time.Minute + time.Duration(mib)*time.Second})
	must(t, err)
	t.Log(r)
	if r.Verdict.Outcome != ledger.Pass {
		t.Errorf("the ledger does not pass:\n%s", r.Verdict.Text())
	}
	if r.Overloads == 0 {
		t.Error("the primary never asked for time: this test shows nothing")
	}
	if !r.Paced {
		t.Error("the collector does not pace a drain")
	}
	if r.Offered > 1.1 {
		t.Errorf("%.0f %% of capacity were offered in some ten seconds since the first overload", 100*r.Offered)
	}
	if r.Share() > 1.3 {
		t.Errorf("drained in %.2f of the ideal time", r.Share())
	}
	if r.LiveShare < 0.95 || r.P99 > 5*time.Second {
		t.Errorf("of what was live %.0f %% were delivered while there was a backlog, 99 %% of that within %s", 100*r.LiveShare, r.P99)
	}
}
