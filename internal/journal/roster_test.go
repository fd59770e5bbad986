// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// wants are destinations of these names.
func wants(names ...string) (list []queue.Destination) {
	for _, name := range names {
		list = append(list, queue.Destination{Name: name, Stored: true, Exporters: []string{"otlp/" + name}})
	}
	return list
}

// appendAll appends so many records of 1,000 bytes.
func appendAll(t *testing.T, s *story, j *journal.Journal, records int) {
	t.Helper()
	for range records {
		if err := s.append(j, 1000); err != nil {
			t.Fatal(err)
		}
	}
}

// comes drains c and looks whether it is exactly the records from first to last.
func comes(t *testing.T, who string, c queue.Cursor, first, last int) {
	t.Helper()
	got, wrong := drain(c)
	for n := range got {
		if n < first || n > last {
			t.Errorf("%s gets record %d, which is not of %d to %d", who, n, first, last)
		}
	}
	if want := max(0, last-first+1); wrong != "" || len(got) != want {
		t.Errorf("%s gets %d of %d records: %s", who, len(got), want, wrong)
	}
}

func stateOf(j *journal.Journal, name string) queue.State {
	for _, info := range j.List() {
		if info.Name == name {
			return info.State
		}
	}
	return 0
}

// A pipeline that left the configuration drains: its journal takes nothing, its cursors are inherited, and when all is
// delivered nothing of it is left.
func TestBacklogFollowsItsExporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 40)
		store := openStore(t, mem, small)
		old, err := store.Head("traces/old", 1, wants("a", "b"))
		if err != nil {
			t.Fatal(err)
		}
		s := newStory(t)
		s.attach(old, "a")
		s.attach(old, "b")
		appendAll(t, s, old, 150)
		if err := store.Close(context.Background()); err != nil {
			t.Fatal(err)
		}

		store = openStore(t, mem, small)
		defer store.Close(context.Background())
		if _, err := store.Head("traces/new", 1, wants("a")); err != nil {
			t.Fatal(err)
		}
		if found := fmt.Sprint(store.Found()); found != "[traces/new traces/old]" {
			t.Errorf("found %s", found)
		}
		tail, err := store.Tail("traces/old")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.append(tail, 100); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("a tail takes a record: %v", err)
		}
		for _, info := range tail.List() {
			if info.State != queue.Parked || info.Counts.Parked == 0 || len(info.Exporters) != 1 {
				t.Errorf("in the tail %+v", info)
			}
		}
		a, err := tail.Inherit("a", "traces/new:a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tail.Inherit("a", "traces/third:a"); err == nil {
			t.Error("a second heir was accepted")
		}
		again, err := tail.Inherit("a", "traces/new:a")
		if err != nil {
			t.Error(err)
		}
		got := s.take(again, 5000)
		s.resolve(again, "a", queue.Outcome{Kind: queue.Ack}, got...)
		comes(t, "the heir of a", a, len(got)+1, 150)
		if state := stateOf(tail, "a"); state != queue.Done {
			t.Errorf("a is in state %d when all is delivered", state)
		}
		b, err := tail.Inherit("b", "traces/new:a") // another exporter's backlog to the same heir: it had the same records
		if err != nil {
			t.Fatal(err)
		}
		comes(t, "the heir of b", b, 1, 0)
		if wrong := unbalanced(tail); wrong != "" {
			t.Error(wrong)
		}
		pass(5 * time.Second)
		if left := allocated(t, mem, directory+"/pipelines/traces~2fold"); left > 1<<18 {
			t.Errorf("%d bytes are left of a tail that is done:\n%s", left, listing(mem, directory))
		}
		if n := tail.Snapshot().Segments; n > 1 {
			t.Errorf("%d segments are left of a tail that is done", n)
		}
	})
}

