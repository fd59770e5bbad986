// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"fmt"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
)

func BenchmarkScrapeOfAThousandSeries(b *testing.B) {
	reg := telemetry.NewRegistry()
	for i := range 1000 {
		reg.Counter(fmt.Sprint("holdfast_x", i%50, "_total"), "X.", "pipeline", "traces", "exporter", fmt.Sprint("otlp/", i))
	}
	handler := telemetry.NewHandler(reg, telemetry.Options{})
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		_, _ = io.Copy(io.Discard, w.Body)
	}
}

func BenchmarkCounter(b *testing.B) {
	c := telemetry.NewRegistry().Counter("holdfast_x_total", "X.")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Inc()
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	h := telemetry.NewRegistry().Histogram("holdfast_x_seconds", "X.", []float64{.001, .005, .01, .05, .1, .5, 1, 5})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Observe(0.02)
		}
	})
}
