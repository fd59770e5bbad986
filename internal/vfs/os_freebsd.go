// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import "golang.org/x/sys/unix"

func fullSync(fd int) error { return unix.Fsync(fd) }
