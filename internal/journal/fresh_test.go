// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

func joinAll(_, _ *queue.Record) bool { return true }

// fill appends many records at once.
func (s *story) fill(j *journal.Journal, n, size int) {
	var wait sync.WaitGroup
	for k := range 16 {
		wait.Go(func() {
			for i := k; i < n; i += 16 {
				if err := s.append(j, size); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// Beside a backlog on disk fresh records are handed out as they come, through several outages; when the process dies in
// the middle, what was delivered does not come again and everything else does.
func TestFreshRecordsGoBesideABacklogOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 40)
		store := openStore(t, mem, uncached, small)
		j := head(t, store, queue.Destination{Name: "a", Stored: true})
		defer store.Close(context.Background())
		s := newStory(t)
		a := s.attach(j, "a")
		ack := queue.Outcome{Kind: queue.Ack}
		for outage := range 4 {
			s.fill(j, 3000, 500)
			fresh := a.Fill().Last + 1
			s.resolve(a, "a", ack, s.takeFrom(a, 5000, fresh)...) // there is nothing yet
			for i := range 60 {
				for range 3 {
					s.append(j, 500)
				}
				got := s.takeFrom(a, 0, fresh)
				if len(got) != 3 || got[0].Seq < fresh {
					t.Fatalf("outage %d, round %d: took %d records from %d on, and not what was appended last, from %d on",
						outage, i, len(got), got[0].Seq, a.Fill().Last-2)
				}
				s.resolve(a, "a", ack, got...)
				old := s.take(a, 5000)
				if len(old) == 0 || old[0].Seq >= fresh {
					t.Fatalf("outage %d, round %d: of the backlog came %d records, from %d on", outage, i, len(old), old[0].Seq)
				}
				if i%7 == 3 {
					s.resolve(a, "a", queue.Outcome{Kind: queue.Nack, Delay: time.Second}, old[0])
					old = old[1:]
				}
				s.resolve(a, "a", ack, old...)
			}
		}
		if f := a.Fill(); f.Oldest < 0 || f.Records < 6000 {
			t.Fatalf("%+v: this proves little", f)
		}
		s.settle()
		if wrong := survivors(mem.KillClone(), s.now(), uncached, small); wrong != "" {
			t.Error(wrong)
		}
		for a.Fill().Records > 0 { // and without a crash it ends, in one piece
			s.resolve(a, "a", ack, s.takeFrom(a, 0, a.Fill().Last+1)...)
		}
		for n := range s.accepted {
			if _, done := s.done["a"][n]; !done {
				t.Errorf("record %d never came", n)
			}
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}

// However many gaps there are between what is resolved, a slot has room for them: from so many on nothing new is handed
// out, above and below what nobody has read yet, but what closes the lowest gap; that never stops.
func TestGapsBesideABacklogAreBounded(t *testing.T) {
	const records = 22_000
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 40)
		warned := 0
		watch := func(o *journal.Options) {
			o.OnEvent = func(e journal.Event) {
				if e.Level != journal.Info {
					warned++
				}
			}
		}
		store := openStore(t, mem, watch)
		defer store.Close(context.Background())
		j := head(t, store, queue.Destination{Name: "a", Stored: true})
		s := newStory(t)
		a := s.attach(j, "a")
		s.fill(j, records, 8)
		fresh := a.Fill().Last + 1
		s.fill(j, records, 8)
		ack, rest := queue.Outcome{Kind: queue.Ack}, queue.Outcome{Kind: queue.Nack, Delay: time.Hour}
		taken, stuck := 0, false
		for from := fresh; !stuck; from = fresh - from { // in turn above and below
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			got, err := a.Take(ctx, queue.Want{Sizer: queue.Items, Max: 900, Joins: joinAll, From: from})
			cancel()
			if stuck = err != nil; stuck {
				break
			}
			taken += len(got)
			for i, d := range got {
				o := ack
				if i%2 == 0 {
					o = rest
				}
				s.resolve(a, "a", o, d)
			}
		}
		if taken < 8000 || taken > 17_000 {
			t.Errorf("%d records were taken: this proves little, or there is no bound", taken)
		}
		s.settle()
		if warned > 0 {
			t.Errorf("%d warnings", warned)
		}
		a.Wake() // what rests closes the gaps
		for a.Fill().Records > 0 {
			s.resolve(a, "a", ack, s.takeFrom(a, 1000, fresh)...)
		}
		if wrong := survivors(mem.KillClone(), s.now()); wrong != "" {
			t.Error(wrong)
		}
	})
}
