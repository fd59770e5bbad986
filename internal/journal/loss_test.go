// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"io/fs"
	"slices"
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

// sectors is a disk some of whose sectors cannot be read.
type sectors struct {
	vfs.FS
	mu  sync.Mutex
	bad map[string][]int64 // by file, offsets
	hit int
}

type sectoredFile struct {
	vfs.File
	disk *sectors
	name string
}

func (s *sectors) OpenFile(name string, how vfs.Access, perm fs.FileMode) (vfs.File, error) {
	f, err := s.FS.OpenFile(name, how, perm)
	if err != nil {
		return nil, err
	}
	return &sectoredFile{f, s, name}, nil
}

// break makes the sector of that byte unreadable.
func (s *sectors) ruin(name string, off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad[name] = append(s.bad[name], off&^511)
}

func (f *sectoredFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	for _, at := range f.disk.bad[f.name] {
		if at < off+int64(len(p)) && at+512 > off {
			f.disk.hit++
			n, _ := f.File.ReadAt(p[:max(0, at-off)], off)
			return n, &fs.PathError{Op: "read", Path: f.name, Err: syscall.EIO}
		}
	}
	return f.File.ReadAt(p, off)
}

// reading is a running journal whose records are on disk only, with two destinations.
type reading struct {
	*testing.T
	mem    *vfs.Mem
	disk   *vfs.Faulty
	bad    *sectors
	events *eventLog
	store  *journal.Store
	j      *journal.Journal
	s      *story
	a, b   queue.Cursor
	start  time.Time
}

func newReading(t *testing.T) *reading {
	r := &reading{T: t, mem: vfs.NewMem(1 << 40), events: &eventLog{}, s: newStory(t), start: time.Now()}
	r.bad = &sectors{FS: r.mem, bad: map[string][]int64{}}
	r.disk = vfs.NewFaulty(r.bad)
	r.open()
	return r
}

func (r *reading) reopen() {
	if err := r.store.Close(context.Background()); err != nil {
		r.Fatal(err)
	}
	r.open()
}

func (r *reading) open() {
	r.store = openStore(r.T, r.disk, small, uncached, func(o *journal.Options) { o.OnEvent = r.events.note })
	r.j = head(r.T, r.store, dest, queue.Destination{Name: "b", Stored: true})
	r.a, r.b = r.s.attach(r.j, "a"), r.s.attach(r.j, "b")
}

func (r *reading) fill(records int) {
	for range records {
		if err := r.s.append(r.j, 1500); err != nil {
			r.Fatal(err)
		}
	}
	pass(3 * time.Second) // sealed and named durable
}

// where finds a record on disk.
func (r *reading) where(n int) (name string, off int64) {
	entries, err := r.mem.ReadDir(home + "/seg")
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range entries {
		p := content(r.T, r.mem, home+"/seg/"+e.Name)
		for i := 4096; i+64+4+16 <= len(p); i += 8 {
			if got := p[i+68:]; slices.Equal(got[:16], bodyOf(n, 16)) {
				return home + "/seg/" + e.Name, int64(i)
			}
		}
	}
	r.Fatalf("record %d is not on the disk", n)
	return "", 0
}

// flip changes a byte of a record's body under the running journal.
func (r *reading) flip(n int) {
	name, off := r.where(n)
	p := content(r.T, r.mem, name)
	put(r.T, r.mem, name, off+100, []byte{p[off+100] ^ 1})
}

// lost looks whether these records, no others, are missing for everybody, booked, listed and told, also after a restart.
func (r *reading) lost(reason string, want ...int) {
	r.Helper()
	items := uint64(0)
	for _, n := range want {
		items += itemsOf(n)
	}
	for name, c := range map[string]queue.Cursor{"a": r.a, "b": r.b} {
		got, wrong := drain(c)
		if wrong != "" {
			for _, e := range r.events.list {
				r.Logf("%v %s %s %d-%d %s %v", e.At.Sub(r.start), e.Kind, e.Destination, e.First, e.Last, e.Text, e.Err)
			}
			r.Fatalf("%s: %s", name, wrong)
		}
		var missing []int
		for n := range r.s.accepted {
			if !got[n] {
				missing = append(missing, n)
			}
		}
		if slices.Sort(missing); !slices.Equal(missing, want) {
			r.Errorf("%s misses the records %v, not %v", name, missing, want)
		}
		counts, _ := r.j.Counts(name)
		if counts.Dropped[reason] != items || len(want) == 0 && len(counts.Dropped) > 0 {
			r.Errorf("%s: %+v, not %d items %s", name, counts, items, reason)
		}
	}
	if wrong := unbalanced(r.j); wrong != "" {
		r.Error(wrong)
	}
	var told uint64
	for _, e := range r.events.of(journal.Dropped) {
		if e.Level != journal.Alarm || e.Reason != reason || e.First == 0 || e.Last < e.First {
			r.Errorf("told of a loss by %+v", e)
		}
		told += e.Records
	}
	if told != uint64(2*len(want)) {
		r.Errorf("%d lost records were told of, not %d", told, 2*len(want))
	}
	kept := 0
	if entries, err := r.mem.ReadDir(home + "/bad"); err == nil {
		kept = len(entries) - 1 // and NOTES
	}
	if len(want) > 0 && kept < 1 || len(want) == 0 && kept > 0 {
		r.Errorf("%d damaged pieces are in quarantine", kept)
	}
	pass(2 * time.Second)
	before := r.j.Snapshot()
	r.store.Close(context.Background())
	store := openStore(r.T, r.mem, small)
	defer store.Close(context.Background())
	j := head(r.T, store, dest, queue.Destination{Name: "b", Stored: true})
	for _, d := range before.Destinations {
		if after, _ := j.Counts(d.Name); after.Accepted != d.Counts.Accepted || after.Dropped[reason] != items || after.Queued != 0 {
			r.Errorf("the books of %s are %+v after a restart, and were %+v", d.Name, after, d.Counts)
		}
	}
	if wrong := unbalanced(j); wrong != "" {
		r.Error(wrong)
	}
}

