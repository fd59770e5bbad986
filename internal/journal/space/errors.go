// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// ErrDetached says that the directory, its LOCK or a journal's files are not those that were opened: somebody renamed,
// replaced or removed them. Nothing is allocated any more until the next start.
var ErrDetached = errors.New("storage directory was replaced")

// LockedError says who holds the directory. It wraps vfs.ErrLocked.
type LockedError struct {
	Directory string
	Owner     string        // what LOCK says: pid, host, start; empty if it says nothing
	Held      time.Duration // for how long, by its clock; 0 = unknown
	Here      bool          // the owner is this process
}

func (e *LockedError) Error() string {
	owner := "another process"
	switch {
	case e.Here:
		owner = "this process already"
	case e.Owner != "":
		owner = e.Owner
	}
	text := fmt.Sprintf("directory %q is in use by %s", e.Directory, owner)
	if held := e.Held.Round(time.Second); held > 0 {
		text += fmt.Sprintf(", for %s", held)
	}
	return text
}

func (e *LockedError) Unwrap() error { return vfs.ErrLocked }

// DirectoryError says why a directory cannot be used and what would help. Nothing is stored anywhere else instead.
type DirectoryError struct {
	Directory string      // as configured, links resolved
	Path      string      // what is in the way: the directory, a parent, a file in it
	Mode      fs.FileMode // of Path, 0 = could not be seen
	Err       error
	Fix       string // a command, empty if none is known
}

func (e *DirectoryError) Error() string {
	text := fmt.Sprintf("directory %q cannot be used: %v", e.Directory, e.Err)
	if e.Mode != 0 {
		text += fmt.Sprintf(" (%s is %s)", e.Path, e.Mode)
	}
	if e.Fix != "" {
		text += "; this would fix it: " + e.Fix
	}
	return text
}

func (e *DirectoryError) Unwrap() error { return e.Err }

// CapError says that the cap is too small for the journals under it.
type CapError struct {
	Cap, Need int64 // bytes
	Heads     int
	Volume    bool // the cap is the default for the volume, nobody set it
}

func (e *CapError) Error() string {
	cap := fmt.Sprintf("max_file_size_mib is %d", e.Cap>>20)
	if e.Volume {
		cap = fmt.Sprintf("max_file_size_mib is %d, 80 %% of the volume", e.Cap>>20)
	}
	return fmt.Sprintf("%s; %d journals need at least %d", cap, e.Heads, e.Need>>20)
}
