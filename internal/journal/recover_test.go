// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// long says that a test is to try everything, not samples.
func long() bool { return os.Getenv("HOLDFAST_LONG") != "" }

// luck is a source of chance; a test that fails says how to have the same again.
func luck(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		seed = s
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: %s=%d go test -run %s ./internal/journal", seedVariable, seed, t.Name())
		}
	})
	return rand.New(rand.NewPCG(seed, 1))
}

// wreck is what a crash left, and how it came.
type wreck struct {
	disk *vfs.Mem
	was  chapter
	how  string
}

// wrecks collects what crashes at the calls of a disk would leave.
type wrecks struct {
	mu   sync.Mutex
	list []wreck
}

// at makes disk leave wrecks at each call that which, asked one at a time, says: one killed before it, and so many that
// lost their power before and after it.
func (w *wrecks) at(disk *vfs.Faulty, mem *vfs.Mem, now func() chapter, seeds uint64, which func(vfs.Call) bool) {
	cut := func(when string) func(vfs.Call) {
		return func(c vfs.Call) {
			w.mu.Lock()
			wanted, n := which(c), len(w.list)
			w.mu.Unlock()
			if !wanted {
				return
			}
			how := fmt.Sprintf("%s call %d (%s)", when, c.N, c.Name)
			for {
				was := now()
				var left []wreck
				if when == "before" {
					left = append(left, wreck{mem.KillClone(), was, "killed " + how})
				}
				for i := range seeds {
					seed := uint64(c.N)<<1 + i + uint64((n+len(left))%2)
					left = append(left, wreck{mem.CrashClone(seed), was, fmt.Sprintf("power cut %d %s", seed, how)})
				}
				if was.changes != now().changes { // somebody else went on meanwhile
					continue
				}
				w.mu.Lock()
				w.list = append(w.list, left...)
				w.mu.Unlock()
				return
			}
		}
	}
	disk.Watch(vfs.Watch{Before: cut("before"), After: cut("after")})
}

// someOf picks up to n wrecks.
func someOf(rng *rand.Rand, all []wreck, n int) (some []wreck) {
	for _, i := range rng.Perm(len(all))[:min(n, len(all))] {
		some = append(some, all[i])
	}
	return some
}

// reopened opens and closes what a crash left, with all that the keeper does in between, and collects the wrecks of that.
func (w *wreck) reopened(t *testing.T, seeds uint64, mode []func(*journal.Options)) []wreck {
	var more wrecks
	disk := vfs.NewFaulty(w.disk)
	more.at(disk, w.disk, func() chapter { return w.was }, seeds, func(vfs.Call) bool { return true })
	s, err := journal.OpenStore(context.Background(), disk, options(mode...))
	if err != nil {
		t.Fatalf("%s: open the store: %v", w.how, err)
	}
	var wanted []queue.Destination
	for name := range w.was.live {
		wanted = append(wanted, queue.Destination{Name: name, Stored: true, Exporters: []string{name}})
	}
	j, err := s.Head("traces", 1, wanted)
	if err != nil {
		t.Fatalf("%s: open the journal: %v", w.how, err)
	}
	for name := range w.was.live {
		j.Attach(name)
	}
	pass(1500 * time.Millisecond)
	s.Close(context.Background())
	disk.Watch(vfs.Watch{})
	return more.list
}

// Opening after a crash may be cut short as well, and that again: nothing that was acknowledged goes.
//
// Fault: P1 D7
func TestACrashDuringRecoveryDoesNoHarm(t *testing.T) {
	for name, mode := range map[string][]func(*journal.Options){"synced": {small}, "unsynced": {small, unsynced}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { crashRecovery(t, mode) })
		})
	}
}

func crashRecovery(t *testing.T, mode []func(*journal.Options)) {
	rng := luck(t)
	seeds := uint64(2 - len(mode)) // in unsynced mode a power cut may cost something
	first, then := 4, 24
	if long() {
		first, then = 200, 1000
	}
	mem := vfs.NewMem(1 << 40)
	disk := vfs.NewFaulty(mem)
	s := newStory(t)
	var all wrecks
	all.at(disk, mem, s.now, seeds, func(vfs.Call) bool { return rng.IntN(4) == 0 })
	script(s, disk, mode...)
	disk.Watch(vfs.Watch{})
	checked := [4]int{}
	check := func(depth int, list []wreck) {
		for _, w := range list {
			checked[depth]++
			copied := w
			copied.disk = w.disk.KillClone()
			if wrong := survivors(copied.disk, w.was, mode...); wrong != "" {
				t.Fatalf("%d deep, %s: %s", depth, w.how, wrong)
			}
		}
	}
	for _, one := range someOf(rng, all.list, first) {
		two := one.reopened(t, seeds, mode)
		check(2, someOf(rng, two, 4*then))
		for _, second := range someOf(rng, two, 2) {
			second.how = one.how + ", then " + second.how
			three := second.reopened(t, seeds, mode)
			check(3, someOf(rng, three, then))
		}
	}
	t.Logf("%d crashes two deep, %d three deep", checked[2], checked[3])
	if checked[3] < first*min(then, 100) { // of two reopenings each; where no power is cut, one has 150 calls
		t.Errorf("opening makes too few calls to be crashed: %v", checked)
	}
}

