// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush   = 2          // what its journal has not written is lost
	fithaw       = 0xc0045878 // FITHAW

	unmountTime = 30 * time.Second
)

// volume is an ext4 in an image, on a loop device, below a directory of the test's own.
type volume struct {
	t         *testing.T
	image, at string
	mounted   bool
}

// needDisks skips the test where there can be no disks of its own.
func needDisks(t *testing.T, promise string) {
	t.Helper()
	if missing := missingForDisks(); missing != "" {
		skip(t, promise, missing)
	}
}

// newVolume makes the file system, not mounted yet.
func newVolume(t *testing.T, mib int64, mkfs ...string) *volume {
	t.Helper()
	dir := place(t)
	return volumeIn(t, dir, filepath.Join(dir, "image"), mib, mkfs...)
}

// volumeIn is one with its image somewhere.
func volumeIn(t *testing.T, dir, image string, mib int64, mkfs ...string) *volume {
	t.Helper()
	v := &volume{t: t, image: image, at: filepath.Join(dir, "disk")}
	if err := errors.Join(os.Mkdir(v.at, 0o755), makeImage(v.image, mib, mkfs...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.unmount)
	return v
}

// makeImage makes an ext4 in a sparse file. Root has no blocks for itself: it is the one who runs this.
func makeImage(image string, mib int64, options ...string) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(mib<<20), f.Close()); err != nil {
		return err
	}
	return command(append(append([]string{"mkfs.ext4", "-q", "-F", "-m", "0",
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"}, options...), image)...)
}

func command(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// mount mounts it, with what options there are.
func (v *volume) mount(options ...string) {
	v.t.Helper()
	if err := mountImage(v.image, v.at, options...); err != nil {
		v.t.Fatal(err)
	}
	v.mounted = true
}

func mountImage(image, at string, options ...string) error {
	if err := watch(); err != nil {
		return err
	}
	tellWatchdog("mounted", at)
	err := command("mount", "-t", "ext4", "-o", strings.Join(append([]string{"loop"}, options...), ","), image, at)
	if err != nil {
		tellWatchdog("gone", at)
	}
	return err
}

// cut is what a power cut is to a file system: what is not on the device now never gets there.
func (v *volume) cut() {
	v.t.Helper()
	if err := shutdown(v.at); err != nil {
		v.t.Fatal(err)
	}
}

func shutdown(at string) error {
	dir, err := os.Open(at)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, noLogFlush); err != nil {
		return fmt.Errorf("shutdown ioctl: %w", err)
	}
	return nil
}

// unmount takes it off, within a deadline.
func (v *volume) unmount() {
	v.t.Helper()
	if !v.mounted {
		return
	}
	v.mounted = false
	if err := unmountWithin(v.at, unmountTime); err != nil {
		v.t.Error(err)
	}
}

func unmountWithin(at string, limit time.Duration) error {
	done := make(chan error, 1)
	go func() {
		deadline := time.Now().Add(limit)
		for {
			err := unix.Unmount(at, 0)
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				done <- err
				return
			}
			pause(10 * time.Millisecond) // whoever was killed lets go of it
		}
	}()
	timer := time.NewTimer(limit + 5*time.Second)
	defer timer.Stop()
	var err error
	select {
	case err = <-done:
	case <-timer.C:
		err = errors.New("it hangs")
	}
	if err == nil {
		tellWatchdog("gone", at)
		return nil
	}
	undo(at)
	tellWatchdog("gone", at)
	return fmt.Errorf("unmount %s: %w", at, err)
}

// device is the loop device below it.
func (v *volume) device() string {
	v.t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		v.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == v.at && strings.HasPrefix(f[0], "/dev/loop") {
			return strings.TrimPrefix(f[0], "/dev/")
		}
	}
	v.t.Fatalf("%s is on no loop device", v.at)
	return ""
}

// fill writes files until the volume has no more than left bytes free, and returns how to remove them.
func (v *volume) fill(left int64) (free func()) {
	v.t.Helper()
	f, err := os.CreateTemp(v.at, "somebody-elses-")
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	name := f.Name()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		v.t.Fatal(err)
	}
	// Allocated first: delayed allocation would show the end too late.
	size := int64(0)
	for step := int64(st.Bavail) * st.Bsize; step >= st.Bsize; {
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			v.t.Fatal(err)
		}
		more := min(step, int64(st.Bavail)*st.Bsize-left)
		if more < st.Bsize {
			break
		}
		if err := unix.Fallocate(int(f.Fd()), 0, size, more); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				v.t.Fatal(err)
			}
			step /= 2
			continue
		}
		size += more
	}
	return func() {
		v.t.Helper()
		if err := os.Remove(name); err != nil {
			v.t.Fatal(err)
		}
	}
}

// missingForDisks tries, once, what the tests with disks of their own need, and says what cannot be had.
var missingForDisks = sync.OnceValue(func() string {
	if os.Geteuid() != 0 {
		return "root"
	}
	if os.Getenv(mountsMark) == "" {
		return "a mount namespace of its own: unshare was refused"
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "/dev/loop-control: " + err.Error()
	}
	_, err = unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	_ = control.Close()
	if err != nil {
		return "a free loop device: " + err.Error()
	}
	dir, err := os.MkdirTemp(root, "trial-")
	if err != nil {
		return "a directory: " + err.Error()
	}
	defer os.RemoveAll(dir)
	if err := tryDisk(dir); err != nil {
		return "a disk that can be cut off: " + err.Error()
	}
	if err := tryTmpfs(dir); err != nil {
		return "a tmpfs: " + err.Error()
	}
	return ""
})

// tryDisk mounts a small file system and cuts it off.
func tryDisk(dir string) error {
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	if err := errors.Join(os.Mkdir(at, 0o755), makeImage(image, 16)); err != nil {
		return err
	}
	if err := mountImage(image, at); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(at, "f"))
	if err == nil {
		_, err = f.WriteString("x")
		err = errors.Join(err, f.Sync(), shutdown(at))
		if err == nil && f.Sync() == nil {
			err = errors.New("it syncs after a cut")
		}
		err = errors.Join(err, f.Close())
	}
	return errors.Join(err, unmountWithin(at, unmountTime))
}

func tryTmpfs(dir string) error {
	at := filepath.Join(dir, "tmpfs")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	if err := mountTmpfs(at, 1); err != nil {
		return err
	}
	return unmountWithin(at, unmountTime)
}

func mountTmpfs(at string, mib int) error {
	if err := watch(); err != nil {
		return err
	}
	tellWatchdog("mounted", at)
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		tellWatchdog("gone", at)
		return err
	}
	return nil
}
