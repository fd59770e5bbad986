// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"
)

// idleStop is how long a collector with nothing to do may take to stop.
const idleStop = 2 * time.Second

// shaped has two backends and a file; SHAPE says how a pipeline leads there.
const shaped = `
receivers: {otlp: {protocols: {grpc: {endpoint: "$HOST:4317"}, http: {endpoint: "$HOST:4318"}}}}
processors: {batch: {timeout: 200ms, send_batch_size: 500}}
exporters:
  otlp/primary:
    endpoint: "$HOST:14317"
    timeout: 2s
    tls: {insecure: true}
    sending_queue: {QUEUE}
  otlphttp/secondary: {endpoint: "http://$HOST:24318", timeout: 2s}
  file/last: {path: "$DIR/last/telemetry.jsonl"}
extensions: {file_storage: {directory: "$DIR/queue"}}
service:
  extensions: [file_storage]
  telemetry: {metrics: {address: "$HOST:8888"}}
SHAPE
`

// shapes are the ways from a receiver to an exporter.
var shapes = map[string]string{
	"an exporter": `  pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [otlp/primary]}}`,
	"two exporters and a file": `  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [otlp/primary, otlphttp/secondary, file/last]}`,
	"failover": `  pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [failover]}}
connectors: {failover: {priority_levels: [[otlp/primary], [otlphttp/secondary]]}}`,
	"failover with an emergency level": `  pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [failover]}}
connectors: {failover: {priority_levels: [[otlp/primary], [otlphttp/secondary], [file/last]]}}`,
	"failover over pipelines": `  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [failover]}
    traces/first: {receivers: [failover], exporters: [otlp/primary]}
    traces/second: {receivers: [failover], exporters: [otlphttp/secondary]}
    traces/third: {receivers: [failover], exporters: [file/last]}
connectors: {failover: {priority_levels: [[traces/first], [traces/second], [traces/third]]}}`,
}

// Whatever stands between its receiver and its backends, a collector that has delivered everything and one that never had
// anything stop at once, with clients still connected.
func TestAnIdleCollectorOfAnyShapeStopsWithinTwoSeconds(t *testing.T) {
	queues := map[string]string{
		"in memory": "queue_size: 1000", "on disk": "storage: file_storage", "none": "enabled: false",
	}
	for kind, queue := range queues {
		for shape, text := range shapes {
			t.Run(shape+", queue "+kind, func(t *testing.T) {
				t.Parallel()
				host := ownHost(t)
				primary := startBackend(t, host+":14317", nil)
				startBackend(t, host+":24318", nil)
				config := strings.NewReplacer("QUEUE", queue, "SHAPE", text).Replace(shaped)
				values := map[string]string{"HOST": host, "DIR": t.TempDir()}
				for life, sent := range []int{10, 0} {
					p := collector(t, config, values)
					if sent > 0 {
						names := numbered("s", sent)
						mustPost(t, "http://"+host+":4318/v1/traces", protobufType, wire(t, spans(names)))
						primary.await(t, names)
						eventually(t, "nothing waits", func() bool {
							return value(t, scrapeBalanced(t, host+":8888"), "holdfast_ledger_queued_items") == 0
						})
					}
					began := time.Now()
					if code := p.stop(); code != 0 {
						t.Errorf("life %d: exit code %d", life, code)
					}
					if took := time.Since(began); took > idleStop {
						t.Errorf("life %d: took %s with nothing to do", life, took)
					}
					if b := lastLine(t, p); b.Accepted != b.Delivered || sent > 0 && b.Accepted == 0 {
						t.Errorf("life %d: %+v", life, b)
					}
				}
			})
		}
	}
}
