// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// BenchmarkGRPCAccept sends requests over loopback into a sink that discards. The figures are of the whole process:
// both ends of the connection, the scan, and a client that sends bytes it has already. cpu-ns/span is user and system
// time per span.
func BenchmarkGRPCAccept(b *testing.B) {
	for _, spans := range []int{10, 512} {
		for _, compression := range []string{"", "gzip", "zstd"} {
			name := compression
			if name == "" {
				name = "none"
			}
			b.Run(fmt.Sprintf("spans=%d/compression=%s", spans, name), func(b *testing.B) {
				benchmarkAccept(b, spans, compression)
			})
		}
	}
}

func benchmarkAccept(b *testing.B, spans int, compression string) {
	r := start(b, &receivertest.Sink{Discard: true}, options{})
	body, _ := receivertest.Request(otlp.Traces, spans, 440)
	if compression != "" {
		body = encoded(b, compression, body)
	}
	cc := r.dial(compression)
	send := func() error {
		var answer []byte
		return cc.Invoke(context.Background(), export, body, &answer)
	}
	if err := send(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.SetParallelism(4) // 8 in flight on 2 cores
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := send(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	total := float64(b.N * spans)
	b.ReportMetric(float64(cpuTime()-before)/total, "cpu-ns/span")
	b.ReportMetric(float64(b.Elapsed())/total, "ns/span")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
