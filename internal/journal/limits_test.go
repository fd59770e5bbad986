// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// drops are the destinations and reasons of the drops told so far, each once in a row, and the items of all.
func (l *eventLog) drops() (order []string, items map[string]uint64) {
	items = map[string]uint64{}
	for _, e := range l.of(journal.Dropped) {
		what := e.Destination + " " + e.Reason
		if len(order) == 0 || order[len(order)-1] != what {
			order = append(order, what)
		}
		items[what] += e.Items
	}
	return order, items
}

// ackAll delivers everything that waits.
func ackAll(s *story, name string, c queue.Cursor) {
	for c.Fill().Records > c.Fill().Leased {
		s.resolve(c, name, queue.Outcome{Kind: queue.Ack}, s.take(c, 0)...)
	}
}

// A dead backend fills the directory up to the others' shares: a healthy pipeline goes on beside it.
//
// Fault: D1
func TestSharesKeepHealthyPipelinesOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(1 << 40)
		events := &eventLog{}
		store := openStore(t, disk, append(capped(32, events), func(o *journal.Options) { o.Heads = 2 })...)
		defer store.Close(context.Background())
		open := func(pipeline string) (*journal.Journal, *story, queue.Cursor) {
			j, err := store.Head(pipeline, 1, []queue.Destination{dest})
			if err != nil {
				t.Fatal(err)
			}
			s := newStory(t)
			return j, s, s.attach(j, "a")
		}
		logs, sick, _ := open("logs")
		traces, healthy, a := open("traces")
		var full *queue.FullError
		if err := fillUp(t, sick, logs); !errors.As(err, &full) || full.Limit != "max_file_size_mib" {
			t.Fatalf("the sick one is refused with %v", err)
		}
		for range 300 {
			if err := healthy.append(traces, 20<<10); err != nil {
				t.Fatalf("the healthy one is refused with %v", err)
			}
			if healthy.tried%7 == 0 {
				ackAll(healthy, "a", a)
			}
			if healthy.tried%50 == 0 {
				pass(time.Second)
			}
			sick.append(logs, 20<<10)
		}
		used := allocated(t, disk, directory)
		if used > 32<<20 {
			t.Errorf("%d bytes are allocated", used)
		}
		share := int64(32<<20) / 4
		if sick := allocated(t, disk, directory+"/pipelines/logs"); sick > 32<<20-share || sick < 16<<20 {
			t.Errorf("the sick one has %d bytes; %d are the other's share", sick, share)
		}
		if len(events.of(journal.Dropped)) > 0 {
			t.Error("something was dropped")
		}
	})
}

// Room is made in the order of section 10, from what is oldest, and only as much as is needed.
func TestRoomIsMadeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := &eventLog{}
		disk := vfs.NewMem(1 << 40)
		store := openStore(t, disk, capped(16, events, func(o *journal.Options) {
			o.Overflow, o.ParkedHold = "drop_oldest", time.Hour
		})...)
		defer store.Close(context.Background())
		j := head(t, store, append(wants("gone", "stored"), queue.Destination{Name: "free"})...)
		s := newStory(t)
		s.attach(j, "gone")
		free, stored := s.attach(j, "free"), s.attach(j, "stored")
		fill := func(records int) {
			t.Helper()
			for range records {
				if err := s.append(j, 60<<10); err != nil {
					t.Fatal(err)
				}
				pass(time.Millisecond) // what is full is sealed: before that it cannot give way
			}
		}
		fill(34)
		for range 60 { // two segments of dead letters
			s.append(j, 100<<10)
		}
		for stored.Fill().Records > 0 {
			for _, d := range s.take(stored, 0) {
				s.resolve(stored, "stored", queue.Outcome{Kind: queue.Dead, Reason: "no"}, d)
			}
		}
		ackAll(s, "stored", stored)
		ackAll(s, "free", free)
		s.detach(j, "gone")
		fill(34)
		ackAll(s, "stored", stored) // free keeps these
		if order, _ := events.drops(); len(order) > 0 {
			t.Fatalf("given up without need: %v", order)
		}
		pass(59 * time.Minute)
		fill(134)
		if order, _ := events.drops(); slices.Contains(order, "gone parked") {
			t.Errorf("before parked_hold: %v", order)
		}
		ackAll(s, "stored", stored)
		ackAll(s, "free", free)
		pass(2 * time.Minute)
		before := len(events.of(journal.Dropped))
		if n, _ := j.Counts("gone"); n.Parked == 0 {
			t.Errorf("given up because its time was over, not because room was needed: %+v", n)
		}
		fill(34) // there is room
		if n := len(events.of(journal.Dropped)); n != before {
			t.Errorf("%d drops with room left", n-before)
		}
		evicted := len(events.of(journal.Evicted))
		events.mu.Lock()
		events.list = nil
		events.mu.Unlock()
		fill(500) // nobody takes any more
		order, items := events.drops()
		if evicted+len(events.of(journal.Evicted)) == 0 {
			t.Error("the dead letters stayed")
		}
		if got := strings.Join(order, ", "); !strings.HasPrefix(got, "gone parked, ") || !strings.Contains(got, "stored drop_oldest") {
			t.Errorf("given up: %s", got)
		}
		for i, what := range order {
			if what == "gone parked" && i > 0 {
				t.Errorf("given up: %v", order)
			}
		}
		for name, c := range map[string]queue.Cursor{"free": free, "stored": stored} {
			got, wrong := drain(c)
			if wrong != "" {
				t.Error(wrong)
			}
			missing := uint64(0)
			for n := range s.owed[name] {
				if !got[n] {
					missing += itemsOf(n)
				}
			}
			counts, _ := j.Counts(name)
			dropped := uint64(0)
			for _, n := range counts.Dropped {
				dropped += n
			}
			if missing != dropped || dropped == 0 {
				t.Errorf("%s misses %d items, and %d are booked: %v", name, missing, dropped, items)
			}
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}

