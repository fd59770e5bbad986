// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// A scenario is one row pair of the table.
type scenario struct {
	name     string
	told     string   // what is done, for the reader of the table
	changes  []change // of the guide's file, on all sides but the hardened one
	limitMiB int      // what storage may hold at most; 0 = as the guide says
	disk     bool     // storage is on a small file system of its own
	expect   []string // what the ledger must have seen for the run to prove anything
	script   func(ctx context.Context, r *run) error
}

const (
	// hang is a backend that takes connections and requests and never answers.
	hang = "hang"
	// refuse is a backend that is not there.
	refuse = "refuse"
	// unimplemented is what a load balancer or a backend that is being upgraded answers.
	unimplemented = "status:UNIMPLEMENTED"
)

// The file system of the full disk: the ballast is what somebody else has written to it.
const (
	diskMiB    = 96
	ballastMiB = 44
)

// steady is a modest load of all three signals; the guide's batch processor holds up to 5 s or 1,024 items of each.
func steady(d time.Duration) load { return load{length: d, rate: 1500, items: 20, itemBytes: 200} }

var scenarios = []scenario{
	{
		name: "no fault", told: "4 s of load; everything must arrive, or the rows below say nothing",
		script: func(ctx context.Context, r *run) error { return steps(ctx, r.begin(steady(4*time.Second)), r.sent) },
	},
	{
		name: "a short outage", told: "the backend is gone for 3 s in the middle of 5 s of load: less than `max_elapsed_time` (6 s here)",
		changes: impatient,
		expect:  []string{"backend.hits>0"},
		script: func(ctx context.Context, r *run) error {
			return steps(ctx, r.begin(steady(5*time.Second)), pause(time.Second), r.fault(refuse), pause(3*time.Second), r.heal, r.sent)
		},
	},
	{
		name: "SIGTERM, backend gone", told: "the backend is gone, 3 s of load, SIGTERM and a new start; then it is back",
		expect: []string{"restarts=1", "backend.hits>0"},
		script: func(ctx context.Context, r *run) error {
			return steps(ctx, r.fault(refuse), r.begin(steady(3*time.Second)), r.sent, r.stop, r.start, r.heal)
		},
	},
	{
		name: "kill -9", told: "killed after 3 of 6 s of load, started again at once; the backend is well",
		expect: []string{"restarts=1"},
		script: func(ctx context.Context, r *run) error {
			return steps(ctx, r.begin(steady(6*time.Second)), pause(3*time.Second), r.kill, r.start, r.sent)
		},
	},
	{
		name: "SIGTERM, retry off, backend does not answer",
		told: "`retry_on_failure.enabled: false`; the backend takes requests and does not answer, 3 s of load, SIGTERM before " +
			"any attempt has timed out (5 s), backend well again, new start",
		changes: []change{{old: "enabled: true\n      initial_interval", new: "enabled: false\n      initial_interval"}},
		expect:  []string{"restarts=1", "backend.hits>0"},
		script: func(ctx context.Context, r *run) error {
			return steps(ctx, r.fault(hang), r.begin(steady(3*time.Second)), r.sent, r.stop, r.heal, r.start)
		},
	},
	{
		name:    "an outage longer than max_elapsed_time",
		told:    "the backend is gone for 14 s, 4 s of them under load; `max_elapsed_time` is 6 s",
		changes: impatient,
		expect:  []string{"backend.hits>0"},
		script: func(ctx context.Context, r *run) error {
			return steps(ctx, r.fault(refuse), r.begin(steady(4*time.Second)), pause(14*time.Second), r.heal, r.sent)
		},
	},
	{
		name: "a full disk and a restart",
		told: "storage is a 96 MiB ext4 of which somebody else fills 44 MiB; the backend is gone, 5 s of heavy load, SIGTERM and a " +
			"new start while the disk is full, backend back, and when that is drained the other's file is deleted and it is restarted once more",
		limitMiB: 80,
		disk:     true,
		expect:   []string{"restarts=2", "backend.hits>0"},
		script: func(ctx context.Context, r *run) error {
			heavy := load{length: 5 * time.Second, rate: 20_000, items: 200, itemBytes: 600}
			err := steps(ctx, r.fault(refuse), r.begin(heavy), pause(6*time.Second), r.mustBeFull, r.stop, r.start)
			switch {
			case errors.Is(err, errDead):
				r.remark("does not start while the disk is full")
				err = steps(ctx, r.makeRoom, r.start, r.heal, r.settle, r.stop, r.start)
			case err == nil:
				err = steps(ctx, r.heal, r.settle, r.makeRoom, r.settle, r.stop, r.start)
			}
			return err
		},
	},
	{
		name:   "UNIMPLEMENTED for a while",
		told:   "the backend answers every request with UNIMPLEMENTED for 9 s, the first 4 of them under load",
		expect: []string{"backend.hits>0"},
		script: func(ctx context.Context, r *run) error {
			return steps(ctx, r.fault(unimplemented), r.begin(steady(4*time.Second)), pause(9*time.Second), r.heal, r.sent)
		},
	},
}

// A step is one thing that is done.
type step func(ctx context.Context) error

func steps(ctx context.Context, all ...step) error {
	for _, s := range all {
		if err := s(ctx); err != nil {
			return err
		}
	}
	return nil
}

func pause(d time.Duration) step {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
}

// stop asks the collector to end, as an orchestrator does.
func (r *run) stop(ctx context.Context) error { return r.end(ctx, syscall.SIGTERM) }

// kill ends it at once.
func (r *run) kill(ctx context.Context) error { return r.end(ctx, syscall.SIGKILL) }
