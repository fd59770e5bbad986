// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

const (
	defaultPerm fs.FileMode = 0o750
	filePerm    fs.FileMode = 0o600

	probeFile = "probe" + layout.TempSuffix // under pipelines/, where *.tmp is ours
)

// errMissing says that a directory is not there and may not be made.
var errMissing = fmt.Errorf("it does not exist and create_directory is off: %w", fs.ErrNotExist)

// provide makes sure that there is a directory of that name. With create it is made, and the parents it lacks, each
// with exactly perm. It returns how many were missing. Their names are durable after syncUp.
func provide(disk vfs.FS, dir string, perm fs.FileMode, create bool) (int, error) {
	var missing []string
	at := dir
	for {
		info, err := disk.Stat(at)
		if err == nil && !info.Mode.IsDir() {
			return 0, refuse(disk, dir, at, syscall.ENOTDIR)
		}
		if err == nil {
			break
		}
		if !isGone(err) {
			return 0, refuse(disk, dir, at, err)
		}
		missing = append(missing, at)
		parent := path.Dir(at)
		if parent == at {
			return 0, refuse(disk, dir, at, err)
		}
		at = parent
	}
	if len(missing) > 0 && !create {
		return 0, &DirectoryError{Directory: dir, Path: dir, Err: errMissing, Fix: makeCommand(dir, perm)}
	}
	for i := len(missing) - 1; i >= 0; i-- {
		// Another process may make the same ones at this moment.
		if err := disk.Mkdir(missing[i], perm); err != nil && !errors.Is(err, fs.ErrExist) {
			refused := refuse(disk, dir, path.Dir(missing[i]), err)
			if errors.Is(err, fs.ErrPermission) {
				refused.Fix = makeCommand(dir, perm)
			}
			return 0, refused
		}
	}
	return len(missing), nil
}

// syncUp makes the names in dir durable, and the names that lead to it: whoever made them may have died before they
// were. It ends at the root of the volume. A parent that may be passed but not opened is skipped, unless it is one of
// the first so many: these have names that were made just now.
func syncUp(disk vfs.FS, dir string, made int) error {
	first, err := disk.Stat(dir)
	if err != nil {
		return refuse(disk, dir, dir, err)
	}
	for at, up := dir, 0; ; at, up = path.Dir(at), up+1 {
		info, err := disk.Stat(at)
		if err == nil && info.Device != first.Device {
			return nil
		}
		if err == nil {
			err = disk.SyncDir(at)
		}
		if err != nil && (up <= made || !errors.Is(err, fs.ErrPermission)) {
			return refuse(disk, dir, at, err)
		}
		if path.Dir(at) == at {
			return nil
		}
	}
}

// probe makes and removes a file, which is what it takes to know that files can be made. A volume without room is
// none of its business.
func probe(disk vfs.FS, dir string) error {
	name := path.Join(dir, layout.Pipelines, probeFile)
	file, err := disk.OpenFile(name, vfs.Create, filePerm)
	if errors.Is(err, fs.ErrExist) { // left by one that died here
		if err := disk.Remove(name); err != nil {
			return refuse(disk, dir, path.Dir(name), err)
		}
		file, err = disk.OpenFile(name, vfs.Create, filePerm)
	}
	if vfs.IsFull(err) {
		return nil
	}
	if err == nil {
		err = errors.Join(file.Close(), disk.Remove(name))
	}
	if err != nil {
		return refuse(disk, dir, path.Dir(name), err)
	}
	return nil
}

// refuse explains why dir cannot be used: what happened at at, a part of the way to it or of what is in it.
func refuse(disk vfs.FS, dir, at string, err error) *DirectoryError {
	e := &DirectoryError{Directory: dir, Path: at, Err: err}
	info, seen := disk.Stat(at)
	if seen == nil {
		e.Mode = info.Mode
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		e.Fix = `mount -o remount,rw "$(findmnt -nro TARGET -T ` + quote(at) + `)"`
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		e.Fix = fmt.Sprintf("mv -n %s %s", quote(at), quote(at+".moved"))
	case !errors.Is(err, fs.ErrPermission):
	case errors.Is(seen, fs.ErrPermission):
		e.Path = closed(disk, at)
		if info, err := disk.Stat(e.Path); err == nil {
			e.Mode = info.Mode
		}
		if e.Path == dir || strings.HasPrefix(e.Path, dir+"/") { // what is closed is to be this user's, not everybody's
			e.Fix = ownCommand(dir)
		} else {
			e.Fix = "chmod a+x " + quote(e.Path)
		}
	case at == dir && e.Mode.IsDir():
		e.Fix = fmt.Sprintf("chown %s %s && chmod u+rwx %s", user(), quote(dir), quote(dir))
	default:
		e.Fix = ownCommand(dir)
	}
	return e
}

func ownCommand(dir string) string {
	return fmt.Sprintf("chown -R %s %s && chmod -R u+rwX %s", user(), quote(dir), quote(dir))
}

// Explain adds the way out to an error that was met on a file in the directory, where there is one: *DirectoryError. All
// other errors are returned as they are.
func (s *Space) Explain(err error) error {
	var met *fs.PathError
	if !errors.As(err, &met) || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	return refuse(s.disk, s.dir, met.Path, err)
}

// closed is the first directory on the way to name that does not let this process pass.
func closed(disk vfs.FS, name string) string {
	var way []string
	for at := path.Dir(name); ; at = path.Dir(at) {
		way = append(way, at)
		if path.Dir(at) == at {
			break
		}
	}
	for i := len(way) - 1; i > 0; i-- {
		if _, err := disk.Stat(way[i-1]); errors.Is(err, fs.ErrPermission) {
			return way[i]
		}
	}
	return way[0]
}

func makeCommand(dir string, perm fs.FileMode) string {
	return fmt.Sprintf("mkdir -p %[1]s && chown %[2]s %[1]s && chmod %04[3]o %[1]s", quote(dir), user(), perm)
}

// user is this process's as chown takes it.
func user() string { return fmt.Sprintf("%d:%d", syscall.Geteuid(), syscall.Getegid()) }

// quote writes a name as a shell reads it.
func quote(name string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+", r)
	}
	if name != "" && !strings.HasPrefix(name, "-") && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
