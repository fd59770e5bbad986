// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package reload_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const place = "/state"

var uris = []string{"/etc/otelcol/config.yaml"}

func goodOf(g reload.Generation) *reload.Good {
	texts := []reload.Text{{URI: uris[0], Text: fmt.Sprintf("receivers: {otlp: {}} # <%d>\n", g)}}
	return &reload.Good{Version: "1.0.0", Texts: texts, Record: reload.Record{
		Generation: g, Source: "reload", Hash: reload.HashOf(texts), Fingerprint: "f" + fmt.Sprint(g),
		Settings: reload.Settings{Trial: time.Minute, Preflight: true}, Evidence: reload.EvidenceDelivered,
		At: start.Add(time.Duration(g) * time.Minute)}}
}

func openStore(t *testing.T, disk vfs.FS) *reload.Store {
	t.Helper()
	s, err := reload.OpenStore(context.Background(), disk, place, uris)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreReturnsWhatWasSaved(t *testing.T) {
	disk := vfs.NewMem(0)
	s := openStore(t, disk)
	if g, err := s.Good(); g != nil || err != nil {
		t.Errorf("good of a new store: %v, %v", g, err)
	}
	for g := range reload.Generation(4) {
		check(t, s.SaveGood(goodOf(g+1)))
	}
	attempt := reload.Attempt{Generation: 9, Hash: "h", Unclean: 1, Held: true}
	check(t, s.SaveAttempt(attempt, map[string]time.Time{"otlp/b": start}))
	check(t, s.SaveDeliveries(map[string]time.Time{"otlp": start}))
	last := map[string]time.Time{"otlp": start, "otlp/b": start}
	fingerprint := s.Fingerprint([]byte("text"))
	check(t, s.Close())

	s = openStore(t, disk)
	g, err := s.Good()
	if err != nil || !reflect.DeepEqual(g, goodOf(4)) {
		t.Errorf("good is %+v, %v", g, err)
	}
	if a, err := s.Attempt(); err != nil || a == nil || *a != attempt {
		t.Errorf("attempt is %+v, %v", a, err)
	}
	if d, err := s.Deliveries(); err != nil || !reflect.DeepEqual(d, last) {
		t.Errorf("deliveries are %v, %v", d, err)
	}
	if s.Fingerprint([]byte("text")) != fingerprint || s.Fingerprint([]byte("texs")) == fingerprint {
		t.Error("the fingerprint is another after a restart, or the same for another text")
	}
	if n := s.Last(); n != 9 {
		t.Errorf("last number is %d, want 9", n)
	}
	check(t, s.ClearAttempt())
	check(t, s.ClearAttempt())
	if a, err := s.Attempt(); a != nil || err != nil {
		t.Errorf("attempt after it was cleared: %+v, %v", a, err)
	}
	if names := goodFiles(t, disk); !slices.Equal(names, []string{"good-1.json", "good-2.json", "good-3.json", "good-4.json"}) {
		t.Errorf("kept are %v", names)
	}
	if notes := s.Notes(); len(notes) > 0 {
		t.Errorf("notes of an untroubled store: %q", notes)
	}
	for name, mode := range map[string]fs.FileMode{place: 0o700, reload.DirOf(place, uris): 0o700,
		reload.DirOf(place, uris) + "/good-4.json": 0o600, reload.DirOf(place, uris) + "/key.json": 0o600} {
		if info, err := disk.Stat(name); err != nil || info.Mode.Perm() != mode {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode, err, mode)
		}
	}
}

func goodFiles(t *testing.T, disk vfs.FS) (names []string) {
	t.Helper()
	entries, err := disk.ReadDir(reload.DirOf(place, uris))
	check(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name, "good-") {
			names = append(names, e.Name)
		}
	}
	return names
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// life is what a process does with a store: generations become good, with all that goes with it. It says which
// generation was good for sure, and which was being stored.
type life struct{ sure, trying reload.Generation }

