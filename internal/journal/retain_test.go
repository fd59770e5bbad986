// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// log keeps the events of a store.
type eventLog struct {
	mu   sync.Mutex
	list []journal.Event
}

func (l *eventLog) note(e journal.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e)
}

func (l *eventLog) of(k journal.Kind) (out []journal.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

// capped is a store of mib MiB with small segments.
func capped(mib int64, events *eventLog, more ...func(*journal.Options)) []func(*journal.Options) {
	return append([]func(*journal.Options){func(o *journal.Options) {
		o.MaxFileSizeMiB, o.Segments, o.OnEvent = mib, 256<<10, events.note
	}}, more...)
}

// fillUp appends until the journal refuses, and returns the refusal.
func fillUp(t *testing.T, s *story, j *journal.Journal) error {
	t.Helper()
	for range 100_000 {
		if err := s.append(j, 20<<10); err != nil {
			return err
		}
	}
	t.Fatal("the journal never refused")
	return nil
}

// allocated is what a directory takes on the memory disk.
func allocated(t *testing.T, disk vfs.FS, dir string) (bytes int64) {
	t.Helper()
	entries, err := disk.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type.IsDir() {
			bytes += allocated(t, disk, dir+"/"+e.Name)
			continue
		}
		info, err := disk.Stat(dir + "/" + e.Name)
		if err == nil {
			bytes += info.Allocated
		}
	}
	return bytes
}

// Fault: D1
func TestDirectoryStaysUnderItsCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(1 << 40)
		events := &eventLog{}
		store := openStore(t, disk, capped(16, events)...)
		defer store.Close(context.Background())
		j := head(t, store, queue.Destination{Name: "a", Stored: true})
		s := newStory(t)
		a := s.attach(j, "a")
		for round := range 3 {
			var full *queue.FullError
			if err := fillUp(t, s, j); !errors.As(err, &full) || full.Limit != "max_file_size_mib" {
				t.Fatalf("refused with %v", err)
			}
			if got := allocated(t, disk, directory); got > 16<<20 || got < 12<<20 {
				t.Errorf("round %d: %d bytes are allocated at the cap of %d", round, got, 16<<20)
			}
			for a.Fill().Records > 0 {
				s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, s.take(a, 0)...)
			}
			pass(5 * time.Second) // space comes back by itself
			if err := s.append(j, 20<<10); err != nil {
				t.Fatalf("round %d: with an empty queue: %v", round, err)
			}
		}
		if n := len(events.of(journal.Dropped)); n > 0 {
			t.Errorf("%d drops", n)
		}
	})
}

// Fault: D1
func TestFullDiskRefusesAndGoesOnDelivering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(8 << 20)
		events := &eventLog{}
		store := openStore(t, disk, append(capped(1<<20, events), func(o *journal.Options) { o.MinFreeMiB = 1 })...)
		defer store.Close(context.Background())
		j := head(t, store, queue.Destination{Name: "a", Stored: true})
		s := newStory(t)
		a := s.attach(j, "a")
		var full *queue.FullError
		if err := fillUp(t, s, j); !errors.As(err, &full) {
			t.Fatalf("refused with %v", err)
		}
		pass(2 * time.Second)
		accepted := len(s.accepted)
		disk.SetCapacity(4 << 20) // somebody else takes the rest
		if err := s.append(j, 20<<10); err == nil {
			accepted++
		}
		got := 0
		for a.Fill().Records > 0 {
			batch := s.take(a, 0)
			got += len(batch)
			if err := s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, batch...); err != nil {
				t.Fatal(err)
			}
		}
		if got != accepted {
			t.Errorf("%d of %d accepted records were delivered", got, accepted)
		}
		pass(5 * time.Second)
		disk.SetCapacity(8 << 20)
		pass(5 * time.Second)
		if err := s.append(j, 20<<10); err != nil {
			t.Errorf("with space again: %v", err)
		}
		pass(2 * time.Second)
		var states []string
		for _, e := range events.of(journal.Changed) {
			states = append(states, e.Reason)
		}
		if got := strings.Join(states, " "); got != "full ok" {
			t.Errorf("people were told of the states %q", got)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}

func TestOneFullDestinationDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, vfs.NewMem(1<<40), capped(64, &eventLog{})...)
		defer store.Close(context.Background())
		limit := queue.Limit{Sizer: queue.Requests, Max: 10}
		j := head(t, store, queue.Destination{Name: "dead", Stored: true, Limit: limit},
			queue.Destination{Name: "alive", Stored: true, Limit: limit})
		s := newStory(t)
		dead, alive := s.attach(j, "dead"), s.attach(j, "alive")
		for range 100 {
			if err := s.append(j, 1000); err != nil {
				t.Fatal(err)
			}
			s.resolve(alive, "alive", queue.Outcome{Kind: queue.Ack}, s.take(alive, 0)...)
		}
		if f := dead.Fill(); f.Records != 100 || f.Size != 100 || f.Capacity != 10 {
			t.Errorf("the dead one has %+v", f)
		}
		for range 10 {
			if err := s.append(j, 1000); err != nil {
				t.Fatal(err)
			}
		}
		var full *queue.FullError
		if err := s.append(j, 1000); !errors.As(err, &full) || full.Limit != "queue_size" {
			t.Errorf("with both full: %v", err)
		}
	})
}

