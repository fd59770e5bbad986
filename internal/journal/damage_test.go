// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
	"github.com/holdfast-telemetry/holdfast/internal/journal/cursor"
	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const home = directory + "/pipelines/traces"

// estate is a journal on disk that tests damage: some sealed segments, one that is not, a cursor that is live and one
// that is parked, each with gaps, and dead letters.
type estate struct {
	disk *vfs.Mem
	was  chapter
}

func newEstate(t *testing.T, killed bool) *estate {
	mem := vfs.NewMem(1 << 40)
	store := openStore(t, mem, small)
	j := head(t, store, dest, queue.Destination{Name: "b", Stored: true, Exporters: []string{"b"}})
	s := newStory(t)
	a, b := s.attach(j, "a"), s.attach(j, "b")
	for i := range 36 {
		if err := s.append(j, 300+i%6*1500); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range s.take(a, 0) {
		switch i % 9 {
		case 3, 4:
			s.resolve(a, "a", queue.Outcome{Kind: queue.Ack}, d)
		case 6:
			s.resolve(a, "a", queue.Outcome{Kind: queue.Dead, Reason: "no"}, d)
		default:
			s.resolve(a, "a", queue.Outcome{Kind: queue.Release}, d)
		}
	}
	for i, d := range s.take(b, 0) {
		if i%2 == 0 {
			s.resolve(b, "b", queue.Outcome{Kind: queue.Ack}, d)
		}
	}
	s.detach(j, "b")
	for range 4 {
		if err := s.append(j, 2000); err != nil {
			t.Fatal(err)
		}
	}
	s.settle()
	e := &estate{disk: mem, was: s.now()}
	if killed {
		e.disk = mem.KillClone()
	}
	if err := store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return e
}

// files lists a directory of the journal.
func (e *estate) files(t *testing.T, dir string) (names []string) {
	entries, err := e.disk.ReadDir(path.Join(home, dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		if !f.Type.IsDir() {
			names = append(names, path.Join(home, dir, f.Name))
		}
	}
	return names
}

func content(t *testing.T, disk vfs.FS, name string) []byte {
	t.Helper()
	f, err := disk.OpenFile(name, vfs.Read, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, info.Size)
	if _, err := f.ReadAt(p, 0); err != nil && len(p) > 0 {
		t.Fatal(err)
	}
	return p
}

// put writes bytes into a file, and makes it where there is none.
func put(t *testing.T, disk vfs.FS, name string, off int64, p []byte) {
	t.Helper()
	f, err := disk.OpenFile(name, vfs.Write, 0)
	if err != nil {
		f, err = disk.OpenFile(name, vfs.Create, 0o600)
	}
	if err == nil && len(p) > 0 {
		_, err = f.WriteVAt([][]byte{p}, off)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func cut(t *testing.T, disk vfs.FS, name string, size int64) {
	t.Helper()
	f, err := disk.OpenFile(name, vfs.Write, 0)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// outcome is what came of an estate that was opened with damage.
type outcome struct {
	err     error
	missing map[string][]int // owed and not delivered
	again   map[string]int   // delivered although resolved or not owed
	dropped map[string]uint64
}

// settleEstate opens an estate and delivers everything: the parked cursor to an heir.
func settleEstate(t *testing.T, disk vfs.FS, was chapter) (o outcome, wrong string) {
	o = outcome{missing: map[string][]int{}, again: map[string]int{}, dropped: map[string]uint64{}}
	store, err := journal.OpenStore(context.Background(), disk, options(small))
	if err != nil {
		o.err = err
		return o, ""
	}
	defer store.Close(context.Background())
	j, err := store.Head("traces", 1, []queue.Destination{dest})
	if err != nil {
		o.err = err
		return o, ""
	}
	for name := range was.owed {
		c, err := cursorOf(j, name, was.live[name])
		got := map[int]bool{}
		if err == nil {
			if got, wrong = drain(c); wrong != "" {
				return o, name + ": " + wrong
			}
		}
		for n := range was.owed[name] {
			if !got[n] {
				o.missing[name] = append(o.missing[name], n)
			}
		}
		for n := range got {
			if !was.owed[name][n] {
				o.again[name]++
			}
			if !was.accepted[n] {
				return o, fmt.Sprintf("%s: record %d comes and was never accepted", name, n)
			}
		}
		counts, _ := j.Counts(name)
		for _, n := range counts.Dropped {
			o.dropped[name] += n
		}
	}
	return o, unbalanced(j)
}

// listed says whether what is missing is in the books, no more and no less, and whether nothing comes twice.
func (o *outcome) listed() string {
	for name, missing := range o.missing {
		items := uint64(0)
		for _, n := range missing {
			items += uint64(itemsOf(n))
		}
		if items != o.dropped[name] {
			return fmt.Sprintf("%s misses the records %v with %d items, and %d are booked as dropped", name, missing, items, o.dropped[name])
		}
	}
	for name, n := range o.dropped {
		if n > 0 && len(o.missing[name]) == 0 {
			return fmt.Sprintf("%s misses nothing, and %d items are booked as dropped", name, n)
		}
	}
	for name, n := range o.again {
		return fmt.Sprintf("%d records that %s had resolved come again", n, name)
	}
	return ""
}

// Whatever byte of a segment is wrong, wherever it is cut: the journal opens, at most the touched record is lost, and
// the loss is listed exactly.
//
// Fault: D4
func TestNoBytesOnDiskStopTheJournal(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { damageBytes(t, newEstate(t, killed), killed) })
		})
	}
}

func damageBytes(t *testing.T, e *estate, killed bool) {
	rng := luck(t)
	samples := 60
	if long() {
		samples = 3000
	}
	lost := 0
	for _, dir := range []string{"seg", "dead/seg"} {
		for _, name := range e.files(t, dir) {
			p := content(t, e.disk, name)
			used := len(p)
			for used > 0 && p[used-1] == 0 {
				used--
			}
			for i := range samples {
				at := rng.IntN(max(used, 1))
				if i%3 == 0 {
					at = rng.IntN(max(1, min(used, 400))) // the fields of the header
				}
				if used == 0 {
					break
				}
				disk := e.disk.KillClone()
				what := []string{"zeroed", "inverted", "+1"}[i%3]
				put(t, disk, name, int64(at), []byte{[]byte{0, ^p[at], p[at] + 1}[i%3]})
				o, wrong := settleEstate(t, disk, e.was)
				var newer *segment.NewerError
				switch {
				case errors.As(o.err, &newer): // its checksum would not hold
					t.Errorf("byte %d of %s %s: %v", at, name, what, o.err)
				case o.err != nil:
					t.Errorf("byte %d of %s %s: it does not open: %v", at, name, what, o.err)
				}
				if wrong == "" {
					wrong = o.listed()
				}
				for _, missing := range o.missing {
					lost += len(missing)
					if len(missing) > 1 {
						wrong = fmt.Sprintf("it cost the records %v", missing)
					}
				}
				if wrong != "" {
					t.Errorf("byte %d of %s %s: %s", at, name, what, wrong)
				}
			}
			for range samples / 6 {
				to := rng.IntN(len(p))
				disk := e.disk.KillClone()
				cut(t, disk, name, int64(to))
				o, wrong := settleEstate(t, disk, e.was)
				if wrong == "" && o.err == nil {
					wrong = o.listed()
				}
				if wrong != "" || o.err != nil {
					t.Errorf("%s cut to %d bytes: %v %s", name, to, o.err, wrong)
				}
				lost += len(o.missing["a"])
			}
		}
	}
	if lost < 10 {
		t.Errorf("the damage cost %d records in all: it was not felt", lost)
	}
}

// Files that do not belong, or have the wrong name, or come twice, cost nothing that is not theirs; what is not ours is
// left alone.
//
// Fault: D4
func TestStrangeFilesCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, other := newEstate(t, true), newEstate(t, false)
		segs := e.files(t, "seg")
		foreign := content(t, other.disk, other.files(t, "seg")[0])
		first, last := content(t, e.disk, segs[0]), content(t, e.disk, segs[len(segs)-1])
		noise := make([]byte, 70_000)
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		check := func(what string, change func(disk *vfs.Mem)) {
			t.Helper()
			disk := e.disk.KillClone()
			change(disk)
			o, wrong := settleEstate(t, disk, e.was)
			if wrong == "" && o.err == nil {
				wrong = o.listed()
			}
			if o.err != nil || wrong != "" || len(o.missing["a"])+len(o.missing["b"]) > 0 {
				t.Errorf("%s: %v %s, missing %v", what, o.err, wrong, o.missing)
			}
		}
		name := func(id int) string { return fmt.Sprintf("%s/seg/%010d.seg", home, id) }
		check("nothing", func(*vfs.Mem) {})
		check("another journal's segment behind ours", func(d *vfs.Mem) { put(t, d, name(900), 0, foreign) })
		check("our first segment again, later", func(d *vfs.Mem) { put(t, d, name(901), 0, first) })
		check("our last segment again, later", func(d *vfs.Mem) { put(t, d, name(902), 0, last) })
		check("an empty segment", func(d *vfs.Mem) { put(t, d, name(903), 0, nil) })
		check("a segment of zeros", func(d *vfs.Mem) { put(t, d, name(904), 0, make([]byte, 1<<17)) })
		check("a segment of noise", func(d *vfs.Mem) { put(t, d, name(905), 0, noise) })
		check("a header and nothing else", func(d *vfs.Mem) { put(t, d, name(906), 0, foreign[:4096]) })
		check("another journal's cursor", func(d *vfs.Mem) {
			put(t, d, home+"/cur/c.cur", 0, content(t, other.disk, home+"/cur/a.cur"))
		})
		check("a cursor of noise", func(d *vfs.Mem) { put(t, d, home+"/cur/d.cur", 0, noise) })
		check("an empty cursor", func(d *vfs.Mem) { put(t, d, home+"/cur/e.cur", 0, nil) })
		check("a cursor under two names", func(d *vfs.Mem) {
			put(t, d, home+"/cur/f.cur", 0, content(t, d, home+"/cur/a.cur"))
		})
		check("what was never finished", func(d *vfs.Mem) {
			put(t, d, name(907)+".tmp", 0, noise)
			put(t, d, home+"/cur/a.cur.tmp", 0, noise)
		})
		check("a directory where a segment should be", func(d *vfs.Mem) {
			if err := d.Mkdir(name(908), 0o700); err != nil {
				t.Fatal(err)
			}
		})
		ours := []string{home + "/seg/README", home + "/cur/notes.txt", home + "/mine", directory + "/data.db", home + "/seg/x.seg"}
		check("files of others", func(d *vfs.Mem) {
			for _, f := range ours {
				put(t, d, f, 0, noise[:100])
			}
			t.Cleanup(func() {})
		})
		disk := e.disk.KillClone()
		for _, f := range ours {
			put(t, disk, f, 0, noise[:100])
		}
		settleEstate(t, disk, e.was)
		for _, f := range ours {
			if !slices.Equal(content(t, disk, f), noise[:100]) {
				t.Errorf("%s is not ours and was changed", f)
			}
		}
	})
}

