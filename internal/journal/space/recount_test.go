// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// actor plays a journal: it asks before it allocates and gives back what it freed.
type actor struct {
	t     *testing.T
	disk  vfs.FS
	dir   string
	share *space.Share
	luck  *rand.Rand
	files map[string]int64
	made  int
}

func (a *actor) name() string {
	kind := []string{"seg/%010d.seg", "seg/%010d.seg", "cur/%d.cur", "bad/%d.bin", "dead/seg/%010d.seg"}[a.luck.IntN(5)]
	a.made++
	return path.Join(a.dir, fmt.Sprintf(kind, a.made))
}

// step allocates, cuts or removes one file; wait is called where time may pass.
func (a *actor) step(wait func()) {
	if bytes := 4096 * (1 + a.luck.Int64N(32)); a.luck.IntN(5) < 3 {
		name := a.name()
		if a.share.Room(bytes) != nil {
			return
		}
		wait()
		if a.luck.IntN(10) == 0 { // the allocation failed
			a.share.Gave(bytes)
			return
		}
		a.files[name] = put(a.t, a.disk, name, bytes)
		return
	}
	for name, bytes := range a.files {
		if a.luck.IntN(2) == 0 {
			must(a.t, a.disk.Remove(name))
			delete(a.files, name)
			wait()
			a.share.Gave(bytes)
			return
		}
		f, err := a.disk.OpenFile(name, vfs.Write, 0)
		must(a.t, err)
		must(a.t, f.Truncate(4096)) // sealed
		must(a.t, f.Close())
		a.files[name] = 4096
		wait()
		a.share.Gave(bytes - 4096)
		return
	}
}

func (a *actor) sum() (sum int64) {
	for _, n := range a.files {
		sum += n
	}
	return sum
}

func actors(t *testing.T, disk vfs.FS, at string, s *space.Space, seed uint64, pipelines ...string) []*actor {
	t.Helper()
	var list []*actor
	for i, p := range pipelines {
		list = append(list, &actor{t: t, disk: disk, dir: journal(t, disk, at, p), share: s.Share(p, i > 0),
			luck: rand.New(rand.NewPCG(seed, uint64(i))), files: map[string]int64{}})
	}
	return list
}

func TestBooksEqualWhatIsAllocatedAfterAnySequence(t *testing.T) {
	for seed := range uint64(12) {
		disk := vfs.NewMem(0)
		s := open(t, settings(disk, "/s"))
		all := actors(t, disk, "/s", s, seed, "gone", "traces", "logs/a long name")
		luck := rand.New(rand.NewPCG(seed, 99))
		for range 300 {
			a := all[luck.IntN(len(all))]
			a.step(func() {})
			if luck.IntN(20) == 0 {
				must(t, s.Warden())
			}
			if luck.IntN(20) == 0 {
				s.Squeeze()
			}
			if luck.IntN(10) == 0 {
				s.Restore()
			}
			equal(t, "used by the journal", a.share.Used(), a.sum())
			equal(t, fmt.Sprintf("seed %d: the total", seed), s.Snapshot().Total(), allocated(t, disk, "/s"))
			if t.Failed() {
				return
			}
		}
	}
}

// Files appear after the grant and go before Gave, up to 9 s apart, with a warden every 10 s: the books never say less
// than is on the disk, the cap holds, and in the end they are equal.
func TestARecountLosesNoBookingOnItsWay(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem(0)
			set := settings(disk, "/s")
			set.CapBytes = 2 * mib
			s := open(t, set)
			all := actors(t, disk, "/s", s, seed, "gone", "traces", "logs")
			var wg sync.WaitGroup
			for _, a := range all {
				wg.Go(func() {
					for range 300 {
						a.step(func() { time.Sleep(time.Duration(a.luck.Int64N(int64(9 * time.Second)))) })
						time.Sleep(time.Duration(a.luck.Int64N(int64(time.Second))))
					}
				})
			}
			for range 100 {
				time.Sleep(10*time.Second + time.Nanosecond) // no actor runs now: they sleep to other moments
				must(t, s.Warden())
				booked, there := s.Snapshot().Total(), allocated(t, disk, "/s")
				if booked < there || there > 2*mib {
					t.Fatalf("seed %d: %d bytes are on the disk, %d in the books, %d is the cap", seed, there, booked, 2*mib)
				}
			}
			wg.Wait()
			for range 3 {
				must(t, s.Warden())
			}
			for _, a := range all {
				equal(t, "used in the end", a.share.Used(), a.sum())
			}
			equal(t, "the total in the end", s.Snapshot().Total(), allocated(t, disk, "/s"))
		})
	}
}

