// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlpgrpc_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/exporter"
	"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// BenchmarkGRPCSend sends requests of 576 bytes a span over loopback, to a server in the same process that reads and
// drops them; cpu-ns/span is the process's, the server's share included.
func BenchmarkGRPCSend(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	body := func(spans int) []byte {
		out := make([]byte, spans*576)
		for i := range out {
			out[i] = "abcdefgh"[r.IntN(8)] // compresses about as well as spans do
		}
		return out
	}
	large, small := body(512), body(10)
	for _, c := range []struct {
		name  string
		spans int
		r     *exporter.Request
		as    string
	}{
		{"spans=512/identity", 512, request(large), "none"},
		{"spans=512/gzip-passed", 512, encoded(otlp.Gzip, len(large), zip(b, large)), "gzip"},
		{"spans=512/gzip-made", 512, request(large), "gzip"},
		{"spans=512/zstd-made", 512, request(large), "zstd"},
		{"spans=10/identity", 10, request(small), "none"},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newBackend(b, c.as)
			s.reply(func(context.Context, got) ([]byte, error) { return nil, nil })
			e := start(b, s.addr, func(cfg *otlpgrpc.Config) { _ = cfg.Client.Compression.UnmarshalText([]byte(c.as)) })
			if v := send(b, e, c.r); v.Kind != exporter.Delivered {
				b.Fatal(v.Err)
			}
			b.ReportAllocs()
			b.SetParallelism(4)
			began := cpu(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if v := e.Send(context.Background(), c.r); v.Kind != exporter.Delivered {
						b.Error(v.Err)
					}
				}
			})
			spans := float64(b.N * c.spans)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/spans, "ns/span")
			b.ReportMetric(float64(cpu(b)-began)/spans, "cpu-ns/span")
		})
	}
}

func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
