// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// The fuzz targets pay for runs longer than the seeds, one at a time. Without the last option the fuzzer spends most of
// its time making interesting inputs smaller.
//
//	go test -run '^$' -fuzz FuzzScanTraces   -fuzztime 10m -fuzzminimizetime 10x ./internal/otlp
//	go test -run '^$' -fuzz FuzzScanMetrics  -fuzztime 10m -fuzzminimizetime 10x ./internal/otlp
//	go test -run '^$' -fuzz FuzzScanLogs     -fuzztime 10m -fuzzminimizetime 10x ./internal/otlp
//	go test -run '^$' -fuzz FuzzScanProfiles -fuzztime 10m -fuzzminimizetime 10x ./internal/otlp
//	go test -run '^$' -fuzz FuzzSplit        -fuzztime 10m -fuzzminimizetime 10x ./internal/otlp

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

// seeds are requests of every shape: ordinary ones as encoders write them, in both field orders; generated ones, whole,
// changed and cut short; nested ones; and such as only an enemy writes.
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
	for _, path := range valuePaths[s] {
		out = append(out, wrap(path, nested(3)), wrap(path, nested(otlp.MaxDepth)))
	}
	overlong := bytes.Repeat([]byte{0x80}, 10)
	for _, enemy := range [][]byte{
		append(overlong, 1), append([]byte{1<<3 | 2}, append(overlong[:9], 0)...), // varints
		{1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},                // a length of -1
		{1<<3 | 2, 0x80, 0x80, 0x80, 0x80, 0x10}, {1<<3 | 2, 0x80, 0x80, 0x80, 0x80, 0x08}, // of 2^32, 2^31
		{0, 0}, {2, 0}, {0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0}, // field number 0, and above 32 bits
		{0x13, 0x14, 0x0a, 0}, {0x13, 0x13, 0x14, 0x14, 0x0a, 0}, {0x13, 0x08, 1}, {0x13}, {0x14, 0x14}, // groups
		{1<<3 | 6, 0}, {1<<3 | 7, 0},
	} {
		out = append(out, enemy, wrap([]int{1, 2}, enemy), wrap([]int{1, 2, 2}, enemy))
	}
	return append(out, wrap([]int{1, 2}, bytes.Repeat([]byte{2<<3 | 2, 0}, 300)))
}
