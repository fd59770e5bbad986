// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func uncached(o *journal.Options) { o.TailCacheMiB = 0 }

// A destination that is behind the cache is served from disk, by many takers at once, whatever becomes of the leases.
func TestWhatIsBehindTheCacheComesFromDisk(t *testing.T) {
	const records, takers = 6000, 4
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewFaulty(vfs.NewMem(1 << 40))
		store := openStore(t, disk, uncached)
		defer store.Close(context.Background())
		j := head(t, store, queue.Destination{Name: "a", Stored: true})
		s := newStory(t)
		a := s.attach(j, "a")
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for i := range records / 8 {
					if err := s.append(j, 100+i%7*2000); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		var mu sync.Mutex
		seen := map[int]int{}
		for range takers {
			wait.Go(func() {
				rng := rand.New(rand.NewPCG(1, 2))
				for a.Fill().Records > 0 {
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
					got, err := a.Take(ctx, queue.Want{Sizer: queue.Items, Max: 200, Joins: func(_, _ *queue.Record) bool { return true }})
					cancel()
					if err != nil {
						continue
					}
					for _, d := range got {
						n, ok := numberOf(d.Body)
						if !ok {
							t.Errorf("number %d holds bytes nobody appended", d.Seq)
						}
						o := queue.Outcome{Kind: queue.Ack}
						switch rng.IntN(10) {
						case 0:
							o = queue.Outcome{Kind: queue.Nack, Delay: time.Duration(rng.IntN(2000)) * time.Millisecond}
						case 1:
							o = queue.Outcome{Kind: queue.Release}
						}
						if o.Kind == queue.Ack {
							mu.Lock()
							seen[n]++
							mu.Unlock()
						}
						s.resolve(a, "a", o, d)
					}
				}
			})
		}
		wait.Wait()
		for n := range records {
			if seen[n+1] != 1 {
				t.Fatalf("record %d was delivered %d times\n%s", n+1, seen[n+1], books(j))
			}
		}
		snap := j.Snapshot()
		if snap.CacheMisses == 0 {
			t.Error("nothing was read from disk")
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
		pass(3 * time.Second) // virtual: the keeper deletes what nobody needs
		if n, _ := disk.Count("remove *.seg"); n == 0 {
			t.Error("no segment was deleted")
		}
		if got := j.Snapshot().Segments; got > 1 {
			t.Errorf("%d segments are left of an empty queue", got)
		}
	})
}

// A destination that keeps up costs no read, and an idle journal no call at all.
func TestHealthyPathNeverReadsTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewFaulty(vfs.NewMem(1 << 40))
		store := openStore(t, disk)
		defer store.Close(context.Background())
		j := head(t, store, queue.Destination{Name: "a", Stored: true}, queue.Destination{Name: "b"})
		s := newStory(t)
		a, b := s.attach(j, "a"), s.attach(j, "b")
		before, _ := disk.Count("read *")
		for i := range 500 {
			if err := s.append(j, 1000+i*10); err != nil {
				t.Fatal(err)
			}
			if i%5 == 4 {
				s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, s.take(a, 0)...)
				s.resolve(b, "b", queue.Outcome{Kind: queue.Ack}, s.take(b, 0)...)
			}
		}
		if after, _ := disk.Count("read *"); after != before {
			t.Errorf("%d reads on a healthy path", after-before)
		}
		if snap := j.Snapshot(); snap.CacheMisses != 0 || snap.CacheHits != 1000 {
			t.Errorf("%d records from memory, %d from disk", snap.CacheHits, snap.CacheMisses)
		}
		pass(5 * time.Second)
		idle := len(disk.Calls(""))
		pass(9 * time.Second)
		for _, c := range disk.Calls("")[idle:] {
			t.Logf("%s", c.Name)
			if c.Bytes > 0 {
				t.Errorf("an idle journal made a call: %s", c.Name)
			}
		}
	})
}
