// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/recovery"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

var wantedNames = []string{"a", "b", "late", "new"}

// messes are directories in which recovery has something to do.
func messes(t *testing.T) map[string]*vfs.Mem {
	all := map[string]*vfs.Mem{}
	mess := func(name string, make func(*yard)) {
		y, mem := sample(t)
		make(y)
		all[name] = mem.CrashClone(1) // what it shows now is durable
	}
	mess("torn", func(y *yard) {
		y.spoil(7, true)
		y.spoil(8, false)
		y.put(seg(9), make([]byte, 9000))
		y.put(seg(4)+".tmp", []byte("rest"))
	})
	mess("strangers", func(y *yard) {
		y.put(seg(11), y.read(seg(1)))
		y.put(seg(12), []byte(strings.Repeat("junk", 3000)))
		y.put(layout.Cursor(dir, "z"), y.read(layout.Cursor(dir, "a")))
		y.change(layout.Cursor(dir, "b"), func(b []byte) []byte { return b[:100] })
		y.put(layout.Cursor(dir, "a")+".tmp", nil)
	})
	mess("gone", func(y *yard) {
		y.remove(seg(2))
		y.remove(layout.Cursor(dir, "a"))
	})
	mess("end gone", func(y *yard) { y.remove(seg(3)) })
	mess("headless", func(y *yard) {
		y.change(seg(3), func(b []byte) []byte { b[17] ^= 1; return b })
		y.change(seg(1), func(b []byte) []byte { b[17] ^= 1; return b })
	})
	mess("resolved", func(y *yard) {
		for _, p := range y.cursors {
			if p.ack(1, 8); p.slot.State == queue.Live {
				p.ack(9, 9)
			}
			p.save()
		}
	})
	for seed := range uint64(6) {
		luck := rand.New(rand.NewPCG(seed, 8))
		mem := vfs.NewMem(0)
		y := newYard(t, mem)
		y.live(luck)
		for range 2 {
			y.harm(luck)
		}
		all[fmt.Sprintf("seed %d", seed)] = mem.CrashClone(1)
	}
	return all
}

// state is what recovery is to come to, whatever comes between: what each cursor waits for, and its books.
func state(y *yard, p *recovery.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seq %d items %d\n", p.Seq, p.Items)
	for i := range p.Cursors {
		c := &p.Cursors[i]
		s := &c.Slot
		var dropped cursor.Count // for whatever reason: a rescue that was cut short leaves other signs
		for _, d := range s.Dropped {
			dropped.Add(d)
		}
		fmt.Fprintf(&b, "%s: %d until %d, waits for %v of %d items, not owed %d, delivered %v, dropped %v\n",
			s.Name, s.State, s.Until, unresolved(p, s), c.Queued.Items, s.NotOwed, s.Delivered, dropped)
	}
	return b.String()
}

func unresolved(p *recovery.Plan, s *cursor.Slot) (all []queue.Seq) {
	for n := queue.Seq(1); n <= upTo(p, s); n++ {
		if !s.Resolved.Has(n) {
			all = append(all, n)
		}
	}
	return all
}

// run recovers a disk and returns what came of it, with the disks that crashes at some of its calls leave.
func (y *yard) run(mem *vfs.Mem, share float64, luck *rand.Rand, rules ...vfs.Rule) (string, []*vfs.Mem, []string) {
	y.Helper()
	disk := vfs.NewFaulty(mem, rules...)
	var left []*vfs.Mem
	var calls []string
	disk.Watch(vfs.Watch{After: func(c vfs.Call) {
		switch op, _, _ := strings.Cut(c.Name, " "); op {
		case "open", "read", "fstat", "stat", "readdir", "close", "dropbehind": // nothing changed
			return
		}
		if luck.Float64() >= share {
			return
		}
		left = append(left, mem.KillClone(), mem.CrashClone(0), mem.CrashClone(2+luck.Uint64()%1000))
		calls = append(calls, c.Name, c.Name, c.Name)
	}})
	p, err := recovery.Inspect(disk, dir, wantedNames)
	y.ok(err)
	y.ok(p.Apply(disk, recovery.ApplySettings{}))
	if len(rules) > 0 && disk.Hits() == 0 {
		y.Error("the fault did not happen")
	}
	z := *y
	z.disk = mem
	for _, wrong := range z.unsound(p) {
		y.Error(wrong)
	}
	return state(y, p), left, calls
}

func TestACrashDuringRecoveryDoesNoHarm(t *testing.T) {
	luck := rand.New(rand.NewPCG(1, 2))
	crashes := 0
	var descend func(y *yard, mem *vfs.Mem, depth int, where, want string)
	descend = func(y *yard, mem *vfs.Mem, depth int, where, want string) {
		share := []float64{0, 0.05, 0.02}[depth]
		if long() {
			share = []float64{0, 0.2, 0.2}[depth]
		}
		got, left, calls := y.run(mem, share, luck)
		if got != want {
			t.Errorf("%s: came to\n%swant\n%s", where, got, want)
		}
		if depth == 0 {
			return
		}
		for i := range left {
			crashes++
			descend(y, left[i], depth-1, where+", "+calls[i], want)
		}
	}
	for name, mem := range messes(t) {
		y := &yard{TB: t, disk: mem}
		want, _, _ := y.run(mem.KillClone(), 0, luck)
		share := 1.0
		if strings.HasPrefix(name, "seed") && !long() {
			share = 0.2
		}
		got, left, calls := y.run(mem.KillClone(), share, luck)
		if got != want {
			t.Errorf("%s: %s, then %s", name, got, want)
		}
		for i := range left {
			crashes++
			descend(y, left[i], 2, name+": "+calls[i], want)
		}
	}
	if crashes < 1000 {
		t.Errorf("only %d crashes", crashes)
	}
	t.Logf("%d crashes", crashes)
}

