// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package commit_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/commit"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// play uses a Log in all ways, one after the other. Appends may fail.
func (r *rig) play() {
	r.open().log.Tend()
	step := func(size int) {
		_ = r.add(size) // what it answered is judged later
		synctest.Wait()
	}
	many := func(n, size int) {
		var all []<-chan error
		for range n {
			all = append(all, r.background(context.Background(), size))
		}
		for _, a := range all {
			<-a
		}
		synctest.Wait()
	}
	pause := func() {
		time.Sleep(time.Second)
		synctest.Wait()
		r.log.Tend()
		synctest.Wait()
	}
	step(700)
	step(20 << 10)
	many(5, 300)
	pause()
	step(30 << 10) // the first segment is full
	step(10)
	pause()
	r.mu.Lock()
	r.version, r.cursors = r.version+1, []uint64{1, 2, 3, 4}
	r.mu.Unlock()
	many(3, 5000)
	step(100 << 10) // one of its own
	step(10)
	step(10)
	pause()
	step(2000)
	time.Sleep(120 * time.Millisecond)
	synctest.Wait()
	many(9, 9000)
	pause()
	step(40)
}

// comesBack says that the Log takes records again once the disk is well and somebody tends.
func (r *rig) comesBack() {
	r.Helper()
	r.disk.Plan()
	for range 2 {
		r.log.Tend()
		synctest.Wait()
	}
	if s, err := r.log.State(); s != commit.OK || err != nil {
		r.Fatalf("the disk is well, the state is %v: %v", s, err)
	}
	r.log.Roll()
	for range 3 {
		r.must(r.add(500))
	}
}

// durableNow is whether a record must survive a power cut now.
func (r *rig) durableNow(rec *record) bool { return rec.entry.Seq <= r.safe() }

// judge says that nothing that was answered nil is lost, that nothing refused comes back, and that the space is booked.
func (r *rig) judge(what string) {
	r.Helper()
	for _, rec := range r.records {
		if rec.err != nil && !retryable(rec.err) {
			r.Fatalf("%s: record %d was answered %v", what, rec.id, rec.err)
		}
	}
	r.untouched()
	r.holds(r.mem.KillClone(), what+", killed", every)
	for seed := range uint64(3) {
		r.holds(r.mem.CrashClone(seed), fmt.Sprintf("%s, power cut %d", what, seed), r.durableNow)
	}
	r.comesBack()
	r.refusedAreGone(r.holds(r.mem.KillClone(), what+", later", every))
	r.close()
	all := r.holds(r.mem.CrashClone(0), what+", closed", every)
	r.refusedAreGone(all)
	r.balanced()
	if r.Failed() {
		r.Fatal(what)
	}
}

// long plays every fault at every call, not every fourth.
var long = os.Getenv("HOLDFAST_LONG") != ""

// What one failed call, or all from then on, costs: at every call of the script, with every error that matters.
func TestNoFailedCallLosesWhatWasAnswered(t *testing.T) {
	bothModes(t, func(t *testing.T, synced bool) {
		clean := newRig(t, synced)
		first := len(clean.disk.Calls(""))
		clean.play()
		calls := clean.disk.Calls("")[first:]
		clean.judge("no fault")
		if len(calls) < 60 || clean.log.Stats().Condemned > 0 {
			t.Fatalf("%d calls, %+v", len(calls), clean.log.Stats())
		}
		refused, rescued, runs, hit := 0, uint64(0), 0, 0
		for i, c := range calls {
			op, _, _ := strings.Cut(c.Name, " ")
			for e, err := range []error{syscall.EIO, syscall.ENOSPC} {
				for k, rule := range []vfs.Rule{
					{N: c.N, Err: err},
					{N: c.N, Err: err, Room: c.Bytes / 2},
					{Skip: i, Times: 2, Err: err},
					{Skip: i, Times: 3, Err: err},
					{Skip: i, Times: 40, Err: err, Room: 300},
					{Call: op + " *", Skip: i / 4, Err: err, Room: c.Bytes / 2},
				} {
					if rule.Room > 0 && rule.N > 0 && c.Bytes == 0 || !long && (i+k+e)%4 != 0 {
						continue
					}
					r := newRig(t, synced, rule)
					r.play()
					what := fmt.Sprintf("call %d %s: %+v", i, c.Name, rule)
					runs++
					if r.disk.Hits() > 0 { // groups are not always the same, so the last calls are not always made
						hit++
					}
					for _, rec := range r.records {
						if rec.err != nil {
							refused++
						}
					}
					rescued += r.log.Stats().Rescues
					r.judge(what)
				}
			}
		}
		if refused < runs/4 || rescued < uint64(runs)/16 || hit < runs*3/4 {
			t.Errorf("%d calls, %d runs, %d with a fault, %d refused, %d rescues: the faults did too little",
				len(calls), runs, hit, refused, rescued)
		}
		t.Logf("%d calls, %d runs, %d with a fault, %d refused, %d rescues", len(calls), runs, hit, refused, rescued)
	})
}