// A pipeline whose name is too long for a directory is found again by what is left of the name.
func TestALongNameLeadsToItsJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 40)
		long := "traces/" + strings.Repeat("very-", 30) + "long"
		store := openStore(t, mem, small)
		j, err := store.Head(long, 1, wants("a"))
		if err != nil {
			t.Fatal(err)
		}
		if found := store.Found(); len(found) != 1 || found[0] != long {
			t.Errorf("found %q", found)
		}
		s := newStory(t)
		s.attach(j, "a")
		appendAll(t, s, j, 10)
		store.Close(context.Background())
		store = openStore(t, mem, small)
		defer store.Close(context.Background())
		found := store.Found()
		if len(found) != 1 {
			t.Fatalf("found %q", found)
		}
		tail, err := store.Tail(found[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Head(long, 1, wants("a")); err == nil {
			t.Error("its journal was opened twice")
		}
		a, err := tail.Inherit("a", "heir")
		if err != nil {
			t.Fatal(err)
		}
		comes(t, "the heir", a, 1, 10)
		if again := store.Found(); len(again) != 1 {
			t.Errorf("now there are %q", again)
		}
	})
}

// A parked name that comes back takes its backlog back from its heir.
func TestTheOwnerTakesItsBacklogBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, vfs.NewMem(1<<40), small)
		defer store.Close(context.Background())
		j := head(t, store, wants("a", "b")...)
		s := newStory(t)
		s.attach(j, "a")
		appendAll(t, s, j, 40)
		s.detach(j, "a")
		appendAll(t, s, j, 5) // not owed to a
		heir, err := j.Inherit("a", "h")
		if err != nil {
			t.Fatal(err)
		}
		got := s.take(heir, 3000)
		kept := s.take(heir, 2000)
		s.resolve(heir, "a", queue.Outcome{Kind: queue.Ack}, got...)
		back := s.attach(j, "a")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if more, err := heir.Take(ctx, queue.Want{}); err == nil {
			t.Errorf("the heir still gets %v", more)
		}
		s.resolve(heir, "a", queue.Outcome{Kind: queue.Ack}, kept...) // what it had still counts
		appendAll(t, s, j, 5)
		own, wrong := drain(back)
		if want := 40 - len(got) - len(kept) + 5; wrong != "" || len(own) != want || own[43] {
			t.Errorf("a gets %d of %d records: %s", len(own), want, wrong)
		}
		s.detach(j, "a")
		if _, err := j.Inherit("a", "another"); err == nil {
			t.Error("a is done and was inherited")
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}

// An heir gets each record once: not what it was owed itself, nor what it inherited from somebody else, in whatever
// order that happens and whatever restarts come between.
func TestHeirGetsEachRecordOnce(t *testing.T) {
	for _, order := range [][]string{{"p", "q"}, {"q", "p"}} {
		for _, restart := range []string{"none", "closed", "killed"} {
			t.Run(fmt.Sprintf("%v/%s", order, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { inheritTwo(t, order, restart) })
			})
		}
	}
}