// Segments that are gone cost what was in them and nothing else, and that is listed; one of another name, or of another
// journal, is set aside.
//
// Fault: D4 O5
func TestMissingSegmentsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, killed := range []bool{false, true} {
			e := newEstate(t, killed)
			segs := e.files(t, "seg")
			other := newEstate(t, false)
			foreign := content(t, other.disk, other.files(t, "seg")[0])
			felt := 0
			for i, name := range segs {
				for what, change := range map[string]func(d *vfs.Mem){
					"removed": func(*vfs.Mem) {},
					"renamed": func(d *vfs.Mem) { put(t, d, fmt.Sprintf("%s/seg/%010d.seg", home, 800+i), 0, content(t, e.disk, name)) },
					"emptied": func(d *vfs.Mem) { put(t, d, name, 0, nil) },
					"foreign": func(d *vfs.Mem) { put(t, d, name, 0, foreign) },
				} {
					disk := e.disk.KillClone()
					if err := disk.Remove(name); err != nil {
						t.Fatal(err)
					}
					change(disk)
					o, wrong := settleEstate(t, disk, e.was)
					if wrong == "" && o.err == nil {
						wrong = o.listed()
					}
					if o.err != nil || wrong != "" {
						t.Errorf("killed %v, segment %d of %d %s: %v %s", killed, i+1, len(segs), what, o.err, wrong)
					}
					felt += len(o.missing["a"])
				}
			}
			if felt < len(e.was.owed["a"]) {
				t.Errorf("killed %v: %d records were missed in all", killed, felt)
			}
		}
	})
}

