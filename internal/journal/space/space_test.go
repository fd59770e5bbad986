// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/journal/space"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	dir = "/var/lib/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// contains checks that a text for people says all of these.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not say %q", text, p)
		}
	}
}

// settings are small: 64 KiB segments, a cap of 4 MiB, nothing kept free.
func settings(disk vfs.FS, at string) space.Settings {
	return space.Settings{
		Disk: disk, Directory: at, Create: true, Owner: "pid 42 on here", CapBytes: 4 * mib, MinFreeBytes: 1,
		SegmentBytes: 64 * kib, Heads: 2,
	}
}

func open(t *testing.T, set space.Settings) *space.Space {
	t.Helper()
	s, err := space.Open(t.Context(), set)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// journal makes the directories a journal makes.
func journal(t *testing.T, disk vfs.FS, at, pipeline string) string {
	t.Helper()
	j := layout.Pipeline(at, pipeline)
	must(t, disk.Mkdir(j, 0o750))
	for _, sub := range []string{layout.Segments, layout.Cursors, layout.Bad, layout.Dead, "dead/seg"} {
		must(t, disk.Mkdir(path.Join(j, sub), 0o750))
	}
	return j
}

// put makes a file with blocks for so many bytes and returns what it has.
func put(t *testing.T, disk vfs.FS, name string, bytes int64) int64 {
	t.Helper()
	f, err := disk.OpenFile(name, vfs.Create, 0o600)
	must(t, err)
	must(t, f.Allocate(bytes))
	info, err := f.Stat()
	must(t, err)
	must(t, f.Close())
	return info.Allocated
}

// allocated is what is on the disk below name, without name itself; it does not walk as the product does.
func allocated(t *testing.T, disk vfs.FS, name string) (sum int64) {
	t.Helper()
	entries, err := disk.ReadDir(name)
	must(t, err)
	for _, e := range entries {
		info, err := disk.Stat(path.Join(name, e.Name))
		must(t, err)
		sum += info.Allocated
		if e.Type.IsDir() {
			sum += allocated(t, disk, path.Join(name, e.Name))
		}
	}
	return sum
}

// full checks that err is a limit's refusal, with these figures.
func full(t *testing.T, err error, limit string, used, max int64) {
	t.Helper()
	var e *queue.FullError
	if !errors.As(err, &e) {
		t.Errorf("%s denies with %v", limit, err)
		return
	}
	if *e != (queue.FullError{Limit: limit, Used: used, Max: max}) {
		t.Errorf("denied with %v, want %s %d of %d", e, limit, used, max)
	}
}

func TestOpenMakesTheDirectoryWithExactModesAndMakesItDurable(t *testing.T) {
	disk := vfs.NewMem(0)
	set := settings(disk, dir)
	set.Perm = 0o700
	open(t, set)
	after := disk.CrashClone(0) // loses every name that was not synced
	for name, mode := range map[string]fs.FileMode{
		"/var": 0o700, "/var/lib": 0o700, dir: 0o700, dir + "/pipelines": 0o700, dir + "/LOCK": 0o600,
	} {
		info, err := after.Stat(name)
		if err != nil {
			t.Error(err)
		}
		equal(t, "mode of "+name, info.Mode.Perm(), mode)
	}
	info, err := disk.Stat(dir + "/RESERVE")
	must(t, err)
	equal(t, "RESERVE", info.Allocated, 64*kib)
	equal(t, "mode of RESERVE", info.Mode.Perm(), 0o600)
	if entries, err := disk.ReadDir(dir + "/pipelines"); err != nil || len(entries) > 0 {
		t.Errorf("pipelines/ holds %v, %v", entries, err)
	}
}

func TestADirectoryMadeByOneWhoDiedIsMadeDurableByTheNext(t *testing.T) {
	disk := vfs.NewMem(0)
	for _, name := range []string{"/var", "/var/lib", dir, dir + "/pipelines"} {
		must(t, disk.Mkdir(name, 0o750)) // and killed before the sync
	}
	open(t, settings(disk, dir))
	if _, err := disk.CrashClone(0).Stat(dir + "/pipelines"); err != nil {
		t.Error(err)
	}
}

func TestParentsThatMayNotBeOpenedAreOnlySkippedIfTheyAreOld(t *testing.T) {
	mem := vfs.NewMem(0)
	must(t, mem.Mkdir("/var", 0o711))
	disk := vfs.NewFaulty(mem, vfs.Rule{Call: "syncdir /var", Err: syscall.EACCES})
	_, err := space.Open(t.Context(), settings(disk, dir))
	if err == nil || disk.Hits() != 1 {
		t.Fatalf("opened a directory whose name may go: %v, %d faults", err, disk.Hits())
	}
	contains(t, err.Error(), "/var is drwx--x--x")
	must(t, open(t, settings(disk, dir)).Close()) // whoever made it
	equal(t, "faults", disk.Hits(), 2)
}

func TestDirectoriesThatAnotherMakesMeanwhileAreTaken(t *testing.T) {
	mem := vfs.NewMem(0)
	disk := vfs.NewFaulty(mem)
	disk.Watch(vfs.Watch{Before: func(c vfs.Call) {
		if name, ok := strings.CutPrefix(c.Name, "mkdir "); ok {
			must(t, mem.Mkdir(name, 0o700))
		}
	}})
	open(t, settings(disk, dir))
}

func TestOpenDoesNotCreateUnlessAsked(t *testing.T) {
	disk := vfs.NewMem(0)
	set := settings(disk, dir)
	set.Create = false
	_, err := space.Open(t.Context(), set)
	var refused *space.DirectoryError
	if !errors.As(err, &refused) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("opened a directory that is not there: %v", err)
	}
	contains(t, err.Error(), dir, "create_directory")
	equal(t, "the command", refused.Fix,
		fmt.Sprintf("mkdir -p %[1]s && chown %[2]d:%[3]d %[1]s && chmod 0750 %[1]s", dir, syscall.Geteuid(), syscall.Getegid()))
	if _, err := disk.Stat("/var"); err == nil {
		t.Error("something was made all the same")
	}
}

