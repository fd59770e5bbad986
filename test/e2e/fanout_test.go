// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/ledger/item"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// gateway is the seeds' fan-out (gateway with two backends and an emergency file, all three signals), with queues in
// memory: `storage` is left out, paths and addresses are a test's. Everything else is as written there.
const gateway = `
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:$IN
processors:
  memory_limiter:
    check_interval: 1s
    limit_mib: 2048
    spike_limit_mib: 512
  batch:
    send_batch_size: 1024
    timeout: 5s
exporters:
  otlp/primary:
    endpoint: $PRIMARY
    tls: {insecure: true}
    timeout: 10s
    retry_on_failure:
      enabled: true
      initial_interval: 1s
      max_interval: 10s
      max_elapsed_time: 30s
    sending_queue:
      enabled: true
      queue_size: 1000
  otlp/secondary:
    endpoint: $SECONDARY
    tls: {insecure: true}
    timeout: 30s
    retry_on_failure:
      enabled: true
      initial_interval: 5s
      max_interval: 60s
      max_elapsed_time: 300s
    sending_queue:
      enabled: true
      queue_size: 5000
  file/emergency:
    path: $DIR/emergency/telemetry.jsonl
    rotation:
      max_megabytes: 2048
      max_days: 3
      max_backups: 5
service:
  telemetry:
    metrics:
      address: 127.0.0.1:$METRICS
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, batch]
      exporters: [otlp/primary, otlp/secondary, file/emergency]
    metrics:
      receivers: [otlp]
      processors: [memory_limiter, batch]
      exporters: [otlp/primary, otlp/secondary, file/emergency]
    logs:
      receivers: [otlp]
      processors: [memory_limiter, batch]
      exporters: [otlp/primary, otlp/secondary, file/emergency]
`

// Phases of the load, from its beginning: quiet, the primary refuses, quiet, the primary is slow, quiet.
const (
	refusedFrom, refusedTo = 8 * time.Second, 28 * time.Second
	slowFrom, slowTo       = 32 * time.Second, 52 * time.Second
	loadTime               = 56 * time.Second
)

// Fault: B1, B5. 200,000 items of each signal go through the seeds' fan-out while one backend is refused for 20 s and
// slow for 20 s.
func TestFanOutLosesNothingAndOtherDestinationsDoNotNotice(t *testing.T) {
	dir := t.TempDir()
	control := playFanOut(t, filepath.Join(dir, "control"), "control", 3*time.Second, 5, nil)
	if control.Outcome != ledger.Pass {
		t.Fatalf("control run:\n%s", control.Text())
	}
	v := playFanOut(t, filepath.Join(dir, "faults"), "faults", loadTime, 400, control)
	t.Logf("\n%s", v.Text())
	if v.Outcome != ledger.Pass {
		t.Fatal("the ledger does not pass")
	}
}

