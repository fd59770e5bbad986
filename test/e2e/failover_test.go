// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/ledger"
	"github.com/holdfast-telemetry/holdfast/internal/loadgen"
	"github.com/holdfast-telemetry/holdfast/internal/mockbackend"
)

// levels is the seeds' connector over two backends and an emergency file, with a memory queue and shorter times.
const levels = `
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:$IN
exporters:
  otlp/primary:
    endpoint: $PRIMARY
    tls: {insecure: true}
    timeout: 2s
    retry_on_failure: {initial_interval: 1s, max_interval: 10s, max_elapsed_time: 30s}
    sending_queue: {queue_size: 100000}
  otlp/secondary:
    endpoint: $SECONDARY
    tls: {insecure: true}
    timeout: 2s
  file/emergency:
    path: $DIR/emergency/telemetry.jsonl
connectors:
  failover:
    priority_levels: [[otlp/primary], [otlp/secondary], [file/emergency]]
    retry_interval: 2s
    retry_gap: 500ms
service:
  telemetry:
    metrics:
      address: 127.0.0.1:$METRICS
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [failover]
    metrics:
      receivers: [otlp]
      exporters: [failover]
    logs:
      receivers: [otlp]
      exporters: [failover]
`

// Fault: B1. Under load the primary is refused for ten seconds and, within these, the secondary too: data goes to the
// secondary, to the file, and home again, and nothing is lost on the way.
func TestAnOutageMovesDataDownTheLevelsAndHomeAgain(t *testing.T) {
	dir := t.TempDir()
	control := playLevels(t, filepath.Join(dir, "control"), "control", 3*time.Second, 10, nil)
	if control.Outcome != ledger.Pass {
		t.Fatalf("control run:\n%s", control.Text())
	}
	v := playLevels(t, filepath.Join(dir, "faults"), "faults", 25*time.Second, 250, control)
	t.Logf("\n%s", v.Text())
	if v.Outcome != ledger.Pass {
		t.Fatal("the ledger does not pass")
	}
}

func playLevels(t *testing.T, dir, run string, length time.Duration, requests int, control *ledger.Verdict) *ledger.Verdict {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	primary, secondary := sink(t, dir, "primary"), sink(t, dir, "secondary")
	p := ports(t, 2)
	c := collector(t, levels, map[string]string{
		"IN": p[0], "METRICS": p[1], "PRIMARY": primary.GRPCAddr(), "SECONDARY": secondary.GRPCAddr(), "DIR": dir,
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if control != nil {
		for f, b := range map[string]*mockbackend.Backend{
			"refuse,after=4s,for=10s": primary, "refuse,after=8s,for=4s": secondary,
		} {
			if _, err := b.AddFault(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum, err := loadgen.Run(ctx, loadgen.Options{
		Run: run, Dir: dir, To: []string{"grpc://127.0.0.1:" + p[0]}, Requests: requests, Producers: 1, Items: 100,
		ItemBytes: 200, Rate: 3 * 100 * float64(requests) / length.Seconds(), Want: "any",
	})
	if err != nil || sum.Unknown+sum.Refused+sum.Partial > 0 {
		t.Fatalf("load: %+v, %v", sum, err)
	}
	if control != nil {
		eventually(t, "all signals home again", func() bool {
			m, home := scrape(t, p[1]), 0
			for series, v := range m {
				if strings.HasPrefix(series, "otelcol_connector_failover_active_level") && v == 0 {
					home++
				}
			}
			return home == 3
		})
	}
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
		for _, line := range []string{"Failover: level is down, data goes to the next level", "data goes to the emergency file",
			"Failover: level is back"} {
			if !strings.Contains(c.output(), line) {
				t.Errorf("the log does not say %q:\n%s", line, c.output())
			}
		}
	}
	return judge(t, dir, m, control)
}

// withoutQueue is a connector none of whose levels has a queue: the answer waits for a level.
const withoutQueue = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
exporters:
  otlp/primary: {endpoint: "$HOST:14317", tls: {insecure: true}, sending_queue: {enabled: false}}
  otlp/secondary: {endpoint: "$HOST:14318", tls: {insecure: true}, sending_queue: {enabled: false}}
connectors: {failover: {priority_levels: [[otlp/primary], [otlp/secondary]]}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [failover]}}}
`

// Without a queue an answer is a level's, and a client that no level answered is told when to come again.
func TestFailoverWithoutAQueueAnswersWithALevel(t *testing.T) {
	t.Parallel()
	host := ownHost(t)
	collector(t, withoutQueue, map[string]string{"HOST": host})
	url := "http://" + host + ":4318/v1/traces"
	body := wire(t, spans(numbered("direct", 10)))
	a, err := post(t.Context(), nil, url, protobufType, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("with both levels down: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	b := startBackend(t, host+":14318", nil)
	eventually(t, "the secondary answers", func() bool {
		a, err := post(t.Context(), nil, url, protobufType, bytes.NewReader(body))
		return err == nil && a.status == http.StatusOK
	})
	b.await(t, numbered("direct", 10))
}
