// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package recovery_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
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

// longVariable makes the damage tests try every byte in every way and every length, not a sample of them.
const longVariable = "HOLDFAST_LONG"

func long() bool { return os.Getenv(longVariable) == "1" }

const smallBytes = 28 << 10

// sample is a journal of three segments, the last one not sealed, and four cursors.
func sample(t *testing.T) (*yard, *vfs.Mem) {
	mem := vfs.NewMem(0)
	y := newYard(t, mem)
	a, b := y.cursor("a"), y.cursor("b")
	y.begin(smallBytes)
	y.append(50, 60)
	y.append(70)
	y.seal()
	y.begin(smallBytes)
	y.many(2, 100)
	p := y.cursor("p")
	y.seal()
	y.begin(smallBytes)
	y.append(40, 50, 60)
	p.park()
	p.ack(7, 7)
	y.append(80)
	y.cursor("late")
	a.ack(1, 2)
	a.ack(7, 7)
	b.ack(1, 9)
	for _, c := range []*place{a, b, p} {
		c.save()
		c.save() // both slots of the file
	}
	y.leave()
	return y, mem
}

// verdict is what one kind of damage may cost.
type verdict struct {
	lost   []queue.Seq // exactly these, of each cursor that lacks them
	repeat bool        // a cursor may be lost, and repeat
	newer  bool        // or the file may be refused by name
	any    bool        // whole files are gone: only the books are looked at
}

// suffers damages a clone of the disk and checks what recovery makes of it.
func suffers(y *yard, mem *vfs.Mem, what string, v verdict, damage func(*yard)) {
	y.Helper()
	clone := mem.KillClone()
	z := *y
	z.disk = clone
	damage(&z)
	wanted := []string{"a", "b", "late"}
	before := snapshot(y)
	p, err := recovery.Inspect(clone, dir, wanted)
	if err != nil {
		if !v.newer || !strings.Contains(err.Error(), dir) {
			y.Errorf("%s: %v", what, err)
		}
		return
	}
	if v.newer {
		y.Errorf("%s: it was opened", what)
	}
	z.suffered(what, v, p, before)
	if err := p.Apply(clone, recovery.ApplySettings{}); err != nil {
		y.Errorf("%s: apply: %v", what, err)
		return
	}
	again, err := recovery.Inspect(clone, dir, wanted)
	if err != nil {
		y.Errorf("%s: the second time: %v", what, err)
		return
	}
	if len(again.Losses) > 0 || again.Seq < p.Seq {
		y.Errorf("%s: the second time at %d after %d, lost %+v", what, again.Seq, p.Seq, again.Losses)
	}
	for _, wrong := range z.unsound(again) {
		y.Errorf("%s: after apply: %s", what, wrong)
	}
}

// books is what a cursor had.
type books struct {
	slot cursor.Slot
	upTo queue.Seq
}

func snapshot(y *yard) map[string]books {
	all := map[string]books{}
	for _, p := range y.cursors {
		b := books{p.slot.Clone(), y.acked}
		if p.slot.State == queue.Parked {
			b.upTo = p.slot.Until
		}
		all[p.slot.Name] = b
	}
	return all
}

