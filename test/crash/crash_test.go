// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package crash kills, stops, starves and unplugs real processes with a journal on a real file system, and compares what
// is there afterwards with what was acknowledged.
//
//	test ──starts──► child: journal.OpenStore on vfs.OS(), appenders, consumers     SIGKILL, SIGSTOP, rlimits,
//	  ▲                │ one line per acknowledgement, unbuffered                    power cut, full disk, rm -rf
//	  └── story ◄──────┘
//	       ▲ compared with
//	       └── inventory: everything that the reopened journal still has, byte by byte
//
// The child is this test binary once more. What only virtual disks can show is in internal/journal; what a whole process
// with doors and backends does is in test/e2e. Disks of its own are ext4 images on loop devices, mounted in a mount
// namespace of its own, so that they are gone with the last of its processes; a watchdog undoes the rest. What the
// machine cannot do is a skip that is listed at the end; HOLDFAST_NO_SKIP=1 makes it a failure.
//
// HOLDFAST_KILLS, HOLDFAST_CUTS and HOLDFAST_BACKLOG make the runs longer, HOLDFAST_SEED repeats the moments of
// another run, HOLDFAST_KEEP=1 leaves the directories of failed tests behind.
package crash

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the generous limit of every wait for an event.
const patience = 60 * time.Second

// root is where everything is made; its name tells whose it is.
var root string

func TestMain(m *testing.M) {
	if text := os.Getenv(orderMark); text != "" {
		os.Exit(obey(text))
	}
	ownMounts()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if root, err = os.MkdirTemp("", fmt.Sprintf("holdfast-crash-%d-", os.Getpid())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Chmod(root, 0o755); err != nil { // children of other users pass
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := watch(); err != nil {
		fmt.Fprintln(os.Stderr, "no watchdog:", err) // then nothing is mounted, and a kill leaves the directory behind
	}
	code := m.Run()
	dismiss()
	if code == 0 || os.Getenv("HOLDFAST_KEEP") == "" {
		_ = os.RemoveAll(root)
	} else {
		fmt.Fprintf(os.Stderr, "kept: %s\n", root)
	}
	for _, line := range skips.list {
		fmt.Println(line)
	}
	if len(skips.list) == 0 {
		fmt.Println("no skips")
	}
	return code
}

// mountsMark says that this process has its own mounts already.
const mountsMark = "HOLDFAST_CRASH_MOUNTS"

// ownMounts gives this process a mount namespace of its own. Without root it does nothing, and the tests that need
// disks are skipped.
func ownMounts() {
	if os.Geteuid() != 0 || os.Getenv(mountsMark) != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	runtime.LockOSThread() // a namespace is a thread's; the new image has this thread only
	defer runtime.UnlockOSThread()
	if syscall.Unshare(syscall.CLONE_NEWNS) != nil {
		return
	}
	if syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") != nil {
		return // what is mounted now would be seen by everybody
	}
	_ = syscall.Exec(self, os.Args, append(os.Environ(), mountsMark+"=1")) // else it goes on without
}

// skips are the promises that this machine could not put to the test.
var skips struct {
	sync.Mutex
	list []string
}

// skip ends the test because something is missing.
func skip(t *testing.T, promise, missing string) {
	t.Helper()
	line := "SKIP " + promise + ": missing " + missing
	skips.Lock()
	if !slices.Contains(skips.list, line) {
		skips.list = append(skips.list, line)
	}
	skips.Unlock()
	if os.Getenv("HOLDFAST_NO_SKIP") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

// place is a directory of the test's own, gone with it.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(root, strings.ReplaceAll(t.Name(), "/", "-")+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("HOLDFAST_KEEP") == "" {
			_ = os.RemoveAll(dir)
		}
	})
	return dir
}

// often reads how often something is done: from the environment, else the usual number, else, with -short, a few times.
func often(t *testing.T, name string, usual, short int) int {
	t.Helper()
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%q is no number of times", name, text)
		}
		return n
	}
	if testing.Short() {
		return short
	}
	return usual
}

// seed makes the moments of a run; it is told, so that they can be those of another run.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(os.Getpid())
	if text := os.Getenv("HOLDFAST_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("HOLDFAST_SEED=%q is no number", text)
		}
	}
	t.Logf("again: HOLDFAST_SEED=%d", n)
	return n
}

// pause waits where it is the time that passes which is tested.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// eventually polls a condition that no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// state is the names, kinds, permissions, sizes, times and bytes below dir, to see that nobody touched it.
func state(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %d:%d %d inode %d changed %d.%09d", info.Mode(), st.Uid, st.Gid, info.Size(), st.Ino,
			st.Mtim.Sec, st.Mtim.Nsec)
		if info.IsDir() { // probing for permissions makes and removes a name, which changes a directory's time
			line = fmt.Sprintf("%s %d:%d inode %d", info.Mode(), st.Uid, st.Gid, st.Ino)
		}
		if info.Mode().IsRegular() {
			bytes, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", checksum(bytes))
		}
		all[path] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// unchanged compares two states of a directory.
func unchanged(t *testing.T, what string, before, after map[string]string) {
	t.Helper()
	for path, line := range before {
		if after[path] != line {
			t.Errorf("%s: %s\n\twas %s\n\tis  %s", what, path, line, after[path])
		}
	}
	for path, line := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("%s: %s is new: %s", what, path, line)
		}
	}
}