// Files of a newer version are refused by name, and not a byte of the directory is changed.
func TestNewerFilesAreRefusedByNameAndLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t, true)
		check := func(name string, off int64, change func(p []byte)) {
			t.Helper()
			disk := e.disk.KillClone()
			p := content(t, disk, name)
			change(p)
			put(t, disk, name, off, p[off:])
			before := fingerprint(t, disk, home)
			o, _ := settleEstate(t, disk, e.was)
			var seg *segment.NewerError
			var cur *cursor.NewerError
			if !errors.As(o.err, &seg) && !errors.As(o.err, &cur) || !strings.Contains(o.err.Error(), name) {
				t.Errorf("%s of a newer version: %v", name, o.err)
			}
			if after := fingerprint(t, disk, home); after != before {
				t.Errorf("%s of a newer version: the directory was changed from\n%sto\n%s", name, before, after)
			}
		}
		header := func(p []byte) {
			binary.LittleEndian.PutUint32(p[4092:], crc32.Checksum(p[:4092], crc32.MakeTable(crc32.Castagnoli)))
		}
		for _, name := range append(e.files(t, "seg"), e.files(t, "dead/seg")...) {
			if p := content(t, e.disk, name); string(p[:8]) != "HOLDSEG1" {
				continue
			}
			check(name, 0, func(p []byte) { p[8] = 2; header(p) })
			check(name, 0, func(p []byte) { p[13] |= 0x80; header(p) })
		}
		for _, name := range e.files(t, "cur") {
			check(name, 0, func(p []byte) {
				for _, slot := range [][]byte{p[:65536], p[65536:]} {
					n := binary.LittleEndian.Uint32(slot[12:])
					if string(slot[:8]) == "HOLDCUR1" {
						slot[16] = 2
						binary.LittleEndian.PutUint32(slot[8:], crc32.Checksum(slot[12:n], crc32.MakeTable(crc32.Castagnoli)))
					}
				}
			})
		}
	})
}