func (y *yard) suffered(what string, v verdict, p *recovery.Plan, before map[string]books) {
	y.Helper()
	for _, wrong := range y.unsound(p) {
		y.Errorf("%s: %s", what, wrong)
	}
	if p.Seq < y.acked && len(p.Cursors) > 0 && !v.any {
		y.Errorf("%s: numbers from %d on are given out again", what, p.Seq+1)
	}
	for name, b := range before {
		c := find(p, name)
		if c == nil {
			if v.any || slices.Contains(p.Fresh, name) || b.slot.Resolved.Covers(1, b.upTo) || v.repeat && name == "p" {
				continue
			}
			y.Errorf("%s: cursor %s is gone", what, name)
			continue
		}
		if c.Lost && !v.repeat && !v.any {
			y.Errorf("%s: cursor %s is lost", what, name)
		}
		if v.any {
			continue
		}
		var lacked []queue.Seq
		for n := queue.Seq(1); n <= b.upTo; n++ {
			if b.slot.Resolved.Has(n) {
				continue
			}
			if c.Slot.Resolved.Has(n) {
				lacked = append(lacked, n)
			}
		}
		var want []queue.Seq
		for _, n := range v.lost {
			if n <= b.upTo && !b.slot.Resolved.Has(n) {
				want = append(want, n)
			}
		}
		if !slices.Equal(lacked, want) {
			y.Errorf("%s: %s does not get %v, should not get %v", what, name, lacked, want)
		}
		var listed cursor.Count
		for _, l := range lossOf(p, name) {
			listed.Add(l.Count)
		}
		var cost cursor.Count
		for _, n := range want {
			cost.Add(cursor.Count{Records: 1, Items: uint64(y.records[n].Items)})
		}
		if slices.Contains(v.lost, b.upTo) && slices.Contains(v.lost, b.upTo+1) {
			listed.Items = cost.Items // nothing on disk says how many items came before the one it was parked at
		}
		if listed != cost && !c.Lost {
			y.Errorf("%s: %s lost %+v, listed are %+v", what, name, cost, listed)
		}
	}
}

// touched is which record a byte of a segment belongs to, 0 = none.
func (y *yard) touched(name string, off int) queue.Seq {
	for n, s := range y.at {
		r := y.records[n]
		if s.path == name && off >= int(s.off) && off < int(s.off)+64+len(r.Meta)+len(r.Body) {
			return n
		}
	}
	return 0
}

var spoilers = []struct {
	name  string
	spoil func(byte) byte
}{
	{"zeroed", func(byte) byte { return 0 }},
	{"inverted", func(b byte) byte { return ^b }},
	{"plus one", func(b byte) byte { return b + 1 }},
}

func TestNoBytesOnDiskStopTheJournal(t *testing.T) {
	y, mem := sample(t)
	tried := 0
	for _, name := range []string{seg(1), seg(2), seg(3)} {
		b := y.read(name)
		for off := range b {
			if b[off] == 0 && off%61 != 0 && !long() {
				continue
			}
			n := y.touched(name, off)
			var v verdict
			if n > 0 && name == seg(3) { // damage in sealed segments is found when they are read
				v.lost = []queue.Seq{n}
			}
			for i, how := range spoilers {
				spoil := how.spoil
				if spoil(b[off]) == b[off] || i != off%len(spoilers) && !long() {
					continue
				}
				tried++
				suffers(y, mem, fmt.Sprintf("%s: byte %d %s", name, off, how.name), v, func(z *yard) {
					z.change(name, func(b []byte) []byte { b[off] = spoil(b[off]); return b })
				})
			}
		}
	}
	for _, name := range []string{"a", "b", "p", "late"} {
		name = layout.Cursor(dir, name)
		b := y.read(name)
		for off := range b {
			if b[off] == 0 && off%997 != 0 && (!long() || off%31 != 0) {
				continue
			}
			for i, how := range spoilers {
				spoil := how.spoil
				if spoil(b[off]) == b[off] || i != off%len(spoilers) && !long() {
					continue
				}
				tried++
				suffers(y, mem, fmt.Sprintf("%s: byte %d %s", name, off, how.name), verdict{repeat: true}, func(z *yard) {
					z.change(name, func(b []byte) []byte { b[off] = spoil(b[off]); return b })
				})
			}
		}
	}
	t.Logf("%d kinds of damage", tried)
}