func TestOpenSaysWhatIsInTheWay(t *testing.T) {
	refused := func(what string, fault vfs.Rule, parts ...string) {
		t.Helper()
		mem := vfs.NewMem(0)
		must(t, mem.Mkdir("/var", 0o711))
		disk := vfs.NewFaulty(mem, fault)
		_, err := space.Open(t.Context(), settings(disk, dir))
		var e *space.DirectoryError
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", what, err)
		}
		if disk.Hits() == 0 {
			t.Errorf("%s: the fault never happened", what)
		}
		contains(t, err.Error(), parts...)
		disk.Plan()
		open(t, settings(disk, dir)) // fixed
	}
	us := fmt.Sprintf("%d:%d", syscall.Geteuid(), syscall.Getegid())
	refused("a parent that is not writable", vfs.Rule{Call: "mkdir /var/lib", Err: syscall.EACCES},
		`"/var/lib/store"`, "permission denied", "/var is d", "rwx--x--x", "mkdir -p /var/lib/store && chown "+us)
	refused("a directory that is not writable", vfs.Rule{Call: "lock *", Err: syscall.EACCES},
		`"/var/lib/store"`, "LOCK", "chown -R "+us+" /var/lib/store && chmod -R u+rwX /var/lib/store")
	refused("files that cannot be made", vfs.Rule{Call: "create */pipelines/*", Err: syscall.EACCES},
		"permission denied", "drwxr-x---", "chown -R "+us+" /var/lib/store")
	refused("a directory that cannot be listed", vfs.Rule{Call: "readdir " + dir, Err: syscall.EACCES},
		"permission denied", "chown "+us+" /var/lib/store && chmod u+rwx /var/lib/store")
	refused("a parent that lets nobody pass", vfs.Rule{Call: "stat /var/lib*", Err: syscall.EACCES},
		"/var is d", "chmod a+x /var")
	refused("a read-only volume", vfs.Rule{Call: "mkdir */pipelines", Err: syscall.EROFS},
		"read-only", "mount -o remount,rw", "findmnt")
}