func inheritTwo(t *testing.T, order []string, restart string) {
	mem := vfs.NewMem(1 << 40)
	store := openStore(t, mem, small)
	j := head(t, store, wants("p", "q", "h")...)
	s := newStory(t)
	p, q := s.attach(j, "p"), s.attach(j, "q")
	appendAll(t, s, j, 20) // 1-20: p and q
	h := s.attach(j, "h")  //
	appendAll(t, s, j, 20) // 21-40: all three
	s.detach(j, "p")       //
	appendAll(t, s, j, 20) // 41-60: q and h
	s.detach(j, "q")       //
	appendAll(t, s, j, 10) // 61-70: h
	comes(t, "h", h, 21, 70)
	_, _ = p, q
	seen := map[int]int{}
	deliver := func(c queue.Cursor, records int) {
		t.Helper()
		for range records {
			if f := c.Fill(); f.Records == 0 {
				return
			}
			for _, d := range s.take(c, 1) {
				n, _ := numberOf(d.Body)
				seen[n]++
				s.resolve(c, "?", queue.Outcome{Kind: queue.Ack}, d)
			}
		}
	}
	inherit := func(name string) queue.Cursor {
		t.Helper()
		c, err := j.Inherit(name, "h")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	deliver(inherit(order[0]), 5)
	second := inherit(order[1]) // what it has in common with the first is not its business any more
	deliver(second, 3)
	pass(time.Second)
	if restart != "none" {
		left := mem
		if restart == "killed" {
			left = mem.KillClone()
		}
		store.Close(context.Background())
		store = openStore(t, left, small)
		j = head(t, store, wants("h")...)
		h = j.Attach("h")
		if f := h.Fill(); f.Records != 0 {
			t.Errorf("h has %+v again", f)
		}
		// In the other order than before: what was taken off the one must not be taken off the other.
		for _, name := range []string{order[1], order[0]} {
			if stateOf(j, name) == queue.Parked {
				deliver(inherit(name), 100)
			}
		}
	} else {
		deliver(second, 100)
		deliver(inherit(order[0]), 100)
	}
	for n := 1; n <= 20; n++ {
		if seen[n] != 1 {
			t.Errorf("record %d was inherited %d times", n, seen[n])
		}
	}
	for n := 21; n <= 70; n++ {
		if seen[n] != 0 {
			t.Errorf("record %d, which h had, was inherited %d times", n, seen[n])
		}
	}
	if wrong := unbalanced(j); wrong != "" {
		t.Error(wrong)
	}
	store.Close(context.Background())
}

// Where a change of the roster found no new segment, the old one names who is not owed all of it: an heir that came back
// gets what it was not given itself.
func TestASegmentThatNamesTooManyCostsTheHeirNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1 << 40)
		disk := vfs.NewFaulty(mem)
		store := openStore(t, disk, func(o *journal.Options) { o.Segments = 1 << 20 })
		j := head(t, store, wants("h", "x")...)
		s := newStory(t)
		s.attach(j, "h")
		s.attach(j, "x")
		appendAll(t, s, j, 5)
		pass(time.Second)
		disk.Plan(vfs.Rule{Call: "create *.seg", Err: syscall.ENOSPC})
		s.append(j, 400<<10) // takes the prepared one
		s.append(j, 400<<10)
		s.detach(j, "h")
		before := s.tried
		appendAll(t, s, j, 10) // owed to x, in a segment that names h
		if disk.Hits() == 0 {
			t.Fatal("no segment was denied")
		}
		s.detach(j, "x")
		disk.Plan()
		pass(2 * time.Second)
		h := s.attach(j, "h")
		if got, wrong := drain(h); wrong != "" || len(got) != before {
			t.Errorf("h gets %d of %d records: %s", len(got), before, wrong)
		}
		for _, restart := range []bool{false, true} {
			if restart {
				pass(time.Second)
				left := mem.KillClone()
				store.Close(context.Background())
				store = openStore(t, left)
				j = head(t, store, wants("h")...)
			}
			x, err := j.Inherit("x", "h")
			if err != nil {
				t.Fatal(err)
			}
			if f := x.Fill(); f.Records < 10 {
				t.Errorf("restart %v: of ten records that only x was owed %d are left", restart, f.Records)
			}
			if wrong := unbalanced(j); wrong != "" {
				t.Error(wrong)
			}
		}
		store.Close(context.Background())
	})
}

// Calls of the roster while a group is being written: it is owed to whoever was attached when it was made, whether its
// sync succeeds or not, and whether the process dies then.
//
// Fault: D2 P1
func TestTheRosterChangesWhileAGroupIsWritten(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(j *journal.Journal)
		want bool // a is owed the record
	}{
		"nothing":        {func(*journal.Journal) {}, true},
		"parked":         {func(j *journal.Journal) { j.Detach("a") }, true},
		"parked, back":   {func(j *journal.Journal) { j.Detach("a"); j.Attach("a") }, true},
		"forgotten":      {func(j *journal.Journal) { j.Forget("a") }, false},
		"forgotten, new": {func(j *journal.Journal) { j.Forget("a"); j.Attach("a") }, false},
		"others": {func(j *journal.Journal) {
			j.Attach("b") // prepared
			j.Attach("c") // parked
			j.Attach("d") // not known
			j.Detach("c")
			j.Attach("c")
		}, true},
	} {
		for _, good := range []bool{true, false} {
			for _, next := range []string{"goes on", "killed", "killed at once"} {
				t.Run(fmt.Sprintf("%s/good %v/%s", name, good, next), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { changeInFlight(t, change.do, change.want, good, next) })
				})
			}
		}
	}
}