func TestNoCutStopsTheJournal(t *testing.T) {
	y, mem := sample(t)
	for _, name := range []string{seg(1), seg(2), seg(3)} {
		step := 113
		if long() {
			step = 1
		}
		for size := 0; size < len(y.read(name)); size += step {
			var v verdict
			for n, s := range y.at {
				if s.path == name && int(s.end) > size { // padding and all
					v.lost = append(v.lost, n)
				}
			}
			slices.Sort(v.lost)
			suffers(y, mem, fmt.Sprintf("%s cut to %d", name, size), v, func(z *yard) {
				z.change(name, func(b []byte) []byte { return b[:size] })
			})
		}
	}
	for _, name := range []string{"a", "b", "p", "late"} {
		name = layout.Cursor(dir, name)
		for size := 0; size < cursor.FileBytes; size += 2003 {
			suffers(y, mem, fmt.Sprintf("%s cut to %d", name, size), verdict{repeat: true}, func(z *yard) {
				z.change(name, func(b []byte) []byte { return b[:size] })
			})
		}
	}
}

func TestNoSetOfFilesStopsTheJournal(t *testing.T) {
	y, mem := sample(t)
	segments := []string{seg(1), seg(2), seg(3)}
	cursors := []string{layout.Cursor(dir, "a"), layout.Cursor(dir, "b"), layout.Cursor(dir, "p"), layout.Cursor(dir, "late")}
	in := func(name string) (lost []queue.Seq) {
		for n, s := range y.at {
			if s.path == name {
				lost = append(lost, n)
			}
		}
		slices.Sort(lost)
		return lost
	}
	for _, name := range segments {
		lost := verdict{lost: in(name)}
		suffers(y, mem, name+" missing", lost, func(z *yard) { z.remove(name) })
		suffers(y, mem, name+" empty", lost, func(z *yard) { z.change(name, func([]byte) []byte { return nil }) })
		suffers(y, mem, name+" renamed", lost, func(z *yard) { z.ok(z.disk.Rename(name, seg(77))) })
		suffers(y, mem, name+" doubled", verdict{}, func(z *yard) { z.put(seg(77), z.read(name)) })
		suffers(y, mem, name+" doubled without a header", verdict{}, func(z *yard) {
			z.put(seg(77), z.read(name))
			z.change(seg(77), func(b []byte) []byte { b[100] ^= 1; return b })
		})
		suffers(y, mem, name+" newer", verdict{newer: true}, func(z *yard) { newer(z, name) })
		suffers(y, mem, name+" foreign", lost, func(z *yard) { foreign(z, name) })
		suffers(y, mem, name+" a directory", lost, func(z *yard) {
			z.remove(name)
			z.ok(z.disk.Mkdir(name, 0o700))
		})
	}
	for _, name := range cursors {
		suffers(y, mem, name+" missing", verdict{repeat: true}, func(z *yard) { z.remove(name) })
		suffers(y, mem, name+" empty", verdict{repeat: true}, func(z *yard) { z.change(name, func([]byte) []byte { return nil }) })
		suffers(y, mem, name+" renamed", verdict{repeat: true}, func(z *yard) { z.ok(z.disk.Rename(name, layout.Cursor(dir, "z"))) })
		suffers(y, mem, name+" doubled", verdict{}, func(z *yard) { z.put(layout.Cursor(dir, "z"), z.read(name)) })
		suffers(y, mem, name+" newer", verdict{newer: true}, func(z *yard) { newer(z, name) })
		suffers(y, mem, name+" a directory", verdict{repeat: true}, func(z *yard) {
			z.remove(name)
			z.ok(z.disk.Mkdir(name, 0o700))
		})
	}
	for name, lost := range map[string][]queue.Seq{seg(1): {1, 2}, seg(2): {4}, seg(3): {6, 7, 8}} {
		suffers(y, mem, name+" without its first blocks", verdict{lost: lost}, func(z *yard) {
			z.change(name, func(b []byte) []byte { clear(b[:8192]); return b })
		})
	}
	all := append(slices.Clone(segments), cursors...)
	for set := range 1 << len(all) {
		suffers(y, mem, fmt.Sprintf("files %07b missing", set), verdict{any: true}, func(z *yard) {
			for i, name := range all {
				if set&(1<<i) != 0 {
					z.remove(name)
				}
			}
		})
	}
	suffers(y, mem, "no seg/", verdict{any: true}, func(z *yard) {
		for _, name := range segments {
			z.remove(name)
		}
		z.remove(path.Join(dir, layout.Segments))
	})
}