func TestWhatIsMetLaterIsExplainedToo(t *testing.T) {
	disk := vfs.NewMem(0)
	s := open(t, settings(disk, dir))
	us := fmt.Sprintf("%d:%d", syscall.Geteuid(), syscall.Getegid())
	at := dir + "/pipelines/traces/seg/0000000001.seg"
	err := s.Explain(fmt.Errorf("look at segment: %w", &fs.PathError{Op: "open", Path: at, Err: syscall.EACCES}))
	var refused *space.DirectoryError
	if !errors.As(err, &refused) || !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	contains(t, err.Error(), dir, at, "permission denied", "chown -R "+us+" "+dir)
	contains(t, s.Explain(&fs.PathError{Op: "create", Path: at, Err: syscall.EROFS}).Error(), "mount -o remount,rw")
	for _, other := range []error{errors.New("x"), &fs.PathError{Op: "open", Path: at, Err: syscall.EIO}, fs.ErrPermission} {
		if err := s.Explain(other); err != other {
			t.Errorf("%v became %v", other, err)
		}
	}
}

func TestOpenTouchesNothingThatIsInTheWay(t *testing.T) {
	disk := vfs.NewMem(0)
	put(t, disk, "/it's", 4096)
	_, err := space.Open(t.Context(), settings(disk, "/it's"))
	if err == nil {
		t.Fatal("opened a file")
	}
	contains(t, err.Error(), `"/it's"`, "not a directory", `mv -n '/it'\''s' '/it'\''s.moved'`)
	_, err = space.Open(t.Context(), settings(disk, "/it's/below"))
	if err == nil {
		t.Fatal("opened a directory below a file")
	}
	contains(t, err.Error(), "not a directory", `mv -n '/it'\''s' `)

	must(t, disk.Mkdir("/s", 0o750))
	put(t, disk, "/s/pipelines", 4096)
	if _, err = space.Open(t.Context(), settings(disk, "/s")); err == nil {
		t.Fatal("opened a directory with a file for pipelines/")
	}
	contains(t, err.Error(), "mv -n /s/pipelines /s/pipelines.moved")
}

func TestOpenNeedsNeitherFreeSpaceNorRoomUnderTheCap(t *testing.T) {
	disk := vfs.NewMem(8 * mib)
	open(t, settings(disk, dir)).Close()
	j := journal(t, disk, dir, "traces")
	put(t, disk, j+"/seg/0000000001.seg", 7*mib)
	must(t, disk.Remove(dir+"/RESERVE"))
	put(t, disk, "/rest", mib-4096) // LOCK has the last block
	if u, err := disk.Usage("/"); err != nil || u.Free != 0 {
		t.Fatalf("%v, %v", u, err)
	}
	names := vfs.NewFaulty(disk, vfs.Rule{Call: "create*", Err: syscall.ENOSPC}) // no inodes either
	s := open(t, settings(names, dir))
	if names.Hits() == 0 {
		t.Error("no file was made")
	}
	contains(t, strings.Join(s.Warnings(), "\n"), "RESERVE has not its 65536 bytes yet")
	full(t, s.Share("traces", true).Room(1), "max_file_size_mib", 7*mib+4096, 4*mib)
	full(t, s.Share("logs", true).Room(1), "max_file_size_mib", 7*mib+4096, 4*mib)
	must(t, s.Adjust(space.Limits{CapBytes: 16 * mib, MinFreeBytes: mib}))
	full(t, s.Share("logs", true).Room(1), "min_free_mib", 8*mib, 7*mib)
}

func TestACapTooSmallForItsJournalsNamesTheFigure(t *testing.T) {
	disk := vfs.NewMem(100 * mib)
	refused := func(set space.Settings, text string) {
		t.Helper()
		set.SegmentBytes = 0
		_, err := space.Open(t.Context(), set)
		var e *space.CapError
		if !errors.As(err, &e) {
			t.Fatalf("a cap that is too small gives %v", err)
		}
		contains(t, err.Error(), dir, text)
	}
	set := settings(disk, dir)
	set.CapBytes = 48*mib - 1
	set.Heads = 3
	refused(set, "max_file_size_mib is 47; 3 journals need at least 48")
	set.CapBytes = 0
	set.Heads = 6
	refused(set, "max_file_size_mib is 80, 80 % of the volume; 6 journals need at least 96")
	set.CapBytes, set.Heads, set.SegmentBytes = 48*mib, 3, 0
	s := open(t, set)
	equal(t, "a segment", s.SegmentBytes(), 4*mib)
	must(t, s.Adjust(space.Limits{CapBytes: 64 * mib, Heads: 4}))
	if err := s.Adjust(space.Limits{CapBytes: 64 * mib, Heads: 5}); err == nil {
		t.Error("64 MiB are enough for 5 journals at a reload")
	}
	equal(t, "the cap after a refused reload", s.Cap(), 64*mib)
}