func TestThreeDestinationsCostOneCopy(t *testing.T) {
	written := func(names ...string) int64 {
		var bytes int64
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewFaulty(vfs.NewMem(1 << 40))
			store := openStore(t, disk)
			defer store.Close(context.Background())
			var wanted []queue.Destination
			for _, n := range names {
				wanted = append(wanted, queue.Destination{Name: n, Stored: true})
			}
			j := head(t, store, wanted...)
			s := newStory(t)
			for _, n := range names {
				s.attach(j, n)
			}
			for range 200 {
				if err := s.append(j, 64<<10); err != nil {
					t.Fatal(err)
				}
			}
			_, bytes = disk.Count("write *.seg")
		})
		return bytes
	}
	one, three := written("a"), written("a", "b", "c")
	if payload := int64(200 * 64 << 10); float64(one) > 1.05*float64(payload) || float64(three) > 1.02*float64(one) {
		t.Errorf("%d bytes were written for one destination, %d for three, of %d bytes of payload", one, three, payload)
	}
}

func TestGivingUpFollowsTheOrder(t *testing.T) {
	reasons := func(t *testing.T, wanted []queue.Destination, more ...func(*journal.Options)) (first []string, s *story) {
		synctest.Test(t, func(t *testing.T) {
			events := &eventLog{}
			store := openStore(t, vfs.NewMem(1<<40), capped(16, events, more...)...)
			defer store.Close(context.Background())
			j := head(t, store, wanted...)
			s = newStory(t)
			for _, d := range wanted {
				s.attach(j, d.Name)
			}
			if len(wanted) > 2 { // the last one leaves
				for range 50 {
					if err := s.append(j, 20<<10); err != nil {
						t.Fatal(err)
					}
				}
				s.detach(j, wanted[2].Name)
				pass(time.Hour)
			}
			for range 2000 {
				if err := s.append(j, 20<<10); err != nil {
					break
				}
			}
			for _, e := range events.of(journal.Dropped) {
				if what := e.Destination + " " + e.Reason; len(first) == 0 || first[len(first)-1] != what {
					first = append(first, what)
				}
			}
			if wrong := unbalanced(j); wrong != "" {
				t.Error(wrong)
			}
		})
		return first, s
	}
	check := func(name, want string, wanted []queue.Destination, more ...func(*journal.Options)) {
		t.Run(name, func(t *testing.T) {
			if got, _ := reasons(t, wanted, more...); strings.Join(got, ", ") != want {
				t.Errorf("given up: %q, want %q", strings.Join(got, ", "), want)
			}
		})
	}
	stored, free := queue.Destination{Name: "stored", Stored: true}, queue.Destination{Name: "free"}
	gone := queue.Destination{Name: "gone", Stored: true}
	check("nothing of what is stored", "", []queue.Destination{stored})
	check("nothing that frees no segment", "", []queue.Destination{stored, free})
	check("a destination without storage", "free overflow", []queue.Destination{free})
	check("the parked wait for their time", "", []queue.Destination{stored, {Name: "other", Stored: true}, gone})
	check("the oldest, if asked for", "stored drop_oldest", []queue.Destination{stored},
		func(o *journal.Options) { o.Overflow = "drop_oldest" })
}

func TestRemovedDestinationKeepsItsBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, vfs.NewMem(1<<40), capped(64, &eventLog{})...)
		defer store.Close(context.Background())
		j := head(t, store, queue.Destination{Name: "a", Stored: true}, queue.Destination{Name: "b", Stored: true})
		s := newStory(t)
		a, b := s.attach(j, "a"), s.attach(j, "b")
		for range 100 {
			if err := s.append(j, 5000); err != nil {
				t.Fatal(err)
			}
		}
		s.detach(j, "b")
		b.Close()
		for range 100 { // not owed to b
			if err := s.append(j, 5000); err != nil {
				t.Fatal(err)
			}
		}
		if got, wrong := drain(a); wrong != "" || len(got) != 200 {
			t.Errorf("a got %d records: %s", len(got), wrong)
		}
		pass(5 * time.Second)
		if c, _ := j.Counts("b"); c.Parked == 0 || c.Queued != 0 {
			t.Errorf("b is parked with %+v", c)
		}
		back := s.attach(j, "b")
		if got, wrong := drain(back); wrong != "" || len(got) != 100 || !got[1] || !got[100] {
			t.Errorf("b got %d records when it came back: %s", len(got), wrong)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}