// What cannot be read any more while a journal runs is given up record by record, once it is sure, and listed for
// everybody; what only takes time is waited for.
//
// Fault: D4 D5
func TestEveryLossIsListed(t *testing.T) {
	check := func(name string, run func(r *reading)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReading(t)
				defer func() { r.store.Close(context.Background()) }()
				run(r)
			})
		})
	}
	check("a byte of a record", func(r *reading) {
		r.fill(90)
		r.flip(40)
		r.lost("corrupt", 40)
	})
	check("the last record of a segment, and the first", func(r *reading) {
		r.fill(120)
		last, first := 0, 0
		for n := 2; n < 100 && first == 0; n++ {
			if a, _ := r.where(n); a != "" {
				if b, _ := r.where(n + 1); a != b {
					last, first = n, n+1
				}
			}
		}
		if first == 0 {
			r.Fatal("all records are in one segment")
		}
		name, off := r.where(last) // with its header: nothing says any more how many items it had
		put(r.T, r.mem, name, off, make([]byte, 64))
		r.flip(first)
		r.lost("corrupt", last, first)
	})
	check("records that were handed out before", func(r *reading) {
		r.fill(60)
		got := r.s.take(r.a, 30_000)
		for _, d := range got[3:6] {
			n, _ := numberOf(d.Body)
			r.flip(n)
		}
		r.s.resolve(r.a, "a", queue.Outcome{Kind: queue.Nack, Delay: time.Second}, got...)
		pass(2 * time.Second)
		r.lost("corrupt", 4, 5, 6)
	})
	check("two sectors that are gone, of records that were handed out before", func(r *reading) {
		r.fill(60)
		got := r.s.take(r.a, 30_000)
		r.s.resolve(r.a, "a", queue.Outcome{Kind: queue.Nack, Delay: time.Second}, got...)
		for _, n := range []int{3, 7} {
			name, off := r.where(n)
			r.bad.ruin(name, off+1000)
		}
		r.lost("corrupt", 3, 7)
		if r.bad.hit == 0 {
			r.Error("the sectors were never read")
		}
	})
	check("a sector that is gone", func(r *reading) {
		r.fill(90)
		name, off := r.where(50)
		r.bad.ruin(name, off+1000)
		r.lost("corrupt", 50)
		if r.bad.hit < 2 {
			r.Errorf("it was read %d times", r.bad.hit)
		}
	})
	check("a read that fails once", func(r *reading) {
		r.fill(90)
		r.disk.Plan(vfs.Rule{Call: "read *.seg", Times: 1, Err: syscall.EIO})
		r.lost("corrupt")
		if r.disk.Hits() != 1 {
			r.Error("no read failed")
		}
	})
	for name, err := range map[string]error{"no descriptor is to be had": syscall.EMFILE, "the file is not found": syscall.ENOENT} {
		check(name, func(r *reading) {
			r.fill(90)
			r.disk.Plan(vfs.Rule{Call: "open *.seg", Times: 7, Err: err})
			start := time.Now()
			r.lost("corrupt")
			if r.disk.Hits() != 7 || time.Since(start) < 3*time.Second {
				r.Errorf("%d opens failed within %v", r.disk.Hits(), time.Since(start))
			}
			for _, e := range r.events.of(journal.Slow) {
				if !strings.Contains(e.Text, "tried again") {
					r.Errorf("told %q", e.Text)
				}
			}
		})
	}
	check("a file that ends too early", func(r *reading) {
		r.fill(60)
		name, off := r.where(20)
		var want []int
		for n := 20; n <= 60; n++ {
			if in, _ := r.where(n); in == name {
				want = append(want, n)
			}
		}
		cut(r.T, r.mem, name, off)
		r.lost("corrupt", want...)
	})
	check("what one destination had already", func(r *reading) {
		r.fill(60)
		r.reopen() // neither has anything in memory
		r.s.resolve(r.a, "a", queue.Outcome{Kind: queue.Ack}, r.s.take(r.a, 20_000)...)
		if r.a.Fill().Records > 55 {
			r.Fatalf("a had nothing: %+v", r.a.Fill())
		}
		r.flip(5)
		got, wrong := drain(r.b)
		if wrong != "" || len(got) != 59 || got[5] {
			r.Errorf("b got %d records: %s", len(got), wrong)
		}
		for name, want := range map[string]uint64{"a": 0, "b": itemsOf(5)} {
			if counts, _ := r.j.Counts(name); counts.Dropped["corrupt"] != want {
				r.Errorf("%s: %+v", name, counts)
			}
		}
		if _, wrong := drain(r.a); wrong != "" {
			r.Error(wrong)
		}
		if wrong := unbalanced(r.j); wrong != "" {
			r.Error(wrong)
		}
	})
}
