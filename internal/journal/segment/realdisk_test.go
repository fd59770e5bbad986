// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package segment_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-telemetry/holdfast/internal/journal/segment"
	"github.com/holdfast-telemetry/holdfast/internal/queue"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// The tests below run on an ext4 of their own, in a process with a mount namespace of its own: when it ends, for
// whatever reason, its mounts go, and with them its loop devices.

const (
	realDiskDir   = "HOLDFAST_TEST_REAL_DISK" // set in the child
	realDiskLimit = 90 * time.Second
	ext4Shutdown  = 0x8004587d
	noLogFlush    = 2 // what the journal of the file system has not written is lost
)

// onRealDisk runs body in the child, with a directory of its own; elsewhere it runs the child.
func onRealDisk(t *testing.T, promise string, body func(t *testing.T, dir string)) {
	if dir := os.Getenv(realDiskDir); dir != "" {
		body(t, dir)
		return
	}
	if missing := missingForRealDisk(); missing != "" {
		if os.Getenv("HOLDFAST_NO_SKIP") == "1" {
			t.Fatalf("%s: missing %s", promise, missing)
		}
		t.Skipf("SKIP %s: missing %s", promise, missing)
	}
	ctx, cancel := context.WithTimeout(t.Context(), realDiskLimit)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), realDiskDir+"="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	out, err := child.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// missingForRealDisk tries what the tests need and says what cannot be had.
func missingForRealDisk() string {
	if testing.Short() {
		return "time: -short"
	}
	if os.Geteuid() != 0 {
		return "root"
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "/dev/loop-control: " + err.Error()
	}
	defer control.Close()
	if _, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE); err != nil {
		return "a free loop device: " + err.Error()
	}
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := probe.Run(); err != nil {
		return "mount namespace: " + err.Error()
	}
	return ""
}

func run(t *testing.T, command string, args ...string) {
	t.Helper()
	if out, err := exec.Command(command, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", command, strings.Join(args, " "), err, out)
	}
}

// ext4 makes a file system of so many bytes in a sparse file.
func ext4(t *testing.T, image string, bytes int64) {
	t.Helper()
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(bytes), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", image)
}

func TestPowerCutOnARealDiskLosesNoSyncedRecord(t *testing.T) {
	onRealDisk(t, "power cut", func(t *testing.T, dir string) {
		image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
		if err := os.Mkdir(mnt, 0o700); err != nil {
			t.Fatal(err)
		}
		ext4(t, image, 64<<20)
		for cut := range 5 {
			run(t, "mount", "-o", "loop", image, mnt)
			s := &sheet{TB: t, disk: vfs.OS()}
			path := filepath.Join(mnt, fmt.Sprintf("%010d.seg", cut))
			var err error
			s.file, err = segment.Prepare(s.disk, path, 4<<20)
			s.ok(err)
			s.w, err = segment.NewWriter(s.file, header(4<<20))
			s.ok(err)
			for i := range 3 + cut {
				s.ok(s.group(1+i, 10, 3000*(i+1)))
				s.ok(s.sync())
			}
			s.ok(s.group(2, 0, 100_000)) // in the page cache only
			root, err := os.Open(mnt)
			s.ok(err)
			s.ok(unix.IoctlSetPointerInt(int(root.Fd()), ext4Shutdown, noLogFlush))
			if err := s.file.Datasync(); err == nil {
				t.Fatal("the disk still syncs: nothing was cut")
			}
			s.ok(errors.Join(root.Close(), s.file.Close()))
			run(t, "umount", mnt)

			run(t, "mount", "-o", "loop", image, mnt)
			file, err := s.disk.OpenFile(path, vfs.Read, 0)
			s.ok(err)
			in, err := segment.Inspect(file, path)
			s.ok(err)
			scan, err := in.Scan(file, s.checked)
			if err != nil || in.Class != segment.Unsealed || scan.First != baseSeq || int(scan.Records) < s.synced ||
				len(scan.Gaps) > 0 {
				t.Errorf("cut %d: %d records synced; found %v %+v, %v", cut, s.synced, in.Class, scan, err)
			}
			t.Logf("cut %d: %d records synced, %d found of %d", cut, s.synced, scan.Records, len(s.records))
			s.ok(file.Close())
			run(t, "umount", mnt)
		}
	})
}

// TestSyncErrorOnARealDiskCondemnsTheSegment runs a file system out of the space below it: blocks that were allocated
// cannot be written. What the system does then is why a failed sync is never repeated.
func TestSyncErrorOnARealDiskCondemnsTheSegment(t *testing.T) {
	onRealDisk(t, "sync error", func(t *testing.T, dir string) {
		small, mnt := filepath.Join(dir, "small"), filepath.Join(dir, "mnt")
		for _, d := range []string{small, mnt} {
			if err := os.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		run(t, "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small)
		ext4(t, filepath.Join(small, "image"), 64<<20)
		run(t, "mount", "-o", "loop,errors=continue", filepath.Join(small, "image"), mnt)

		s := &sheet{TB: t, disk: vfs.OS()}
		path := filepath.Join(mnt, "0000000001.seg")
		var err error
		s.file, err = segment.Prepare(s.disk, path, 32<<20)
		s.ok(err)
		s.w, err = segment.NewWriter(s.file, header(32<<20))
		s.ok(err)
		for err == nil && s.w.Free() > 1<<20 {
			if err = s.group(5, 10, 100_000); err == nil {
				err = s.sync()
			}
		}
		if !errors.Is(err, segment.ErrCondemned) {
			t.Fatalf("%d records synced, then: %v", s.synced, err)
		}
		t.Logf("%d records synced, then: %v; a second sync of that file says: %v", s.synced, err, s.file.Datasync())
		if err := s.w.Sync(s.w.Mark()); !errors.Is(err, segment.ErrCondemned) {
			t.Errorf("a second sync: %v", err)
		}
		// What was acknowledged is readable, from this descriptor and whatever the cache has left.
		unix.Sync()
		s.file.DropBehind(0, 32<<20)
		h, sum := s.w.Header(), s.w.Summary()
		r := segment.NewReader(s.file, segment.Range{
			Path: path, Salt: h.Salt, From: sum.Index[0], End: s.w.Durable(), Bodies: true,
		})
		got, gaps := frames(t, r)
		s.has(got, gaps, s.synced)
		if len(got) > 0 && got[len(got)-1].Seq != queue.Seq(baseSeq+s.synced-1) {
			t.Errorf("the last is %d", got[len(got)-1].Seq)
		}
		s.ok(s.file.Close())
		_ = exec.Command("umount", "-l", mnt).Run()
		_ = exec.Command("umount", "-l", small).Run()
	})
}
