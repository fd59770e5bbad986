// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package loadgen_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// limit is how long a test waits for what must happen.
const limit = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink starts a backend that takes its notes in dir.
func sink(t *testing.T, dir string, change func(*mockbackend.Options)) *mockbackend.Backend {
	t.Helper()
	o := mockbackend.Options{Name: "primary", GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Dir: dir}
	if change != nil {
		change(&o)
	}
	b, err := mockbackend.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Kill() }) // no effect after Stop
	return b
}

// load runs a small load.
func load(t *testing.T, o loadgen.Options) loadgen.Summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if o.Run == "" {
		o.Run = "trip"
	}
	if o.Requests == 0 {
		o.Requests = 5
	}
	if o.Items == 0 {
		o.Items = 100
	}
	if o.Producers == 0 {
		o.Producers = 2
	}
	s, err := loadgen.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verdict stops the backend and judges its notes. Nothing stands between load and sink, so the notes are all there is.
func verdict(t *testing.T, dir string, o ledger.Options, backends ...*mockbackend.Backend) *ledger.Verdict {
	t.Helper()
	for _, b := range backends {
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	n, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	o.AllPlaces, o.NoControl = true, true
	v, err := ledger.Verify(n, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWhatGoesStraightFromLoadToSinkPasses(t *testing.T) {
	for _, c := range []struct{ name, scheme, compression string }{
		{"gRPC", "grpc", "none"}, {"gRPC gzip", "grpc", "gzip"}, {"gRPC zstd", "grpc", "zstd"},
		{"HTTP", "http", "none"}, {"HTTP gzip", "http", "gzip"}, {"HTTP zstd", "http", "zstd"},
		{"JSON", "http+json", "none"}, {"JSON gzip", "http+json", "gzip"}, {"JSON zstd", "http+json", "zstd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			b := sink(t, dir, nil)
			addr := b.GRPCAddr()
			if c.scheme != "grpc" {
				addr = b.HTTPAddr()
			}
			s := load(t, loadgen.Options{Dir: dir, To: []string{c.scheme + "://" + addr}, Compression: c.compression})
			if s.Acked != 3000 || s.Items != 3000 || s.Requests != 30 {
				t.Errorf("summary %+v", s)
			}
			v := verdict(t, dir, ledger.Options{}, b)
			if v.Outcome != ledger.Pass {
				t.Errorf("verdict:\n%s", v.Text())
			}
			if v.Places[0].Items != 3000 || v.Duplicates.Resent != 0 || v.Places[0].Inverted != 0 {
				t.Errorf("places %+v", v.Places)
			}
		})
	}
}

func TestInMemoryLoadAndSinkPass(t *testing.T) {
	dir := t.TempDir()
	grpcEnd, httpEnd := mockbackend.NewMem("grpc"), mockbackend.NewMem("http")
	b := sink(t, dir, func(o *mockbackend.Options) {
		o.GRPC, o.HTTP, o.GRPCListener, o.HTTPListener = "", "", grpcEnd, httpEnd
	})
	s := load(t, loadgen.Options{Dir: dir, To: []string{"grpc://grpc:1", "http://http:1"},
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if addr == "grpc:1" {
				return grpcEnd.Dial(ctx, addr)
			}
			return httpEnd.Dial(ctx, addr)
		}})
	if s.Acked != 3000 {
		t.Errorf("summary %+v", s)
	}
	if v := verdict(t, dir, ledger.Options{}, b); v.Outcome != ledger.Pass {
		t.Errorf("verdict:\n%s", v.Text())
	}
}

func TestALoadThatIsStoppedAwaitsTheAnswersOfWhatItBegan(t *testing.T) {
	dir := t.TempDir()
	b := sink(t, dir, func(o *mockbackend.Options) { o.Faults = []string{"slow:20ms"} })
	stop := make(chan struct{})
	var once sync.Once
	s := load(t, loadgen.Options{Dir: dir, To: []string{"grpc://" + b.GRPCAddr()}, Requests: 1_000_000, Stop: stop,
		Progress: func(ledger.Attempt, ledger.Result) { once.Do(func() { close(stop) }) }})
	if s.Acked != s.Items || s.Items == 0 || s.Requests > 12 { // of six producers, each at its first or second
		t.Errorf("summary %+v", s)
	}
	if v := verdict(t, dir, ledger.Options{}, b); v.Outcome != ledger.Pass || v.Totals.Unknown > 0 {
		t.Errorf("verdict:\n%s", v.Text())
	}
}