// during calls act while a recount walks, before and after the journal's seg/ is listed.
func during(disk *vfs.Faulty, before, after func()) {
	once := func(act func()) func(vfs.Call) {
		return func(c vfs.Call) {
			if c.Name == "readdir /s/pipelines/traces/seg" {
				now := act
				act = func() {}
				now()
			}
		}
	}
	disk.Watch(vfs.Watch{Before: once(before), After: once(after)})
}

func TestWhatHappensDuringARecountIsBookedOnce(t *testing.T) {
	nothing := func() {}
	for _, before := range []bool{true, false} {
		mem := vfs.NewMem(0)
		disk := vfs.NewFaulty(mem)
		s := open(t, settings(disk, "/s"))
		j := journal(t, mem, "/s", "traces")
		h := s.Share("traces", true)
		act := func(do func()) {
			t.Helper()
			if before {
				during(disk, do, nothing)
			} else {
				during(disk, nothing, do)
			}
			must(t, s.Warden())
			during(disk, nothing, nothing)
		}
		rounds := func(want int64) {
			t.Helper()
			for range 4 {
				equal(t, fmt.Sprintf("used (before the listing: %v)", before), h.Used(), want)
				must(t, s.Warden())
			}
		}
		act(func() {
			must(t, h.Room(64*kib))
			put(t, mem, j+"/seg/1", 64*kib)
		})
		rounds(64 * kib)
		act(func() {
			must(t, mem.Remove(j+"/seg/1"))
			h.Gave(64 * kib)
		})
		rounds(0)
		act(func() { must(t, h.Room(64*kib)) })
		equal(t, "granted, not there yet", h.Used(), 64*kib)
		put(t, mem, j+"/seg/2", 64*kib)
		rounds(64 * kib)
		act(func() { must(t, mem.Remove(j+"/seg/2")) })
		equal(t, "gone, not given back yet", h.Used(), 64*kib)
		h.Gave(64 * kib)
		rounds(0)

		// What one recount missed has nothing to do with what the next one misses.
		must(t, h.Room(4*64*kib))
		for i := range 4 {
			put(t, mem, fmt.Sprint(j, "/seg/", i), 64*kib)
		}
		rounds(4 * 64 * kib)
		act(func() {
			must(t, mem.Remove(j+"/seg/0"))
			h.Gave(64 * kib)
		})
		act(func() { must(t, mem.Remove(j+"/seg/1")) })
		equal(t, "gone, not given back yet", h.Used(), 3*64*kib)
		h.Gave(64 * kib)
		rounds(2 * 64 * kib)
		must(t, mem.Remove(j+"/seg/2")) // by hand
		must(t, s.Warden())
		must(t, s.Warden())
		must(t, mem.Remove(j+"/seg/3"))
		must(t, s.Warden())
		equal(t, "gone, not given back yet", h.Used(), 64*kib)
		h.Gave(64 * kib)
		rounds(0)
	}
}

func TestDriftIsCorrected(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, "/s"))
	j := journal(t, disk, "/s", "traces")
	h := s.Share("traces", true)
	for i := range 8 {
		must(t, h.Room(64*kib))
		put(t, disk, fmt.Sprintf("%s/seg/%d", j, i), 64*kib)
	}
	rounds := func(n int) {
		t.Helper()
		for range n {
			must(t, s.Warden())
		}
	}
	rounds(1)
	must(t, disk.Remove(j+"/seg/0")) // by hand
	must(t, disk.Remove(j+"/seg/1"))
	rounds(1)
	equal(t, "used when that is seen for the first time", h.Used(), 8*64*kib)
	rounds(1)
	equal(t, "used when it is seen again", h.Used(), 6*64*kib)

	f, err := disk.OpenFile(j+"/seg/2", vfs.Write, 0) // as copy-on-write does: more blocks than were asked for
	must(t, err)
	must(t, f.Allocate(128*kib))
	must(t, f.Close())
	put(t, disk, j+"/bad/bytes", 8*kib)
	put(t, disk, j+"/dead/seg/1", 12*kib)
	put(t, disk, j+"/cur/x.cur", 16*kib)
	put(t, disk, j+"/cur/x.cur.tmp", 4*kib)
	put(t, disk, "/s/backup.tar", 40*kib)
	rounds(1)
	snap := s.Snapshot()
	equal(t, "segments", snap.Segments, 7*64*kib)
	equal(t, "bad", snap.Bad, 8*kib)
	equal(t, "dead", snap.Dead, 12*kib)
	equal(t, "cursors, with LOCK", snap.Cursors, 24*kib)
	equal(t, "foreign", snap.Foreign, 40*kib)
	equal(t, "all", snap.Total(), allocated(t, disk, "/s"))
	equal(t, "the journal's own", h.Bytes().Total(), snap.Total()-small-ballast-40*kib)
	words := 0
	for _, n := range snap.ByKind() {
		words++
		snap.Foreign -= n
	}
	equal(t, "the kinds with words", words, 6)
	equal(t, "what the words leave out", snap.Foreign, 40*kib-allocated(t, disk, "/s"))

	must(t, disk.Remove(j+"/seg/3"))
	must(t, h.Room(64*kib)) // a journal that is busy
	rounds(1)
	put(t, disk, j+"/seg/8", 64*kib)
	rounds(2)
	equal(t, "in the end", s.Snapshot().Total(), allocated(t, disk, "/s"))
}