func playFanOut(t *testing.T, dir, run string, length time.Duration, requests int, control *ledger.Verdict) *ledger.Verdict {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	primary, secondary := sink(t, dir, "primary"), sink(t, dir, "secondary")
	p := ports(t, 2)
	c := collector(t, gateway, map[string]string{
		"IN": p[0], "METRICS": p[1], "PRIMARY": primary.GRPCAddr(), "SECONDARY": secondary.GRPCAddr(), "DIR": dir,
	})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	if control != nil {
		// The faults' own clocks run in the sink from now on.
		for _, f := range []string{
			"refuse,after=" + refusedFrom.String() + ",for=" + (refusedTo - refusedFrom).String(),
			"slow:2s..4s,after=" + slowFrom.String() + ",for=" + (slowTo - slowFrom).String(),
		} {
			if _, err := primary.AddFault(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum, err := loadgen.Run(ctx, loadgen.Options{
		Run: run, Dir: dir, To: []string{"grpc://127.0.0.1:" + p[0]}, Requests: requests, Producers: 1, Items: 500,
		ItemBytes: 200, Rate: 3 * 500 * float64(requests) / length.Seconds(), Want: "each:primary,secondary,file",
	})
	if err != nil || sum.Unknown+sum.Refused+sum.Partial > 0 {
		t.Fatalf("load: %+v, %v", sum, err)
	}
	t.Logf("%d items acknowledged in %s; answers p50 %.1f ms, p99 %.1f ms, max %.1f ms", sum.Acked,
		time.Since(began).Round(time.Second), sum.P50, sum.P99, sum.Max)
	awaitEmpty(t, p[1])
	m := ownBooks(t, p[1])
	if code := c.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, b := range []*mockbackend.Backend{primary, secondary} {
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if control != nil {
		compareLatency(t, dir, began)
	}
	return judge(t, dir, m, control)
}

func sink(t *testing.T, dir, name string) *mockbackend.Backend {
	t.Helper()
	b, err := mockbackend.Start(mockbackend.Options{Name: name, GRPC: "127.0.0.1:0", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop() })
	return b
}

// awaitEmpty waits until nothing has been queued for three seconds.
func awaitEmpty(t *testing.T, port string) {
	t.Helper()
	var since time.Time
	eventually(t, "queues empty for 3 s", func() bool {
		queued := 0.0
		for series, v := range scrape(t, port) {
			if len(series) > 28 && series[:28] == "holdfast_ledger_queued_items" {
				queued += v
			}
		}
		switch {
		case queued > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		}
		return !since.IsZero() && time.Since(since) > 3*time.Second
	})
}

func ownBooks(t *testing.T, port string) *ledger.Metrics {
	t.Helper()
	resp, err := http.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	m, err := ledger.ParseMetrics(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func judge(t *testing.T, dir string, m *ledger.Metrics, control *ledger.Verdict) *ledger.Verdict {
	t.Helper()
	notes, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "emergency", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("emergency files: %v, %v", files, err)
	}
	place := notes.AddPlace(ledger.InFile, "file")
	for _, f := range files {
		if err := notes.AddRecords(place, f); err != nil {
			t.Fatal(err)
		}
	}
	v, err := ledger.Verify(notes, ledger.Options{
		Metrics: m, QuietFor: 3 * time.Second, Control: control, NoControl: control == nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// compareLatency holds the time from a request's first byte to its arrival at the secondary in the faults' windows
// against the quiet time before them: the primary's trouble must not show.
func compareLatency(t *testing.T, dir string, began time.Time) {
	t.Helper()
	notes, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	quiet := latencies(notes, began, time.Second, refusedFrom)
	refused := latencies(notes, began, refusedFrom, refusedTo)
	slow := latencies(notes, began, slowFrom, slowTo)
	t.Logf("to the secondary, p50 and p99: quiet %s %s (%d), primary refused %s %s (%d), primary slow %s %s (%d)",
		percentile(quiet, 50), percentile(quiet, 99), len(quiet), percentile(refused, 50), percentile(refused, 99), len(refused),
		percentile(slow, 50), percentile(slow, 99), len(slow))
	// A request waits for its batch to fill: the bound is loose against that, tight against any wait for the primary,
	// whose shortest fault-made delay is 1 s.
	bound := percentile(quiet, 99) + 800*time.Millisecond
	if len(quiet) < 50 || len(refused) < 200 || len(slow) < 200 || percentile(refused, 99) > bound || percentile(slow, 99) > bound {
		t.Error("the secondary noticed the primary's trouble")
	}
}

// latencies are those of requests invoked between from and to, counted from began.
func latencies(n *ledger.Notes, began time.Time, from, to time.Duration) []time.Duration {
	type key struct {
		signal   item.Signal
		producer uint16
		first    uint64
	}
	invoked := map[key]int64{}
	for _, a := range n.Tried {
		at := time.UnixMicro(a.T).Sub(began)
		if at >= from && at < to {
			invoked[key{a.Signal, a.Producer, a.First}] = a.T
		}
	}
	var out []time.Duration
	for _, a := range n.Arrivals {
		if n.Places[a.Place].Name != "secondary" {
			continue
		}
		for k, t := range invoked {
			if k.signal == a.Signal && k.producer == a.Producer && k.first >= a.First && k.first <= a.Last {
				out = append(out, time.Duration(a.T-t)*time.Microsecond)
				delete(invoked, k)
			}
		}
	}
	slices.Sort(out)
	return out
}

func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)].Round(time.Millisecond)
}
