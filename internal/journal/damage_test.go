// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"testing"
	"testing/synctest"

	"github.com/holdfast-telemetry/holdfast/internal/journal"
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
			items += itemsOf(n)
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