func TestAJournalNobodyOpenedCounts(t *testing.T) {
	disk := vfs.NewMem(0)
	must(t, open(t, settings(disk, "/s")).Close())
	j := journal(t, disk, "/s", "old")
	put(t, disk, j+"/seg/1", mib)
	s := open(t, settings(disk, "/s"))
	equal(t, "segments at the start", s.Snapshot().Segments, mib)
	h := s.Share("traces", true)
	n, _ := fill(t, h, small)
	equal(t, "what is left of the cap", n*small, 4*mib-mib-small-ballast)
	h.Gave(n * small)
	tail := s.Share("old", false)
	equal(t, "the tail", tail.Over(), mib)
	put(t, disk, j+"/cur/a.cur", 128*kib) // by its recovery
	must(t, tail.Recount())
	equal(t, "the tail, recovered", tail.Used(), mib+128*kib)
	tail.Close()
	for _, name := range []string{"/seg/1", "/cur/a.cur", "/seg", "/cur", "/dead/seg", "/dead", "/bad", ""} {
		must(t, disk.Remove(j+name))
	}
	must(t, s.Warden())
	equal(t, "when it is gone", s.Snapshot().Total(), allocated(t, disk, "/s"))
	equal(t, "a new one of that name", s.Share("old", true).Used(), 0)
}

func TestAJournalWithALongNameIsFoundUnderIt(t *testing.T) {
	disk := vfs.NewMem(0)
	must(t, open(t, settings(disk, "/s")).Close())
	id := "traces/" + strings.Repeat("a very long name ", 20)
	put(t, disk, journal(t, disk, "/s", id)+"/seg/1", mib)
	s := open(t, settings(disk, "/s"))
	h := s.Share(id, true)
	equal(t, "its name", h.Pipeline(), id)
	equal(t, "used", h.Used(), mib)
	equal(t, "segments, counted once", s.Snapshot().Segments, mib)
}

func TestWhatCannotBeReadIsToldAndStopsNothing(t *testing.T) {
	mem := vfs.NewMem(0)
	must(t, open(t, settings(mem, "/s")).Close())
	must(t, mem.Mkdir("/s/lost+found", 0o700))
	put(t, mem, "/s/lost+found/x", 64*kib)
	put(t, mem, journal(t, mem, "/s", "traces")+"/seg/1", 64*kib)
	put(t, mem, journal(t, mem, "/s", "logs")+"/seg/1", 64*kib)
	disk := vfs.NewFaulty(mem, vfs.Rule{Call: "readdir */lost+found", Err: syscall.EACCES},
		vfs.Rule{Call: "readdir */logs/seg", Err: syscall.EACCES})
	s := open(t, settings(disk, "/s"))
	equal(t, "segments", s.Snapshot().Segments, 64*kib)
	if list := strings.Join(s.Warnings(), "\n"); !strings.Contains(list, "pipelines/logs") {
		t.Errorf("warnings: %q", list)
	}
	h := s.Share("logs", true)
	must(t, h.Room(small))
	put(t, mem, "/s/pipelines/logs/seg/2", small)
	disk.Plan()
	must(t, s.Warden())
	equal(t, "warnings when it can be read", len(s.Warnings()), 0)
	equal(t, "all", s.Snapshot().Total(), allocated(t, mem, "/s"))

	disk.Plan(vfs.Rule{Call: "readdir */traces/seg", Err: syscall.EIO})
	before := s.Snapshot().Total()
	must(t, s.Warden())
	must(t, s.Warden())
	must(t, s.Warden())
	equal(t, "the books of what cannot be read", s.Snapshot().Total(), before)
	disk.Plan(vfs.Rule{Call: "readdir /s", Err: syscall.EIO})
	if err := s.Warden(); err == nil || len(s.Warnings()) != 2 {
		t.Errorf("the warden says %v, the warnings %q", err, s.Warnings())
	}
}

