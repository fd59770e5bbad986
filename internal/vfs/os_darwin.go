// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import "golang.org/x/sys/unix"

// fullSync asks the drive too; fsync on this system stops at the drive's own cache.
func fullSync(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	return err
}
