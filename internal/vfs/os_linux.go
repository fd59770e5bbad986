// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package vfs

import (
	"strconv"

	"golang.org/x/sys/unix"
)

func pwritev(fd int, parts [][]byte, off int64) (int, error) { return unix.Pwritev(fd, parts, off) }

func datasync(fd int) error { return unix.Fdatasync(fd) }

func allocate(fd int, size int64) error { return unix.Fallocate(fd, 0, 0, size) }

func dropBehind(fd int, off, n int64) error { return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) }

// kinds are the words for the volumes people put journals on, and for those the journal warns of.
var kinds = map[uint32]string{
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	0x2fc12fc1:                 "zfs",
	0xca451a4e:                 "bcachefs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.SMB_SUPER_MAGIC:       "smb",
	unix.SMB2_SUPER_MAGIC:      "smb",
	unix.CIFS_SUPER_MAGIC:      "cifs",
	unix.CEPH_SUPER_MAGIC:      "ceph",
	unix.FUSE_SUPER_MAGIC:      "fuse",
	unix.V9FS_MAGIC:            "9p",
	unix.MSDOS_SUPER_MAGIC:     "vfat",
	unix.EXFAT_SUPER_MAGIC:     "exfat",
}

func volumeKind(st *unix.Statfs_t) string {
	magic := uint32(st.Type) // the field's width differs by architecture, the numbers are 32 bits
	if kind, ok := kinds[magic]; ok {
		return kind
	}
	return "0x" + strconv.FormatUint(uint64(magic), 16)
}
