// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package vfs is the disk border: the few calls the journal makes on files and directories, and the disks that answer.
//
// It is the floor under the journal; nothing stands below it but the operating system. OS is the real disk. Mem is a
// disk in memory that knows which bytes and which names a power cut may take (CrashClone) and which even kill -9 leaves
// (KillClone). Faulty stands in front of either and fails, shortens, delays or fakes calls by number or by name. Since
// every effect on disk passes here, these calls are the failpoints of all crash tests, and production types need no
// hooks.
//
// It promises that a call has ended when it returns: interrupted and short calls are continued inside until they are
// done or the disk says why not. It promises no atomicity of writes and no order between writes before Datasync, and
// none between names before SyncDir. It knows nothing of segments, cursors or queues.
package vfs

import (
	"io"
	"io/fs"
)

// FS is a tree of files. Names are absolute or relative slash paths; the last element is never followed when it is a
// symbolic link. Every method may be called from any goroutine. Errors wrap the system's error number (syscall.Errno)
// and fs.ErrNotExist, fs.ErrExist, fs.ErrPermission where these fit.
type FS interface {
	// OpenFile opens a file. With Create the file is new, empty and has exactly the permissions perm, whatever the
	// umask; it is an error if the name exists. Otherwise perm is not looked at. The entry of a new file is durable
	// after SyncDir of its directory.
	OpenFile(name string, how Access, perm fs.FileMode) (File, error)
	// Mkdir makes one directory with exactly the permissions perm.
	Mkdir(name string, perm fs.FileMode) error
	// Rename gives a file another name, and takes that name from whoever has it. It is atomic: after a crash the file
	// has the old or the new name. Both directories need a SyncDir.
	Rename(from, to string) error
	// Remove takes a file or an empty directory off its directory. Who has the file open keeps its bytes.
	Remove(name string) error
	// ReadDir lists a directory, by name.
	ReadDir(name string) ([]Entry, error)
	// SyncDir makes the entries of one directory durable, not what they lead to. File systems that do not know the
	// call keep entries their own way; that is no error.
	SyncDir(name string) error
	// Stat describes the file, directory or link of that name.
	Stat(name string) (Info, error)
	// Usage describes the volume under name.
	Usage(name string) (Usage, error)
	// Resolve is name without symbolic links. Elements at the end that do not exist yet are kept as they are.
	Resolve(name string) (string, error)
	// Lock opens a file, makes it (0600) where it does not exist, and locks it against every other Lock, in this
	// process or another, until the file is closed or its process has ended. It does not wait: ErrLocked.
	Lock(name string) (File, error)
}

// File is an open file. Every method may be called from any goroutine, Close too: a call that is under way ends, one
// that comes later fails with fs.ErrClosed.
type File interface {
	// ReadAt fills p from off. Fewer bytes come with an error, io.EOF at the end of the file.
	io.ReaderAt
	// WriteVAt writes all parts, one after the other, from off; the file grows where needed. It returns how many
	// bytes the disk took, all of them if the error is nil. The bytes stay the caller's, they are not kept. After an
	// error the content between off and off + all parts is unknown. A write is durable after a Datasync that starts
	// after it has returned.
	WriteVAt(parts [][]byte, off int64) (int64, error)
	// Datasync makes every write that has returned, and the size of the file, durable. After an error none of them
	// can be trusted, ever: the system forgets what it could not write and the next call succeeds.
	Datasync() error
	// Allocate gives the file size bytes, zeros where nothing was written, and blocks for all of them, so that no
	// write below size runs out of space. ErrUnsupported where the volume cannot; then nothing has changed.
	Allocate(size int64) error
	// Truncate sets the size; what is cut off is freed, what is added reads as zeros and has no blocks.
	Truncate(size int64) error
	// Stat describes the open file, whatever its name leads to now.
	Stat() (Info, error)
	// DropBehind is a hint that n bytes at off will not be read again soon.
	DropBehind(off, n int64)
	// Close closes the file and gives up its lock. It makes nothing durable.
	Close() error
}

// Access is how a file is opened.
type Access uint8

// The ways to open a file.
const (
	Read   Access = iota // reading
	Write                // reading and writing
	Create               // reading and writing a file that must not exist yet
)

// Entry is one name in a directory.
type Entry struct {
	Name string
	Type fs.FileMode // type bits only
}

// Info describes a file.
type Info struct {
	Size      int64       // bytes
	Allocated int64       // bytes of the blocks it has on the volume
	Device    uint64      // with Inode: which file it is, whatever its name
	Inode     uint64      //
	Mode      fs.FileMode // type and permissions
}

// Same says whether both describe one file.
func (i Info) Same(other Info) bool { return i.Device == other.Device && i.Inode == other.Inode }

// Usage describes a volume.
type Usage struct {
	Total int64  // bytes
	Free  int64  // bytes this process may still take
	Kind  string // "ext4", "xfs", "tmpfs", "overlay", "nfs", ...; a number in hexadecimal if it has no word here
}