func TestWhatTheDiskRefusesIsLeftWhereItIs(t *testing.T) {
	for _, call := range []string{"read " + seg(2), "open " + seg(2)} {
		y, mem := sample(t)
		disk := vfs.NewFaulty(mem, vfs.Rule{Call: call, Err: syscall.EIO})
		p, err := recovery.Inspect(disk, dir, wantedNames)
		y.ok(err)
		y.ok(p.Apply(disk, recovery.ApplySettings{}))
		y.lost(p, "a", cursor.Missing, 4, 5)
		if disk.Hits() == 0 || !slices.Contains(y.names(layout.Segments), "0000000002.seg") {
			t.Errorf("%s: seg/ has %v", call, y.names(layout.Segments))
		}
	}
	// A cursor that cannot be read is lost; its file is put aside.
	y, mem := sample(t)
	disk := vfs.NewFaulty(mem, vfs.Rule{Call: "read " + layout.Cursor(dir, "a"), Err: syscall.EIO, Times: 8})
	p, err := recovery.Inspect(disk, dir, wantedNames)
	y.ok(err)
	y.ok(p.Apply(disk, recovery.ApplySettings{}))
	if c := find(p, "a"); !c.Lost || c.Queued.Records != 9 || !slices.Contains(y.names(layout.Bad), "a.cur") {
		t.Errorf("%+v; bad/ has %v", c, y.names(layout.Bad))
	}
	// What is no matter of bytes is not taken for damage.
	for _, cause := range []error{syscall.EACCES, syscall.EMFILE, syscall.ESTALE} {
		for _, call := range []string{"open " + seg(2), "open " + layout.Cursor(dir, "a"), "readdir *"} {
			_, mem := sample(t)
			disk := vfs.NewFaulty(mem, vfs.Rule{Call: call, Err: cause})
			if _, err := recovery.Inspect(disk, dir, wantedNames); !errors.Is(err, cause) {
				t.Errorf("%s: %v", call, err)
			}
			onlyRead(t, disk)
		}
	}
}

func TestNoRandomFilesStopTheJournal(t *testing.T) {
	y, mem := sample(t)
	seeds := uint64(150)
	if long() {
		seeds = 5000
	}
	for seed := range seeds {
		luck := rand.New(rand.NewPCG(seed, 1))
		suffers(y, mem, fmt.Sprintf("seed %d", seed), verdict{any: true}, func(z *yard) {
			for range 1 + luck.IntN(4) {
				z.vandalize(luck)
			}
		})
	}
}

// vandalize does something to some file.
func (y *yard) vandalize(luck *rand.Rand) {
	names := []string{seg(1), seg(2), seg(3), seg(uint64(4 + luck.IntN(9)))}
	for _, n := range []string{"a", "b", "p", "late", "z"} {
		names = append(names, layout.Cursor(dir, n))
	}
	name := names[luck.IntN(len(names))]
	if _, err := y.disk.Stat(name); err != nil {
		b := make([]byte, luck.IntN(3*segment.BlockBytes))
		for i := range b {
			b[i] = byte(luck.Uint32())
		}
		if luck.IntN(2) == 0 {
			from := names[luck.IntN(3)]
			if _, err := y.disk.Stat(from); err == nil {
				b = y.read(from)
			}
		}
		y.put(name, b)
		return
	}
	switch luck.IntN(5) {
	case 0:
		y.remove(name)
	case 1:
		y.change(name, func(b []byte) []byte { return b[:luck.IntN(len(b)+1)] })
	default:
		y.change(name, func(b []byte) []byte {
			if len(b) == 0 {
				return b
			}
			from := luck.IntN(len(b))
			to := min(len(b), from+1+luck.IntN(6000))
			fill := byte(luck.IntN(3)) * 77
			for i := from; i < to; i++ {
				if b[i] = fill; fill > 100 {
					b[i] = byte(luck.Uint32())
				}
			}
			return b
		})
	}
}