// What is damaged in a segment that is given up is given up with it.
func TestGivingUpADamagedSegmentFreesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := &eventLog{}
		disk := vfs.NewMem(1 << 40)
		mode := capped(16, events, uncached, func(o *journal.Options) { o.ParkedHold = time.Hour })
		store := openStore(t, disk, mode...)
		defer func() { store.Close(context.Background()) }()
		j := head(t, store, wants("gone", "stored")...)
		s := newStory(t)
		s.attach(j, "gone")
		stored := s.attach(j, "stored")
		for range 200 {
			if err := s.append(j, 20<<10); err != nil {
				t.Fatal(err)
			}
		}
		s.detach(j, "gone")
		ackAll(s, "stored", stored)
		store.Close(context.Background())
		store = openStore(t, disk, mode...) // now nothing of it is in memory
		j = head(t, store, wants("stored")...)
		stored = s.attach(j, "stored")
		pass(61 * time.Minute)
		entries, err := disk.ReadDir(home + "/seg")
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range entries {
			if i%2 == 0 { // in the middle of each second segment
				put(t, disk, home+"/seg/"+e.Name, 100_000, make([]byte, 3000))
			}
		}
		for range 300 {
			if err := s.append(j, 60<<10); err != nil {
				t.Fatalf("record %d with %+v: %v\n%s", s.tried, events.of(journal.Damaged), err, books(j))
			}
			ackAll(s, "stored", stored)
		}
		pass(10 * time.Second)
		for s.append(j, 60<<10) == nil {
		}
		if n, _ := j.Counts("gone"); n.Parked != 0 || n.Dropped["parked"] == 0 || n.Dropped["corrupt"] == 0 {
			t.Errorf("of what was parked %+v is left", n)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}

// max_size bounds one journal, and says so; what it gives up then is its own.
func TestAJournalStaysUnderItsMaxSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(1 << 40)
		events := &eventLog{}
		store := openStore(t, disk, capped(64, events, func(o *journal.Options) { o.MaxSize = 4 << 20 })...)
		defer store.Close(context.Background())
		other, err := store.Head("other", 1, []queue.Destination{{Name: "free"}})
		if err != nil {
			t.Fatal(err)
		}
		s := newStory(t)
		s.attach(other, "free")
		for range 100 {
			if err := s.append(other, 20<<10); err != nil {
				t.Fatal(err)
			}
		}
		j := head(t, store, dest)
		s.attach(j, "a")
		var full *queue.FullError
		if err := fillUp(t, s, j); !errors.As(err, &full) || full.Limit != "max_size" {
			t.Errorf("refused with %v", err)
		}
		if got := allocated(t, disk, home); got > 4<<20 || got < 3<<20 {
			t.Errorf("it has %d bytes", got)
		}
		if n := len(events.of(journal.Dropped)); n > 0 {
			t.Errorf("%d drops, of another journal's", n)
		}
	})
}

// What was answered before its sync failed, and found no room for a rescue, is delivered from memory. When everybody has
// it, neither the rescue nor what it was written to is needed: the journal does not stay full for its sake.
func TestWhatEverybodyHasNeedsNoRescue(t *testing.T) {
	for _, end := range []string{"runs on", "killed", "power cut"} {
		t.Run(end, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { strandAndDeliver(t, end) }) })
	}
}