// What a disk says that does not keep what it promised is found out by the crash tests: they would find a journal that
// forgot to ask.
func TestTheCrashTestsFindLies(t *testing.T) {
	caught := func(what string, rules ...vfs.Rule) {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := vfs.NewMem(1 << 40)
				disk := vfs.NewFaulty(mem, rules...)
				s := newStory(t)
				var all wrecks
				rng := rand.New(rand.NewPCG(1, 2))
				all.at(disk, mem, s.now, 1, func(vfs.Call) bool { return rng.IntN(3) == 0 })
				script(s, disk, small)
				disk.Watch(vfs.Watch{})
				if disk.Hits() == 0 {
					t.Fatal("the disk was never asked")
				}
				list := someOf(rng, all.list, len(all.list))
				for i, w := range list {
					if !strings.HasPrefix(w.how, "power") {
						continue
					}
					if wrong := survivors(w.disk, w.was, small); wrong != "" {
						if i > 100 { // as many were killed
							t.Errorf("caught only by power cut %d", i/2)
						}
						return
					}
				}
				t.Errorf("none of %d crashes caught it", len(list))
			})
		})
	}
	caught("a sync of segments that does nothing", vfs.Rule{Call: "datasync *.seg", Lie: true})
	caught("a sync of directories that does nothing", vfs.Rule{Call: "syncdir *", Lie: true})
	caught("a sync of the segments' directory that does nothing", vfs.Rule{Call: "syncdir *seg", Lie: true})
	caught("a write of slots that does nothing", vfs.Rule{Call: "write *.cur*", Lie: true})
	caught("a sync of slots that does nothing", vfs.Rule{Call: "datasync *.cur*", Lie: true})
	caught("a sync of the cursors' directory that does nothing", vfs.Rule{Call: "syncdir *cur", Lie: true})
}

// After a crash come again: what was handed out, and what was resolved since the last slot was written.
//
// Fault: P1 D7
func TestDuplicatesAfterACrashAreBounded(t *testing.T) {
	for _, power := range []bool{false, true} {
		t.Run(fmt.Sprintf("power cut %v", power), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { countDuplicates(t, power) })
		})
	}
}

func countDuplicates(t *testing.T, power bool) {
	const rounds = 300
	rng := rand.New(rand.NewPCG(3, 4))
	mem := vfs.NewMem(1 << 40)
	store := openStore(t, mem, small)
	defer store.Close(context.Background())
	j := head(t, store, queue.Destination{Name: "a", Stored: true})
	s := newStory(t)
	a := s.attach(j, "a")
	acked := map[int]time.Time{}
	duplicates := 0
	for round := range rounds {
		for range 5 {
			if err := s.append(j, rng.IntN(3000)); err != nil {
				t.Fatal(err)
			}
		}
		got := s.take(a, 0)
		rng.Shuffle(len(got), func(i, k int) { got[i], got[k] = got[k], got[i] })
		n := rng.IntN(len(got) + 1)
		s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, got[:n]...)
		s.resolve(a, "a", queue.Outcome{Kind: queue.Nack, Delay: time.Duration(rng.IntN(500)) * time.Millisecond}, got[n:]...)
		for _, d := range got[:n] {
			n, _ := numberOf(d.Body)
			acked[n] = time.Now()
		}
		pass(time.Duration(rng.IntN(80)) * time.Millisecond)
		if round%10 != 9 {
			continue
		}
		left, was := mem.KillClone(), s.now()
		if power {
			left = mem.CrashClone(rng.Uint64())
		}
		again := openStore(t, left, small)
		j2 := head(t, again, queue.Destination{Name: "a", Stored: true})
		came, wrong := drain(j2.Attach("a"))
		if wrong != "" {
			t.Fatal(wrong)
		}
		for n := range came {
			if at, ok := acked[n]; ok {
				duplicates++
				if age := time.Since(at); age > 100*time.Millisecond {
					t.Errorf("record %d comes again, %s after it was acked", n, age)
				}
			}
		}
		for n := range was.owed["a"] {
			if !came[n] {
				t.Errorf("record %d does not come", n)
			}
		}
		if wrong := unbalanced(j2); wrong != "" {
			t.Error(wrong)
		}
		again.Close(context.Background())
	}
	if duplicates == 0 {
		t.Error("no crash came between an ack and its slot")
	}
}
