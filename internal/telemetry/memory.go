// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
)

// memoryShare of the cgroup's limit becomes the Go runtime's where nobody set one, in percent: the rest is for
// stacks, the kernel's buffers and what the runtime gives back late (compat, 9).
const memoryShare = 80

// unboundedCgroup is where cgroup v1 begins to mean "no limit": it rounds the largest int64 down to whole pages.
const unboundedCgroup = math.MaxInt64 &^ (1<<20 - 1)

// garbagePercent is GOGC where nobody set it. What is alive are bodies of requests and the journal's cache: few
// objects, cheap to mark. A collection at half as much garbage costs 1 to 3 % of CPU and saves a fifth of the memory.
const garbagePercent = 50

// derived is the limit SetMemoryLimit chose, 0 = none. It is no bound of its own: it follows from the cgroup's.
var derived atomic.Int64

// MemoryLimit is the memory this process may use, in bytes: the least of GOMEMLIMIT, the limits of its cgroup and
// that of every cgroup above, and the machine's memory. math.MaxInt64 means that none of them is known.
func MemoryLimit() int64 {
	limit := cgroupLimit("/")
	if ram := physicalMemory("/"); ram > 0 {
		limit = min(limit, ram)
	}
	if runtimeLimit := debug.SetMemoryLimit(-1); runtimeLimit != derived.Load() {
		limit = min(limit, runtimeLimit)
	}
	return limit
}

// SetMemoryLimit gives the Go runtime 80 % of the cgroup's limit unless GOMEMLIMIT is set or there is no such limit, and
// half of Go's usual garbage unless GOGC is set. It returns the limit it set, in bytes, 0 = none. It is called once, at
// start; MemoryLimit reads the same before and after.
func SetMemoryLimit() int64 {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	_, inEnvironment := os.LookupEnv("GOMEMLIMIT")
	limit := runtimeShare(cgroupLimit("/"), inEnvironment)
	if limit > 0 {
		derived.Store(limit)
		debug.SetMemoryLimit(limit)
	}
	return limit
}

func runtimeShare(cgroup int64, inEnvironment bool) int64 {
	if inEnvironment || cgroup == math.MaxInt64 {
		return 0
	}
	return cgroup / 100 * memoryShare
}

// cgroupLimit reads the limit that holds for this process, under root for tests. Inside a container the path of the
// cgroup often names what only the host can see; then the files at the mount's top are the container's own, which is
// why every step of the path is tried from the bottom up.
func cgroupLimit(root string) int64 {
	limit := int64(math.MaxInt64)
	text, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return limit
	}
	for line := range strings.Lines(string(text)) {
		// hierarchy:controllers:path; version 2 is hierarchy 0 without controllers.
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		switch {
		case fields[0] == "0" && fields[1] == "":
		case hasController(fields[1], "memory"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Clean("/" + fields[2]); ; dir = path.Dir(dir) {
			limit = min(limit, limitFile(filepath.Join(root, mount, dir, file)))
			if dir == "/" {
				break
			}
		}
	}
	return limit
}

func hasController(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

func limitFile(name string) int64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || n <= 0 || n >= unboundedCgroup { // "max", or version 1's largest number
		return math.MaxInt64
	}
	return n
}

// physicalMemory is the machine's memory in bytes, 0 = unknown.
func physicalMemory(root string) int64 {
	text, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil || kib <= 0 || kib > math.MaxInt64>>10 {
			return 0
		}
		return kib << 10
	}
	return 0
}
