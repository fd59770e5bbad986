// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package crash

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The watchdog is a copy of this binary in a process group of its own. It knows what is mounted, and undoes it when the
// test has died or has not been through with a disk in time. It shares the test's mount namespace: what it could not
// undo goes with the two of them.

const (
	roleWatchdog = "watchdog"
	// diskTime is how long one disk may stay mounted without a word.
	diskTime = 5 * time.Minute
)

var watchdog struct {
	sync.Mutex
	in  io.WriteCloser
	cmd *exec.Cmd
}

// watch starts the watchdog, once.
func watch() error {
	watchdog.Lock()
	defer watchdog.Unlock()
	if watchdog.cmd != nil {
		return nil
	}
	text, err := json.Marshal(order{Role: roleWatchdog, Dir: root})
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orderMark+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	watchdog.in, watchdog.cmd = in, cmd
	return nil
}

// tellWatchdog says that something is mounted now, or is not any more, or is still fine.
func tellWatchdog(word, path string) {
	watchdog.Lock()
	defer watchdog.Unlock()
	if watchdog.in != nil {
		_, _ = fmt.Fprintln(watchdog.in, word, path) // without it the namespace is what undoes
	}
}

// dismiss sends the watchdog away.
func dismiss() {
	watchdog.Lock()
	defer watchdog.Unlock()
	if watchdog.cmd == nil {
		return
	}
	_, _ = fmt.Fprintln(watchdog.in, "bye")
	_ = watchdog.in.Close()
	_ = watchdog.cmd.Wait()
	watchdog.cmd, watchdog.in = nil, nil
}

// guard is the watchdog's main.
func guard(dir string) int {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	mounted := map[string]time.Time{} // until when
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case line, ok := <-lines:
			word, path, _ := strings.Cut(line, " ")
			switch {
			case !ok: // the test has died
				for path := range mounted {
					undo(path)
				}
				_ = os.RemoveAll(dir)
				return 0
			case word == "bye":
				return 0
			case word == "mounted":
				mounted[path] = time.Now().Add(diskTime)
			case word == "gone":
				delete(mounted, path)
			}
		case <-tick.C:
			for path, until := range mounted {
				if time.Now().After(until) {
					fmt.Fprintf(os.Stderr, "watchdog: %s was mounted for more than %s\n", path, diskTime)
					undo(path)
					delete(mounted, path)
				}
			}
		}
	}
}

// undo takes a file system away from whoever works on it: calls on it fail, those that hang end.
func undo(path string) {
	if at, err := os.Open(path); err == nil {
		_ = unix.IoctlSetPointerInt(int(at.Fd()), fithaw, 0)
		_ = unix.IoctlSetPointerInt(int(at.Fd()), ext4Shutdown, noLogFlush) // not on a tmpfs
		_ = at.Close()
	}
	_ = unix.Unmount(path, unix.MNT_DETACH)
}