func strandAndDeliver(t *testing.T, end string) {
	mem := vfs.NewMem(1 << 40)
	disk := vfs.NewFaulty(mem)
	mode := []func(*journal.Options){small, unsynced, func(o *journal.Options) { o.MaxSize = 800 << 10 }}
	store := openStore(t, disk, mode...)
	defer func() { store.Close(context.Background()) }()
	j := head(t, store, wants("a", "b")...)
	s := newStory(t)
	a, b := s.attach(j, "a"), s.attach(j, "b")
	appendAll(t, s, j, 1)
	pass(time.Second)
	disk.Plan(vfs.Rule{Call: "datasync *2.seg", Skip: 1, Times: 1, Err: syscall.EIO}) // not of the prepared file
	if err := s.append(j, 300<<10); err != nil {
		t.Fatal(err)
	}
	pass(5 * time.Second)
	if shown := j.Snapshot(); shown.State != "full" || disk.Hits() != 1 || shown.Condemned != 1 {
		t.Fatalf("it is %s (%v) with %d segments condemned", shown.State, shown.Err, shown.Condemned)
	}
	ackAll(s, "a", a)
	pass(5 * time.Second)
	if state := j.Snapshot().State; state != "full" {
		t.Errorf("it is %s, and b is owed what is on no disk", state)
	}
	ackAll(s, "b", b)
	pass(5 * time.Second)
	if shown := j.Snapshot(); shown.State != "ok" || shown.Segments > 1 {
		t.Errorf("with everything delivered it is %s (%v) and has %d segments\n%s", shown.State, shown.Err, shown.Segments,
			listing(mem, directory))
	}
	left := mem
	switch end {
	case "killed":
		left = mem.KillClone()
	case "power cut":
		left = mem.CrashClone(3)
	}
	if left != mem {
		store.Close(context.Background())
		store = openStore(t, left, mode...)
		j = head(t, store, wants("a", "b")...)
		a, b = s.attach(j, "a"), s.attach(j, "b")
	}
	if err := s.append(j, 300<<10); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]queue.Cursor{"a": a, "b": b} {
		comes(t, name, c, s.tried, s.tried)
	}
	if wrong := unbalanced(j); wrong != "" {
		t.Error(wrong)
	}
	for _, info := range j.List() {
		if n := len(info.Counts.Dropped); n > 0 {
			t.Errorf("%s lost %v", info.Name, info.Counts.Dropped)
		}
	}
}

// Limits change while a journal is open: what they let in is taken, what they forbid is refused, and a cap that is too
// small changes nothing.
func TestLimitsChangeWhileAJournalIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(1 << 40)
		events := &eventLog{}
		o := options(capped(16, events)...)
		store := openStore(t, disk, capped(16, events)...)
		defer store.Close(context.Background())
		j := head(t, store, dest)
		s := newStory(t)
		a := s.attach(j, "a")
		adjust := func(change func(*journal.Config)) {
			t.Helper()
			change(&o.Config)
			if err := errors.Join(store.Fits(o.Config, 1), store.Adjust(o.Config, 1)); err != nil {
				t.Fatal(err)
			}
			pass(2 * time.Second)
		}
		refused := func(limit string, below int64) {
			t.Helper()
			var full *queue.FullError
			if err := fillUp(t, s, j); !errors.As(err, &full) || full.Limit != limit {
				t.Errorf("refused with %v, want %s", err, limit)
			}
			of := map[string]string{"max_size": home}[limit]
			if got := allocated(t, disk, cmp.Or(of, directory)); got > below || got < below-2<<20 {
				t.Errorf("%d bytes are allocated at %s of %d", got, limit, below)
			}
		}
		refused("max_file_size_mib", 16<<20)
		small := o.Config
		small.MaxFileSizeMiB = 1
		if store.Fits(small, 2) == nil || store.Adjust(small, 2) == nil {
			t.Error("a cap of 1 MiB is enough for two heads")
		}
		refused("max_file_size_mib", 16<<20)
		adjust(func(c *journal.Config) { c.MaxFileSizeMiB = 24 })
		refused("max_file_size_mib", 24<<20)
		adjust(func(c *journal.Config) { c.MaxFileSizeMiB, c.MaxSize = 64, 32<<20 })
		refused("max_size", 32<<20)
		adjust(func(c *journal.Config) { c.MaxFileSizeMiB = 16 })
		if err := s.append(j, 200<<10); err == nil {
			t.Error("above a cap that was lowered it takes more")
		}
		ackAll(s, "a", a)
		pass(5 * time.Second)
		refused("max_file_size_mib", 16<<20)
		adjust(func(c *journal.Config) { c.Overflow = "drop_oldest" })
		for range 200 {
			if err := s.append(j, 20<<10); err != nil {
				t.Fatalf("with drop_oldest: %v", err)
			}
			pass(time.Millisecond)
		}
		if _, items := events.drops(); items["a drop_oldest"] == 0 || len(items) != 1 {
			t.Errorf("given up: %v", items)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}