// mounted is a disk with another one mounted at one place.
type mounted struct {
	*vfs.Mem
	at string
}

func (m mounted) Stat(name string) (vfs.Info, error) {
	info, err := m.Mem.Stat(name)
	if name == m.at || strings.HasPrefix(name, m.at+"/") {
		info.Device += 1 << 40
	}
	return info, err
}

func TestWhatIsMountedBelowDoesNotCount(t *testing.T) {
	mem := vfs.NewMem(0)
	must(t, mem.Mkdir("/s", 0o750))
	must(t, mem.Mkdir("/s/backup", 0o750))
	put(t, mem, "/s/backup/file", mib)
	put(t, mem, "/s/secret", mib)
	put(t, mem, "/s/own", small)
	for _, at := range []string{"/s/backup", "/s/secret"} {
		faulty := vfs.NewFaulty(mounted{mem, at})
		s := open(t, settings(faulty, "/s"))
		equal(t, "foreign with a volume at "+at, s.Snapshot().Foreign, mib+small)
		if n, _ := faulty.Count("readdir " + at); n > 0 {
			t.Error("another volume was walked")
		}
		must(t, s.Close())
	}
	faulty := vfs.NewFaulty(mounted{mem, "/"}) // all but the root itself is on one volume
	open(t, settings(faulty, "/s"))
	if n, _ := faulty.Count("syncdir /"); n > 0 {
		t.Error("another volume was synced")
	}
}

func TestTooManyForeignFilesAreNotAllLookedAt(t *testing.T) {
	mem := vfs.NewMem(0)
	must(t, mem.Mkdir("/home", 0o755))
	must(t, mem.Mkdir("/home/mail", 0o755))
	for i := range 1<<16 + 10 {
		f, err := mem.OpenFile(fmt.Sprint("/home/mail/", i), vfs.Create, 0o600)
		must(t, err)
		must(t, f.Close())
	}
	disk := vfs.NewFaulty(mem)
	s := open(t, settings(disk, "/home"))
	looked, _ := disk.Count("stat /home/mail/*")
	if looked > 1<<16 {
		t.Errorf("%d files were looked at", looked)
	}
	contains(t, strings.Join(s.Warnings(), "\n"), "/home", "65536")
}

func TestTheForecastFollowsTheGrowthOfTheLastMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(64 * mib)
		set := settings(disk, "/s")
		set.CapBytes, set.MinFreeBytes = 16*mib, mib
		s := open(t, set)
		j := journal(t, disk, "/s", "traces")
		h := s.Share("traces", true)
		files := 0
		round := func(bytes int64) {
			t.Helper()
			if bytes > 0 {
				must(t, h.Room(bytes))
				files++
				put(t, disk, fmt.Sprint(j, "/seg/", files), bytes)
			}
			time.Sleep(10 * time.Second)
			must(t, s.Warden())
		}
		round(0)
		round(0)
		equal(t, "the forecast of a directory at rest", s.Snapshot().UntilFull, 0)
		for range 40 { // what came before is forgotten
			round(64 * kib)
		}
		left := 16*mib - s.Snapshot().Total()
		equal(t, "at 64 KiB in 10 s", s.Snapshot().UntilFull, time.Duration(float64(left)/(64*kib)*float64(10*time.Second)))
		put(t, disk, "/others", 40*mib)
		round(0)
		if got := s.Snapshot().UntilFull; got > 3*time.Minute || got < time.Minute {
			t.Errorf("the volume is full in %v when others take 40 of its last 60 MiB", got)
		}
		for range 31 {
			round(0)
		}
		equal(t, "at rest again", s.Snapshot().UntilFull, 0)
		round(15 * mib / 2)
		disk.SetCapacity(48 * mib) // less than min_free is left
		round(0)
		if got := s.Snapshot().UntilFull; got != time.Second {
			t.Errorf("a full volume is full in %v", got)
		}
	})
}