func TestACrashDuringARescueDoesNoHarm(t *testing.T) {
	luck := rand.New(rand.NewPCG(3, 4))
	fault := vfs.Rule{Call: "datasync " + seg(3), Err: syscall.EIO}
	for name, mem := range messes(t) {
		if _, err := mem.Stat(seg(3)); err != nil || name == "resolved" || strings.HasPrefix(name, "seed") {
			continue
		}
		y := &yard{TB: t, disk: mem}
		want, _, _ := y.run(mem.KillClone(), 0, luck)
		got, left, calls := y.run(mem.KillClone(), 1, luck, fault)
		if got != want {
			t.Errorf("%s: came to\n%swant\n%s", name, got, want)
		}
		for i := range left {
			got, _, _ := y.run(left[i], 0, luck)
			if got != want {
				t.Errorf("%s: %s: came to\n%swant\n%s", name, calls[i], got, want)
			}
		}
	}
}

func TestWhatCannotBeSyncedIsWrittenElsewhere(t *testing.T) {
	y, mem := sample(t)
	y.spoil(7, true) // two runs
	disk := vfs.NewFaulty(mem, vfs.Rule{Call: "datasync " + seg(3), Err: syscall.EIO})
	p, err := recovery.Inspect(disk, dir, wantedNames)
	y.ok(err)
	y.ok(p.Apply(disk, recovery.ApplySettings{}))
	if n, _ := disk.Count("datasync " + seg(3)); n != 1 {
		t.Errorf("the failed file was synced %d times", n)
	}
	if w, _ := disk.Count("write " + seg(3)); w != 0 {
		t.Errorf("the failed file was written %d times", w)
	}
	z := *y
	z.disk = mem.CrashClone(0)
	if _, err := z.disk.Stat(seg(3)); err == nil {
		t.Error("the failed file is still there")
	}
	again := z.recover()
	if got, want := unresolved(again, &find(again, "b").Slot), 0; len(got) != want {
		t.Errorf("b waits for %v", got)
	}
	if got := unresolved(again, &find(again, "a").Slot); fmt.Sprint(got) != "[3 4 5 6 8 9]" {
		t.Errorf("a waits for %v", got)
	}
	if p.LastID != 5 || again.LastID != 5 || again.Segments[len(again.Segments)-1].Header.Flags&segment.FlagRescue == 0 {
		t.Errorf("%+v", again.Segments)
	}
}

func TestWhatCanBeWrittenNowhereIsStillRead(t *testing.T) {
	for _, create := range []error{syscall.ENOSPC, syscall.EROFS} {
		y, mem := sample(t)
		disk := vfs.NewFaulty(mem, vfs.Rule{Call: "datasync " + seg(3), Err: syscall.EIO}, vfs.Rule{Call: "create *", Err: create})
		p, err := recovery.Inspect(disk, dir, wantedNames)
		y.ok(err)
		y.ok(p.Apply(disk, recovery.ApplySettings{}))
		s := p.Segments[len(p.Segments)-1]
		if s.Broken == nil || s.First != 6 || s.Last != 9 || s.Class != segment.Unsealed {
			t.Errorf("%+v", s)
		}
		if find(p, "a").Queued.Records != 6 {
			t.Errorf("a waits for %+v", find(p, "a").Queued)
		}
	}
}

func TestOpeningNeedsNoRoom(t *testing.T) {
	for name, mem := range messes(t) {
		y := &yard{TB: t, disk: mem}
		luck := rand.New(rand.NewPCG(5, 6))
		want, _, _ := y.run(mem.KillClone(), 0, luck)
		for _, full := range []string{"create *", "write *", "allocate *", "mkdir *", "*"} {
			for _, cause := range []error{syscall.ENOSPC, syscall.EROFS} {
				clone := mem.KillClone()
				rule := vfs.Rule{Call: full, Err: cause}
				rules := []vfs.Rule{rule}
				if full == "*" {
					rules = nil
					for _, op := range []string{"create", "write", "datasync", "allocate", "truncate", "mkdir", "rename", "remove", "syncdir"} {
						rules = append(rules, vfs.Rule{Call: op + " *", Err: cause})
					}
				}
				disk := vfs.NewFaulty(clone, rules...)
				p, err := recovery.Inspect(disk, dir, wantedNames)
				y.ok(err)
				if err := p.Apply(disk, recovery.ApplySettings{}); err != nil {
					t.Errorf("%s, %s: %v", name, full, err)
				}
				if got := state(y, p); got != want {
					t.Errorf("%s, no %s: came to\n%swant\n%s", name, full, got, want)
				}
				z := *y
				z.disk = clone
				if got := state(y, z.recover(wantedNames...)); got != want {
					t.Errorf("%s, no %s, with room again: came to\n%swant\n%s", name, full, got, want)
				}
			}
		}
	}
}
