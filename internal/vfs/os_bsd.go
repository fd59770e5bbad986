// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build darwin || freebsd

package vfs

import "golang.org/x/sys/unix"

func pwritev(fd int, parts [][]byte, off int64) (int, error) { return unix.Pwrite(fd, parts[0], off) }

func datasync(fd int) error { return fullSync(fd) }

func allocate(int, int64) error { return unix.ENOTSUP }

func dropBehind(int, int64, int64) error { return nil }

func volumeKind(st *unix.Statfs_t) string { return unix.ByteSliceToString(st.Fstypename[:]) }
