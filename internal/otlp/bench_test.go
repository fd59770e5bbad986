// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// The request that the performance targets are set for: 512 spans of about 576 bytes.
const benchItems = 512

func BenchmarkScanTraces(b *testing.B)   { benchmarkScan(b, otlp.Traces, "span") }
func BenchmarkScanMetrics(b *testing.B)  { benchmarkScan(b, otlp.Metrics, "point") }
func BenchmarkScanLogs(b *testing.B)     { benchmarkScan(b, otlp.Logs, "record") }
func BenchmarkScanProfiles(b *testing.B) { benchmarkScan(b, otlp.Profiles, "sample") }

func benchmarkScan(b *testing.B, s otlp.Signal, item string) {
	body := sample(b, s, benchItems)
	run := func(name string, body []byte) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				if n, err := otlp.Scan(s, body); err != nil || n != benchItems {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/benchItems, "cpu-ns/"+item)
			b.ReportMetric(float64(len(body))/benchItems, "B/"+item)
		})
	}
	run("descending", body) // as the Collector writes fields
	run("ascending", write(nil, reversed(parse(requestMessages[s], body)), 0))
}

// BenchmarkSplit cuts a request of 512 spans into eight.
func BenchmarkSplit(b *testing.B) {
	body := sample(b, otlp.Traces, benchItems)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		if p, err := otlp.Split(otlp.Traces, body, benchItems/8, 0); err != nil || len(p) != 8 {
			b.Fatal(len(p), err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/benchItems, "cpu-ns/span")
}

// cpuTime is what the process has used, user and system: the unit of the targets, and worth more than the clock on a
// machine that others use, too.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
