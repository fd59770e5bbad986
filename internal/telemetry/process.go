// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// began is when the process did: a reload registers its series anew, and is no restart.
var began = time.Now()

// RegisterProcess makes the process series, with the Collector's names and meanings (compat, 6). It may be called again.
func RegisterProcess(r *Registry) {
	counter := func(name, help, unit string, read func() float64) {
		r.CounterFunc(name, help, read)
		r.SetUnit(name, unit)
	}
	gauge := func(name, help, unit string, read func() float64) {
		r.GaugeFunc(name, help, read)
		r.SetUnit(name, unit)
	}
	counter("otelcol_process_uptime", "Uptime of the process, in seconds.", "s",
		func() float64 { return time.Since(began).Seconds() })
	counter("otelcol_process_cpu_seconds", "CPU time of the process, user and system, in seconds.", "s", cpuSeconds)
	if residentBytes() > 0 { // not on every system
		gauge("otelcol_process_memory_rss", "Physical memory of the process, in bytes.", "By", residentBytes)
	}
	gauge("otelcol_process_runtime_heap_alloc_bytes", "Bytes of allocated heap objects.", "By",
		runtimeBytes("/memory/classes/heap/objects:bytes"))
	counter("otelcol_process_runtime_total_alloc_bytes", "Bytes allocated for heap objects so far.", "By",
		runtimeBytes("/gc/heap/allocs:bytes"))
	gauge("otelcol_process_runtime_total_sys_memory_bytes", "Bytes of memory obtained from the system.", "By",
		runtimeBytes("/memory/classes/total:bytes"))
}

// RegisterBuild makes holdfast_build_info, which is always 1.
func RegisterBuild(r *Registry, version, commit, collector string) {
	r.Gauge("holdfast_build_info", "What this program was built from; always 1.",
		"version", version, "commit", commit, "go", runtime.Version(), "collector", collector).Set(1)
}

func runtimeBytes(name string) func() float64 {
	return func() float64 {
		sample := []metrics.Sample{{Name: name}}
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return float64(sample[0].Value.Uint64())
	}
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// residentBytes reads the second field of statm, which counts pages; 0 where there is no such file.
func residentBytes() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return float64(pages * int64(os.Getpagesize()))
}
