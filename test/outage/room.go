// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// inRoom is set in the environment of the one who has a room: the directory that is to be its file system.
const inRoom = "HOLDFAST_OUTAGE_ROOM"

// roomMiB is the size of that file system; it takes as much memory as is written, which is below one GiB.
const roomMiB = 64 << 10

// again runs the recorder once more, in a mount namespace of its own: the volume of the host fills and empties by what
// others do there, and every recorded process would say so of its directory, rightly. It returns the exit code.
func again() (int, error) {
	dir, err := os.MkdirTemp("", "holdfast-outage-*")
	if err != nil {
		return 1, err
	}
	defer os.Remove(dir)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inRoom+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM) // the other one ends by them, and this one by its end
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("this host gives no file system of its own, -dir names a directory on a volume that nobody else fills: %w", err)
	}
	return 0, nil
}

// enter mounts the room's file system, which ends with this process.
func enter(dir string) error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a private mount namespace: %w", err)
	}
	size := fmt.Sprintf("size=%dm,mode=0700", roomMiB)
	if err := unix.Mount("holdfast-outage", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, size); err != nil {
		return fmt.Errorf("a file system in memory: %w", err)
	}
	return nil
}
