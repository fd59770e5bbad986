// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// mountsMark says that this process has its own mounts already.
const mountsMark = "HOLDFAST_COMPARE_MOUNTS"

// ownMounts gives this process a mount namespace of its own, so that what it mounts is gone with it, even if it is
// killed. Without root it does nothing, and scenarios that need a disk are skipped.
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

// mountDisk makes a small ext4 in an image below dir, mounts it at dir/disk and puts a ballast file there. The returned
// function unmounts it.
func mountDisk(ctx context.Context, dir string) (at string, unmount func(), err error) {
	if os.Getenv(mountsMark) == "" {
		return "", nil, &skipped{"needs root and a mount namespace of its own"}
	}
	image, at := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk")
	if err := os.Mkdir(at, 0o755); err != nil {
		return "", nil, err
	}
	f, err := os.Create(image)
	if err != nil {
		return "", nil, err
	}
	if err := f.Truncate(diskMiB << 20); err != nil {
		f.Close()
		return "", nil, err
	}
	if err := f.Close(); err != nil {
		return "", nil, err
	}
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", image}, // no reserve for root, who would not notice the end
		{"mount", "-o", "loop", image, at},
	} {
		if text, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return "", nil, &skipped{fmt.Sprintf("%s: %v %s", command[0], err, strings.TrimSpace(string(text)))}
		}
	}
	unmount = func() { _ = syscall.Unmount(at, syscall.MNT_DETACH) } // the namespace ends with the process anyway
	if err := os.WriteFile(ballast(at), make([]byte, ballastMiB<<20), 0o644); err != nil {
		unmount()
		return "", nil, err
	}
	return at, unmount, nil
}

// ballast is what somebody else has written to the disk.
func ballast(disk string) string { return filepath.Join(disk, "somebody-elses.log") }