func TestDefaultsComeFromTheVolume(t *testing.T) {
	defaults := func(volume, limit, minFree, segment int64, heads int) {
		t.Helper()
		disk := vfs.NewMem(volume)
		s := open(t, space.Settings{Disk: disk, Directory: "/s", Create: true, Heads: heads})
		snap := s.Snapshot()
		what := fmt.Sprintf("%d MiB, %d heads: ", volume/mib, heads)
		equal(t, what+"cap", snap.Cap, limit)
		equal(t, what+"min_free", snap.MinFree, minFree)
		equal(t, what+"segment", snap.Segment, segment)
		equal(t, what+"RESERVE", snap.Reserve, min(segment, limit/16/4096*4096))
	}
	defaults(100*mib, 80*mib, 16*mib, 4*mib, 1)
	defaults(1000*mib, 800*mib, 50*mib, 25*mib, 1)
	defaults(1000*mib, 800*mib, 50*mib, (800*mib/8/5)/4096*4096, 5)
	defaults(100<<30, 80<<30, 1024*mib, 64*mib, 3)
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	disk := vfs.NewMem(0)
	must(t, disk.Mkdir("/s", 0o755))
	must(t, disk.Mkdir("/s/.holdfast", 0o700))
	must(t, disk.Mkdir("/s/pipelines", 0o700))
	for _, name := range []string{"/s/exporter_otlp__traces", "/s/.holdfast/state", "/s/pipelines/notes.txt"} {
		put(t, disk, name, 8192)
	}
	j := journal(t, disk, "/s", "traces")
	put(t, disk, j+"/readme", 8192)
	s := open(t, settings(disk, "/s"))
	h := s.Share("traces", true)
	must(t, s.Warden())
	equal(t, "foreign", s.Snapshot().Foreign, 4*8192)
	equal(t, "the journal", h.Used(), 0)
	must(t, s.Close())
	for _, name := range []string{"/s/exporter_otlp__traces", "/s/.holdfast/state", "/s/pipelines/notes.txt", j + "/readme"} {
		if info, err := disk.Stat(name); err != nil || info.Allocated != 8192 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if info, err := disk.Stat("/s"); err != nil || info.Mode.Perm() != 0o755 {
		t.Errorf("the mode of a directory that was there is %v, %v", info.Mode, err)
	}
}

func TestSurroundingsAreToldToPeople(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ramfs", "overlay", "nfs", "cifs", "smb", "ceph", "9p", "fuse"} {
		disk := onVolume{vfs.NewMem(0), kind}
		s := open(t, settings(disk, "/s"))
		list := s.Warnings()
		if len(list) != 1 {
			t.Fatalf("%s: %q", kind, list)
		}
		contains(t, list[0], `"/s"`, kind)
		before, err := space.Surroundings(disk, "/s/not/there/yet")
		must(t, err)
		if len(before) != 1 {
			t.Errorf("%s before the start: %q", kind, before)
		}
	}
	disk := onVolume{vfs.NewMem(0), "ext4"}
	must(t, disk.Mkdir("/s", 0o777))
	list := open(t, settings(disk, "/s")).Warnings()
	if len(list) != 1 {
		t.Fatalf("%q", list)
	}
	contains(t, list[0], `"/s"`, "drwxrwxrwx", "chmod o-w /s")
	if list := open(t, settings(disk, "/quiet")).Warnings(); len(list) > 0 {
		t.Errorf("an ordinary directory is warned of: %q", list)
	}
}

// onVolume is a disk that says it is of another kind.
type onVolume struct {
	*vfs.Mem
	kind string
}

func (v onVolume) Usage(name string) (vfs.Usage, error) {
	u, err := v.Mem.Usage(name)
	u.Kind = v.kind
	return u, err
}
