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

// Fault: B18. A backlog meets a primary that takes only so much a second and asks for time: nothing is lost, the
// primary is offered little more than it takes, and the drain is nearly as short as it can be. HOLDFAST_BACKLOG_MIB says how large the backlog is.
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
	// What is promised of a long drain is 110 % and 1.3 (make failover FAILOVER='-recover 2048'); the first seconds, in which
	// the pace is found, are a large part of this one. Without a pace it is more than 300 %, and 1.9.
	if r.Offered > 1.5 {
		t.Errorf("%.0f %% of capacity were offered in some ten seconds since the first overload", 100*r.Offered)
	}
	if share := r.Took.Seconds() / r.Ideal.Seconds(); share > 1.5 {
		t.Errorf("drained in %.2f of the ideal time", share)
	}
}
