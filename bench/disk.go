// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"syscall"
)

// Magic numbers of file systems, statfs(2).
const (
	magicExt     = 0xef53
	magicXFS     = 0x58465342
	magicBtrfs   = 0x9123683e
	magicTmpfs   = 0x01021994
	magicOverlay = 0x794c7630
)

// fileSystem names what a directory is on: figures of storage mean nothing without it.
func fileSystem(dir string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "unknown file system"
	}
	switch kind := uint32(s.Type); kind {
	case magicExt:
		return "ext4"
	case magicXFS:
		return "xfs"
	case magicBtrfs:
		return "btrfs"
	case magicOverlay:
		return "overlay"
	case magicTmpfs:
		return "TMPFS: NO DISK WAS WRITTEN"
	default:
		return fmt.Sprintf("file system %#x", kind)
	}
}
