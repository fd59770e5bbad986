// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// dirPrefix begins the names of private directories: holdfast-drill-PID-START-RANDOM, START being the time at which the
// kernel says the process began, so that a number that came round again is not taken for its owner.
const dirPrefix = "holdfast-drill-"

// ownDir makes a private directory that says whose it is.
func ownDir(below string) (string, error) {
	return os.MkdirTemp(below, fmt.Sprintf("%s%d-%d-", dirPrefix, os.Getpid(), startOf(os.Getpid())))
}

// sweep removes the private directories of drills that were killed. Their processes died with them. What cannot be
// removed is somebody else's.
func sweep(below string) {
	dirs, err := filepath.Glob(filepath.Join(below, dirPrefix+"*"))
	if err != nil {
		return // the pattern is good
	}
	for _, d := range dirs {
		var pid int
		var began uint64
		if n, err := fmt.Sscanf(filepath.Base(d), dirPrefix+"%d-%d-", &pid, &began); n != 2 || err != nil {
			continue
		}
		if info, err := os.Lstat(d); err != nil || !info.IsDir() || began == 0 || startOf(pid) == began {
			continue
		}
		_ = os.RemoveAll(d) // see above
	}
}

// startOf is when a process began, in ticks since the machine did; 0 = there is none, or the kernel does not say.
func startOf(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	at := strings.LastIndexByte(string(text), ')') // the name before it may hold anything
	fields := strings.Fields(string(text[at+1:]))
	const starttime = 22 - 3 // proc(5) counts from 1, and two fields and the name were cut
	if len(fields) <= starttime {
		return 0
	}
	n, _ := strconv.ParseUint(fields[starttime], 10, 64) // 0 = not known
	return n
}
