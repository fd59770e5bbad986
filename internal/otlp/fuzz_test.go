// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"errors"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

func FuzzScanTraces(f *testing.F)   { fuzzScan(f, otlp.Traces) }
func FuzzScanMetrics(f *testing.F)  { fuzzScan(f, otlp.Metrics) }
func FuzzScanLogs(f *testing.F)     { fuzzScan(f, otlp.Logs) }
func FuzzScanProfiles(f *testing.F) { fuzzScan(f, otlp.Profiles) }

func fuzzScan(f *testing.F, s otlp.Signal) {
	f.Fuzz(func(t *testing.T, b []byte) { agree(t, s, b) })
}

// agree fails if Scan and the reference decoder differ about b.
func agree(t *testing.T, s otlp.Signal, b []byte) {
	t.Helper()
	got, err := otlp.Scan(s, b)
	if errors.Is(err, otlp.ErrTooDeep) || errors.Is(err, otlp.ErrTooManyItems) {
		return
	}
	want, wantErr := reference(s, b)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s %x: scan says %v, the reference %v", s, b, err, wantErr)
	}
	if err == nil && int(got) != want {
		t.Fatalf("%s %x: scan counts %d, the reference %d", s, b, got, want)
	}
}
