// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// The fuzz targets of this package take one minute to run once and pay for longer runs, one at a time:
//
//	go test -run '^$' -fuzz FuzzScanTraces   -fuzztime 10m ./internal/otlp
//	go test -run '^$' -fuzz FuzzScanMetrics  -fuzztime 10m ./internal/otlp
//	go test -run '^$' -fuzz FuzzScanLogs     -fuzztime 10m ./internal/otlp
//	go test -run '^$' -fuzz FuzzScanProfiles -fuzztime 10m ./internal/otlp
//	go test -run '^$' -fuzz FuzzSplit        -fuzztime 10m ./internal/otlp

func FuzzScanTraces(f *testing.F)   { fuzzScan(f, otlp.Traces) }
func FuzzScanMetrics(f *testing.F)  { fuzzScan(f, otlp.Metrics) }
func FuzzScanLogs(f *testing.F)     { fuzzScan(f, otlp.Logs) }
func FuzzScanProfiles(f *testing.F) { fuzzScan(f, otlp.Profiles) }

// fuzzScan compares Scan with the reference decoder on the fuzzer's bytes, on the same bytes rearranged as a message,
// and on a message made up from the seed.
func fuzzScan(f *testing.F, s otlp.Signal) {
	for seed, b := range seeds(f, s) {
		f.Add(b, uint64(seed))
	}
	root := requestMessages[s]
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		agree(t, s, b)
		r := rand.New(rand.NewPCG(seed, 0))
		agree(t, s, write(r, mutate(r, parse(root, b), 1+r.IntN(3)), 1+r.IntN(100)))
		made := generate(r, root, 10+r.IntN(200))
		agree(t, s, write(r, made, 0))
		agree(t, s, write(r, mutate(r, made, 1+r.IntN(3)), 1+r.IntN(100)))
	})
}

// agree fails if Scan and the reference decoder differ about b.
func agree(t *testing.T, s otlp.Signal, b []byte) {
	t.Helper()
	got, err := otlp.Scan(s, b)
	if errors.Is(err, otlp.ErrTooDeep) || errors.Is(err, otlp.ErrTooManyItems) {
		return // the reference decoder recurses; limits_test.go shows that these are what they are called
	}
	want, wantErr := reference(s, b)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s %x: scan says %v, the reference %v", s, b, err, wantErr)
	}
	if err == nil && int(got) != want {
		t.Fatalf("%s %x: scan counts %d, the reference %d", s, b, got, want)
	}
	var fault *otlp.ScanError
	if err != nil && (!errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(b) || fault.Signal != s) {
		t.Fatalf("%s %x: %#v is no place in %d bytes", s, b, err, len(b))
	}
}

// seeds are requests of every shape: ordinary ones as encoders write them, in both field orders, and generated ones.
func seeds(tb testing.TB, s otlp.Signal) [][]byte {
	r := rand.New(rand.NewPCG(uint64(s), 1))
	root := requestMessages[s]
	plain := sample(tb, s, 2)
	out := [][]byte{{}, plain, write(r, reversed(parse(root, plain)), 0), write(r, parse(root, plain), 1)}
	for _, size := range []int{5, 20, 60, 200} {
		for range 4 {
			made := generate(r, root, size)
			out = append(out, write(r, made, 0), write(r, mutate(r, made, 1), 10))
		}
	}
	cut := out[len(out)-2]
	for range 4 {
		out = append(out, cut[:r.IntN(len(cut)+1)])
	}
	return out
}
