// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
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
		store := openStore(t, disk, capped(16, events, func(o *journal.Options) { o.Overflow = "drop_oldest" })...)
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
		pass(71 * time.Hour)
		fill(134)
		if order, _ := events.drops(); slices.Contains(order, "gone parked") {
			t.Errorf("before parked_hold: %v", order)
		}
		ackAll(s, "stored", stored)
		ackAll(s, "free", free)
		pass(2 * time.Hour)
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
					missing += uint64(itemsOf(n))
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
		store := openStore(t, disk, capped(16, events, uncached)...)
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
		store = openStore(t, disk, capped(16, events, uncached)...) // now nothing of it is in memory
		j = head(t, store, wants("stored")...)
		stored = s.attach(j, "stored")
		pass(73 * time.Hour)
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

// foreignDisk is a disk as another process sees it: the same files, of which this one does not know.
type foreignDisk struct{ vfs.FS }

func (d foreignDisk) Stat(name string) (vfs.Info, error) {
	info, err := d.FS.Stat(name)
	info.Device++
	return info, err
}

// One directory has one store, and one pipeline one journal in it.
func TestSecondOpenIsTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(1 << 40)
		store := openStore(t, disk, func(o *journal.Options) { o.Owner = "holdfast 4711" })
		j := head(t, store, dest)
		s := newStory(t)
		a := s.attach(j, "a")
		_, err := journal.OpenStore(context.Background(), disk, options())
		if err == nil || !strings.Contains(err.Error(), directory) || !strings.Contains(err.Error(), "in use by this process") {
			t.Errorf("a second store: %v", err)
		}
		start := time.Now() // another process, as far as the locks go
		other := foreignDisk{disk}
		_, err = journal.OpenStore(context.Background(), other, options(func(o *journal.Options) { o.Timeout = 3 * time.Second }))
		var locked *space.LockedError
		if !errors.As(err, &locked) || !strings.Contains(err.Error(), "holdfast 4711") {
			t.Errorf("a second process: %v", err)
		}
		if waited := time.Since(start); waited < 3*time.Second || waited > 4*time.Second {
			t.Errorf("it waited %v for the lock", waited)
		}
		if _, err := store.Head("traces", 1, []queue.Destination{dest}); err == nil || !strings.Contains(err.Error(), "open already") {
			t.Errorf("a second journal: %v", err)
		}
		if _, err := store.Tail("traces"); err == nil {
			t.Error("a tail beside the head")
		}
		appendAll(t, s, j, 3) // the first one does not notice
		comes(t, "a", a, 1, 3)
		if err := j.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err = store.Head("traces", 1, []queue.Destination{dest}); err != nil {
			t.Errorf("after it was closed: %v", err)
		}
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
		again := openStore(t, disk)
		defer again.Close(context.Background())
		head(t, again, dest)
	})
}

// A journal without work makes no call at all, and what the warden looks at every ten seconds it does not change.
func TestIdleJournalWritesNothing(t *testing.T) {
	for name, mode := range map[string]func(*journal.Options){"synced": func(*journal.Options) {}, "unsynced": unsynced} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewFaulty(vfs.NewMem(1 << 40))
				store := openStore(t, disk, mode)
				defer store.Close(context.Background())
				j := head(t, store, wants("a", "b", "c")...)
				s := newStory(t)
				a, b := s.attach(j, "a"), s.attach(j, "b")
				s.attach(j, "c")
				appendAll(t, s, j, 50)
				ackAll(s, "a", a)
				got := s.take(b, 20_000)
				s.resolve(b, "b", queue.Outcome{Kind: queue.Dead, Reason: "no"}, got[0])
				s.resolve(b, "b", queue.Outcome{Kind: queue.Nack, Delay: time.Hour}, got[1:]...)
				s.detach(j, "c")
				pass(5 * time.Second)
				ctx, cancel := context.WithCancel(context.Background())
				waiting := make(chan error)
				go func() {
					_, err := a.Take(ctx, queue.Want{Sizer: queue.Items, Min: 100, Linger: time.Minute, Joins: func(_, _ *queue.Record) bool { return true }})
					waiting <- err
				}()
				before := len(disk.Calls(""))
				start := time.Now()
				for disk.Calls("")[len(disk.Calls(""))-1].N == before { // up to the warden's next round
					pass(100 * time.Millisecond)
					if time.Since(start) > 11*time.Second {
						t.Fatal("the warden does not come")
					}
				}
				pass(time.Second)
				quiet := len(disk.Calls(""))
				pass(8 * time.Second)
				if calls := disk.Calls("")[quiet:]; len(calls) > 0 {
					t.Errorf("within eight seconds it made the calls %v", calls)
				}
				pass(50 * time.Minute)
				for _, c := range disk.Calls("")[quiet:] {
					switch op, _, _ := strings.Cut(c.Name, " "); op {
					case "stat", "fstat", "readdir", "usage":
					default:
						t.Errorf("an idle journal made the call %s", c.Name)
					}
				}
				cancel()
				<-waiting
			})
		})
	}
}

// One record that nobody takes pins its segment and no other, and a million behind it cost no memory.
func TestOnePoisonRecordPinsOneSegment(t *testing.T) {
	records := 100_000
	if long() {
		records = 1_000_000
	}
	for name, mode := range map[string]func(*journal.Options){"cached": func(*journal.Options) {}, "uncached": uncached} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := openStore(t, vfs.NewMem(1<<40), unsynced, mode)
				defer store.Close(context.Background())
				j := head(t, store, dest)
				a := j.Attach("a")
				body := make([]byte, 40)
				most := 0
				var memory []int64
				for i := range records {
					if err := j.Append(context.Background(), queue.Record{Items: 1, Size: 40, Body: body}); err != nil {
						t.Fatal(err)
					}
					if i%500 != 499 {
						continue
					}
					for a.Fill().Records > 1 || i < 500 && a.Fill().Records == 500 {
						got, err := a.Take(context.Background(), queue.Want{Joins: func(_, _ *queue.Record) bool { return true }})
						if err != nil {
							t.Fatal(err)
						}
						var seqs []queue.Seq
						for _, d := range got {
							if d.Seq == 7 {
								a.Resolve(queue.Outcome{Kind: queue.Nack, Delay: 50 * time.Millisecond}, 7)
							} else {
								seqs = append(seqs, d.Seq)
							}
						}
						a.Resolve(queue.Outcome{Kind: queue.Ack}, seqs...)
					}
					pass(100 * time.Millisecond)
					if i%10_000 == 9999 {
						pass(2 * time.Second)
						most = max(most, j.Snapshot().Segments)
						memory = append(memory, heldBytes())
					}
				}
				if most > 2 {
					t.Errorf("%d segments are kept for one record", most)
				}
				if first, last := memory[1], memory[len(memory)-1]; last-first > int64(records)*4 {
					t.Errorf("memory grew from %d to %d bytes over %d records", first, last, records)
				}
				if f := a.Fill(); f.Records != 1 {
					t.Errorf("left: %+v", f)
				}
				if wrong := unbalanced(j); wrong != "" {
					t.Error(wrong)
				}
			})
		})
	}
}

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
