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
}

// closed is the producer of all cases that do not say otherwise: as many spans as are acknowledged, 8 requests at once.
func closed(spans int, encoding string) load.Options {
	return load.Options{Spans: spans, InFlight: 8, Conns: 2, Encoding: encoding}
}

func both(file string) [2]string { return [2]string{file, file} }

var cases = []benchCase{
	{name: "memory queue, 512 spans", files: both("memory.yaml"), load: closed(512, load.Identity), sinks: 1},
	{name: "gzip in and out, memory queue, 512 spans", files: both("gzip.yaml"), load: closed(512, load.Gzip), sinks: 1},
	{name: "zstd in and out, memory queue, 512 spans", files: both("zstd.yaml"), load: closed(512, load.Zstd), sinks: 1},
	{name: "fan-out to two memory queues, 512 spans", files: both("fanout.yaml"), load: closed(512, load.Identity), sinks: 2},
	{name: "memory queue, 10 spans", files: both("memory.yaml"), load: closed(10, load.Identity), sinks: 1},
	{name: "idle", note: "resident memory after a quiet time", files: both("memory.yaml"), sinks: 1},
}
