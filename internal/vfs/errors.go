// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import (
	"errors"
	"syscall"
)

var (
	// ErrUnsupported says that the volume cannot allocate; extend by Truncate instead.
	ErrUnsupported = errors.ErrUnsupported
	// ErrLocked says that somebody else holds the lock.
	ErrLocked = errors.New("locked by another owner")
)

// IsFull says whether the volume, or this user's share of it, has no room left: bytes, inodes or quota. Deleting helps.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
