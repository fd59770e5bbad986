// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/exporter/file/vault"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// promised is what a vault owes at a moment: batches whose Put returned nil. True: settled long enough ago that it must
// be on disk.
type promised map[int]bool

// story puts, settles, rotates, closes and opens again; answered is kept up to date from call to call.
func story(disk vfs.FS, set vault.Settings, answered promised, pause func()) error {
	n := 0
	for range 2 {
		v, err := vault.Open(disk, set)
		if err != nil {
			return err
		}
		for range 6 {
			n++
			if _, err := v.Put(context.Background(), entry(n, set.Framed)); err == nil {
				answered[n] = false
			}
			if n%3 == 0 {
				d, ok, err := v.Lend(us)
				if err == nil && ok {
					v.Settle(d.N, 0)
					number := 0
					if len(d.Records) == 1 {
						number = int(d.Records[0].Seq)
					}
					delete(answered, number) // it may be there or not
				}
				pause()
			}
		}
		if err := v.Close(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// holds opens what a crash left and checks the promise: each answered batch is lent with its bytes, once, and its record
// is known.
func holds(t *testing.T, disk vfs.FS, set vault.Settings, answered promised, where string) {
	t.Helper()
	v, err := vault.Open(disk, set)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	defer func() { _ = v.Close(context.Background()) }()
	got := map[string]int{}
	for _, d := range lent(t, v, us) {
		got[plain(d.Data)]++
	}
	for n := range answered {
		if got[string(batch(n, set.Framed))] != 1 {
			t.Fatalf("%s: batch %d was answered delivered and is lent %d times", where, n, got[string(batch(n, set.Framed))])
		}
		if !v.Named(us, record(n)) {
			t.Fatalf("%s: the record of batch %d is not known", where, n)
		}
	}
	if s := v.Sums(us); s.Removed > 0 {
		t.Fatalf("%s: %d items count as removed", where, s.Removed)
	}
	if _, err := v.Put(context.Background(), entry(99, set.Framed)); err != nil {
		t.Fatalf("%s: put: %v", where, err)
	}
}

var kinds = map[string]func(*vault.Settings){
	"lines":  func(s *vault.Settings) { s.MaxFile = 16_000 },
	"frames": func(s *vault.Settings) { s.Framed, s.MaxFile = true, 16_000 },
	"aside":  func(s *vault.Settings) { s.Append = false },
}

// TestReceiptBeforeTheQueueLetsGo: promise F12. A crash before any call on the disk, killed or with the power cut, leaves
// data and receipt of every batch that was answered.
func TestReceiptBeforeTheQueueLetsGo(t *testing.T) {
	for kind, change := range kinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pause := func() { time.Sleep(200 * time.Millisecond) } // two settlements' worth, in virtual time
				set, mem, answered := settings(change), vfs.NewMem(0), promised{}
				type crash struct {
					disk     *vfs.Mem
					answered promised
					where    string
				}
				var crashes []crash
				faulty := vfs.NewFaulty(mem)
				faulty.Watch(vfs.Watch{Before: func(c vfs.Call) {
					where := fmt.Sprintf("before call %d, %s", c.N, c.Name)
					crashes = append(crashes, crash{mem.KillClone(), maps.Clone(answered), "killed " + where})
					for seed := range uint64(4) {
						crashes = append(crashes, crash{mem.CrashClone(uint64(c.N)*31 + seed), maps.Clone(answered),
							fmt.Sprintf("power cut %d %s", seed, where)})
					}
				}})
				if err := story(faulty, set, answered, pause); err != nil {
					t.Fatal(err)
				}
				if len(answered) < 8 || len(crashes) < 300 {
					t.Fatalf("%d answered, %d crashes: the story is too short", len(answered), len(crashes))
				}
				first := rand.IntN(stride())
				for i := first; i < len(crashes); i += stride() {
					holds(t, crashes[i].disk, set, crashes[i].answered, crashes[i].where)
				}
			})
		})
	}
}

// stride is how many calls lie between two that a test tries: all are tried where HOLDFAST_LONG is set.
func stride() int {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return 1
	}
	return 23
}

// Every call fails once, with an error of the disk or for want of space, and each later call too; whatever was answered is
// there afterwards, and after a power cut.
func TestNoFailingCallCostsWhatWasAnswered(t *testing.T) {
	for kind, change := range kinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pause := func() { time.Sleep(200 * time.Millisecond) }
				set := settings(change)
				count := vfs.NewFaulty(vfs.NewMem(0))
				if err := story(count, set, promised{}, pause); err != nil {
					t.Fatal(err)
				}
				calls, _ := count.Count("*")
				first := rand.IntN(stride()) + 1
				for n := first; n <= calls; n += stride() {
					for _, rule := range []vfs.Rule{
						{N: n, Err: syscall.EIO}, {Skip: n - 1, Err: syscall.ENOSPC, Times: 4},
					} {
						mem, answered := vfs.NewMem(0), promised{}
						where := fmt.Sprintf("call %d of %d fails %d times: %v", n, calls, rule.Times, rule.Err)
						err := story(vfs.NewFaulty(mem, rule), set, answered, pause)
						if err != nil && n > calls/2 && len(answered) == 0 {
							t.Fatalf("%s: %v", where, err)
						}
						holds(t, mem.CrashClone(uint64(n)), set, answered, where+", then a power cut")
						holds(t, mem.KillClone(), set, answered, where)
					}
				}
			})
		})
	}
}