func (l *life) live(disk vfs.FS) error {
	s, err := reload.OpenStore(context.Background(), disk, place, uris)
	if err != nil {
		return err
	}
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	g, err := s.Good()
	note(err)
	if g != nil && g.Generation > l.sure {
		l.sure = g.Generation
	}
	for range 3 {
		next := s.Last() + 1
		note(s.SaveAttempt(reload.Attempt{Generation: next, Hash: "h"}, nil))
		note(s.SaveDeliveries(map[string]time.Time{"otlp": start}))
		l.trying = next
		err := s.SaveGood(goodOf(next))
		note(err)
		if err == nil {
			l.sure = next
		}
		note(s.ClearAttempt())
		note(s.AddHistory(reload.Entry{Generation: next, Hash: fmt.Sprint(next), State: reload.Committed, Time: start}))
	}
	note(s.Close())
	return errors.Join(errs...)
}

// survives opens what is left and says what is wrong with it.
func (l *life) survives(disk vfs.FS) string {
	s, err := reload.OpenStore(context.Background(), disk, place, uris)
	if err != nil {
		return fmt.Sprintf("cannot be opened: %v", err)
	}
	defer s.Close()
	g, err := s.Good()
	switch {
	case err != nil:
		return fmt.Sprintf("good cannot be read: %v", err)
	case g == nil && l.sure > 0:
		return fmt.Sprintf("generation %d was good for sure, and none is left", l.sure)
	case g == nil:
		return ""
	case g.Generation < l.sure || g.Generation > max(l.sure, l.trying):
		return fmt.Sprintf("good is %d, was %d for sure and %d was being stored", g.Generation, l.sure, l.trying)
	case !reflect.DeepEqual(g, goodOf(g.Generation)):
		return fmt.Sprintf("good is not what was stored: %+v", g)
	}
	if s.Last() < g.Generation {
		return "numbers would begin anew"
	}
	return ""
}

func TestGoodSurvivesACrashAtEveryOperation(t *testing.T) {
	seeds := []uint64{0, 1, 2, 3}
	mem := vfs.NewMem(0)
	check(t, mem.Mkdir("/other", 0o700)) // a root that is not empty
	before := &life{}
	check(t, before.live(mem)) // an earlier process, so that there is something to lose
	l := &life{sure: before.sure}
	crashes := 0
	faulty := vfs.NewFaulty(mem)
	look := func(when string) func(vfs.Call) {
		return func(c vfs.Call) {
			for _, seed := range seeds {
				now := *l
				if wrong := now.survives(mem.CrashClone(seed)); wrong != "" {
					t.Errorf("crash %s call %d (%s), seed %d: %s", when, c.N, c.Name, seed, wrong)
				}
				crashes++
			}
			now := *l
			if wrong := now.survives(mem.KillClone()); wrong != "" {
				t.Errorf("kill %s call %d (%s): %s", when, c.N, c.Name, wrong)
			}
		}
	}
	faulty.Watch(vfs.Watch{After: look("after")}) // before the next call it is the same
	check(t, l.live(faulty))
	if crashes < 100 || l.sure <= before.sure {
		t.Errorf("only %d crashes, good is %d", crashes, l.sure)
	}
}

func TestGoodSurvivesAFailureOfEveryOperation(t *testing.T) {
	count := func() int {
		faulty := vfs.NewFaulty(vfs.NewMem(0))
		check(t, (&life{}).live(faulty))
		n, _ := faulty.Count("")
		return n
	}()
	for n := 1; n <= count; n++ {
		cause := []error{syscall.EIO, syscall.ENOSPC}[n%2]
		mem := vfs.NewMem(0)
		l := &life{}
		faulty := vfs.NewFaulty(mem, vfs.Rule{N: n, Err: cause})
		_ = l.live(faulty) // whatever failed, what it says is good must be
		for _, clone := range []*vfs.Mem{mem.KillClone(), mem.CrashClone(1), mem.CrashClone(uint64(n))} {
			now := *l
			if wrong := now.survives(clone); wrong != "" {
				t.Errorf("%v at call %d (%s): %s", cause, n, faulty.Calls("")[n-1].Name, wrong)
			}
		}
		// And the store goes on once the disk is well again.
		if err := l.live(mem.KillClone()); err != nil {
			t.Errorf("%v at call %d: it does not recover: %v", cause, n, err)
		}
	}
}

