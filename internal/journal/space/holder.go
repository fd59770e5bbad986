// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"path"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/journal/layout"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Holder says who holds the directory now, nil if nobody does. To find out, the lock is taken for an instant; who wants
// it at that instant finds it held, and tries again if it waits at all. Nothing is made and nothing is written. An error
// means that it could not be found out.
func Holder(disk vfs.FS, directory string) (*LockedError, error) {
	name := path.Join(directory, layout.LockFile)
	if _, err := disk.Stat(name); err != nil {
		if isGone(err) {
			return nil, nil // nobody has ever opened it
		}
		return nil, err
	}
	lock, err := disk.Lock(name)
	if err == nil {
		return nil, lock.Close()
	}
	if !errors.Is(err, vfs.ErrLocked) {
		return nil, err
	}
	s := &Space{disk: disk, dir: directory, now: time.Now}
	held, _ := s.lockedBy().(*LockedError)
	return held, nil
}