// fingerprint is the names, sizes and checksums of all files below a directory.
func fingerprint(t *testing.T, disk vfs.FS, dir string) (text string) {
	entries, err := disk.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		name := path.Join(dir, f.Name)
		if f.Type.IsDir() {
			text += fingerprint(t, disk, name)
			continue
		}
		p := content(t, disk, name)
		text += fmt.Sprintf("%s %d %x\n", name, len(p), crc32.ChecksumIEEE(p))
	}
	return text
}

// Whatever happens to a cursor's file, what its destination is owed comes; some may come again, and the others' does
// not.
//
// Fault: D4
func TestDamagedCursorOnlyRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := luck(t)
		e := newEstate(t, true)
		samples := 80
		if long() {
			samples = 4000
		}
		repeated := 0
		check := func(what, whose string, change func(d *vfs.Mem)) {
			t.Helper()
			disk := e.disk.KillClone()
			change(disk)
			o, wrong := settleEstate(t, disk, e.was)
			other := map[string]string{"a": "b", "b": "a"}[whose]
			if wrong != "" || o.err != nil || len(o.missing["a"])+len(o.missing["b"]) > 0 || o.again[other] > 0 || o.dropped[whose] > 0 {
				t.Errorf("%s of %s: %v %s, %+v", what, whose, o.err, wrong, o)
			}
			repeated += o.again[whose]
		}
		for _, whose := range []string{"a", "b"} {
			name := home + "/cur/" + whose + ".cur"
			p := content(t, e.disk, name)
			for i := range samples {
				at := rng.IntN(2) * 65536
				n := int(binary.LittleEndian.Uint32(p[at+12:]))
				at += rng.IntN(max(1, min(n, 65536)))
				if b := []byte{0, ^p[at], p[at] + 1}[i%3]; b != p[at] {
					check(fmt.Sprintf("byte %d set to %d", at, b), whose, func(d *vfs.Mem) { put(t, d, name, int64(at), []byte{b}) })
				}
				to := rng.IntN(len(p))
				check(fmt.Sprintf("cut to %d", to), whose, func(d *vfs.Mem) { cut(t, d, name, int64(to)) })
			}
			check("slots exchanged", whose, func(d *vfs.Mem) {
				put(t, d, name, 0, append(slices.Clone(p[65536:]), p[:65536]...))
			})
			check("both slots zeroed", whose, func(d *vfs.Mem) { put(t, d, name, 0, make([]byte, len(p))) })
			if whose == "a" { // without its file nothing says what the name of a parked one was
				check("removed", whose, func(d *vfs.Mem) {
					if err := d.Remove(name); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
		if repeated == 0 {
			t.Error("nothing came again: the cursors were not damaged")
		}
	})
}

// A cursor whose file is gone is told from a destination that is new, and gets what was owed to it; should its
// destination not be wanted now it waits under its hash, and comes back under its name.
//
// Fault: D4 O5
func TestLostCursorIsToldFromANewDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t, true)
		disk := e.disk.KillClone()
		for _, name := range []string{"a", "b"} {
			if err := disk.Remove(home + "/cur/" + name + ".cur"); err != nil {
				t.Fatal(err)
			}
		}
		fresh := queue.Destination{Name: "new", Stored: true}
		events := &eventLog{}
		store := openStore(t, disk, small, func(o *journal.Options) { o.OnEvent = events.note })
		j := head(t, store, dest, fresh)
		if n := len(events.of(journal.Damaged)); n != 2 {
			t.Errorf("%d alarms for two lost cursors", n)
		}
		got, wrong := drain(j.Attach("a"))
		if wrong != "" || len(got) != 40 {
			t.Errorf("a gets %d of its 40 records again: %s", len(got), wrong)
		}
		if f := j.Attach("new").Fill(); f.Records != 0 {
			t.Errorf("the new destination is owed %+v", f)
		}
		lost := ""
		for _, info := range j.List() {
			if strings.HasPrefix(info.Name, "lost-") {
				lost = info.Name
				if info.State != queue.Parked || info.Counts.Parked == 0 {
					t.Errorf("b waits as %+v", info)
				}
			}
		}
		if lost != fmt.Sprintf("lost-%016x", cursor.Hash("b")) {
			t.Errorf("b waits as %q", lost)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
		pass(2 * time.Second)
		store.Close(context.Background())
		store = openStore(t, disk, small)
		defer store.Close(context.Background())
		j = head(t, store, dest, fresh, queue.Destination{Name: "b", Stored: true, Exporters: []string{"b"}})
		got, wrong = drain(j.Attach("b"))
		if wrong != "" || len(got) != 36 {
			t.Errorf("b gets %d of its 36 records again: %s", len(got), wrong)
		}
		if f := j.Attach("a").Fill(); f.Records != 0 {
			t.Errorf("a is owed %+v", f)
		}
		if wrong := unbalanced(j); wrong != "" {
			t.Error(wrong)
		}
	})
}
