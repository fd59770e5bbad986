// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlphttp_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
	"github.com/holdfast-telemetry/holdfast/internal/receiver/receivertest"
)

// BenchmarkHTTPAccept sends requests over loopback into a sink that discards. The figures are of the whole process,
// the client included. cpu-ns/span is user and system time per span.
func BenchmarkHTTPAccept(b *testing.B) {
	for _, spans := range []int{10, 512} {
		wire, text := receivertest.Request(otlp.Traces, spans, 440)
		for name, c := range map[string]struct {
			contentType, encoding string
			body                  []byte
		}{
			"proto":      {protobufType, "identity", wire},
			"proto,gzip": {protobufType, "gzip", encoded(b, "gzip", wire)},
			"proto,zstd": {protobufType, "zstd", encoded(b, "zstd", wire)},
			"json":       {jsonType, "identity", text},
		} {
			b.Run(fmt.Sprintf("spans=%d/form=%s", spans, name), func(b *testing.B) {
				benchmarkAccept(b, spans, c.contentType, c.encoding, c.body)
			})
		}
	}
}

func benchmarkAccept(b *testing.B, spans int, contentType, encoding string, body []byte) {
	r := start(b, &receivertest.Sink{Discard: true}, options{})
	r.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
	b.SetBytes(int64(len(body)))
	b.SetParallelism(4) // 8 in flight on 2 cores
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequest(http.MethodPost, "http://"+r.Address().String()+traces, bytes.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			req.Header.Set("Content-Type", contentType)
			req.Header.Set("Content-Encoding", encoding)
			resp, err := r.client.Do(req)
			if err != nil || resp.StatusCode != http.StatusOK {
				b.Error(resp, err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
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
