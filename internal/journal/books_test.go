// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// What was given up stays listed after the destination it was for is done with: in the process in which that happened,
// after any end of that process, and when the name comes back.
func TestWhatWasDroppedStaysListed(t *testing.T) {
	for _, end := range []string{"none", "closed", "killed", "power cut"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { dropAndEnd(t, end) })
		})
	}
}

func dropAndEnd(t *testing.T, end string) {
	mem, events := vfs.NewMem(1<<40), &eventLog{}
	mode := capped(16, events, func(o *journal.Options) { o.ParkedHold = 30 * time.Second })
	store := openStore(t, mem, mode...)
	j := head(t, store, wants("a", "gone")...)
	s := newStory(t)
	a := s.attach(j, "a")
	s.attach(j, "gone").Close()
	for range 300 {
		if err := s.append(j, 20<<10); err != nil {
			t.Fatal(err)
		}
	}
	s.detach(j, "gone")
	ackAll(s, "a", a)
	pass(time.Minute)
	_ = fillUp(t, s, j)
	ackAll(s, "a", a)
	_, told := events.drops()
	want := itemsOf(numbers(1, 300)...)
	if told["gone parked"] != want {
		t.Fatalf("%v were given up, want %d items", told, want)
	}
	pass(10 * time.Second)
	if state := stateOf(j, "gone"); state != queue.Done {
		t.Fatalf("it is in state %d with nothing left", state)
	}
	left := mem
	switch end {
	case "killed":
		left = mem.KillClone()
	case "power cut":
		left = mem.CrashClone(7)
	}
	for range 2 { // the second start finds what the first one left
		if end == "none" {
			break
		}
		if err := store.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		store = openStore(t, left, mode...)
		j = head(t, store, wants("a")...)
		s.attach(j, "a")
		pass(10 * time.Second)
		if got, _ := j.Counts("gone"); got.Dropped["parked"] != want {
			t.Errorf("after the restart %d items are known to be given up, not %d", got.Dropped["parked"], want)
		}
	}
	back := s.attach(j, "gone")
	if err := s.append(j, 1000); err != nil {
		t.Fatal(err)
	}
	comes(t, "the name that came back", back, s.tried, s.tried)
	got, _ := j.Counts("gone")
	if items := itemsOf(s.tried); got.Dropped["parked"] != want || got.Delivered != items || got.Accepted != want+items {
		t.Errorf("its books are %+v, want %d items given up and %d delivered", got, want, items)
	}
	if wrong := unbalanced(j); wrong != "" {
		t.Error(wrong)
	}
	store.Close(context.Background())
}

// numbers are those from first to last.
func numbers(first, last int) (list []int) {
	for n := first; n <= last; n++ {
		list = append(list, n)
	}
	return list
}

// However many names come and go with drops, the lists of the newest are on the disk, and it is told whose goes.
func TestListsOfDropsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, events := vfs.NewMem(1<<40), &eventLog{}
		mode := capped(64, events)
		store := openStore(t, mem, mode...)
		j := head(t, store, wants("a")...)
		s := newStory(t)
		a := s.attach(j, "a")
		const names = 40
		for i := range names {
			name := fmt.Sprintf("n%02d", i)
			c := s.attach(j, name)
			appendAll(t, s, j, 2)
			s.resolve(c, name, queue.Outcome{Kind: queue.Drop, Reason: "operator"}, s.take(c, 1500)...)
			s.resolve(c, name, queue.Outcome{Kind: queue.Ack}, s.take(c, 0)...)
			c.Close()
			s.detach(j, name)
			ackAll(s, "a", a)
			pass(3 * time.Second)
		}
		appendAll(t, s, j, 1) // no segment lists the last name any more
		ackAll(s, "a", a)
		pass(10 * time.Second)
		cursors := func() (list []string) {
			for line := range strings.Lines(listing(mem, directory+"/pipelines/traces/cur")) {
				name, _, _ := strings.Cut(line[strings.LastIndex(line, "/")+1:], ".cur")
				list = append(list, name)
			}
			slices.Sort(list)
			return list
		}
		want := []string{"a"}
		for i := names - 16; i < names; i++ {
			want = append(want, fmt.Sprintf("n%02d", i))
		}
		if got := cursors(); !slices.Equal(got, want) {
			t.Errorf("there are cursors of %v, want %v", got, want)
		}
		told := 0
		for _, e := range events.of(journal.Noted) {
			if e.Destination == fmt.Sprintf("n%02d", told) && e.Items == itemsOf(2*told+1) {
				told++
			}
		}
		if told != names-16 {
			t.Errorf("of %d lists it was told that they went, not of %d", told, names-16)
		}
		if err := store.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		store = openStore(t, mem, mode...)
		defer store.Close(context.Background())
		j = head(t, store, wants("a")...)
		j.Attach("n39") // it lives: its list is no other's place
		j.Attach("n40").Close()
		j.Detach("n40") // nothing was dropped
		pass(10 * time.Second)
		if got := cursors(); !slices.Equal(got, want) {
			t.Errorf("after a restart there are cursors of %v, want %v", got, want)
		}
		for _, info := range j.List() {
			if info.Name != "a" && info.Name != "n40" && info.Counts.Dropped["operator"] == 0 {
				t.Errorf("%s is listed with %+v", info.Name, info.Counts)
			}
		}
	})
}
