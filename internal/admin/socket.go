// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// maxSocketPath is how long a name the system takes for a socket (108 bytes with the closing zero on Linux, 104
// elsewhere).
const maxSocketPath = 103

// knockTime is how long a process may take to answer for it to count as living.
const knockTime = time.Second

// listen makes the socket. It is made in a directory of its own that nobody else may enter, closed to all but the owner
// there, and then renamed: at no moment can others reach it. A rename also replaces a dead socket in one step, so that
// of two processes that start at once one has it, and neither has none. A crash in between leaves that directory.
func listen(path string) (*net.UnixListener, os.FileInfo, error) {
	if err := vacant(path); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".admin-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	name, done, err := short(made)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	l.SetUnlinkOnClose(false) // by then the name may be another's
	info, err := place(made, path)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, info, nil
}

func place(made, path string) (os.FileInfo, error) {
	if err := os.Chmod(made, 0o600); err != nil {
		return nil, err
	}
	info, err := os.Lstat(made)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(made, path)
}

// vacant reports why path cannot be had: a process answers there, or it is no socket.
func vacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is something that is not a socket; move it away, or name another --admin-socket")
	}
	conn, err := dial(path, knockTime)
	switch {
	case err == nil:
		_ = conn.Close() // it was a knock
		return ErrInUse
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.EAGAIN):
		return ErrInUse // it listens, and is busy
	}
	return err
}

func dial(path string, timeout time.Duration) (net.Conn, error) {
	name, done, err := short(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.DialTimeout("unix", name, timeout)
}

// short is a name for path that the system takes for a socket; done ends its use. On Linux a directory that is open
// has a short name.
func short(path string) (name string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the name is longer than %d bytes; name another --admin-socket", maxSocketPath)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	name = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if len(name) > maxSocketPath {
		_ = dir.Close() // nothing was written
		return "", nil, fmt.Errorf("the name %q is too long for a socket", filepath.Base(path))
	}
	return name, func() { _ = dir.Close() }, nil // nothing was written
}
