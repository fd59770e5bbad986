// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"

	"github.com/holdfast-telemetry/holdfast/bench/load"
)

// A configuration finds its addresses in the environment: BENCH_IN to listen on, BENCH_SINK_1… to send to,
// BENCH_METRICS_PORT for its own metrics, BENCH_DIR for an empty directory.
//
//go:embed cases/*.yaml
var configurations embed.FS

// A benchCase is one row of the table. A case to come is one more element here, and a file or two below cases/.
type benchCase struct {
	name  string
	note  string       // what the reader of the table has to know
	files [2]string    // configurations of the reference and of Holdfast
	load  load.Options // no InFlight: nothing is sent, the process is sampled when it has been quiet
	sinks int          // each must receive everything
	// beside, if set, is what the first row is called: the case compares two configurations of Holdfast, and the reference
	// is not played.
	beside string
	// stored says that the case's queues are on disk: it is told what was written and read there.
	stored bool

	// The release's targets (docs/benchmarks.md); 0 = none.
	least float64 // how many times less CPU time than the first row's
	most  float64 // bytes written to storage per payload byte
}

// onDisk is the target of every case whose queue is on disk and whose requests are larger than 16 KiB.
const onDisk = 1.05

// closed is the producer of all cases that do not say otherwise: as many spans as are acknowledged, 8 requests at once.
func closed(spans int, encoding string) load.Options {
	return load.Options{Spans: spans, InFlight: 8, Conns: 2, Encoding: encoding}
}

func both(file string) [2]string { return [2]string{file, file} }

var cases = []benchCase{
	{name: "memory queue, 512 spans", files: both("memory.yaml"), load: closed(512, load.Identity), sinks: 1, least: 6},
	{name: "gzip in and out, memory queue, 512 spans", files: both("gzip.yaml"), load: closed(512, load.Gzip), sinks: 1},
	{name: "zstd in and out, memory queue, 512 spans", files: both("zstd.yaml"), load: closed(512, load.Zstd), sinks: 1},
	{name: "fan-out to two memory queues, 512 spans", files: both("fanout.yaml"), load: closed(512, load.Identity), sinks: 2},
	{name: "memory queue, 10 spans", files: both("memory.yaml"), load: closed(10, load.Identity), sinks: 1},
	{name: "persistent queue, fsync true, 512 spans", files: both("stored-fsync.yaml"), load: closed(512, load.Identity),
		sinks: 1, stored: true, least: 14, most: onDisk},
	{name: "persistent queue, fsync false, 512 spans", files: both("stored.yaml"), load: closed(512, load.Identity),
		sinks: 1, stored: true, least: 12, most: onDisk},
	{name: "fan-out to two persistent queues, fsync false, 512 spans", files: both("fanout-stored.yaml"),
		load: closed(512, load.Identity), sinks: 2, stored: true, least: 16, most: onDisk},
	{name: "gzip in and out, persistent queue, fsync false, 512 spans", files: both("gzip-stored.yaml"),
		load: closed(512, load.Gzip), sinks: 1, stored: true, least: 12, most: onDisk},
	{name: "persistent queue, fsync true, 10 spans", files: both("stored-fsync.yaml"), load: closed(10, load.Identity),
		sinks: 1, stored: true, least: 6},
	{name: "failover connector on a persistent queue, fsync false, 512 spans", beside: "holdfast, exporter alone",
		files: [2]string{"stored.yaml", "failover-stored.yaml"}, load: closed(512, load.Identity), sinks: 1, stored: true,
		least: 0.95, most: onDisk},
	{name: "idle", note: "resident memory after a quiet time", files: both("memory.yaml"), sinks: 1},
}

// system is who plays a case in a row of the table.
func (c benchCase) system(row int, systems []system) system {
	s := systems[row]
	if c.beside != "" {
		s = systems[len(systems)-1]
		s.file = row
	}
	return s
}

// label is what a row of the case is called.
func (c benchCase) label(row int, systems []system) string {
	if c.beside != "" && row == 0 {
		return c.beside
	}
	return systems[row].name
}
