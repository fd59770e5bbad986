// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/test/seedbed"
)

// What a recovery must keep (failover, 11.4): the margin above capacity, the time against the ideal one, and that what is
// live, less than its share, is delivered as it comes.
const (
	marginMost = 1.10
	timeMost   = 1.3
	liveLeast  = 0.95
	liveDelay  = 5 * time.Second // p99
)

// recovery plays a backlog of so many bytes into a primary that takes so many items per second, in batches of so many.
func (o *options) recovery(ctx context.Context, backlog int64, capacity, batch int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	b, err := seedbed.New(seedbed.Options{Binary: o.binary, Root: o.root, Dir: filepath.Join(o.dir, "recovery"), Seed: seedbed.B,
		Sets: seedbed.Batches(batch)})
	if err != nil {
		return err
	}
	live := capacity / 5
	r, err := b.Recover(ctx, seedbed.RecoveryOptions{Backlog: backlog, Capacity: capacity, Live: live,
		Signals: []item.Signal{item.Traces}, Limit: time.Hour})
	if p := b.Process(); p != nil {
		_ = os.WriteFile(filepath.Join(o.dir, "recovery.log"), []byte(p.Output()), 0o600) // for who wants to read it
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	fmt.Println(r)
	var errs []error
	if r.Verdict.Outcome != ledger.Pass {
		errs = append(errs, fmt.Errorf("the ledger does not pass:\n%s", r.Verdict.Text()))
	}
	if r.Offered > marginMost {
		errs = append(errs, fmt.Errorf("%.0f %% of capacity were offered, %.0f %% at most are promised", 100*r.Offered, 100*marginMost))
	}
	if r.Share() > timeMost {
		errs = append(errs, fmt.Errorf("drained in %.2f of the ideal time, %.1f at most is promised", r.Share(), timeMost))
	}
	if r.LiveShare < liveLeast || r.P99 > liveDelay {
		errs = append(errs, fmt.Errorf("of what was live %.0f %% were delivered while there was a backlog, p99 %.1f s: %.0f %% and %s are "+
			"promised", 100*r.LiveShare, r.P99.Seconds(), 100*liveLeast, liveDelay))
	}
	return errors.Join(errs...)
}