func TestEveryFlippedByteLeavesTheGoodOneOrTheOneBefore(t *testing.T) {
	mem := vfs.NewMem(0)
	l := &life{}
	check(t, l.live(mem))
	dir := reload.DirOf(place, uris)
	entries, err := mem.ReadDir(dir)
	check(t, err)
	flips := 0
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		info, err := mem.Stat(name)
		check(t, err)
		for off := range info.Size {
			mask := byte(1) << (off % 8)
			disk := mem.KillClone()
			flip(t, disk, name, off, mask)
			s := openStore(t, disk)
			g, err := s.Good()
			if err != nil || g == nil || g.Generation != l.sure && g.Generation != l.sure-1 ||
				!reflect.DeepEqual(g, goodOf(g.Generation)) {
				t.Fatalf("%s, byte %d flipped by %#x: good is %+v, %v", e.Name, off, mask, g, err)
			}
			if e.Name == fmt.Sprintf("good-%d.json", l.sure) {
				if g.Generation == l.sure {
					t.Errorf("%s, byte %d flipped by %#x: nobody noticed", e.Name, off, mask)
				}
				if _, err := disk.Stat(path.Join(dir, "bad", e.Name)); err != nil || len(s.Notes()) != 1 {
					t.Errorf("%s, byte %d: it is not set aside, or nobody is told: %v", e.Name, off, err)
				}
			}
			if _, err := s.Attempt(); err != nil {
				t.Errorf("%s, byte %d: attempt: %v", e.Name, off, err)
			}
			if h, err := s.History(); err != nil || len(h) == 0 {
				t.Errorf("%s, byte %d: history: %v, %v", e.Name, off, h, err)
			}
			flips++
		}
	}
	if flips < 500 {
		t.Errorf("only %d flips", flips)
	}
}

func flip(t *testing.T, disk vfs.FS, name string, off int64, mask byte) {
	t.Helper()
	f, err := disk.OpenFile(name, vfs.Write, 0)
	check(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	check(t, err)
	b[0] ^= mask
	_, err = f.WriteVAt([][]byte{b}, off)
	check(t, err)
	check(t, f.Close())
}

func TestHistoryKeepsAHundredAndSkipsDamagedLines(t *testing.T) {
	disk := vfs.NewMem(0)
	s := openStore(t, disk)
	for g := range reload.Generation(105) {
		check(t, s.AddHistory(reload.Entry{Generation: g + 1, State: reload.Rejected, Hash: fmt.Sprint(g)}))
	}
	for range 5 { // the same again and again is one line
		check(t, s.AddHistory(reload.Entry{Generation: 200, State: reload.Rejected, Hash: "same", Text: strings.Repeat("é", 5000)}))
	}
	name := path.Join(reload.DirOf(place, uris), "history.jsonl")
	info, err := disk.Stat(name)
	check(t, err)
	flip(t, disk, name, info.Size/4, 0x01) // of a line in the middle: the last five are long
	h, err := reload.ReadHistory(disk, place, uris)
	if err != nil || len(h) != 100 {
		t.Fatalf("%d entries, %v; want 100", len(h), err)
	}
	if oldest := h[99].Generation; oldest != 6 { // 200, 105, … 6 without the damaged one
		t.Errorf("the oldest is %d, want 6: one of those after it is damaged", oldest)
	}
	for g := range reload.Generation(300) { // the file is written anew now and then
		check(t, s.AddHistory(reload.Entry{Generation: g + 201, State: reload.Rejected, Hash: fmt.Sprint(g)}))
	}
	if info, err := disk.Stat(name); err != nil || info.Size > 3*60_000 {
		t.Errorf("the file has %d bytes, %v", info.Size, err)
	}
	if all, err := s.History(); err != nil || len(all) != 100 || all[99].Generation != 500 || all[0].Generation != 401 {
		t.Errorf("after 300 more: %d entries, %v", len(all), err)
	}
	if e := h[0]; e.Generation != 200 || e.Times != 5 || len(e.Text) > 4100 {
		t.Errorf("the newest is %d, %d times, %d bytes", e.Generation, e.Times, len(e.Text))
	}
	if h, err := reload.ReadHistory(disk, "/elsewhere", uris); len(h) > 0 || err != nil {
		t.Errorf("history of a place that is not there: %v, %v", h, err)
	}
}

func TestLostKeyMakesEveryFingerprintDiffer(t *testing.T) {
	disk := vfs.NewMem(0)
	s := openStore(t, disk)
	was := s.Fingerprint([]byte("text"))
	check(t, s.Close())
	check(t, disk.Remove(path.Join(reload.DirOf(place, uris), "key.json")))
	if s = openStore(t, disk); s.Fingerprint([]byte("text")) == was {
		t.Error("the fingerprint does not depend on the key")
	}
}

func TestStateDirectoryIsTheFirstThatIsUsable(t *testing.T) {
	none := func(string) string { return "" }
	env := func(name string) string {
		return map[string]string{"HOLDFAST_STATE_DIR": "/env", "STATE_DIRECTORY": "/systemd:/second"}[name]
	}
	var dirs []string
	for _, p := range reload.Places("/flag", env, []string{"/data/queue", "/data/other"}) {
		dirs = append(dirs, p.Dir)
	}
	if want := []string{"/flag", "/env", "/systemd", "/var/lib/holdfast", "/data/queue/.holdfast"}; !slices.Equal(dirs, want) {
		t.Errorf("places are %v, want %v", dirs, want)
	}

	disk := vfs.NewMem(0)
	check(t, disk.Mkdir("/var", 0o755))
	check(t, disk.Mkdir("/var/lib", 0o755))
	check(t, disk.Mkdir("/var/lib/otelcol", 0o755))
	faulty := vfs.NewFaulty(disk, vfs.Rule{Call: "mkdir /var/lib/holdfast*", Err: syscall.EACCES})
	if s, err := reload.FindStore(context.Background(), faulty, reload.Places("", none, nil), uris); err == nil {
		t.Errorf("a place was made that nobody named: %s", s.Dir())
	} else if !strings.Contains(err.Error(), "/var/lib/holdfast") {
		t.Errorf("the error names no place: %v", err)
	}
	s, err := reload.FindStore(context.Background(), faulty, reload.Places("", none, []string{"/var/lib/otelcol"}), uris)
	if err != nil || s.Dir() != reload.DirOf("/var/lib/otelcol/.holdfast", uris) {
		t.Fatalf("store: %v", err)
	}
	if notes := s.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "/var/lib/holdfast") {
		t.Errorf("nobody is told why the first place is not used: %q", notes)
	}
	check(t, s.Close())
	// A configuration that is refused cannot name its storage: what was left there is found.
	if s, err = reload.FindStore(context.Background(), faulty, reload.Places("", none, nil), uris); err != nil ||
		s.Dir() != reload.DirOf("/var/lib/otelcol/.holdfast", uris) {
		t.Fatalf("store: %v", err)
	}
}

func TestLockedStoreIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem(0)
		s := openStore(t, disk)
		go func() {
			time.Sleep(3 * time.Second)
			s.Close()
		}()
		began := time.Now()
		second := openStore(t, disk)
		if waited := time.Since(began); waited < 3*time.Second || waited > 4*time.Second {
			t.Errorf("waited %s", waited)
		}
		if _, err := reload.OpenStore(context.Background(), disk, place, uris); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("two owners: %v", err)
		}
		check(t, second.Close())
	})
}

// Journals may lie on the same disk, and clients wait for theirs: a reload syncs what a restart needs, and nothing else.
func TestACommitSyncsFourTimesAndARejectionNever(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(0))
	s := openStore(t, disk)
	check(t, s.AddHistory(reload.Entry{Generation: 1, State: reload.Committed, Hash: "1"})) // of a process, the first is synced
	count := func() int {
		files, _ := disk.Count("datasync *")
		names, _ := disk.Count("syncdir *")
		return files + names
	}
	before := count()
	check(t, s.SaveAttempt(reload.Attempt{Generation: 2, Hash: "2"}, nil))
	check(t, s.SaveGood(goodOf(2)))
	check(t, s.ClearAttempt())
	check(t, s.AddHistory(reload.Entry{Generation: 2, State: reload.Committed, Hash: "2"}))
	if n := count() - before; n != 4 {
		t.Errorf("a commit syncs %d times", n)
	}
	check(t, s.AddHistory(reload.Entry{Generation: 3, State: reload.Rejected, Hash: "3"}))
	if n := count() - before; n != 4 {
		t.Errorf("a rejection syncs %d times", n-4)
	}
}
