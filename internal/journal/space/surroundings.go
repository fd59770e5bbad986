// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"fmt"
	"path"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Surroundings are the warnings about a directory that need no lock, for explain. The directory may not exist yet:
// then they are about where it would be made.
func Surroundings(disk vfs.FS, directory string) ([]string, error) {
	dir, err := disk.Resolve(directory)
	if err != nil {
		return nil, err
	}
	at, info := dir, vfs.Info{}
	for {
		if info, err = disk.Stat(at); !isGone(err) || at == path.Dir(at) {
			break
		}
		at = path.Dir(at)
	}
	if err != nil {
		return nil, err
	}
	volume, err := disk.Usage(at)
	if err != nil {
		return nil, err
	}
	if at != dir {
		info.Mode = 0
	}
	return surroundings(dir, info, volume), nil
}

// surroundings are the warnings of section 14.
func surroundings(dir string, info vfs.Info, volume vfs.Usage) []string {
	var list []string
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	switch kind := volume.Kind; kind {
	case "tmpfs", "ramfs":
		warn("%q is on %s: what is stored there is in memory and gone after a reboot", dir, kind)
	case "overlay":
		warn("%q is on an overlay, as a container's own file system is: what is stored there goes with the container; "+
			"give it a volume", dir)
	case "nfs", "cifs", "smb", "ceph", "9p", "fuse":
		warn("%q is on %s, a network or user-space file system: its syncs and locks may promise less than a local disk's, "+
			"and a server that does not answer stops every append", dir, kind)
	}
	if info.Mode.IsDir() && info.Mode.Perm()&0o002 != 0 {
		warn("%q may be written by everybody (%s): whoever can log in can delete what waits there; chmod o-w %s", dir,
			info.Mode, quote(dir))
	}
	return list
}
