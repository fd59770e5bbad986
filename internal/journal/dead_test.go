// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// What a backend rejected is kept: it is there after a restart of any kind, and above their share the oldest go, told
// and counted.
func TestDeadLettersAreKeptAndBounded(t *testing.T) {
	for _, restart := range []string{"closed", "killed", "cut off"} {
		t.Run(restart, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { buryAndRestart(t, restart) }) })
	}
}

func buryAndRestart(t *testing.T, restart string) {
	mem := vfs.NewMem(1 << 40)
	events := &eventLog{}
	mode := capped(64, events) // dead letters may take 8 MiB of it
	store := openStore(t, mem, mode...)
	j := head(t, store, dest)
	s := newStory(t)
	a := s.attach(j, "a")
	buried := func(records int) (items uint64) {
		t.Helper()
		for range records {
			if err := s.append(j, 100<<10); err != nil {
				t.Fatal(err)
			}
			for _, d := range s.take(a, 0) {
				if err := s.resolve(a, "a", queue.Outcome{Kind: queue.Dead, Reason: fmt.Sprint("no ", d.Seq)}, d); err != nil {
					t.Fatal(err)
				}
				items += uint64(d.Items)
			}
		}
		return items
	}
	items := buried(30)
	if snap := j.Snapshot(); snap.DeadRecords != 30 || snap.DeadItems != items || snap.DeadEvictedItems != 0 {
		t.Errorf("of 30 dead letters with %d items: %d with %d, %d evicted", items, snap.DeadRecords, snap.DeadItems, snap.DeadEvictedItems)
	}
	pass(time.Second)
	left := mem
	switch restart {
	case "killed":
		left = mem.KillClone()
	case "cut off":
		left = mem.CrashClone(9)
	}
	if err := store.Close(context.Background()); err != nil {
		t.Error(err)
	}
	store = openStore(t, left, mode...)
	defer store.Close(context.Background())
	j = head(t, store, dest)
	a = j.Attach("a")
	if snap := j.Snapshot(); snap.DeadRecords != 30 || snap.DeadItems != items {
		t.Errorf("after the restart %d dead letters with %d items", snap.DeadRecords, snap.DeadItems)
	}
	if n, _ := j.Counts("a"); n.Rejected != items || n.Queued != 0 {
		t.Errorf("the books after the restart: %+v", n)
	}
	items += buried(120)
	pass(5 * time.Second)
	snap := j.Snapshot()
	if snap.DeadEvictedItems == 0 || snap.DeadItems+snap.DeadEvictedItems != items {
		t.Errorf("of %d items %d are there and %d were evicted", items, snap.DeadItems, snap.DeadEvictedItems)
	}
	told := uint64(0)
	for _, e := range events.of(journal.Evicted) {
		told += e.Items
	}
	if told != snap.DeadEvictedItems {
		t.Errorf("%d evicted items were told of, %d are counted", told, snap.DeadEvictedItems)
	}
	if got := allocated(t, left, home+"/dead"); got > 8<<20 {
		t.Errorf("the dead letters take %d bytes", got)
	}
	if n, _ := j.Counts("a"); n.Rejected != items {
		t.Errorf("the books after evictions: %+v", n)
	}
	pass(30 * time.Second)
	booked := int64(0)
	for _, bytes := range store.Snapshot().DiskBytes {
		booked += bytes
	}
	if got := allocated(t, left, directory); got != booked {
		t.Errorf("%d bytes are allocated, %d are in the books", got, booked)
	}
	if wrong := unbalanced(j); wrong != "" {
		t.Error(wrong)
	}
}