func changeInFlight(t *testing.T, do func(*journal.Journal), want, good bool, next string) {
	mem := vfs.NewMem(1 << 40)
	disk := vfs.NewFaulty(mem)
	store := openStore(t, disk, small)
	defer func() { store.Close(context.Background()) }()
	j := head(t, store, wants("a", "b", "c")...)
	s := newStory(t)
	s.attach(j, "a")
	s.attach(j, "c")
	appendAll(t, s, j, 4) // 1-4: a and c
	s.detach(j, "c")
	appendAll(t, s, j, 1) // 5: a, in the segment that comes next
	pass(time.Second)
	hold := vfs.NewHold()
	rules := []vfs.Rule{{Call: "datasync *.seg", Times: 1, Hold: hold}}
	if !good {
		rules[0].Err = syscall.EIO
		rules = append(rules, vfs.Rule{Call: "create *.seg.tmp", Err: syscall.EMFILE}, vfs.Rule{Call: "rename *", Err: syscall.EIO})
	}
	disk.Plan(rules...)
	var wait sync.WaitGroup
	wait.Go(func() { // 6: a
		if err := s.append(j, 1000); (err == nil) != good {
			t.Errorf("the group is answered %v", err)
		}
	})
	<-hold.Reached()
	do(j)
	hold.Release()
	wait.Wait()
	disk.Plan()
	pass(3 * time.Second)
	left := mem
	if next == "killed at once" {
		left = mem.KillClone()
	} else {
		appendAll(t, s, j, 1) // 7: whoever is attached now
		pass(2 * time.Second)
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
		if next == "killed" {
			left = mem.KillClone()
		}
	}
	states := map[string]queue.State{}
	for _, info := range j.List() {
		states[info.Name] = info.State
	}
	if left != mem {
		var live []queue.Destination
		for _, name := range []string{"a", "b", "c", "d"} {
			if states[name] == queue.Live {
				live = append(live, wants(name)...)
			}
		}
		store.Close(context.Background())
		store = openStore(t, left, small)
		j = head(t, store, live...)
	}
	got := map[string]map[int]bool{}
	for name, state := range states {
		if state != queue.Live && state != queue.Parked {
			continue
		}
		c, err := cursorOf(j, name, state == queue.Live)
		if err != nil {
			continue // done
		}
		var wrong string
		if got[name], wrong = drain(c); wrong != "" {
			t.Errorf("%s: %s", name, wrong)
		}
	}
	mayCome := !good && next == "killed at once" // a refused record that no later one makes void
	for name := range got {
		switch came := got[name][6]; {
		case name == "a" && want && good && !came:
			t.Error("a was attached and does not get the record")
		case name == "a" && !(want && good) && came && !mayCome, name != "a" && came && !mayCome:
			t.Errorf("%s gets the record", name)
		}
		if seventh := states[name] == queue.Live && next != "killed at once"; got[name][7] != seventh {
			t.Errorf("%s gets the next record: %v, in state %d", name, got[name][7], states[name])
		}
	}
	if n := len(got["c"]); states["c"] != queue.Done && n < 4 {
		t.Errorf("c gets %d of its 4 records", n)
	}
	if wrong := unbalanced(j); wrong != "" {
		t.Error(wrong)
	}
	for _, d := range j.Snapshot().Destinations {
		if d.Fill.Records != 0 || len(d.Counts.Dropped) > 0 {
			t.Errorf("%s is left with %+v, %+v", d.Name, d.Fill, d.Counts)
		}
	}
}
